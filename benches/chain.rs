//! What the gateway decides about one request, without a socket: canonical path, route, every hook of its chain. The policy
//! is compiled from TOML as an operator writes it, and the clock is the real one.
//!
//! `cargo bench -p gapura-filters --bench chain`

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gapura_config::model::KeyDerivation;
use gapura_filters::{
    contract::{Clock, Exchange, Now, Services},
    encryption::client::{self, Identity},
    metrics::Metrics,
    policy::Policy,
    router::Found,
    target::canonical_path,
};
use http::{HeaderMap, Method, Request, Response, request};
use jsonwebtoken::{Algorithm, EncodingKey};

const SECRET: &[u8] = include_bytes!("../filters/tests/keys/hs256.secret");
const MASTER_KEY: &[u8] = include_bytes!("../filters/tests/keys/api_keys.salt");
const USER: &str = "0b9c1f6e-5c7d-4f0e-9a51-0c5c1f0f2a11";
const EMAIL: &str = "someone@example.com";
/// More envelopes than one run opens: a full memory of replays would refuse.
const REPLAYS: usize = 8_000_000;

fn policy() -> Policy {
    let keys = format!("file:{}/tests/keys", env!("CARGO_MANIFEST_DIR"));
    // The limits are those that nothing here reaches; the work of counting is the same.
    let text = format!(
        r#"
        [server]
        http = ["127.0.0.1:8080"]
        plaintext = true

        [upstreams.backend]
        servers = ["127.0.0.1:8000"]

        [jwt.users]
        algorithms = ["HS256"]
        secret = "{keys}/hs256.secret"
        issuer = "https://id.example.com/realms/main"
        audience = ["payments"]

        [rate_limits.general]
        limit = 1000000000
        window = "60s"
        by = "client_ip"

        [rate_limits.caller]
        limit = 1000000000
        window = "60s"
        by = "user"

        [encryption.payments]
        profile = "cryptojs"
        master_key = "{keys}/api_keys.salt"
        key_derivation = "user"
        max_age = "5m"

        [[routes]]
        name = "public"
        path = "/catalogue/**"
        upstream = "backend"

        [[routes]]
        name = "account"
        path = "/account/**"
        upstream = "backend"
        auth = ["jwt.users"]
        permissions = ["PAYMENT_READ"]
        rate_limits = ["general", "caller"]

        [[routes]]
        name = "payments"
        path = "/payments/**"
        methods = ["POST"]
        upstream = "backend"
        auth = ["jwt.users"]
        permissions = ["PAYMENT_PROCESS"]
        rate_limits = ["general", "caller"]
        encryption = "payments"
        "#
    );
    let Ok(loaded) = gapura_config::parse("chain.toml", &text) else { panic!("the configuration is good") };
    let services = Services::in_memory(100_000, REPLAYS, Arc::new(Metrics::new().expect("metrics")));
    match Policy::compile(&loaded.config, &services) {
        Ok((policy, _)) => policy,
        Err(faults) => panic!("{}", faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ")),
    }
}

/// As the gateway's own: both clocks of the system, asked anew each time.
struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Now {
        Now { monotonic: self.0.elapsed(), unix_ms: unix_ms() }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

fn token() -> String {
    let now = unix_ms() / 1000;
    let payload = format!(
        r#"{{"iss":"https://id.example.com/realms/main","aud":["payments","account"],"sub":"{USER}","email":"{EMAIL}","exp":{},"iat":{now},"jti":"5b1f0f5e-77b5-4a39-a5b0-2f3a9d1f9a10","roles":["customer","reviewer"],"permissions":["PAYMENT_PROCESS","PAYMENT_READ"]}}"#,
        now + 3600
    );
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).expect("a test key signs");
    format!("{signed}.{signature}")
}

/// What a client sends with any request, and what this one needs.
fn head(method: Method, path: &str, token: Option<&str>, length: usize) -> request::Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "api.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")
        .header("accept", "application/json")
        .header("accept-language", "en")
        .header("accept-encoding", "gzip, br");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if length > 0 {
        request = request.header("content-type", "application/json").header("content-length", length);
    }
    request.body(()).expect("a good request").into_parts().0
}

/// One exchange from its head to its end. What the upstream answers is `answer`.
fn exchange(
    policy: &Policy,
    clock: &RealClock,
    (mut head, mut body): (request::Parts, Bytes),
    answer: &Bytes,
) -> (Bytes, HeaderMap) {
    let mut exchange = Exchange::new(clock.now(), [192, 0, 2, 1].into());
    let path = canonical_path(head.uri.path()).expect("a canonical path");
    let Found::Route(index) = policy.find(&path, &head.method) else { panic!("a route takes it") };
    let chain = &policy.route(index).chain;
    ready(chain.on_request(clock, &head, &mut exchange)).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    ready(chain.on_request_body(clock, &mut head, &mut body, &mut exchange))
        .unwrap_or_else(|refusal| panic!("{refusal:?}"));
    black_box((&head, &body));
    let mut response = Response::builder()
        .status(200)
        .header("content-type", "application/json")
        .header("content-length", answer.len())
        .body(())
        .expect("a good response")
        .into_parts()
        .0;
    let mut body = answer.clone();
    ready(chain.on_response_body(clock, &mut response, &mut body, &mut exchange))
        .unwrap_or_else(|refusal| panic!("{refusal:?}"));
    chain.on_response_headers(&mut response.headers, &mut exchange);
    ready(chain.on_complete(&mut exchange));
    (body, response.headers)
}

fn chain(c: &mut Criterion) {
    let (policy, clock, token) = (policy(), RealClock(Instant::now()), token());
    let document = Bytes::from(format!(r#"{{"amount":12.5,"to":"DE89","note":"{:a<987}"}}"#, ""));
    assert_eq!(document.len(), 1024);
    let identity =
        Identity { user_id: USER, email: EMAIL, master_key: trimmed(MASTER_KEY), key_derivation: KeyDerivation::User };
    let mut group = c.benchmark_group("chain");
    let mut bench = |name: &str, make: &dyn Fn() -> (request::Parts, Bytes)| {
        group.bench_function(name, |b| {
            b.iter_batched(make, |request| exchange(&policy, &clock, request, &document), BatchSize::SmallInput);
        });
    };
    bench("public", &|| (head(Method::GET, "/catalogue/books/17", None, 0), Bytes::new()));
    bench("JWT and two limits", &|| (head(Method::GET, "/account/orders", Some(&token), 0), Bytes::new()));
    // Sealed anew for each exchange, outside the time that is taken: the second of two equal ones would be a replay.
    bench("JWT, two limits, 1 KiB opened and sealed", &|| {
        let sealed = Bytes::from(client::seal_request(&document, identity, unix_ms()));
        (head(Method::POST, "/payments/new", Some(&token), sealed.len()), sealed)
    });
    group.finish();
}

/// As a secret's file is read: without its last newline.
fn trimmed(file: &'static [u8]) -> &'static [u8] {
    file.strip_suffix(b"\n").unwrap_or(file)
}

/// Nothing in a chain waits while its state is local.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory stores answer at once"),
    }
}

criterion_group!(benches, chain);
criterion_main!(benches);
