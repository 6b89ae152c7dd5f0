//! An entry with keys of every kind, a caller, and a client that knows the entry's public keys.

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use gapura_config::model::{self, KeyState};
use gapura_filters::{
    contract::{Code, Exchange, Filter, Now, Principal, Refusal, UserId},
    encryption::{Encryption, MemoryReplays, ReplayStore, context::MessageId},
    keyring::{Keyring, Keyrings, session::Holder},
    metrics::Metrics,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, request};
use serde_json::{Value, json};

pub(crate) const NOW: u64 = 1_790_000_000_000;
pub(crate) const TARGET: &str = "/payments/1?dry=1";
pub(crate) const HOLDER: Holder<'static> = Holder { method: "jwt.users", subject: "u1", token_id: "t-1" };

pub(crate) fn key_file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name);
    format!("file:{}", path.display())
}

/// Rings of every kind, with versions of every state in that of X25519.
pub(crate) fn rings() -> Keyrings {
    let one = |kind: &str, file: &str| json!({ "kind": kind, "versions": [{ "id": "1", "key": key_file(file), "state": "active" }] });
    let bodies = json!({ "kind": "x25519", "versions": [
        { "id": "old", "key": key_file("x25519.key"), "state": "retiring", "until": null },
        { "id": "1", "key": key_file("x25519.key"), "state": "active" },
        { "id": "2", "key": key_file("x25519.key"), "state": "pending" },
        { "id": "bad", "key": "env:GAPURA_NO_SUCH_VARIABLE", "state": "revoked" },
    ]});
    let all = [
        ("bodies", bodies),
        ("points", one("p256", "p256.key")),
        ("partners", one("rsa", "rsa.key")),
        ("sessions", one("secret", "hs256.secret")),
    ];
    let build = |name: &str, ring: Value| {
        let mut ring: model::Keyring = serde_json::from_value(ring).unwrap();
        for version in ring.versions.iter_mut().filter(|version| version.state == KeyState::Retiring) {
            // NOW is in September 2026.
            version.until = Some("2026-12-01T00:00:00Z".parse().unwrap());
        }
        Keyring::build(name, &ring).unwrap_or_else(|faults| panic!("{name}: {faults:?}"))
    };
    all.into_iter().map(|(name, ring)| (name.to_owned(), Some(Arc::new(build(name, ring))))).collect()
}

pub(crate) struct Stage {
    pub(crate) filter: Encryption,
    pub(crate) metrics: Metrics,
    pub(crate) rings: Keyrings,
    pub(crate) now: u64,
    pub(crate) user: &'static str,
    pub(crate) token_id: Option<&'static str>,
    pub(crate) authority: &'static str,
    pub(crate) target: &'static str,
    pub(crate) method: Method,
}

pub(crate) struct Passed {
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
    pub(crate) exchange: Exchange,
}

impl Stage {
    pub(crate) fn new(settings: Value) -> Self {
        let metrics = Metrics::new().unwrap();
        let config: model::Encryption = serde_json::from_value(settings).unwrap();
        let replays = ReplayStore::Memory(Arc::new(MemoryReplays::new(1000)));
        let rings = rings();
        let filter = Encryption::with_rings("payments", &config, &rings, replays, &metrics)
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        Self {
            filter,
            metrics,
            rings,
            now: NOW,
            user: "u1",
            token_id: Some("t-1"),
            authority: "api.example",
            target: TARGET,
            method: Method::POST,
        }
    }

    pub(crate) fn ring(&self, name: &str) -> &Keyring {
        self.rings[name].as_ref().unwrap()
    }

    pub(crate) fn post(&self, content_type: &str, body: impl Into<Bytes>) -> Result<Passed, Refusal> {
        self.send(&[("content-type", content_type)], body)
    }

    pub(crate) fn send(&self, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Result<Passed, Refusal> {
        let mut body = body.into();
        let mut request = Request::builder().method(self.method.clone()).uri(self.target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        let now = Now { monotonic: Duration::from_millis(self.now - NOW / 2), unix_ms: self.now };
        let mut exchange = Exchange::new(now, [127, 0, 0, 1].into());
        exchange.target = self.target.parse().unwrap();
        exchange.authority = HeaderValue::from_static(self.authority);
        exchange.secure = true;
        exchange.principal = Some(Arc::new(Principal {
            method: "jwt.users".into(),
            user_id: UserId::string(self.user),
            email: Some("u1@example.com".into()),
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: self.token_id.map(Into::into),
            limits: Default::default(),
            claims: Default::default(),
        }));
        ready(self.filter.on_request(&head, &mut exchange))?;
        ready(self.filter.on_request_body(&mut head, &mut body, &mut exchange))?;
        Ok(Passed { head, body, exchange })
    }

    pub(crate) fn answer(
        &self,
        passed: &mut Passed,
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> (HeaderMap, Bytes) {
        let response = Response::builder().status(status).header("content-type", content_type).header("etag", "\"x\"");
        let mut head = response.body(()).unwrap().into_parts().0;
        let mut body = Bytes::copy_from_slice(body);
        ready(self.filter.on_response_body(&mut head, &mut body, &mut passed.exchange)).unwrap();
        (head.headers, body)
    }

    pub(crate) fn opened(&self, profile: &str) -> u64 {
        self.metrics.envelopes.with_label_values(&["payments", profile]).get()
    }

    /// The `ctx` of a request to this stage, as a client makes it.
    pub(crate) fn ctx(&self) -> Value {
        let (path, query) = TARGET.split_once('?').unwrap();
        json!({
            "v": 1, "dir": "request", "method": "POST", "authority": "api.example", "path": path, "query": query,
            "sub": "u1", "tid": "t-1", "iat": self.now, "id": MessageId::fresh().text(), "part": "",
        })
    }
}

/// Code and text of a refusal: what a client sees.
pub(crate) fn told(result: Result<Passed, Refusal>) -> (Code, String) {
    let refusal = result.err().expect("a refusal");
    let body = String::from_utf8(refusal.body("r-1")).unwrap();
    assert!(refusal.headers.is_empty() || refusal.code == Code::ContentTypeUnsupported);
    (refusal.code, body)
}

/// Nothing in the filter waits while its memory of replays is local.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store answers at once"),
    }
}
