//! A filter with two keyrings, a caller, and exchanges to try it with.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gapura_config::model::{self, KeyDerivation};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Principal, Refusal, Services, UserId},
    crypto::{PublicJwk, hpke::Aead},
    encryption::{
        Encryption,
        client::{self, Identity},
        sender::{Facts, Key, Received, Sent},
    },
    keyring::{Keyring, Keyrings, session::Holder},
    metrics::Metrics,
};
use http::{HeaderMap, HeaderValue, Request, Response, request, uri::PathAndQuery};
use serde_json::{Value, json};

pub(crate) const NOW: u64 = 1_795_000_000_000;
pub(crate) const EMAIL: &str = "ada@example.com";
pub(crate) const MASTER_KEY: &str = "the master key";
/// Of the ring `masters`: the old one, and the one that is given out.
pub(crate) const MASTERS: [&str; 2] = ["the old master key, 32 bytes or more", "the new master key, 32 bytes or more"];
pub(crate) const PROFILES: [&str; 2] = ["hpke", "aes128gcm"];

pub(crate) struct Stage {
    pub(crate) filter: Encryption,
    pub(crate) services: Services,
    rings: Keyrings,
    pub(crate) now: u64,
    /// What proves the caller.
    pub(crate) method: &'static str,
    _folder: tempfile::TempDir,
}

