//! An envelope's JSON: read from requests, written into responses.

use std::{borrow::Cow, collections::HashSet, fmt};

use gapura_config::{
    fault::{Fault, Place},
    model::EnvelopeFields,
};
use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    contract::UserId,
    crypto::{self, KeyHash, Passphrase},
};

/// A request envelope, borrowed from its body where nothing was escaped.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub data: Cow<'a, str>,
    pub key_hash: Cow<'a, str>,
    /// Milliseconds since 1970, as the client's clock had it.
    pub timestamp: u64,
    /// The text of the string or of the integer: `7` and `"7"` are one user.
    pub user_id: Cow<'a, str>,
}

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    Envelope(Envelope<'a>),
    /// It means to be an envelope: a JSON object with the data member. Yet a member is missing, twice there, or of another type.
    Broken(&'static str),
    /// Anything else; the text says what, for the log.
    Other(&'static str),
}

/// Reads a body. Unknown members are allowed, duplicates are not, known or unknown and however they are escaped: two
/// readers of one message could otherwise see two messages.
pub fn read<'a>(body: &'a [u8], fields: &EnvelopeFields) -> Reading<'a> {
    // Not every string is looked at by the parser; the whole body must be text all the same.
    let Ok(text) = std::str::from_utf8(body) else { return Reading::Other("the body is not UTF-8") };
    let mut parser = serde_json::Deserializer::from_str(text);
    match parser.deserialize_any(Members { fields }).and_then(|reading| parser.end().map(|()| reading)) {
        Ok(reading) => reading,
        Err(_) => Reading::Other("the body is not JSON"),
    }
}

struct Members<'f> {
    fields: &'f EnvelopeFields,
}

/// The value of a member that an envelope needs.
enum Value<'a> {
    Text(Cow<'a, str>),
    Integer(u64),
    Negative(i64),
    Other,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Reading<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reading<'de>, A::Error> {
        let names = [&self.fields.data, &self.fields.key_hash, &self.fields.timestamp, &self.fields.user_id];
        let mut values: [Option<Value<'de>>; 4] = [None, None, None, None];
        // Random keys: names are the client's choice, and a body may have a hundred thousand of them.
        let mut unknown = HashSet::new();
        let mut twice = false;
        while let Some(name) = map.next_key_seed(Text)? {
            match names.iter().position(|known| name == known.as_str()) {
                Some(index) => twice |= values[index].replace(map.next_value_seed(AnyValue)?).is_some(),
                None => {
                    map.next_value::<IgnoredAny>()?;
                    twice |= !unknown.insert(name);
                }
            }
        }
        Ok(gathered(values, twice))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Reading<'de>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(NO_OBJECT)
    }
    fn visit_borrowed_str<E: de::Error>(self, _: &'de str) -> Result<Reading<'de>, E> {
        Ok(NO_OBJECT)
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Reading<'de>, E> {
        Ok(NO_OBJECT)
    }
}

const NO_OBJECT: Reading<'static> = Reading::Other("the body is not a JSON object");

fn gathered(values: [Option<Value<'_>>; 4], twice: bool) -> Reading<'_> {
    let [data, key_hash, timestamp, user_id] = values;
    let Some(data) = data else { return Reading::Other("the body has no data member") };
    if twice {
        return Reading::Broken("a member stands twice in the envelope");
    }
    let Value::Text(data) = data else { return Reading::Broken("the data member is not a string") };
    let Some(Value::Text(key_hash)) = key_hash else { return Reading::Broken("the key hash is not a string") };
    // `1.7e12` and `1700000000000.0` are no integers for the parser, and none here: they have no one spelling.
    let Some(Value::Integer(timestamp)) = timestamp else {
        return Reading::Broken("the timestamp is not a whole number of milliseconds");
    };
    let user_id = match user_id {
        Some(Value::Text(text)) => text,
        Some(Value::Integer(number)) => number.to_string().into(),
        Some(Value::Negative(number)) => number.to_string().into(),
        _ => return Reading::Broken("the user id is neither a string nor a whole number"),
    };
    Reading::Envelope(Envelope { data, key_hash, timestamp, user_id })
}

/// A string, borrowed unless something in it was escaped.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value<'de>;
    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Integer(number))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Value::Negative(number), Value::Integer))
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

