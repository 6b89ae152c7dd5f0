//! What authentication costs a request: the whole filter, from the header value to the principal, claims included.
//!
//! `cargo bench -p gapura-filters --bench jwt`. The bars: HS256 under 5 µs; a token with a public key that
//! was verified before under 2 µs.

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gapura_config::{
    fault::Place,
    model::{self, JwtAlgorithm},
    units::Period,
};
use gapura_filters::authentication::{Authentication, KeySets, Method, api_key_hash};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};

const NOW: u64 = 1_767_225_600;
const SECRET: &[u8] = include_bytes!("../filters/tests/keys/hs256.secret");
const SALT: &[u8] = include_bytes!("../filters/tests/keys/api_keys.salt");

/// As large as those of common issuers.
const PAYLOAD: &str = r#"{"iss":"https://id.example.com/realms/main","aud":["payments","account"],"sub":"0b9c1f6e-5c7d-4f0e-9a51-0c5c1f0f2a11","email":"someone@example.com","exp":1767225900,"iat":1767225600,"nbf":1767225600,"jti":"5b1f0f5e-77b5-4a39-a5b0-2f3a9d1f9a10","roles":["customer","reviewer"],"permissions":["PAYMENT_PROCESS","PAYMENT_READ"],"scope":"openid profile email"}"#;

fn reference(name: &str) -> String {
    format!("file:{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn token(algorithm: Algorithm, key: &EncodingKey) -> String {
    let header = format!(r#"{{"alg":"{algorithm:?}","typ":"JWT"}}"#);
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(PAYLOAD));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).expect("a test key signs");
    format!("{signed}.{signature}")
}

fn config(algorithm: JwtAlgorithm) -> model::Jwt {
    model::Jwt {
        algorithms: vec![algorithm],
        secret: None,
        public_key: None,
        jwks: None,
        discovery: false,
        ca: None,
        issuer: Some("https://id.example.com/realms/main".into()),
        audience: vec!["payments".into()],
        leeway: Period::secs(30),
        token: Default::default(),
        max_age: None,
        typ: None,
        require: Default::default(),
        decryption: None,
        binding: Default::default(),
        claims: model::Claims::default(),
    }
}

fn public(algorithm: JwtAlgorithm, key: &str) -> model::Jwt {
    model::Jwt { public_key: reference(key).parse().ok(), ..config(algorithm) }
}

fn one(method: Method) -> Authentication {
    Authentication::new(&Place::root(), vec![method]).expect("one method has no conflict")
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).expect("visible ASCII"))])
}

fn authentication(c: &mut Criterion) {
    let key = |pem: &[u8], read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>| read(pem).expect("a test key");
    let rsa = key(include_bytes!("../filters/tests/keys/rsa.key"), EncodingKey::from_rsa_pem);
    let p256 = key(include_bytes!("../filters/tests/keys/p256.key"), EncodingKey::from_ec_pem);
    let ed25519 = key(include_bytes!("../filters/tests/keys/ed25519.key"), EncodingKey::from_ed_pem);
    let shared = model::Jwt { secret: reference("hs256.secret").parse().ok(), ..config(JwtAlgorithm::HS256) };
    let rows = [
        ("HS256", shared, token(Algorithm::HS256, &EncodingKey::from_secret(SECRET))),
        ("RS256", public(JwtAlgorithm::RS256, "rsa.pub.pem"), token(Algorithm::RS256, &rsa)),
        ("ES256", public(JwtAlgorithm::ES256, "p256.pub.pem"), token(Algorithm::ES256, &p256)),
        ("EdDSA", public(JwtAlgorithm::EdDSA, "ed25519.pub.pem"), token(Algorithm::EdDSA, &ed25519)),
    ];
    let mut group = c.benchmark_group("authentication");
    for (name, config, token) in rows {
        let new = || one(Method::jwt("users", &config, &KeySets::default()).expect("a good configuration"));
        let headers = headers(&format!("Bearer {token}"));
        // A route that has not seen the token yet.
        group.bench_function(name, |b| {
            let ask =
                |route: &mut Authentication| route.authenticate(black_box(&headers), NOW * 1000).expect("a good token");
            b.iter_batched_ref(new, ask, BatchSize::SmallInput);
        });
        let route = new();
        group.bench_function(format!("{name}, again"), |b| {
            b.iter(|| route.authenticate(black_box(&headers), NOW * 1000).expect("a good token"));
        });
    }

    let keys = model::ApiKeys {
        database: None,
        header: "Authorization".into(),
        scheme: Some("ApiKey".into()),
        salt: reference("api_keys.salt").parse().expect("a reference"),
        keys: (0..1000)
            .map(|n: u32| model::ApiKey {
                allow: None,
                limits: Default::default(),
                id: format!("key-{n}"),
                hash: api_key_hash(SALT, format!("gk_live_{n:032}").as_bytes()),
                user_id: "u1".into(),
                email: None,
                roles: Vec::new(),
                permissions: Vec::new(),
                expires: None,
            })
            .collect(),
    };
    let route = one(Method::api_keys("developers", &keys).expect("a good configuration"));
    let key = headers(&format!("ApiKey gk_live_{:032}", 500));
    group.bench_function("API key, one of 1000", |b| {
        b.iter(|| route.authenticate(black_box(&key), NOW * 1000).expect("a known key"));
    });
    group.finish();

    // What the strict front and the compiled keys are measured against.
    let token = token(Algorithm::HS256, &EncodingKey::from_secret(SECRET));
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let decoding = DecodingKey::from_secret(SECRET);
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let mut group = c.benchmark_group("jsonwebtoken alone");
    group.bench_function("HS256 crypto::verify", |b| {
        b.iter(|| jsonwebtoken::crypto::verify(black_box(signature), signed.as_bytes(), &decoding, Algorithm::HS256));
    });
    group.bench_function("HS256 decode to a Value", |b| {
        b.iter(|| {
            jsonwebtoken::decode::<serde_json::Value>(black_box(&token), &decoding, &validation).expect("a good token")
        });
    });
    group.finish();
}

criterion_group!(benches, authentication);
criterion_main!(benches);
