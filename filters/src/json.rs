//! Strict JSON, for text that decides something: tokens, key sets, envelopes.
//!
//! RFC 8259 leaves the meaning of a repeated member open, and parsers differ: one takes the first `sub`, the next the last.
//! A gateway that reads one and an upstream that reads the other is an authentication bypass, so repeated members are
//! refused at any depth (RFC 7515, section 4; RFC 7519, section 4). Depth is bounded, since nesting costs stack.

use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

/// Deeper than any claim or envelope; far below what a thread's stack takes.
pub const MAX_DEPTH: usize = 32;

/// A JSON value. Text without escapes is borrowed from the input, so that a megabyte in an envelope is not copied.
#[derive(Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// A number as it was written: whole numbers keep every digit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Unsigned(u64),
    Negative(i64),
    /// Written with a fraction or an exponent, or beyond 64 bits. Always finite.
    Float(f64),
}

/// Members in the order of the text, each name once.
#[derive(Clone, PartialEq, Default)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// Why a text was not read. It never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Not one JSON value in UTF-8.
    Syntax,
    /// An object names a member twice.
    DuplicateMember,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// Reads exactly one value; blanks may surround it, nothing else. The caller bounds the length.
pub fn parse(text: &[u8]) -> Result<Json<'_>, Unreadable> {
    let why = Cell::new(Unreadable::Syntax);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Seed { depth: MAX_DEPTH, why: &why }
        .deserialize(&mut deserializer)
        .map_err(|_: serde_json::Error| why.get())?;
    deserializer.end().map_err(|_| Unreadable::Syntax)?;
    Ok(value)
}

/// As [`parse`], for texts that must be an object.
pub fn parse_object(text: &[u8]) -> Result<Object<'_>, Unreadable> {
    match parse(text)? {
        Json::Object(object) => Ok(object),
        _ => Err(Unreadable::Syntax),
    }
}

impl<'a> Json<'a> {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
    pub fn as_array(&self) -> Option<&[Json<'a>]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }
    pub fn as_object(&self) -> Option<&Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
    pub fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl<'a> Object<'a> {
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value)
    }
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
    /// Takes a member out, for callers that keep its text.
    pub fn remove(&mut self, name: &str) -> Option<Json<'a>> {
        let at = self.0.iter().position(|(member, _)| member == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

impl Number {
    /// Rounded to the nearest where it has more than 53 bits.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Unsigned(number) => number as f64,
            Self::Negative(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// The kind of value only: what is parsed here are tokens and ciphertexts, which no log may hold.
impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        })
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object of {} members", self.0.len())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "not readable as JSON",
            Self::DuplicateMember => "a member occurs twice",
            Self::TooDeep => "nested too deeply",
        })
    }
}

impl std::error::Error for Unreadable {}

#[derive(Clone, Copy)]
struct Seed<'s> {
    depth: usize,
    why: &'s Cell<Unreadable>,
}

impl Seed<'_> {
    fn refuse<E: de::Error>(&self, why: Unreadable) -> E {
        self.why.set(why);
        E::custom(why)
    }
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.refuse(Unreadable::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(Number::Unsigned(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(u64::try_from(value).map_or(Number::Negative(value), Number::Unsigned)))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json<'de>, E> {
        if value.is_finite() { Ok(Json::Number(Number::Float(value))) } else { Err(self.refuse(Unreadable::Syntax)) }
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json<'de>, A::Error> {
        let seed = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let seed = self.deeper()?;
        let mut members = Vec::with_capacity(8);
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value_seed(seed)?));
        }
        if has_duplicates(&members) {
            Err(self.refuse(Unreadable::DuplicateMember))
        } else {
            Ok(Json::Object(Object(members)))
        }
    }
}

/// Pairs for the few members of a real token; sorted beyond, so that a text of thousands costs no square of them.
fn has_duplicates(members: &[(Cow<'_, str>, Json<'_>)]) -> bool {
    const FEW: usize = 16;
    if members.len() <= FEW {
        return members.iter().enumerate().any(|(i, (name, _))| members[..i].iter().any(|(other, _)| other == name));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }
    fn visit_str<E>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_member_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"[{"b":{"c":[{"d":1,"e":2,"d":3}]}}]"#,
            &format!("{{{},\"k7\":0}}", (0..50).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(",")),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Unreadable::DuplicateMember), "{text}");
        }
        assert!(parse(br#"{"a":{"a":1},"A":2}"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(Unreadable::TooDeep));
        assert_eq!(parse("{\"a\":".repeat(100_000).as_bytes()), Err(Unreadable::TooDeep));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let bad: [&[u8]; 14] = [
            b"",
            b" ",
            b"{",
            b"{} {}",
            b"{}x",
            b"\xef\xbb\xbf{}",
            b"{\"a\":NaN}",
            b"{\"a\":1e400}",
            b"\"\xff\"",
            br#""\ud800""#,
            b"{'a':1}",
            b"{\"a\":1,}",
            b"01",
            b"\"\n\"",
        ];
        for text in bad {
            assert_eq!(parse(text), Err(Unreadable::Syntax), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_keep_what_was_written() {
        let number = |text: &str| parse(text.as_bytes()).ok().and_then(|value| value.as_number());
        assert_eq!(number("18446744073709551615"), Some(Number::Unsigned(u64::MAX)));
        assert_eq!(number("-7"), Some(Number::Negative(-7)));
        assert_eq!(number("7.0"), Some(Number::Float(7.0)));
        assert_eq!(number("1e3"), Some(Number::Float(1000.0)));
        assert_eq!(number("18446744073709551616"), Some(Number::Float(18_446_744_073_709_551_616.0)));
    }

    #[test]
    fn text_is_borrowed_and_never_shown() {
        let Ok(Json::Object(mut object)) = parse(br#" {"a":"plain","b":"\u0041","c":[null,true]} "#) else { panic!() };
        assert!(matches!(object.get("a"), Some(Json::String(Cow::Borrowed("plain")))));
        assert_eq!(object.get("b").and_then(Json::as_str), Some("A"));
        assert!(!format!("{object:?}{:?}", object.get("a")).contains("plain"));
        assert_eq!(object.remove("a").as_ref().and_then(Json::as_str), Some("plain"));
        assert!(!object.contains("a"));
    }
}
