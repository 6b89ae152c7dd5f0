//! What JWE costs: a request of 1 KiB opened and its response sealed, with every way to come by the key; and a token that is
//! encrypted around a signed one.

use std::{hint::black_box, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gapura_config::{
    fault::Place,
    model::{self, KeyKind},
};
use gapura_filters::{
    authentication::{Authentication, Method, Shared},
    crypto::{
        Curve,
        jwe::{Agreed, Compact, Enc, Header, OpeningKey, SealingKey, seal},
    },
    keyring::{AgreementKey, Key, Keyring, Keyrings, SessionKey, session::Holder},
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

const SECRET: &[u8] = include_bytes!("../filters/tests/keys/hs256.secret");
/// 2026-01-01T00:00:00Z
const NOW: u64 = 1_767_225_600;
const KID: &str = "sessions.2026-11.1767226500";
const HOLDER: Holder<'static> = Holder { method: "jwt.users", subject: "8f14e45f", token_id: "c9f0f895" };

/// The members that bind a message, of a usual length.
fn members() -> Value {
    json!({ "kid": KID, "cty": "application/json", "ctx": {
        "v": 1, "dir": "request", "method": "POST", "authority": "api.example.com", "path": "/payments/4711", "query": "",
        "sub": "8f14e45f-ceea-467f-a0e1-0d3c1c1c7a11", "tid": "c9f0f895-fb98-4b91-a2b1-6f1f5c4a7d22", "iat": NOW * 1000,
        "id": "AAECAwQFBgcICQoLDA0ODw", "part": "",
    }})
}

fn open(message: &str, key: OpeningKey<'_>) -> Vec<u8> {
    let compact = Compact::split(message.as_bytes()).expect("five parts");
    let json = compact.header().expect("base64url");
    let header = Header::read(&json).expect("a header");
    compact.open(&header, key).expect("opens")
}

fn ring(name: &str, kind: KeyKind, file: &str) -> (String, Option<Arc<Keyring>>) {
    let key = format!("file:{}/tests/keys/{file}", env!("CARGO_MANIFEST_DIR"));
    let config = json!({ "kind": kind.name(), "versions": [{ "id": "1", "key": key, "state": "active" }] });
    let config = serde_json::from_value(config).expect("a ring");
    (name.to_owned(), Some(Arc::new(Keyring::build(name, &config).expect("a test key"))))
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("jwe, 1 KiB");
    let plaintext = [b'p'; 1 << 10];
    let members = members();
    group.throughput(Throughput::Bytes(1 << 10));
    for (curve, name) in [(Curve::X25519, "ECDH-ES X25519"), (Curve::P256, "ECDH-ES P-256")] {
        let (key, reply) = (AgreementKey::new(curve, &[7; 32]), AgreementKey::new(curve, &[8; 32]));
        let (key, reply) = (key.expect("a key"), reply.expect("a key"));
        let message = seal(Enc::A256Gcm, SealingKey::Agreement(&key.public), &members, &plaintext).expect("sealed");
        group.bench_function(format!("{name}: open + seal"), |b| {
            b.iter(|| {
                let plaintext = open(black_box(&message), OpeningKey::Agreement(&key.private));
                let agreed = Agreed::with(&reply.public, Enc::A256Gcm).expect("agreed");
                seal(Enc::A256Gcm, SealingKey::Agreed(&agreed), &members, &plaintext)
            });
        });
    }
    let session = || SessionKey::derive(&[9; 32], black_box(KID), HOLDER);
    let wrapped = seal(Enc::A256Gcm, SealingKey::Wrapping(session().bytes()), &members, &plaintext).expect("sealed");
    group.bench_function("A256KW under a session key: open + seal", |b| {
        b.iter(|| {
            let key = session();
            let plaintext = open(black_box(&wrapped), OpeningKey::Wrapping(key.bytes()));
            seal(Enc::A256Gcm, SealingKey::Wrapping(key.bytes()), &members, &plaintext)
        });
    });
    group.finish();
}

fn tokens(c: &mut Criterion) {
    let rings: Keyrings = [ring("points", KeyKind::P256, "p256.key"), ring("rsa", KeyKind::Rsa, "rsa.key")].into();
    let payload = format!(r#"{{"sub":"u1","email":"someone@example.com","iat":{NOW},"exp":{}}}"#, NOW + 300);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a secret signs");
    let inner = format!("{signed}.{signature}");

    let mut group = c.benchmark_group("nested token");
    let point = rings["points"].as_ref().and_then(|ring| ring.opening("points.1", 0));
    let Some(Key::Agreement(pair)) = point else { panic!("a key pair") };
    let header = json!({ "cty": "JWT", "kid": "points.1" });
    let token = seal(Enc::A256Gcm, SealingKey::Agreement(&pair.public), &header, inner.as_bytes()).expect("sealed");
    let config: model::Jwt = serde_json::from_value(json!({
        "algorithms": ["HS256"], "secret": format!("file:{}/tests/keys/hs256.secret", env!("CARGO_MANIFEST_DIR")),
        "decryption": { "keyring": "points", "algorithms": ["ECDH-ES"] },
    }))
    .expect("a configuration");
    let shared = Shared { keyrings: Arc::new(rings), ..Shared::default() };
    let new = || {
        let method = Method::jwt_with("users", &config, &shared).expect("a good configuration");
        Authentication::new(&Place::root(), vec![method]).expect("one method")
    };
    let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a field value");
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    group.bench_function("ECDH-ES P-256 around HS256", |b| {
        let ask =
            |route: &mut Authentication| route.authenticate(black_box(&headers), NOW * 1000).expect("a good token");
        b.iter_batched_ref(new, ask, BatchSize::SmallInput);
    });
    let route = new();
    group.bench_function("ECDH-ES P-256 around HS256, again", |b| {
        b.iter(|| route.authenticate(black_box(&headers), NOW * 1000).expect("a good token"));
    });
    group.finish();
}

criterion_group!(benches, bodies, tokens);
criterion_main!(benches);
