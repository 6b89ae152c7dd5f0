//! A bearer token, from the header value to the principal. Two keys: with one a signature can be made here, so that claims
//! are reached as well.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::{fault::Place, model};
use gapura_filters::{
    authentication::{Authentication, KeySets, Method, api_key_hash},
    contract::Code,
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;

const NOW_MS: u64 = 1_767_225_600_000;
const KEYS: &str = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../filters/tests/keys/");
const SECRET: &[u8] = include_bytes!("../../filters/tests/keys/hs256.secret");

static ROUTE: LazyLock<Authentication> = LazyLock::new(|| {
    let jwt = |name: &str, config: serde_json::Value| {
        let config: model::Jwt = serde_json::from_value(config).expect("a good configuration");
        Method::jwt(name, &config, &KeySets::default()).unwrap_or_else(|_| panic!("{name} is built"))
    };
    let shared = jwt("shared", serde_json::json!({ "algorithms": ["HS256"], "secret": format!("{KEYS}hs256.secret") }));
    let set = jwt(
        "set",
        serde_json::json!({ "algorithms": ["RS256", "PS256", "ES256", "EdDSA"], "jwks": format!("{KEYS}jwks.json") }),
    );
    Authentication::new(&Place::root(), vec![shared, set]).unwrap_or_else(|_| panic!("no conflict"))
});

fn present(value: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(value) else { return false };
    match ROUTE.authenticate(&HeaderMap::from_iter([(AUTHORIZATION, value)]), NOW_MS) {
        Ok(principal) => {
            assert!(!principal.user_id.as_str().is_empty());
            assert!(!principal.user_id.as_str().chars().any(char::is_control));
            assert!(principal.roles.iter().chain(&principal.permissions).all(|name| !name.contains(',')));
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.code, Code::CredentialsInvalid);
            false
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // As it came: nobody guesses a signature.
    assert!(!present(bytes));
    assert!(!present(&[b"Bearer ", bytes].concat()));
    // As header and payload of a token that is signed.
    let split = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (header, payload) = (&bytes[..split], bytes.get(split + 1..).unwrap_or_default());
    let header = if header.is_empty() { br#"{"alg":"HS256"}"# } else { header };
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    // HMAC-SHA-256 is also what hashes API keys.
    let secret = SECRET.strip_suffix(b"\n").unwrap_or(SECRET);
    let hex = api_key_hash(secret, signed.as_bytes());
    let mac: Vec<u8> = (0..64).step_by(2).filter_map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect();
    present(format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac)).as_bytes());
});
