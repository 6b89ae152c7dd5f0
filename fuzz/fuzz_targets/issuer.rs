//! What issuers answer: key sets of tokens, introspection of API keys (RFC 7662), rows of a backend's own table. Whoever they
//! make a caller is fit for headers, and was called active.
#![no_main]

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use gapura_config::fault::Place;
use gapura_filters::{
    authentication::{Authentication, KeyIssuer, KeySets, Method, Question, Shared},
    contract::{Code, Exchange, Filter, Now},
    json::{self, Json},
};
use http::Request;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const NOW_MS: u64 = 1_767_225_600_000;
const SALT: &str = concat!("file:", env!("CARGO_MANIFEST_DIR"), "/../filters/tests/keys/api_keys.salt");

static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Says what the fuzzer says.
struct Stranger;

impl KeyIssuer for Stranger {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let answer = ANSWER.lock().expect("an answer").clone();
        Box::pin(async move { question.keys.learn(&question, &[answer]).unwrap_or(false) })
    }
}

/// By introspection, and by a query.
static ROUTES: LazyLock<[Authentication; 2]> = LazyLock::new(|| {
    let route = |name: &str, source: Value| {
        let mut config = json!({ "header": "X-Api-Key", "salt": SALT, "keys": [] });
        config[name] = source;
        let config = serde_json::from_value(config).expect("a good configuration");
        let method = Method::api_keys_with(name, &config, &Shared::default());
        let method = method.unwrap_or_else(|faults| panic!("{faults:?}"));
        let route = Authentication::new(&Place::root(), vec![method]).unwrap_or_else(|_| panic!("no conflict"));
        assert!(route.foreign_keys().all(|keys| keys.served_by(Arc::new(Stranger))));
        route
    };
    let query = "SELECT id, user_id FROM keys WHERE hash = $1";
    [
        route("introspection", json!({ "url": "https://issuer.example/introspect" })),
        route("lookup", json!({ "database": "sqlite:/nowhere", "query": query, "hash": "sha256" })),
    ]
});

static TOKENS: LazyLock<Authentication> = LazyLock::new(|| {
    let config = json!({ "algorithms": ["RS256", "ES256", "EdDSA"], "jwks": "https://issuer.example/keys" });
    let config = serde_json::from_value(config).expect("a good configuration");
    let method = Method::jwt("users", &config, &KeySets::default()).unwrap_or_else(|faults| panic!("{faults:?}"));
    Authentication::new(&Place::root(), vec![method]).unwrap_or_else(|_| panic!("no conflict"))
});

fuzz_target!(|bytes: &[u8]| {
    for set in TOKENS.key_sets() {
        if let Ok(taken) = set.replace(bytes) {
            assert!(taken.keys > 0 && set.missing().is_none());
            assert!(json::parse(bytes).is_ok(), "keys of what the strict reader refuses");
        }
    }
    *ANSWER.lock().expect("an answer") = bytes.to_vec();
    for (at, route) in ROUTES.iter().enumerate() {
        present(route, at == 0, bytes);
    }
});

fn present(route: &Authentication, introspected: bool, answer: &[u8]) {
    // A key that nobody asked for before.
    static KEYS: AtomicU64 = AtomicU64::new(0);
    let key = format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed));
    let now = Now { monotonic: Duration::from_secs(1000), unix_ms: NOW_MS };
    let mut exchange = Exchange::new(now, [192, 0, 2, 1].into());
    let head = Request::get("/").header("x-api-key", key).body(()).expect("a head").into_parts().0;
    let outcome = pin!(route.on_request(&head, &mut exchange)).poll(&mut Context::from_waker(Waker::noop()));
    match outcome {
        Poll::Ready(Ok(())) => {
            let said = json::parse_object(answer).expect("a caller of what is no object");
            assert!(!introspected || said.get("active") == Some(&Json::Bool(true)));
            let principal = exchange.principal.expect("a caller");
            assert!(!principal.user_id.as_str().is_empty());
            assert!(!principal.user_id.as_str().chars().any(char::is_control));
            assert!(principal.roles.iter().chain(&principal.permissions).all(|name| !name.contains(',')));
        }
        Poll::Ready(Err(refusal)) => assert!(
            matches!(refusal.code, Code::CredentialsInvalid | Code::Overloaded),
            "{:?}: {}",
            refusal.code,
            refusal.reason
        ),
        Poll::Pending => panic!("it waits"),
    }
}