/// A request's way through the filter.
pub(crate) struct Passed {
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
    pub(crate) exchange: Exchange,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(json!({}))
    }

    /// `settings` over an entry with both profiles and both rings.
    pub(crate) fn with(settings: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            format!("file:{}", path.display())
        };
        let pem = concat!(
            "-----BEGIN PRIVATE KEY-----\n",
            "MC4CAQAwBQYDK2VuBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n",
            "-----END PRIVATE KEY-----\n"
        );
        let ring = |kind: &str, key: String| -> model::Keyring {
            serde_json::from_value(json!({
                "kind": kind,
                "versions": [{ "id": "2026-11", "key": key, "state": "active" }],
            }))
            .unwrap()
        };
        let mut rings: Keyrings = BTreeMap::new();
        for (name, config) in [
            ("bodies", ring("x25519", file("x25519.pem", pem.as_bytes()))),
            ("sessions", ring("secret", file("secret", &[9; 32]))),
        ] {
            rings.insert(name.into(), Some(Arc::new(Keyring::build(name, &config).unwrap())));
        }
        let masters: model::Keyring = serde_json::from_value(json!({ "kind": "secret", "versions": [
            {
                "id": "old", "key": file("old", MASTERS[0].as_bytes()), "state": "retiring",
                "until": { "$__toml_private_datetime": "2026-11-19T00:00:00Z" },
            },
            { "id": "new", "key": file("new", MASTERS[1].as_bytes()), "state": "active" },
        ]}))
        .unwrap();
        rings.insert("masters".into(), Some(Arc::new(Keyring::build("masters", &masters).unwrap())));
        let mut config = json!({ "profile": PROFILES, "keyrings": ["bodies", "sessions"] });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        if config["profile"].to_string().contains("cryptojs") && config.get("master_keys").is_none() {
            config["master_key"] = file("master", MASTER_KEY.as_bytes()).into();
        }
        let config: model::Encryption = serde_json::from_value(config).unwrap();
        let services = Services::in_memory(100, 1000, Arc::new(Metrics::new().unwrap()));
        let filter = Encryption::build("payments", &config, &rings, &services).unwrap();
        Self { filter, services, rings, now: NOW, method: "jwt.users", _folder: folder }
    }

    fn ring(&self, name: &str) -> &Keyring {
        self.rings[name].as_ref().unwrap()
    }

    pub(crate) fn public(&self) -> &PublicJwk {
        self.ring("bodies").active().unwrap().public().unwrap()
    }

    /// A kid and a session key of this caller.
    pub(crate) fn session(&self, subject: &str, token_id: &str, expiry: u64) -> (String, [u8; 32]) {
        let holder = Holder { method: self.method, subject, token_id };
        let (kid, key) = self.ring("sessions").new_session_key(holder, expiry, NOW).unwrap();
        (kid, *key.bytes())
    }

    /// Seals as the caller's client would.
    pub(crate) fn seal(&self, profile: &str, plaintext: &[u8], facts: &Facts) -> (Vec<u8>, Sent) {
        let content_type = if plaintext.is_empty() { "" } else { "application/json" };
        self.seal_as(profile, plaintext, content_type, facts, self.now)
    }

    pub(crate) fn seal_as(
        &self,
        profile: &str,
        plaintext: &[u8],
        content_type: &str,
        facts: &Facts,
        iat: u64,
    ) -> (Vec<u8>, Sent) {
        let (kid, session) = self.session(&facts.user_id, &facts.token_id, self.now / 1000 + 600);
        let key = match profile {
            "hpke" => Key::Public { kid: "bodies.2026-11", key: self.public(), aead: Aead::Aes256Gcm },
            _ => Key::Session { kid: &kid, key: &session },
        };
        facts.seal(plaintext, content_type, &key, iat).unwrap()
    }

    /// A request with a message as its body.
    pub(crate) fn post(&self, profile: &str, message: &[u8]) -> Result<Passed, Refusal> {
        self.send(&facts(), &fields(profile), message)
    }

    /// A request whose message stands in its head.
    pub(crate) fn get(&self, profile: &str, message: &[u8]) -> Result<Passed, Refusal> {
        let value = format!("{profile}={}", URL_SAFE_NO_PAD.encode(message));
        self.send(&facts(), &[("x-gapura-envelope", &value)], &[])
    }

    /// The real request, whatever the message thinks that it is.
    pub(crate) fn send(&self, facts: &Facts, fields: &[(&str, &str)], body: &[u8]) -> Result<Passed, Refusal> {
        let mut body = Bytes::copy_from_slice(body);
        let (mut head, mut exchange) = self.begin(facts, fields, body.len())?;
        ready(self.filter.on_request_body(&mut head, &mut body, &mut exchange))?;
        Ok(Passed { head, body, exchange })
    }

    /// Up to where the body is there.
    pub(crate) fn begin(
        &self,
        facts: &Facts,
        fields: &[(&str, &str)],
        len: usize,
    ) -> Result<(request::Parts, Exchange), Refusal> {
        let mut request = Request::builder().method(facts.method.as_str()).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if len > 0 {
            request = request.header("content-length", len);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let now = Now { monotonic: Duration::from_millis(self.now.saturating_sub(NOW)), unix_ms: self.now };
        let mut exchange = Exchange::new(now, [127, 0, 0, 1].into());
        exchange.authority = HeaderValue::from_str(&facts.authority).unwrap();
        exchange.secure = facts.secure;
        exchange.target = PathAndQuery::try_from(facts.target.as_str()).unwrap();
        exchange.principal = Some(Arc::new(Principal {
            method: self.method.into(),
            user_id: UserId::string(facts.user_id.as_str()),
            email: Some(EMAIL.into()),
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: Some(facts.token_id.clone()),
            limits: Default::default(),
            claims: Default::default(),
        }));
        ready(self.filter.on_request(&head, &mut exchange))?;
        Ok((head, exchange))
    }

    pub(crate) fn answer(
        &self,
        passed: &mut Passed,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> (HeaderMap, Bytes) {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let mut head = response.body(()).unwrap().into_parts().0;
        let mut body = Bytes::copy_from_slice(body);
        ready(self.filter.on_response_body(&mut head, &mut body, &mut passed.exchange)).unwrap();
        (head.headers, body)
    }

    /// The same, opened by its client.
    pub(crate) fn answered(
        &self,
        passed: &mut Passed,
        sent: &Sent,
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> Received {
        let (headers, body) = self.answer(passed, status, &[("content-type", content_type)], body);
        let content_type = headers["content-type"].to_str().unwrap();
        sent.open(body.to_vec(), content_type, status).expect("the client opens it")
    }

    /// What a client of the founding format would send.
    pub(crate) fn founding(&self, plaintext: &[u8]) -> String {
        let identity = Identity {
            user_id: "u1",
            email: EMAIL,
            master_key: MASTER_KEY.as_bytes(),
            key_derivation: KeyDerivation::User,
        };
        client::seal_request(plaintext, identity, self.now)
    }

    pub(crate) fn post_founding(&self, body: &str, mac: Option<&str>) -> Result<Passed, Refusal> {
        let mut fields = vec![("content-type", "application/json")];
        fields.extend(mac.map(|mac| ("x-gapura-mac", mac)));
        self.send(&facts(), &fields, body.as_bytes())
    }

    pub(crate) fn counted(&self, result: &str) -> u64 {
        self.services.metrics.decryptions.with_label_values(&["payments", result]).get()
    }
}

pub(crate) fn fields(profile: &str) -> Vec<(&'static str, &'static str)> {
    match profile {
        "hpke" => vec![("content-type", "application/vnd.gapura.hpke")],
        _ => vec![("content-type", "application/json"), ("content-encoding", "aes128gcm")],
    }
}

pub(crate) fn facts() -> Facts {
    Facts {
        method: "POST".into(),
        secure: true,
        authority: "api.example.com".into(),
        target: "/payments/1?a=1".into(),
        user_id: "u1".into(),
        token_id: "t-1".into(),
        part: String::new(),
    }
}

pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store answers at once"),
    }
}
