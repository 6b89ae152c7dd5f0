//! A JSON Web Key Set (RFC 7517): of a file, read when the policy is built, or as a provider publishes it.

use std::collections::HashSet;

use gapura_config::model::JwtAlgorithm;

use super::{
    algorithm::{self, KeyKind},
    public_key::PublicKey,
    token::decode,
};
use crate::json::{self, Json, Object};

/// A key of the set that can verify signatures.
pub(super) struct SetKey {
    pub(super) kid: Option<String>,
    /// The only algorithm it is for, where the set says so.
    pub(super) algorithm: Option<JwtAlgorithm>,
    pub(super) public: PublicKey,
}

/// More than any issuer publishes.
const MAX_KEYS: usize = 64;

/// The set of a file: every usable key, or everything that is wrong. The operator wrote it and can correct it.
pub(super) fn read(text: &[u8]) -> Result<Vec<SetKey>, Vec<String>> {
    match read_published(text) {
        Ok((keys, wrong)) if wrong.is_empty() => Ok(keys),
        Ok((_, wrong)) => Err(wrong),
        Err(why) => Err(vec![why]),
    }
}

/// The set of a provider: every usable key, and what is wrong with others. Those are passed over, else one odd entry would
/// lock everybody out. A key for something else (encryption, an unknown type or curve) is passed over without a word, as
/// RFC 7517, section 5 asks.
pub(super) fn read_published(text: &[u8]) -> Result<(Vec<SetKey>, Vec<String>), String> {
    let set = json::parse_object(text).map_err(|why| format!("the key set: {why}"))?;
    let Some(listed) = set.get("keys").and_then(Json::as_array) else {
        return Err("the key set has no list `keys`".into());
    };
    if listed.len() > MAX_KEYS {
        return Err(format!("the key set has {} keys; at most {MAX_KEYS} are read", listed.len()));
    }
    let mut seen = HashSet::new();
    let (mut keys, mut wrong) = (Vec::new(), Vec::new());
    for (at, entry) in listed.iter().enumerate() {
        match entry.as_object().map_or_else(|| Err("it is no object".into()), read_key) {
            // The first of two stands: a second key under a known name never replaces it.
            Ok(Some(key)) if key.kid.clone().is_some_and(|kid| !seen.insert(kid)) => {
                wrong.push(format!("keys[{at}] of the key set: an earlier key has the same `kid`"));
            }
            Ok(Some(key)) => keys.push(key),
            Ok(None) => {}
            Err(why) => wrong.push(format!("keys[{at}] of the key set: {why}")),
        }
    }
    match (keys.is_empty(), wrong.is_empty()) {
        (true, true) => Err("the key set has no key that verifies signatures".into()),
        (true, false) => Err(wrong.join("; ")),
        (false, _) => Ok((keys, wrong)),
    }
}

pub(super) fn read_key(key: &Object<'_>) -> Result<Option<SetKey>, String> {
    let kty = text(key, "kty")?.ok_or("it has no `kty`")?;
    if kty == "oct" {
        // A published set with a shared secret lets every reader sign; and HS* beside RS* in one set is how keys get confused.
        return Err("a shared secret (`kty` oct) does not belong in a key set; write `secret`".into());
    }
    if key.contains("d") {
        return Err(
            "it is a private key, which a gateway that only verifies must not hold; write the public one".into()
        );
    }
    if text(key, "use")?.is_some_and(|used| used != "sig") || !may_verify(key)? {
        return Ok(None);
    }
    let algorithm = match text(key, "alg")? {
        None => None,
        Some(name) => match algorithm::named(name) {
            Some(algorithm) => Some(algorithm),
            None => return Ok(None),
        },
    };
    let public = match (kty, text(key, "crv")?) {
        ("RSA", _) => PublicKey::rsa(&number(key, "n")?, &number(key, "e")?)?,
        ("EC", Some("P-256")) => PublicKey::ec(KeyKind::P256, &point(key, 32)?)?,
        ("EC", Some("P-384")) => PublicKey::ec(KeyKind::P384, &point(key, 48)?)?,
        ("OKP", Some("Ed25519")) => PublicKey::ed25519(&number(key, "x")?)?,
        _ => return Ok(None),
    };
    if let Some(algorithm) = algorithm.filter(|algorithm| algorithm::key_kind(*algorithm) != public.kind) {
        return Err(format!("its `alg` {} does not go with {}", algorithm::name(algorithm), public.kind.describe()));
    }
    Ok(Some(SetKey { kid: text(key, "kid")?.map(str::to_owned), algorithm, public }))
}

/// RFC 7517, section 4.3.
fn may_verify(key: &Object<'_>) -> Result<bool, String> {
    match key.get("key_ops") {
        None => Ok(true),
        Some(Json::Array(operations)) => Ok(operations.iter().any(|operation| operation.as_str() == Some("verify"))),
        Some(_) => Err("its `key_ops` is no list".into()),
    }
}

fn text<'k>(key: &'k Object<'_>, name: &str) -> Result<Option<&'k str>, String> {
    match key.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its `{name}` is no string")),
    }
}

fn number(key: &Object<'_>, name: &str) -> Result<Vec<u8>, String> {
    let text = text(key, name)?.ok_or_else(|| format!("it has no `{name}`"))?;
    decode(text.as_bytes()).ok_or_else(|| format!("its `{name}` is not base64url without padding"))
}

/// RFC 7518, section 6.2.1.2: coordinates have the full length of the field.
fn point(key: &Object<'_>, length: usize) -> Result<Vec<u8>, String> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = number(key, name)?;
        if coordinate.len() != length {
            return Err(format!("its `{name}` has not {length} bytes"));
        }
        point.extend(coordinate);
    }
    Ok(point)
}
