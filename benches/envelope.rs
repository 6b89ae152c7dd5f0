//! What an encrypted route costs: a request opened (envelope JSON, key derivation, base64, AES, the check of the content, the
//! replay fingerprint) and a response sealed, both through the filter itself.

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gapura_config::model::{self, KeyDerivation};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Principal, UserId},
    crypto,
    encryption::{
        Encryption, MemoryReplays, ReplayStore,
        client::{self, Identity},
    },
    metrics::Metrics,
};

/// That of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(usize, &str); 4] = [(256, "256 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];
const MASTER_KEY: &[u8] = b"a master key of some length";
const NOW: u64 = 1_700_000_000_000;

fn envelope(c: &mut Criterion) {
    let filter = filter();
    let mut group = c.benchmark_group("envelope");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for (size, name) in SIZES {
        let plaintext = Bytes::from(document(size));
        let sealed = Bytes::from(client::seal_request(&plaintext, identity(), NOW));
        group.throughput(Throughput::Bytes(plaintext.len() as u64));
        group.bench_function(BenchmarkId::new("open", name), |b| {
            b.iter_batched(
                || (request(), exchange()),
                |(head, ex)| open(&filter, sealed.clone(), head, ex),
                batch(size),
            );
        });
        group.bench_function(BenchmarkId::new("seal", name), |b| {
            let opened = || (open(&filter, sealed.clone(), request(), exchange()).1, response());
            b.iter_batched(
                opened,
                |(mut exchange, mut head)| {
                    let mut body = plaintext.clone();
                    ready(filter.on_response_body(&mut head, &mut body, &mut exchange)).expect("sealed");
                    (body, head, exchange)
                },
                batch(size),
            );
        });
    }
    group.finish();
}

/// A megabyte and its answer are freed before the next comes, as in a gateway.
fn batch(size: usize) -> BatchSize {
    if size < 1 << 20 { BatchSize::SmallInput } else { BatchSize::PerIteration }
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("parts");
    group.bench_function("passphrase and key hash", |b| {
        b.iter(|| {
            crypto::key_hash(crypto::passphrase("u1", "ada@example.com", black_box(MASTER_KEY), None).as_bytes())
        });
    });
    group.bench_function("EVP_BytesToKey", |b| b.iter(|| crypto::evp_bytes_to_key(black_box(&[b'a'; 64]), &[7; 8])));
    for (size, name) in SIZES {
        let plaintext = document(size);
        let mut sealed = Vec::new();
        crypto::seal(&plaintext, &[b'a'; 64], [7; 8], &mut sealed);
        group.throughput(Throughput::Bytes(plaintext.len() as u64));
        group.bench_function(BenchmarkId::new("JSON", name), |b| b.iter(|| crypto::is_json(black_box(&plaintext))));
        group.bench_function(BenchmarkId::new("JSON by serde", name), |b| {
            b.iter(|| {
                let text = std::str::from_utf8(black_box(&plaintext)).expect("text");
                serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| crypto::Ciphertext::decode(&sealed).is_ok())
        });
        group.bench_function(BenchmarkId::new("open", name), |b| b.iter(|| crypto::open(&sealed, &[b'a'; 64])));
        group.bench_function(BenchmarkId::new("seal", name), |b| {
            b.iter(|| {
                let mut out = Vec::new();
                crypto::seal(black_box(&plaintext), &[b'a'; 64], [7; 8], &mut out);
                out
            });
        });
    }
    group.finish();
}

/// A document of names, numbers and nesting, of at least `size` bytes.
fn document(size: usize) -> Vec<u8> {
    let mut text = String::from("[");
    for i in 0.. {
        if text.len() + 1 >= size {
            break;
        }
        if i > 0 {
            text.push(',');
        }
        text.push_str(&format!(
            r#"{{"id":{i},"name":"Customer number {i}","amount":{}.5,"tags":["new",null]}}"#,
            i * 37
        ));
    }
    text.push(']');
    text.into_bytes()
}

fn filter() -> Encryption {
    let file = std::env::temp_dir().join("gapura-bench-master-key");
    std::fs::write(&file, MASTER_KEY).expect("a writable temporary directory");
    let config: model::Encryption = serde_json::from_value(serde_json::json!({
        "profile": "cryptojs", "master_key": format!("file:{}", file.display()), "replay": "off",
    }))
    .expect("a configuration");
    let replays = ReplayStore::Memory(Arc::new(MemoryReplays::new(1000)));
    Encryption::new("bench", &config, replays, &Metrics::new().expect("metrics")).expect("a filter")
}

fn identity() -> Identity<'static> {
    Identity { user_id: "u1", email: "ada@example.com", master_key: MASTER_KEY, key_derivation: KeyDerivation::User }
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(Now { monotonic: Duration::ZERO, unix_ms: NOW }, [127, 0, 0, 1].into());
    exchange.principal = Some(Arc::new(Principal {
        method: "jwt.users".into(),
        user_id: UserId::string("u1"),
        email: Some("ada@example.com".into()),
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: None,
        token_id: None,
        limits: Default::default(),
        claims: Default::default(),
    }));
    exchange
}

fn request() -> http::request::Parts {
    let request = http::Request::post("/payments").header("content-type", "application/json");
    request.body(()).expect("a request").into_parts().0
}

fn response() -> http::response::Parts {
    http::Response::builder().header("content-type", "application/json").body(()).expect("a response").into_parts().0
}

fn open(
    filter: &Encryption,
    mut body: Bytes,
    mut head: http::request::Parts,
    mut exchange: Exchange,
) -> (Bytes, Exchange) {
    ready(filter.on_request_body(&mut head, &mut body, &mut exchange)).expect("opened");
    (body, exchange)
}

/// Nothing in the filter waits while its memory of replays is local.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the memory store answers at once"),
    }
}

criterion_group!(benches, envelope, parts);
criterion_main!(benches);
