//! The client's side of the profile `jwe`, for people with `curl`: `encrypt` and `decrypt` with `--profile jwe`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::{KeyKind, KeyState, KeyVersion, Keyring as Written};
use gapura_filters::{
    crypto::{
        PublicJwk,
        jwe::{Compact, Enc, Header, OpeningKey, SealingKey, seal},
    },
    encryption::{context::MessageId, members::Pointer},
    json::{self, Json},
    keyring::{Key, Keyring},
};
use serde_json::{Map, Value};

use super::{
    seal::{Reference, now, read},
    strong::{Profile, StrongOptions, is_kid, is_media_type},
};

#[derive(Debug, clap::Args)]
pub(super) struct JweOptions {
    /// With `--profile jwe` and `jwe-rsa`. To encrypt: the gateway's public key, a JWK; with jwe-rsa a public key or certificate in PEM. To decrypt: the private key, PKCS #8 in PEM. env:NAME or file:/path.
    #[arg(long, value_name = "REF", requires = "profile")]
    pub(super) key: Option<Reference>,
    /// With `--profile jwe`: the request that the message is for: {"method":"POST","authority":"api.example.com","path":"/pay","sub":"u-1"}.
    /// Without `query`, `sub`, `tid`, `part` these are empty; `iat` and `id` are new. When opening, what must stand in the message.
    #[arg(long, value_name = "JSON", requires = "profile")]
    context: Option<String>,
    /// When encrypting to --key: the private key that will open the response, PKCS #8 in PEM.
    #[arg(long, value_name = "REF", requires = "key")]
    reply_key: Option<Reference>,
}

impl JweOptions {
    /// Another profile has no use for these.
    pub(super) fn refuse_with(&self, profile: Profile) -> Result<(), String> {
        let given = [("--key", self.key.is_some()), ("--context", self.context.is_some())];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("{name} belongs to --profile jwe, not to {}", profile.name())),
            None => Ok(()),
        }
    }

    /// An option that `--profile jwe-rsa` has no use for.
    pub(super) fn not_of_rsa(&self) -> Option<&'static str> {
        let given = [("--context", self.context.is_some()), ("--reply-key", self.reply_key.is_some())];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }
}

pub(super) fn encrypt(options: &JweOptions, shared: &StrongOptions, plaintext: &[u8]) -> Result<String, String> {
    fitting(options, shared)?;
    let Some(kid) = &shared.kid else { return Err("--kid is missing: the gateway could not find the key".into()) };
    if !is_kid(kid, if shared.session_key.is_some() { 3 } else { 2 }) {
        return Err("--kid is NAME.id, or NAME.id.EXPIRY for a session key, as the gateway told it".into());
    }
    if !is_media_type(&shared.content_type) {
        return Err("--content-type is no TYPE/SUBTYPE of at most 255 bytes".into());
    }
    let mut ctx = Map::new();
    for (name, value) in [("v", Value::from(1)), ("dir", "request".into()), ("iat", now().into())] {
        ctx.insert(name.into(), value);
    }
    ctx.insert("id".into(), MessageId::fresh().text().into());
    for name in TEXTS {
        ctx.insert(name.into(), "".into());
    }
    ctx.extend(context(options, &[])?);
    if let Some(name) = ["method", "authority", "path"].into_iter().find(|name| ctx[*name] == "") {
        return Err(format!("--context has no `{name}`: the message would be for no request"));
    }
    let mut header = Map::from_iter([("kid".to_owned(), kid.as_str().into())]);
    if !plaintext.is_empty() {
        header.insert("cty".into(), shared.content_type.as_str().into());
    }
    let sealed = if let Some(reference) = &shared.session_key {
        header.insert("ctx".into(), ctx.into());
        seal(Enc::A256Gcm, SealingKey::Wrapping(&session_key(reference)?), &header, plaintext)
    } else {
        let Some(reference) = &options.reply_key else {
            return Err("--reply-key is missing: nobody could open the response".into());
        };
        let reply = private_key(reference)?;
        let reply = public_of(&reply).ok_or("--reply-key is not a key on X25519 or P-256")?;
        ctx.insert("rpk".into(), reply.members().into());
        header.insert("ctx".into(), ctx.into());
        let reference = options.key.as_ref().ok_or("--key is missing")?;
        seal(Enc::A256Gcm, SealingKey::Agreement(&public_key(reference)?), &header, plaintext)
    };
    sealed.map_err(|_| "nothing can be sealed with this key".to_owned())
}

