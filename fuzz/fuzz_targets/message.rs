//! A request before an encryption: heads (`X-Gapura-Envelope`, `X-Gapura-Mac`, types and codings) and bodies of strangers, in
//! all profiles, whole and by members. Nobody has a key, so nothing passes; and the refusal is one of those that are told.
#![no_main]

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use gapura_filters::{
    contract::{Code, Exchange, Filter, Now, Principal, UserId},
    encryption::{Encryption, MemoryReplays, ReplayStore},
    keyring::{Keyring, Keyrings},
    metrics::Metrics,
};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW_MS: u64 = 1_795_000_000_000;
const KEYS: &str = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../filters/tests/keys/");

const FIELDS: [&str; 4] = ["content-type", "content-encoding", "x-gapura-envelope", "x-gapura-mac"];

static ENTRIES: LazyLock<Vec<Encryption>> = LazyLock::new(|| {
    let key = |file: &str| format!("{KEYS}{file}");
    let mut rings: Keyrings = BTreeMap::new();
    for (name, kind, file) in [
        ("curves", "x25519", "x25519.key"),
        ("points", "p256", "p256.key"),
        ("sessions", "secret", "hs256.secret"),
        ("partners", "rsa", "rsa.key"),
    ] {
        let ring = json!({ "kind": kind, "versions": [{ "id": "1", "key": key(file), "state": "active" }] });
        rings.insert(
            name.into(),
            Some(Arc::new(built(Keyring::build(name, &serde_json::from_value(ring).expect("a ring"))))),
        );
    }
    let strong = json!({ "profile": ["hpke", "jwe", "aes128gcm"], "keyrings": ["curves", "points", "sessions"] });
    let founding = json!({ "profile": "cryptojs", "master_key": key("hs256.secret"), "mac": "optional" });
    let rsa = json!({ "profile": "jwe-rsa", "keyrings": ["partners"], "response_key": key("rsa.pub.pem") });
    let with = |entry: &Value, name: &str, value: Value| {
        let mut entry = entry.clone();
        entry[name] = value;
        entry
    };
    let members = json!(["/a", "/b/0"]);
    let entries = [
        with(&strong, "members", members.clone()),
        strong,
        with(&with(&founding, "mac", "off".into()), "members", members),
        founding,
        with(&rsa, "preset", "visa-mle".into()),
        with(&rsa, "preset", "mastercard".into()),
        rsa,
    ];
    let metrics = Metrics::new().expect("metrics");
    let replays = Arc::new(MemoryReplays::new(10));
    let entry = |config| {
        let config = serde_json::from_value(config).expect("an entry");
        built(Encryption::with_rings("e", &config, &rings, ReplayStore::Memory(replays.clone()), &metrics))
    };
    entries.map(entry).into()
});

fn built<T>(made: Result<T, Vec<impl Debug>>) -> T {
    made.unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(done) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    done
}

fuzz_target!(|bytes: &[u8]| {
    // Four fields, one a line; the rest is the body.
    let mut parts = bytes.splitn(1 + FIELDS.len(), |byte| *byte == b'\n');
    let fields: Vec<_> = FIELDS.iter().zip(parts.by_ref().take(FIELDS.len()).collect::<Vec<_>>()).collect();
    let body = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let mut request = Request::post("/a/b?c");
    for (name, value) in fields {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        if !value.is_empty() {
            request = request.header(HeaderName::from_static(name), value);
        }
    }
    if !body.is_empty() {
        request = request.header("content-length", body.len());
    }
    let head = request.body(()).expect("a head").into_parts().0;
    for (number, entry) in ENTRIES.iter().enumerate() {
        present(entry, number, head.clone(), body.clone());
    }
});

fn present(entry: &Encryption, number: usize, mut head: http::request::Parts, mut body: Bytes) {
    let now = Now { monotonic: Duration::from_secs(1000), unix_ms: NOW_MS };
    let mut exchange = Exchange::new(now, [192, 0, 2, 1].into());
    exchange.target = "/a/b?c".parse().expect("a target");
    exchange.authority = HeaderValue::from_static("api.example");
    exchange.principal = Some(Arc::new(Principal {
        method: "jwt.users".into(),
        user_id: UserId::string("u1"),
        email: Some("u1@example.com".into()),
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: None,
        token_id: None,
        limits: Default::default(),
        claims: Default::default(),
    }));
    let sent = body.clone();
    let outcome = ready(entry.on_request(&head, &mut exchange))
        .and_then(|()| ready(entry.on_request_body(&mut head, &mut body, &mut exchange)));
    match outcome {
        // No message, and an answer sealed all the same: with the caller's key, or to the partner's.
        Ok(()) => {
            assert!(number >= 2 && body == sent, "entry {number} opened something");
            assert!(body.is_empty() || number == 2, "entry {number} passed a body");
            assert!(exchange.sealing.is_some_and(|sealing| sealing.is_due()), "entry {number} answers in clear");
        }
        Err(refusal) => assert!(
            matches!(
                refusal.code,
                Code::EnvelopeRequired
                    | Code::ContentTypeUnsupported
                    | Code::DecryptionFailed
                    | Code::KeyVerificationFailed
                    | Code::EnvelopeExpired
            ),
            "entry {number}: {:?}, {}",
            refusal.code,
            refusal.reason
        ),
    }
}
