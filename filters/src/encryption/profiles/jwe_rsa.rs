//! Profile `jwe-rsa`: what card schemes and banks prescribe. RSA-OAEP-256 both ways, each to the other's key.
//!
//! The scheme binds a message to nothing: a message for one route opens on another that shares its entry, so an entry should
//! stand on one route. What can be done is done: age where the scheme tells it, and no message passes twice.

use std::borrow::Cow;

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use gapura_config::{
    fault::{Fault, Place},
    model::{self, Preset},
    secret::Secret,
};
use serde::Serialize;

use super::{
    super::{
        response::How,
        strong::{Failure, Keys, Message, Unopened},
    },
    Opened,
};
use crate::{
    contract::{Now, Unanswered},
    crypto::jwe::{Alg, Compact, Enc, Header, OpeningKey, Prepared, SealingKey, Unsealable},
    json::{self, Json, Number},
    keyring::{Key, RemoteRsa},
    pem,
};

pub(in crate::encryption) struct JweRsa {
    preset: Option<Preset>,
    /// The partner's.
    response_key: OaepPublicEncryptingKey,
    response_kid: Option<String>,
}

/// How a response is encrypted: as its request was.
#[derive(Debug, Clone, Copy)]
pub(in crate::encryption) struct Reply(Enc);

const KEY_HELP: &str = "name the partner's certificate or public key in PEM, RSA of 2048 to 4096 bits";

impl JweRsa {
    pub(in crate::encryption) fn new(config: &model::Encryption, place: &Place) -> Result<Self, Fault> {
        let place = place.key("response_key");
        let Some(reference) = &config.response_key else {
            let fault = Fault::at(place, "`jwe-rsa` seals responses to the partner's key, and there is none");
            return Err(fault.help("add `response_key = \"file:/path\"`"));
        };
        let text = reference.read().map_err(|why| Fault::at(place.clone(), why).help(KEY_HELP))?;
        let response_key =
            public_key(text.bytes()).map_err(|why| Fault::at(place, format!("`{reference}`: {why}")).help(KEY_HELP))?;
        Ok(Self { preset: config.preset, response_key, response_kid: config.response_kid.clone() })
    }

    /// As a partner has it, who seals requests: they have the form of responses, under the gateway's key and its name.
    pub(in crate::encryption) fn of_partner(preset: Option<Preset>, key: OaepPublicEncryptingKey, kid: &str) -> Self {
        Self { preset, response_key: key, response_kid: Some(kid.to_owned()) }
    }

    pub(in crate::encryption) fn explain(&self) -> String {
        let preset = self.preset.map_or(String::new(), |preset| format!(", preset {}", preset.name()));
        let kid = self.response_kid.as_deref().map_or(String::new(), |kid| format!(" {kid}"));
        format!("jwe-rsa{preset}: responses to the partner's key{kid}")
    }

    /// Of a response whose request had no message.
    pub(in crate::encryption) fn reply(&self) -> Reply {
        Reply(if self.preset == Some(Preset::VisaMle) { Enc::A128Gcm } else { Enc::A256Gcm })
    }

    /// The message in a preset's wrapper: an object with its member and no other. None: the body is something else.
    pub(in crate::encryption) fn unwrap<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, str>> {
        unwrap(self.preset?, body)
    }

    /// Nothing is asked of a key elsewhere before the message is one in form and names a key that opens.
    pub(in crate::encryption) async fn open(
        &self,
        message: &Message<'_>,
        keys: &Keys,
        now: Now,
    ) -> Result<Opened, Unopened> {
        let compact = Compact::split(&message.bytes).map_err(|why| Failure(why.0))?;
        let json = compact.header().map_err(|why| Failure(why.0))?;
        let header = Header::read(&json).map_err(|why| Failure(why.0))?;
        if header.alg != Alg::RsaOaep256 || !matches!(header.enc, Enc::A128Gcm | Enc::A256Gcm) {
            return Err(Failure("it is not of RSA-OAEP-256 with A128GCM or A256GCM").into());
        }
        let known = ["alg", "enc", "kid", "iat", "cty", "typ"];
        if header.members().iter().any(|(name, _)| !known.contains(&name)) {
            return Err(Failure("its header has a member that it should not have").into());
        }
        let iat = match (header.members().get("iat"), self.preset) {
            (Some(iat), _) => Some(milliseconds(iat).ok_or(Failure("its `iat` is no whole number"))?),
            (None, Some(Preset::Mastercard)) => None,
            (None, _) => return Err(Failure("its header has no `iat`").into()),
        };
        let kid = header.kid().ok_or(Failure("its header has no `kid`"))?;
        let plaintext = match keys.private(kid, now) {
            Some(Key::Rsa(key)) => compact.open(&header, OpeningKey::Rsa(&key.private)),
            Some(Key::Remote(key)) => {
                let unwrapped = unwrap_elsewhere(key, &compact).await?;
                compact.open(&header, OpeningKey::Unwrapped(unwrapped.as_ref().map(Secret::bytes)))
            }
            _ => return Err(Failure("no key of this entry opens with its `kid`").into()),
        };
        let plaintext = plaintext.map_err(|_| Failure("it does not open: another key, or changed on the way"))?;
        let content_type = match header.text("cty") {
            _ if plaintext.is_empty() => String::new(),
            // RFC 7516, section 4.1.12: `application/` may be left out.
            Some(cty) if !cty.contains('/') => format!("application/{cty}"),
            Some(cty) => cty.to_owned(),
            None => "application/json".into(),
        };
        let unique = compact.content().concat();
        Ok(Opened { plaintext: plaintext.into(), content_type, iat, unique, sealing: How::JweRsa(Reply(header.enc)) })
    }