/// The text around the values of a sealed body: what depends on the configuration only, joined once.
#[derive(Debug, Clone)]
pub struct Form {
    /// Before the ciphertext, for `success: true` and `success: false`.
    open: [String; 2],
    key_hash: String,
    timestamp: String,
    user_id: String,
    close: &'static str,
}

/// What one sealed body carries beside the ciphertext.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    pub key_hash: &'a KeyHash,
    pub timestamp: u64,
    pub user_id: &'a UserId,
    /// The member `success` where the form has one.
    pub success: bool,
}

impl Form {
    /// `{"success":…,"data":{…}}`
    pub fn wrapped(fields: &EnvelopeFields) -> Self {
        Self::new(fields, [r#"{"success":false,"data":"#, r#"{"success":true,"data":"#], "}}")
    }

    /// The envelope alone.
    pub fn bare(fields: &EnvelopeFields) -> Self {
        Self::new(fields, ["", ""], "}")
    }

    fn new(fields: &EnvelopeFields, before: [&str; 2], close: &'static str) -> Self {
        Self {
            open: before.map(|before| format!("{before}{{{}:\"", quoted(&fields.data))),
            key_hash: format!("\",{}:\"", quoted(&fields.key_hash)),
            timestamp: format!("\",{}:", quoted(&fields.timestamp)),
            user_id: format!(",{}:", quoted(&fields.user_id)),
            close,
        }
    }

    /// The exact length of what [`Self::seal`] returns, from the plaintext's length alone: a HEAD response has no more.
    pub fn sealed_len(&self, plaintext_len: usize, labels: Labels<'_>) -> usize {
        self.around(labels, &user_id_json(labels.user_id)) + crypto::sealed_len(plaintext_len)
    }

    /// The whole body, in a buffer of exactly its size.
    pub fn seal(&self, plaintext: &[u8], passphrase: &Passphrase, salt: [u8; 8], labels: Labels<'_>) -> Vec<u8> {
        let user_id = user_id_json(labels.user_id);
        let len = self.around(labels, &user_id) + crypto::sealed_len(plaintext.len());
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(self.open[usize::from(labels.success)].as_bytes());
        crypto::seal(plaintext, passphrase.as_bytes(), salt, &mut out);
        out.extend_from_slice(self.key_hash.as_bytes());
        out.extend_from_slice(labels.key_hash);
        out.extend_from_slice(self.timestamp.as_bytes());
        out.extend_from_slice(itoa::Buffer::new().format(labels.timestamp).as_bytes());
        out.extend_from_slice(self.user_id.as_bytes());
        out.extend_from_slice(user_id.as_bytes());
        out.extend_from_slice(self.close.as_bytes());
        debug_assert_eq!(out.len(), len);
        out
    }

    fn around(&self, labels: Labels<'_>, user_id: &str) -> usize {
        self.open[usize::from(labels.success)].len()
            + self.key_hash.len()
            + labels.key_hash.len()
            + self.timestamp.len()
            + itoa::Buffer::new().format(labels.timestamp).len()
            + self.user_id.len()
            + user_id.len()
            + self.close.len()
    }
}

/// As the caller's credential had it: a number stays a number.
fn user_id_json(user_id: &UserId) -> Cow<'_, str> {
    if user_id.is_number() { user_id.as_str().into() } else { quoted(user_id.as_str()).into() }
}

fn quoted(text: &str) -> String {
    // A string always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// Two members of one name, or one without: no envelope could be read.
pub(super) fn member_faults(fields: &EnvelopeFields, place: &Place) -> Vec<Fault> {
    let members = [
        ("data", &fields.data),
        ("key_hash", &fields.key_hash),
        ("timestamp", &fields.timestamp),
        ("user_id", &fields.user_id),
    ];
    let mut faults = Vec::new();
    for (i, (key, name)) in members.iter().enumerate() {
        if name.is_empty() {
            faults.push(Fault::at(place.key(key), "a member of an envelope needs a name"));
        } else if let Some((other, _)) = members[..i].iter().find(|(_, earlier)| earlier == name) {
            faults.push(Fault::at(place.key(key), format!("`{key}` and `{other}` are both named `{name}`")));
        }
    }
    faults
}