pub(super) fn decrypt(options: &JweOptions, shared: &StrongOptions, message: &[u8]) -> Result<Vec<u8>, String> {
    fitting(options, shared)?;
    let compact = Compact::split(message.trim_ascii()).map_err(|why| format!("the input is no compact JWE: {why}"))?;
    let json = compact.header().map_err(|why| format!("the input is no compact JWE: {why}"))?;
    let header = Header::read(&json).map_err(|why| format!("the message cannot be opened: {why}"))?;
    let opened = if let Some(reference) = &shared.session_key {
        compact.open(&header, OpeningKey::Wrapping(&session_key(reference)?))
    } else {
        let key = private_key(options.key.as_ref().ok_or("--key is missing")?)?;
        let key = match &key {
            Key::Agreement(key) => OpeningKey::Agreement(&key.private),
            Key::Rsa(key) => OpeningKey::Rsa(&key.private),
            Key::Remote(_) => return Err("the key never leaves its service, and this command has no way to it".into()),
            Key::Secret(secret) => OpeningKey::Wrapping(secret.bytes()),
        };
        compact.open(&header, key)
    };
    let plaintext = opened.map_err(|_| "the message was changed, or sealed to another key")?;
    let text: Value = serde_json::from_slice(&json).map_err(|why| why.to_string())?;
    if shared.kid.as_ref().is_some_and(|kid| text["kid"] != kid.as_str()) {
        return Err("the message names another key".into());
    }
    for (name, wanted) in context(options, &OF_RESPONSES)? {
        if text["ctx"][&name] != wanted {
            return Err(format!("the message is of another exchange: its `{name}` differs"));
        }
    }
    Ok(plaintext)
}

/// One key, and nothing that would be passed over in silence.
fn fitting(options: &JweOptions, shared: &StrongOptions) -> Result<(), String> {
    if let Some(name) = shared.not_of_jwe() {
        return Err(format!("{name} belongs to other profiles: with jwe --context says what the message is for"));
    }
    if options.key.is_some() == shared.session_key.is_some() {
        return Err("one of --key and --session-key says what to seal or open with".into());
    }
    Ok(())
}

/// What a context says in words.
const TEXTS: [&str; 7] = ["method", "authority", "path", "query", "sub", "tid", "part"];
/// What only one that is compared may have.
const OF_RESPONSES: [&str; 5] = ["v", "dir", "status", "irt", "rpk"];

/// `more`: members that are taken as they are.
fn context(options: &JweOptions, more: &[&str]) -> Result<Map<String, Value>, String> {
    let Some(text) = &options.context else { return Ok(Map::new()) };
    let members: Map<String, Value> =
        serde_json::from_str(text).map_err(|why| format!("--context is no JSON object: {why}"))?;
    for (name, value) in &members {
        let sound = match name.as_str() {
            "part" => value.as_str().is_some_and(|part| part.is_empty() || Pointer::parse(part).is_ok()),
            "iat" => value.is_u64(),
            "id" => value.as_str().is_some_and(|id| MessageId::parse(id).is_some()),
            name if TEXTS.contains(&name) => value.is_string(),
            name if more.contains(&name) => true,
            _ => {
                let name = name.escape_debug();
                return Err(format!("--context has no member `{name}`: it has {}, iat and id", TEXTS.join(", ")));
            }
        };
        if !sound {
            return Err(format!("--context: `{name}` has a value that no message has"));
        }
    }
    Ok(members)
}

fn session_key(reference: &Reference) -> Result<Vec<u8>, String> {
    let text = read(reference)?;
    let key = URL_SAFE_NO_PAD.decode(text.bytes()).ok().filter(|key| key.len() == 32);
    key.ok_or_else(|| "the session key is not 32 bytes in base64url".into())
}

/// A JWK, perhaps with a name and a purpose beside the key.
fn public_key(reference: &Reference) -> Result<PublicJwk, String> {
    let text = read(reference)?;
    let mut key = json::parse_object(text.bytes()).map_err(|why| format!("the key is no JWK: {why}"))?;
    for name in ["kid", "use", "alg", "encryption"] {
        key.remove(name);
    }
    if key.get("d").and_then(Json::as_str).is_some() {
        return Err("this is a private key, and to seal to it takes the public one".into());
    }
    PublicJwk::of_curve(&key).ok_or_else(|| "the key is no public JWK on X25519 or P-256".into())
}

/// Whatever kind it is of.
pub(super) fn private_key(reference: &Reference) -> Result<Key, String> {
    let mut why = String::new();
    for kind in [KeyKind::X25519, KeyKind::P256, KeyKind::Rsa] {
        let version =
            KeyVersion { id: "1".into(), key: reference.of().clone(), state: KeyState::Active, until: None, kid: None };
        match Keyring::build("key", &Written { kind, versions: vec![version] }) {
            Ok(ring) => return ring.into_active().ok_or_else(|| "the key cannot be used".into()),
            Err(faults) => why = faults.first().map(|fault| fault.message.clone()).unwrap_or_default(),
        }
    }
    Err(why)
}

fn public_of(key: &Key) -> Option<&PublicJwk> {
    match key {
        Key::Agreement(key) => Some(&key.public),
        _ => None,
    }
}