    /// A response up to its content.
    pub(in crate::encryption) fn prepare(
        &self,
        Reply(enc): Reply,
        content_type: &str,
        now: Now,
    ) -> Result<Prepared, Unsealable> {
        let visa = self.preset == Some(Preset::VisaMle);
        let members = Members {
            kid: self.response_kid.as_deref(),
            typ: visa.then_some("JOSE"),
            iat: (self.preset != Some(Preset::Mastercard)).then_some(now.unix_ms),
            cty: if visa { "" } else { content_type },
        };
        Prepared::new(enc, SealingKey::Rsa(&self.response_key), &members)
    }

    /// What stands around a message, before and behind it.
    pub(in crate::encryption) fn wrapper(&self) -> Option<(String, &'static str)> {
        self.preset.map(|preset| (format!("{{\"{}\":\"", member(preset)), "\"}"))
    }
}

/// See [`JweRsa::unwrap`].
pub(in crate::encryption) fn unwrap(preset: Preset, body: &[u8]) -> Option<Cow<'_, str>> {
    let mut object = json::parse_object(body).ok()?;
    match object.remove(member(preset)) {
        Some(Json::String(message)) if object.iter().next().is_none() => Some(message),
        _ => None,
    }
}

/// Of a certificate or a public key in PEM.
pub(in crate::encryption) fn public_key(text: &[u8]) -> Result<OaepPublicEncryptingKey, &'static str> {
    let (label, der) = pem::block(text).map_err(|_| "it holds no single block in PEM")?;
    let key = match label {
        "PUBLIC KEY" => Some(&der[..]),
        "CERTIFICATE" => pem::certificate_key(&der),
        _ => None,
    };
    let key = key.ok_or("it holds neither a certificate nor a public key")?;
    let key = PublicEncryptingKey::from_der(key).map_err(|_| "its key is not RSA, or cannot be used")?;
    if !(2048..=4096).contains(&key.key_size_bits()) {
        return Err("its RSA key has not 2048 to 4096 bits");
    }
    OaepPublicEncryptingKey::new(key).map_err(|_| "its key cannot be used")
}

/// The content key of a message, by whoever has the private key. None: it is none of that key, which is for the content to show.
async fn unwrap_elsewhere(key: &RemoteRsa, compact: &Compact<'_>) -> Result<Option<Secret>, Unopened> {
    let encrypted = compact.encrypted_key().map_err(|why| Failure(why.0))?;
    if encrypted.len() != key.bytes {
        return Ok(None);
    }
    match key.private.decrypt(&encrypted).await {
        Ok(cek) => Ok(Some(cek)),
        Err(Unanswered::Unfit) => Ok(None),
        Err(Unanswered::Away(why)) => Err(Unopened::Away(why)),
    }
}

const fn member(preset: Preset) -> &'static str {
    match preset {
        Preset::VisaMle => "encData",
        Preset::Mastercard => "encryptedData",
    }
}

/// Visa sends them as a string or as a number.
fn milliseconds(iat: &Json<'_>) -> Option<u64> {
    match iat {
        Json::Number(Number::Unsigned(ms)) => Some(*ms),
        Json::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

/// The header of a response, besides `alg` and `enc`.
#[derive(Serialize)]
struct Members<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typ: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    cty: &'r str,
}
