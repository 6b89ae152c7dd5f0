//! A proof of possession (RFC 9449) beside a good token. Nobody guesses a signature, so none is taken.
#![no_main]

use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::{fault::Place, model};
use gapura_filters::{
    authentication::{Authentication, Dpop, KeySets, Method, api_key_hash},
    contract::{Code, Exchange, Filter, Now, Services},
    metrics::Metrics,
};
use http::{HeaderName, HeaderValue, Request, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;

const NOW_MS: u64 = 1_767_225_600_000;
const KEYS: &str = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../filters/tests/keys/");
const SECRET: &[u8] = include_bytes!("../../filters/tests/keys/hs256.secret");

static ROUTE: LazyLock<Authentication> = LazyLock::new(|| {
    let config =
        serde_json::json!({ "algorithms": ["HS256"], "secret": format!("{KEYS}hs256.secret"), "binding": "dpop" });
    let config: model::Jwt = serde_json::from_value(config).expect("a good configuration");
    let method = Method::jwt("users", &config, &KeySets::default()).unwrap_or_else(|_| panic!("it is built"));
    let services = Services::in_memory(1000, 1000, Arc::new(Metrics::new().expect("metrics")));
    let dpop = Dpop::build(&model::Dpop::default(), &services).unwrap_or_else(|_| panic!("it is built"));
    let route = Authentication::new(&Place::root(), vec![method]).unwrap_or_else(|_| panic!("no conflict"));
    route.checking_proofs(&Arc::new(dpop))
});

/// Bound to a key.
static TOKEN: LazyLock<HeaderValue> = LazyLock::new(|| {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let claims = format!(r#"{{"sub":"u1","exp":{},"cnf":{{"jkt":"{}"}}}}"#, NOW_MS / 1000 + 300, b64(&[7; 32]));
    let signed = format!("{}.{}", b64(br#"{"alg":"HS256"}"#), b64(claims.as_bytes()));
    // HMAC-SHA-256 is also what hashes API keys.
    let hex = api_key_hash(SECRET.strip_suffix(b"\n").unwrap_or(SECRET), signed.as_bytes());
    let digits =
        hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("hex"), 16).expect("hex"));
    let signature: Vec<u8> = digits.collect();
    HeaderValue::try_from(format!("DPoP {signed}.{}", b64(&signature))).expect("a token fits a field")
});

fn present(proof: &[u8]) {
    let Ok(proof) = HeaderValue::from_bytes(proof) else { return };
    let now = Now { monotonic: Duration::from_secs(1000), unix_ms: NOW_MS };
    let mut exchange = Exchange::new(now, [192, 0, 2, 1].into());
    let mut head = Request::post("/").body(()).expect("a head").into_parts().0;
    head.headers.insert(AUTHORIZATION, TOKEN.clone());
    head.headers.insert(HeaderName::from_static("dpop"), proof);
    let Poll::Ready(Err(refusal)) =
        pin!(ROUTE.on_request(&head, &mut exchange)).poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("it passes, or waits")
    };
    assert_eq!(refusal.code, Code::CredentialsInvalid);
    // The token itself is good.
    assert!(refusal.reason.contains("the DPoP proof"), "{}", refusal.reason);
}

fuzz_target!(|bytes: &[u8]| {
    present(bytes);
    // As header, claims and signature.
    let mut parts = bytes.splitn(3, |byte| *byte == 0).map(|part| URL_SAFE_NO_PAD.encode(part));
    let mut part = || parts.next().unwrap_or_default();
    present(format!("{}.{}.{}", part(), part(), part()).as_bytes());
});
