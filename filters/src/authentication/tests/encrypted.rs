//! Nested tokens: what opens and verifies is a token like any other, and nothing else is one.

use gapura_config::model::{JweAlgorithm, JweContent, JwtDecryption};
use serde_json::{Value, json};

use super::*;
use crate::{
    crypto::{
        PublicJwk,
        jwe::{Enc, SealingKey, seal},
    },
    keyring::{Keyring, Keyrings},
};

fn rings() -> Keyrings {
    let ring = |name: &str, kind: &str, file: &str| {
        let ring = json!({ "kind": kind, "versions": [
            { "id": "1", "key": reference(file), "state": "active" },
            { "id": "0", "key": "env:GAPURA_NO_SUCH_VARIABLE", "state": "revoked" },
        ]});
        let ring = Keyring::build(name, &serde_json::from_value(ring).unwrap()).unwrap();
        (name.to_owned(), Some(Arc::new(ring)))
    };
    [ring("x", "x25519", "x25519.key"), ring("p", "p256", "p256.key"), ring("r", "rsa", "rsa.key")].into()
}

fn decryption(keyring: &str, algorithms: &[JweAlgorithm]) -> JwtDecryption {
    let (keyring, algorithms) = (keyring.to_owned(), algorithms.to_vec());
    JwtDecryption { keyring, algorithms, encryption: vec![JweContent::A256Gcm], accept_unencrypted: false }
}

fn method(name: &str, config: model::Jwt) -> Method {
    Method::jwt_with(name, &config, &Shared { keyrings: Arc::new(rings()), ..Shared::default() }).unwrap()
}

fn config() -> model::Jwt {
    model::Jwt { decryption: Some(decryption("p", &[JweAlgorithm::EcdhEs])), ..secret_config() }
}

fn public(ring: &str) -> PublicJwk {
    rings()[ring].as_ref().unwrap().active().unwrap().public().unwrap().clone()
}

fn sealed(ring: &str, header: Value, content: &str) -> String {
    seal(Enc::A256Gcm, SealingKey::Agreement(&public(ring)), &header, content.as_bytes()).unwrap()
}

fn nested(inner: &str) -> String {
    sealed("p", json!({ "cty": "JWT", "kid": "p.1" }), inner)
}

fn good() -> String {
    with_payload(payload(""))
}

#[test]
fn a_signed_token_inside_is_a_token() {
    let route = route(vec![method("users", config())]);
    let caller = bearer(&route, &nested(&good())).unwrap();
    assert_eq!((caller.user_id.as_str(), &*caller.method), ("u1", "jwt.users"));
    // Named by no `kid`, or by one of the issuer's own.
    for header in
        [json!({ "cty": "JWT" }), json!({ "cty": "jwt", "kid": "theirs" }), json!({ "cty": "JWT", "typ": "JWT" })]
    {
        assert!(bearer(&route, &sealed("p", header.clone(), &good())).is_ok(), "{header}");
    }
    let x = model::Jwt { decryption: Some(decryption("x", &[JweAlgorithm::EcdhEs])), ..secret_config() };
    let x = super::route(vec![method("users", x)]);
    assert!(bearer(&x, &sealed("x", json!({ "cty": "JWT" }), &good())).is_ok());
}

