//! Who calls, end to end: the gateway as a process, an upstream that shows what it gets.

mod gateway;
mod key_sets;
mod oidc;
mod provider;
mod sources;
mod upstream;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// For what must happen; a test that meets it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A good token of user `u1`, for five minutes.
fn token(algorithm: Algorithm, kid: Option<&str>, issuer: Option<&str>, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let mut claims = serde_json::json!({ "sub": "u1", "iat": now(), "exp": now() + 300 });
    if let Some(issuer) = issuer {
        claims["iss"] = issuer.into();
    }
    jsonwebtoken::encode(&header, &claims, key).unwrap()
}

/// The path of a key that the filters' tests use.
fn key_file(name: &str) -> String {
    format!("{}/filters/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}
