//! What the strong profiles cost: a request opened and its response sealed, each with everything that its key takes (the key
//! agreement, the session key, the context), as a route meets them.
//!
//! Bars: `aes128gcm` under a session key 4 µs for 1 KiB, `hpke` 60 µs; one MiB within 1.3 × of the cipher's own speed in
//! `openssl speed`, for `jwe` with its base64 within 2 ×. `cipher` shows the cipher alone as it is linked here.
//!
//! A megabyte is received into a buffer that others were received into before, and its answer is freed before the next comes, as
//! in a gateway that has been running for a while. What the kernel takes to give a page for the first time is not counted.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gapura_filters::{
    crypto::{
        Curve, aes128gcm, fields,
        hpke::{self, Aead, ResponseHeader},
        jwe::{self, Compact, Enc, OpeningKey, SealingKey},
    },
    keyring::{AgreementKey, SessionKey, session::Holder},
};

/// That of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [usize; 2] = [1 << 10, 1 << 20];
const KID: &str = "sessions.2026-11.1795000900";
const HOLDER: Holder<'static> = Holder { method: "jwt.users", subject: "8f14e45f", token_id: "c9f0f895" };
const KEY_ID: &str = "sessions.2026-11.1795000900~1795000000000~AAECAwQFBgcICQoLDA0ODw";

/// A context of a usual length.
fn context() -> Vec<u8> {
    let fields_of = [
        "gapura context v1",
        "request",
        "aes128gcm",
        KID,
        "POST",
        "api.example.com",
        "/payments/4711",
        "",
        "8f14e45f-ceea-467f-a0e1-0d3c1c1c7a11",
        "c9f0f895-fb98-4b91-a2b1-6f1f5c4a7d22",
        "1795000000000",
        "AAECAwQFBgcICQoLDA0ODw",
        "application/json",
        "",
    ];
    fields(fields_of.map(str::as_bytes))
}

type Run = Box<dyn Fn(&mut Vec<u8>) -> Vec<u8>>;

/// A message, and what is done with each: opened where it stands, and its content sealed as a response.
struct Case {
    name: &'static str,
    size: usize,
    message: Vec<u8>,
    run: Run,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        cases.extend([
            aes128gcm(size),
            hpke("hpke X25519", Curve::X25519, size),
            hpke("hpke P-256", Curve::P256, size),
        ]);
        cases.push(jwe(size));
    }
    cases
}

fn aes128gcm(size: usize) -> Case {
    let header = aes128gcm::Header { salt: [7; 16], record_size: aes128gcm::RECORD, key_id: KEY_ID };
    let session = || SessionKey::derive(&[9; 32], black_box(KID), HOLDER);
    let input = move |key: &SessionKey| aes128gcm::input_key(key.bytes(), &context());
    let message = aes128gcm::seal(&vec![b'p'; size], &input(&session())[..], &header);
    let run = move |message: &mut Vec<u8>| {
        let key = session();
        let start = aes128gcm::Header::read(message).expect("good").expect("complete").end();
        let len = aes128gcm::open_in_place(&mut message[start..], &header, &input(&key)[..]).expect("opens");
        aes128gcm::seal(&message[start..start + len], &input(&key)[..], &header)
    };
    Case { name: "aes128gcm", size, message, run: Box::new(run) }
}

fn hpke(name: &'static str, curve: Curve, size: usize) -> Case {
    let key = AgreementKey::new(curve, &[7; 32]).expect("a key");
    let header = hpke::Header {
        kid: "bodies.2026-11",
        curve,
        aead: Aead::Aes256Gcm,
        iat: 1_795_000_000_000,
        id: [5; 16],
        content_type: "application/json",
    };
    let (message, _) = hpke::seal(&vec![b'p'; size], &header, &key.public, &context()).expect("sealed");
    let answer = ResponseHeader { iat: 1_795_000_000_100, id: [6; 16], content_type: "application/json" };
    let run = move |message: &mut Vec<u8>| {
        let opened = hpke::open(message, black_box(&key).into(), &context()).expect("opens");
        opened.response.seal(&message[opened.plaintext], &answer, [1; 32], &context())
    };
    Case { name, size, message, run: Box::new(run) }
}

/// Opened into a buffer of its own, as its base64 must go somewhere.
fn jwe(size: usize) -> Case {
    let seal = |plaintext: &[u8]| {
        let members = serde_json::json!({ "kid": KID, "cty": "application/json" });
        let session = SessionKey::derive(&[9; 32], black_box(KID), HOLDER);
        jwe::seal(Enc::A256Gcm, SealingKey::Wrapping(session.bytes()), &members, plaintext)
            .expect("sealed")
            .into_bytes()
    };
    let message = seal(&vec![b'p'; size]);
    let run = move |message: &mut Vec<u8>| {
        let session = SessionKey::derive(&[9; 32], black_box(KID), HOLDER);
        let compact = Compact::split(message).expect("five parts");
        let json = compact.header().expect("base64url");
        let header = jwe::Header::read(&json).expect("a header");
        seal(&compact.open(&header, OpeningKey::Wrapping(session.bytes())).expect("opens"))
    };
    Case { name: "jwe A256KW", size, message, run: Box::new(run) }
}

fn profiles(c: &mut Criterion) {
    let mut group = c.benchmark_group("open + seal");
    for Case { name, size, message, run } in cases() {
        let batch = if size < 1 << 20 { BatchSize::SmallInput } else { BatchSize::PerIteration };
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new(name, size), |b| {
            b.iter_batched(|| message.clone(), |mut message| (run(&mut message), message), batch);
        });
    }
    group.finish();
}

/// The best of many: what it costs where other work on the machine does not count. To compare with the cipher by.
fn lowest(_: &mut Criterion) {
    let of = |name: &str, size: usize, run: &mut dyn FnMut() -> Duration| {
        let best = (0..2000).map(|_| run()).min().unwrap_or_default();
        println!("{name}, {size} bytes: {best:?}, the lowest of 2000");
    };
    for Case { name, size, message, run } in cases() {
        of(name, size, &mut || {
            let mut message = message.clone();
            let begun = Instant::now();
            let answer = black_box(run(&mut message));
            let took = begun.elapsed();
            drop(answer);
            took
        });
    }
    for (name, key) in ciphers() {
        let mut bytes = vec![b'p'; 1 << 20];
        of(name, 1 << 20, &mut || {
            let begun = Instant::now();
            seal_once(&key, &mut bytes);
            begun.elapsed()
        });
    }
}

fn ciphers() -> [(&'static str, LessSafeKey); 2] {
    let key = |algorithm: &'static Algorithm| {
        LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32][..algorithm.key_len()]).expect("a key"))
    };
    [("AES-128-GCM", key(&AES_128_GCM)), ("AES-256-GCM", key(&AES_256_GCM))]
}

fn seal_once(key: &LessSafeKey, bytes: &mut [u8]) {
    let nonce = Nonce::assume_unique_for_key([1; 12]);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(bytes));
    let _ = black_box(tag.expect("short enough"));
}

/// One direction, nothing around it.
fn cipher(c: &mut Criterion) {
    let mut group = c.benchmark_group("cipher");
    let mut bytes = vec![b'p'; 1 << 20];
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for (name, key) in ciphers() {
        group.bench_function(BenchmarkId::new(name, bytes.len()), |b| b.iter(|| seal_once(&key, &mut bytes)));
    }
    group.finish();
}

criterion_group!(benches, lowest, profiles, cipher);
criterion_main!(benches);