#[test]
fn every_check_of_a_token_in_clear_is_made() {
    let strict = model::Jwt {
        issuer: Some("https://id".into()),
        audience: vec!["a".into()],
        require: [("tenant".to_owned(), "t".to_owned())].into(),
        ..config()
    };
    let route = route(vec![method("users", strict)]);
    let with = |more: &str| nested(&with_payload(payload(more)));
    assert!(bearer(&route, &with(r#","iss":"https://id","aud":"a","tenant":"t""#)).is_ok());
    refused(bearer(&route, &with(r#","iss":"https://other","aud":"a","tenant":"t""#)), "issuer");
    refused(bearer(&route, &with(r#","iss":"https://id","aud":"b","tenant":"t""#)), "audience");
    refused(bearer(&route, &with(r#","iss":"https://id","aud":"a""#)), "tenant");
    let route = super::route(vec![method("users", config())]);
    refused(bearer(&route, &nested(&with_payload(format!(r#"{{"sub":"u","exp":{}}}"#, NOW - 31)))), "expired");
    let key = EncodingKey::from_secret(&[7; 32]);
    let other = forge(r#"{"alg":"HS256"}"#, payload(""), Algorithm::HS256, &key);
    refused(bearer(&route, &nested(&other)), "signature");
    refused(bearer(&route, &nested(&forge(r#"{"alg":"none"}"#, payload(""), Algorithm::HS256, &key))), "`alg`");
}

#[test]
fn what_is_no_signed_token_encrypted_to_this_method_is_refused() {
    let route = route(vec![method("users", config())]);
    let good = good();
    for (token, why) in [
        // In clear, though its signature is good; and the claims alone, which anybody can encrypt.
        (good.clone(), "not encrypted"),
        (nested(&payload("")), "three parts"),
        (nested(""), "three parts"),
        (nested(&nested(&good)), "three parts"),
        (nested(&format!("{good}.")), "three parts"),
        (sealed("p", json!({ "kid": "p.1" }), &good), "`cty`"),
        (sealed("p", json!({ "cty": "json" }), &good), "`cty`"),
        (sealed("x", json!({ "cty": "JWT", "kid": "p.1" }), &good), "does not open"),
        (sealed("p", json!({ "cty": "JWT", "zip": "DEF" }), &good), "`zip`"),
        (sealed("p", json!({ "cty": "JWT", "crit": ["exp"] }), &good), "`crit`"),
        (sealed("p", json!({ "cty": "JWT", "x": "y".repeat(6000) }), &good), "longer than 8 KiB"),
        (sealed("p", json!({ "cty": "JWT" }), &"y".repeat(9300)), "longer than 12 KiB"),
        (
            seal(Enc::A128Gcm, SealingKey::Agreement(&public("p")), &json!({ "cty": "JWT" }), good.as_bytes()).unwrap(),
            "`enc`",
        ),
        (
            seal(Enc::A256Gcm, SealingKey::Direct(&[7; 32]), &json!({ "cty": "JWT" }), good.as_bytes()).unwrap(),
            "not accepted",
        ),
        ("....".into(), "header"),
        ("eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMjU2R0NNIn0....".into(), "`alg`"),
        ("eyJhbGciOiJQQkVTMi1IUzI1NitBMTI4S1ciLCJlbmMiOiJBMjU2R0NNIn0....".into(), "`alg`"),
    ] {
        refused(bearer(&route, &token), why);
    }
    let token = nested(&good);
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(bearer(&route, str::from_utf8(&changed).unwrap()).is_err(), "{at}");
    }
    let plain = only(&secret_config());
    refused(bearer(&plain, &token), "three parts");
}

#[test]
fn what_was_opened_once_is_known_and_its_inside_is_not() {
    let route = route(vec![method("users", config())]);
    let (inner, token) = (good(), nested(&good()));
    let first = bearer(&route, &token).unwrap();
    assert!(Arc::ptr_eq(&first, &bearer(&route, &token).unwrap()));
    refused(bearer(&route, &inner), "not encrypted");
    assert!(route.authenticate(&headers(&[("authorization", &format!("Bearer {token}"))]), NOW_MS + 400_000).is_err());
}

#[test]
fn in_clear_only_where_it_says_so() {
    let mut config = config();
    config.decryption.as_mut().unwrap().accept_unencrypted = true;
    let route = route(vec![method("users", config)]);
    assert!(bearer(&route, &good()).is_ok() && bearer(&route, &nested(&good())).is_ok());
}

#[test]
fn of_several_methods_the_issuer_chooses_and_its_own_keys_open() {
    let of = |issuer: &str, ring: Option<&str>| model::Jwt {
        issuer: Some(issuer.into()),
        decryption: ring.map(|ring| decryption(ring, &[JweAlgorithm::EcdhEs])),
        ..secret_config()
    };
    let route = route(vec![
        method("clear", of("clear", None)),
        method("x", of("x", Some("x"))),
        method("p", of("p", Some("p"))),
        method("also-p", of("also-p", Some("p"))),
    ]);
    let inner = |issuer: &str| with_payload(payload(&format!(r#","iss":"{issuer}""#)));
    let to = |ring: &str, issuer: &str| sealed(ring, json!({ "cty": "JWT" }), &inner(issuer));
    for (ring, issuer) in [("x", "x"), ("p", "p"), ("p", "also-p")] {
        assert_eq!(*bearer(&route, &to(ring, issuer)).unwrap().method, *format!("jwt.{issuer}"));
    }
    assert!(bearer(&route, &inner("clear")).is_ok());
    for issuer in ["x", "p", "also-p"] {
        refused(bearer(&route, &inner(issuer)), "not encrypted");
    }
    refused(bearer(&route, &to("p", "clear")), "encrypted");
    refused(bearer(&route, &to("p", "x")), "does not open");
    refused(bearer(&route, &to("x", "p")), "does not open");
}

#[test]
fn rsa_and_agreed_wrapping_open_with_their_algorithm_only() {
    use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
    let (_, der) = crate::pem::block(RSA_PUBLIC).unwrap();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap();
    let token =
        seal(Enc::A256Gcm, SealingKey::Rsa(&key), &json!({ "cty": "JWT", "kid": "r.1" }), good().as_bytes()).unwrap();
    let of = |ring: &str, algorithms: &[JweAlgorithm]| {
        route(vec![method("users", model::Jwt { decryption: Some(decryption(ring, algorithms)), ..secret_config() })])
    };
    assert!(bearer(&of("r", &[JweAlgorithm::RsaOaep256]), &token).is_ok());
    refused(bearer(&of("p", &[JweAlgorithm::EcdhEsA256Kw]), &nested(&good())), "not accepted");
}

#[test]
fn a_secret_must_have_the_length_of_its_algorithm() {
    let ring =
        json!({ "kind": "secret", "versions": [{ "id": "1", "key": reference("hs256.secret"), "state": "active" }] });
    let ring = Keyring::build("s", &serde_json::from_value(ring).unwrap()).unwrap();
    let keyrings: Arc<Keyrings> = Arc::new([("s".to_owned(), Some(Arc::new(ring)))].into());
    let build = |decryption: JwtDecryption| {
        let config = model::Jwt { decryption: Some(decryption), ..secret_config() };
        Method::jwt_with("users", &config, &Shared { keyrings: Arc::clone(&keyrings), ..Shared::default() })
    };
    let length = SECRET.trim_ascii_end().len();
    let faults = build(decryption("s", &[JweAlgorithm::A256Kw])).err();
    assert_eq!(faults.is_none(), length == 32, "{length}");
    let mut direct = decryption("s", &[JweAlgorithm::Dir]);
    direct.encryption = vec![JweContent::A256CbcHs512];
    assert_ne!(length, 64);
    let faults = build(direct).unwrap_err();
    assert!(faults[0].help.as_deref().is_some_and(|help| help.contains("openssl rand 64")), "{faults:?}");
    let absent = build(decryption("nowhere", &[JweAlgorithm::A256Kw])).unwrap_err();
    assert_eq!(absent[0].place.to_string(), "jwt.users.decryption.keyring");
}
