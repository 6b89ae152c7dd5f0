//! A filter, a caller and an exchange to try it with.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use gapura_config::model::{self, KeyDerivation};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Principal, Refusal, UserId},
    crypto,
    encryption::{
        Encryption, MemoryReplays, ReplayStore,
        client::{self, Identity},
    },
    metrics::Metrics,
};
use http::{HeaderMap, Method, Request, Response, request, response};
use serde_json::{Value, json};

pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const MASTER_KEY: &[u8] = b"the master key";
pub(crate) const EMAIL: &str = "ada@example.com";

pub(crate) struct Stage {
    pub(crate) filter: Encryption,
    pub(crate) metrics: Metrics,
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) now: u64,
    pub(crate) derivation: KeyDerivation,
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

    /// `settings` over the least that an entry needs.
    pub(crate) fn with(settings: Value) -> Self {
        Self::holding(settings, 1000)
    }

    pub(crate) fn holding(settings: Value, max_replays: usize) -> Self {
        let metrics = Metrics::new().unwrap();
        let config = config(settings);
        let replays = ReplayStore::Memory(Arc::new(MemoryReplays::new(max_replays)));
        let filter = Encryption::new("payments", &config, replays, &metrics).unwrap();
        let principal = Some(caller(UserId::string("u1"), Some(EMAIL)));
        Self { filter, metrics, principal, now: NOW, derivation: config.key_derivation }
    }

    pub(crate) fn called_by(mut self, user_id: UserId, email: Option<&str>) -> Self {
        self.principal = Some(caller(user_id, email));
        self
    }

    pub(crate) fn identity(&self) -> Identity<'_> {
        let user_id = self.principal.as_ref().map_or("", |principal| principal.user_id.as_str());
        Identity { user_id, email: EMAIL, master_key: MASTER_KEY, key_derivation: self.derivation }
    }

    /// What the caller's client would send.
    pub(crate) fn envelope(&self, plaintext: &[u8]) -> String {
        client::seal_request(plaintext, self.identity(), self.now)
    }

    pub(crate) fn post(&self, body: impl Into<Bytes>) -> Result<Passed, Refusal> {
        self.send(Method::POST, &[("content-type", "application/json")], body)
    }

    pub(crate) fn send(
        &self,
        method: Method,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Passed, Refusal> {
        let mut body = body.into();
        let mut request = Request::builder().method(method).uri("/payments");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let now = Now { monotonic: Duration::from_millis(self.now - NOW), unix_ms: self.now };
        let mut exchange = Exchange::new(now, [127, 0, 0, 1].into());
        exchange.principal = self.principal.clone();
        ready(self.filter.on_request(&head, &mut exchange))?;
        ready(self.filter.on_request_body(&mut head, &mut body, &mut exchange))?;
        Ok(Passed { head, body, exchange })
    }

    pub(crate) fn answer(
        &self,
        passed: &mut Passed,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> (HeaderMap, Bytes) {
        let mut head = response(status, fields);
        let mut body = Bytes::copy_from_slice(body);
        ready(self.filter.on_response_body(&mut head, &mut body, &mut passed.exchange)).unwrap();
        (head.headers, body)
    }

    pub(crate) fn counted(&self, result: &str) -> u64 {
        self.metrics.decryptions.with_label_values(&["payments", result]).get()
    }
}

pub(crate) fn config(settings: Value) -> model::Encryption {
    let file = std::env::temp_dir().join(format!("gapura-envelope-tests-{}", std::process::id()));
    // Written anew by every test of this process, always with the same bytes; renamed so that none reads a half.
    let fresh = file.with_extension(format!("{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    std::fs::write(&fresh, MASTER_KEY).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
    let mut config = json!({ "profile": "cryptojs", "master_key": format!("file:{}", file.display()) });
    config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

pub(crate) fn caller(user_id: UserId, email: Option<&str>) -> Arc<Principal> {
    Arc::new(Principal {
        method: "jwt.users".into(),
        user_id,
        email: email.map(Into::into),
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: None,
        token_id: None,
        expires: None,
        limits: Default::default(),
        claims: Default::default(),
    })
}

pub(crate) fn response(status: u16, fields: &[(&str, &str)]) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(()).unwrap().into_parts().0
}

/// An envelope of any parts.
pub(crate) fn forged(data: &str, key_hash: &str, timestamp: Value, user_id: Value) -> String {
    json!({ "encryptedData": data, "keyHash": key_hash, "timestamp": timestamp, "userId": user_id }).to_string()
}

/// The passphrase of the caller `u1`, and its hash.
pub(crate) fn own_key() -> (crypto::Passphrase, String) {
    let passphrase = crypto::passphrase("u1", EMAIL, MASTER_KEY, None);
    let hash = String::from_utf8(crypto::key_hash(passphrase.as_bytes()).to_vec()).unwrap();
    (passphrase, hash)
}

/// Nothing in the filter waits while its memory of replays is local.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store answers at once"),
    }
}
