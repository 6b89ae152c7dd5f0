//! What clients are told of keys: the public ones, to everyone; and to a caller a session key, or its own passphrase.
//!
//! No client needs the master key for this. A session key is derived, not stored: giving one out changes nothing here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gapura_config::model::{Config, KeyKind};
use http::HeaderValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    contract::{Code, Refusal},
    crypto::PublicJwk,
    json::{Json, parse_object},
    keyring::Keyrings,
};

/// `/.well-known/gapura/keys`: the active public keys of all rings, as a JWK set (RFC 7517). Made once a configuration.
#[derive(Debug, Clone)]
pub struct PublicKeys {
    pub body: Bytes,
    /// Strong: the digest of the body.
    pub etag: HeaderValue,
}

impl PublicKeys {
    pub fn new(config: &Config, rings: &Keyrings) -> Self {
        let keys: Vec<Value> = rings.keys().filter_map(|name| key(name, config, rings)).collect();
        let body = json!({ "keys": keys }).to_string();
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..16]));
        let etag = HeaderValue::try_from(etag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { body: body.into(), etag }
    }
}

/// None: a ring of secrets, or one that nothing uses.
fn key(name: &str, config: &Config, rings: &Keyrings) -> Option<Value> {
    let ring = rings.get(name)?.as_ref()?;
    let active = ring.active()?;
    let mut members: Map<String, Value> = active.public()?.members();
    let takes = config.encryption.iter().filter(|(_, entry)| entry.keyrings.iter().any(|ring| ring == name));
    // Of each entry its own: an entry may take a ring for one profile, and another for all that it fits.
    let takes: Map<String, Value> = takes
        .map(|(entry, settings)| {
            let fitting = settings.profile.listed().iter().filter(|profile| profile.kinds().contains(&ring.kind()));
            (entry.clone(), fitting.map(|profile| profile.name()).collect::<Vec<_>>().into())
        })
        .collect();
    if takes.is_empty() {
        return None;
    }
    members.insert("kid".into(), active.kid().into());
    members.insert("use".into(), "enc".into());
    if ring.kind() == KeyKind::Rsa {
        members.insert("alg".into(), "RSA-OAEP-256".into());
    }
    members.insert("encryption".into(), takes.into());
    Some(members.into())
}

/// The largest body of a request for a session key.
pub const MAX_ASKED: u64 = 4096;

/// What a caller asks for: `{}`, nothing, or `{"public_key": JWK}`.
pub struct Asked {
    /// Secrets are sealed to it.
    pub public_key: Option<PublicJwk>,
}

impl Asked {
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self { public_key: None });
        }
        let unfit =
            |why| Refusal::new(Code::RequestMalformed, "The body must be empty or {\"public_key\": JWK}.").reason(why);
        let object = parse_object(body).map_err(|_| unfit("it is no JSON object"))?;
        if object.iter().any(|(name, _)| name != "public_key") {
            return Err(unfit("it has a member that nobody asked for"));
        }
        let public_key = match object.get("public_key") {
            None => None,
            Some(Json::Object(key)) => {
                Some(PublicJwk::of_curve(key).ok_or_else(|| unfit("the key is not of X25519 or P-256"))?)
            }
            Some(_) => return Err(unfit("the key is no object")),
        };
        Ok(Self { public_key })
    }
}

/// What a caller gets. The secrets apart, so that they are sealed or wiped.
pub struct Given {
    pub(crate) open: Map<String, Value>,
    pub(crate) session_key: Option<Zeroizing<String>>,
    pub(crate) passphrase: Option<Zeroizing<String>>,
}

impl Given {
    /// The answer. `secure`: the connection hides it.
    pub fn answer(self, asked: &Asked, secure: bool) -> Result<Bytes, Refusal> {
        use crate::crypto::jwe::{Enc, SealingKey, seal};
        let Self { mut open, session_key, passphrase } = self;
        let mut secrets = Map::new();
        for (name, secret) in [("session_key", &session_key), ("passphrase", &passphrase)] {
            if let Some(secret) = secret {
                secrets.insert(name.into(), secret.as_str().into());
            }
        }
        match &asked.public_key {
            Some(key) => {
                let plaintext = Zeroizing::new(Value::from(secrets).to_string());
                let members = json!({ "cty": "application/json" });
                let sealed = seal(Enc::A256Gcm, SealingKey::Agreement(key), &members, plaintext.as_bytes());
                let refused = |_| Refusal::new(Code::RequestMalformed, "Nothing can be sealed to this public key.");
                open.insert("sealed".into(), sealed.map_err(refused)?.into());
            }
            None if secure => open.extend(secrets),
            None => {
                let detail = "Over a connection without TLS keys are given only sealed: send a `public_key`.";
                return Err(Refusal::new(Code::PermissionDenied, detail));
            }
        }
        Ok(Value::from(open).to_string().into())
    }
}
