//! The client's side of the profiles `hpke` and `aes128gcm`, for `gapura encrypt`, `gapura decrypt` and the tests.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::Profile;
use http::{HeaderValue, Request, StatusCode, uri::PathAndQuery};
use serde::{Deserialize, Serialize};

use super::context::{Answer, Bound, Label, MessageId};
use crate::{
    contract::{Exchange, Now, Principal, UserId},
    crypto::{
        OpenError, PublicJwk,
        aes128gcm::{self, KeyId, RECORD},
        hpke::{self, Aead, ResponseHeader, ResponseKeys},
    },
};

/// The request that a message goes with, as its sender knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub method: String,
    /// The scheme is https.
    pub secure: bool,
    /// What `Host` says.
    pub authority: String,
    /// Path and query.
    pub target: String,
    pub user_id: String,
    /// The `jti` of the caller's token, else empty.
    pub token_id: String,
    /// The JSON pointer of the member that the message stands in; empty for a whole body.
    pub part: String,
}

/// What a message is sealed under.
pub enum Key<'k> {
    Public { kid: &'k str, key: &'k PublicJwk, aead: Aead },
    Session { kid: &'k str, key: &'k [u8; 32] },
}

/// What a sender keeps of its message to open the response.
pub struct Sent {
    facts: Facts,
    kid: String,
    id: MessageId,
    reply: Reply,
}

enum Reply {
    Hpke(ResponseKeys),
    Aes128Gcm([u8; 32]),
}

/// What was opened, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub plaintext: Vec<u8>,
    pub content_type: String,
}

impl Facts {
    /// None: no request has this method, authority or target.
    fn bound(&self) -> Option<Bound> {
        let head = Request::builder().method(self.method.as_str()).body(()).ok()?.into_parts().0;
        let now = Now { monotonic: Default::default(), unix_ms: 0 };
        let mut exchange = Exchange::new(now, [127, 0, 0, 1].into());
        exchange.authority = HeaderValue::from_str(&self.authority).ok()?;
        exchange.secure = self.secure;
        exchange.target = PathAndQuery::try_from(self.target.as_str()).ok()?;
        let principal = Principal {
            method: "sender".into(),
            user_id: UserId::string(self.user_id.as_str()),
            email: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: Some(self.token_id.clone()),
            expires: None,
            limits: Default::default(),
            claims: Default::default(),
        };
        let mut bound = Bound::new(&head, &exchange, principal.into());
        bound.part.clone_from(&self.part);
        Some(bound)
    }

    /// Seals a request. `iat` is in milliseconds since 1970; `content_type` is that of the plaintext, empty where that is.
    pub fn seal(&self, plaintext: &[u8], content_type: &str, key: &Key<'_>, iat: u64) -> Option<(Vec<u8>, Sent)> {
        let (bound, id) = (self.bound()?, MessageId::fresh());
        let (kid, message, reply) = match key {
            Key::Public { kid, key, aead } => {
                let label = Label { profile: Profile::Hpke, kid, iat, id: &id, content_type };
                let header = hpke::Header { kid, curve: key.curve()?, aead: *aead, iat, id: id.0, content_type };
                let (message, keys) = hpke::seal(plaintext, &header, key, &bound.request(label)).ok()?;
                (kid, message, Reply::Hpke(keys))
            }
            Key::Session { kid, key } => {
                let label = Label { profile: Profile::Aes128Gcm, kid, iat, id: &id, content_type };
                let key_id = KeyId { kid, iat, id: &id.text() }.to_string();
                let header = aes128gcm::Header { salt: rand::random(), record_size: RECORD, key_id: &key_id };
                let input = aes128gcm::input_key(key, &bound.request(label));
                (kid, aes128gcm::seal(plaintext, &input[..], &header), Reply::Aes128Gcm(**key))
            }
        };
        Some((message, Sent { facts: self.clone(), kid: (*kid).to_owned(), id, reply }))
    }
}

impl Sent {
    pub fn profile(&self) -> Profile {
        match self.reply {
            Reply::Hpke(_) => Profile::Hpke,
            Reply::Aes128Gcm(_) => Profile::Aes128Gcm,
        }
    }

    /// Opens the response. `content_type` is what its head says, for the profile that says it there.
    pub fn open(&self, mut message: Vec<u8>, content_type: &str, status: u16) -> Result<Received, OpenError> {
        let bound = self.facts.bound().ok_or(OpenError)?;
        let answer = Answer { status: StatusCode::from_u16(status).map_err(|_| OpenError)?, request: &self.id };
        let kid = &self.kid;
        match &self.reply {
            Reply::Hpke(keys) => {
                let (header, _) = ResponseHeader::read(&message)?;
                let (content_type, id) = (header.content_type.to_owned(), MessageId(header.id));
                let iat = header.iat;
                let label = Label { profile: Profile::Hpke, kid, iat, id: &id, content_type: &content_type };
                let plaintext = keys.open(&mut message, &bound.response(label, answer))?;
                Ok(Received { plaintext: message[plaintext].to_vec(), content_type })
            }
            Reply::Aes128Gcm(key) => {
                let header = aes128gcm::Header::read(&message)?.ok_or(OpenError)?;
                let key_id = KeyId::parse(header.key_id).filter(|key_id| key_id.kid == kid).ok_or(OpenError)?;
                let id = MessageId::parse(key_id.id).ok_or(OpenError)?;
                let label = Label { profile: Profile::Aes128Gcm, kid, iat: key_id.iat, id: &id, content_type };
                let input = aes128gcm::input_key(key, &bound.response(label, answer));
                let (salt, record_size, start) = (header.salt, header.record_size, header.end());
                let header = aes128gcm::Header { salt, record_size, key_id: "" };
                let len = aes128gcm::open_in_place(&mut message[start..], &header, &input[..])?;
                let plaintext = message[start..start + len].to_vec();
                Ok(Received { plaintext, content_type: content_type.to_owned() })
            }
        }
    }

    /// For a file of the sender's own: it holds the key of the response.
    pub fn to_json(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (aead, enc, secret) = match &self.reply {
            Reply::Hpke(keys) => {
                let (aead, enc, secret) = keys.parts();
                (Some(aead.id()), Some(text(enc)), text(secret))
            }
            Reply::Aes128Gcm(key) => (None, None, text(key)),
        };
        let saved = Saved { facts: self.facts.clone(), kid: self.kid.clone(), id: self.id.text(), aead, enc, secret };
        serde_json::to_string_pretty(&saved).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Option<Self> {
        let saved: Saved = serde_json::from_str(text).ok()?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let secret: [u8; 32] = bytes(&saved.secret)?.try_into().ok()?;
        let reply = match (saved.aead, saved.enc) {
            (Some(aead), Some(enc)) => Reply::Hpke(ResponseKeys::of_parts(Aead::from_id(aead)?, &bytes(&enc)?, secret)),
            _ => Reply::Aes128Gcm(secret),
        };
        Some(Self { facts: saved.facts, kid: saved.kid, id: MessageId::parse(&saved.id)?, reply })
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    facts: Facts,
    kid: String,
    id: String,
    aead: Option<u16>,
    enc: Option<String>,
    /// The session key, or what the response's key is made from.
    secret: String,
}
