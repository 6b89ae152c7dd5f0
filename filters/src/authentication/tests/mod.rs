//! Real tokens against real keys. `forge` signs whatever header and payload a test writes down.

mod api_keys;
mod arbitrary;
mod attacks;
mod bound;
mod certificates;
mod claims;
mod encrypted;
mod lockout;
mod possession;
mod presented;
mod revocations;
mod route;
mod verified;

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::{
    fault::Place,
    model::{self, JwtAlgorithm},
    units::Period,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::{Algorithm, EncodingKey};

use super::*;
use crate::contract::Code;

/// 2026-01-01T00:00:00Z, in seconds.
pub(in crate::authentication) const NOW: u64 = 1_767_225_600;
pub(in crate::authentication) const NOW_MS: u64 = NOW * 1000;

pub(in crate::authentication) const RSA_KEY: &[u8] = include_bytes!("../../../tests/keys/rsa.key");
pub(in crate::authentication) const RSA_OTHER_KEY: &[u8] = include_bytes!("../../../tests/keys/rsa_other.key");
pub(in crate::authentication) const RSA_PUBLIC: &[u8] = include_bytes!("../../../tests/keys/rsa.pub.pem");
pub(in crate::authentication) const P256_KEY: &[u8] = include_bytes!("../../../tests/keys/p256.key");
pub(in crate::authentication) const P384_KEY: &[u8] = include_bytes!("../../../tests/keys/p384.key");
pub(in crate::authentication) const ED_KEY: &[u8] = include_bytes!("../../../tests/keys/ed25519.key");
pub(in crate::authentication) const SECRET: &[u8] = include_bytes!("../../../tests/keys/hs256.secret");
pub(in crate::authentication) const SALT: &[u8] = include_bytes!("../../../tests/keys/api_keys.salt");
pub(in crate::authentication) const JWKS: &str = include_str!("../../../tests/keys/jwks.json");

/// `file:` with the path of a test key.
pub(in crate::authentication) fn reference(name: &str) -> String {
    format!("file:{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub(in crate::authentication) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `header.payload.signature`, over exactly these texts.
pub(in crate::authentication) fn forge(
    header: &str,
    payload: impl AsRef<[u8]>,
    algorithm: Algorithm,
    key: &EncodingKey,
) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

pub(in crate::authentication) fn hs256(header: &str, payload: impl AsRef<[u8]>) -> String {
    forge(header, payload, Algorithm::HS256, &EncodingKey::from_secret(SECRET))
}

/// A token that differs from a good one in its payload only.
pub(in crate::authentication) fn with_payload(payload: impl AsRef<[u8]>) -> String {
    hs256(r#"{"alg":"HS256","typ":"JWT"}"#, payload)
}

/// A good payload with more members in it: `, "iss": "x"`.
pub(in crate::authentication) fn payload(more: &str) -> String {
    format!(r#"{{"sub":"u1","email":"a@b.c","exp":{},"iat":{NOW}{more}}}"#, NOW + 300)
}

pub(in crate::authentication) fn jwt_config(algorithms: &[JwtAlgorithm]) -> model::Jwt {
    model::Jwt {
        algorithms: algorithms.to_vec(),
        secret: None,
        public_key: None,
        jwks: None,
        discovery: false,
        ca: None,
        issuer: None,
        audience: Vec::new(),
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

pub(in crate::authentication) fn secret_config() -> model::Jwt {
    model::Jwt { secret: reference("hs256.secret").parse().ok(), ..jwt_config(&[JwtAlgorithm::HS256]) }
}

pub(in crate::authentication) fn public_config(algorithms: &[JwtAlgorithm], key: &str) -> model::Jwt {
    model::Jwt { public_key: reference(key).parse().ok(), ..jwt_config(algorithms) }
}

pub(in crate::authentication) fn set_config(algorithms: &[JwtAlgorithm]) -> model::Jwt {
    model::Jwt { jwks: Some(reference("jwks.json")), ..jwt_config(algorithms) }
}

pub(in crate::authentication) fn jwt(name: &str, config: &model::Jwt) -> Method {
    Method::jwt(name, config, &KeySets::default()).unwrap()
}

pub(in crate::authentication) fn route(methods: Vec<Method>) -> Authentication {
    Authentication::new(&Place::root().key("routes").index(0).key("auth"), methods).unwrap()
}

pub(in crate::authentication) fn only(config: &model::Jwt) -> Authentication {
    route(vec![jwt("users", config)])
}

pub(in crate::authentication) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

pub(in crate::authentication) fn bearer(route: &Authentication, token: &str) -> Result<Arc<Principal>, Refusal> {
    route.authenticate(&headers(&[("authorization", &format!("Bearer {token}"))]), NOW_MS)
}

/// Refused as `CREDENTIALS_INVALID`, for this reason; and the client reads nothing of it.
#[track_caller]
pub(in crate::authentication) fn refused(result: Result<Arc<Principal>, Refusal>, reason: &str) {
    let refusal = result.expect_err("it must be refused");
    assert_eq!(refusal.code, Code::CredentialsInvalid);
    assert_eq!(refusal.detail, "The credentials of this request are not valid.");
    assert!(refusal.reason.contains(reason), "`{}` does not say `{reason}`", refusal.reason);
}

pub(in crate::authentication) fn challenges(refusal: &Refusal) -> Vec<&str> {
    assert!(refusal.headers.iter().all(|(name, _)| name == http::header::WWW_AUTHENTICATE));
    refusal.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect()
}
