//! What the strong profiles cost: a request opened and its response sealed, each with everything that its key takes (the key
//! agreement, the session key, the context), as a route meets them.
//!
//! Bars: `aes128gcm` under a session key 4 µs for 1 KiB, `hpke` 60 µs; one MiB within 1.3 × of the cipher alone, which
//! `cipher` shows.

use std::hint::black_box;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gapura_filters::{
    crypto::{
        Curve, aes128gcm, fields,
        hpke::{self, Aead, ResponseHeader},
    },
    keyring::{AgreementKey, SessionKey, session::Holder},
};

const SIZES: [(usize, &str); 2] = [(1 << 10, "1 KiB"), (1 << 20, "1 MiB")];
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

fn aes128gcm(c: &mut Criterion) {
    let mut group = c.benchmark_group("aes128gcm");
    for (size, name) in SIZES {
        let header = aes128gcm::Header { salt: [7; 16], record_size: aes128gcm::RECORD, key_id: KEY_ID };
        let plaintext = vec![b'p'; size];
        let session = || SessionKey::derive(&[9; 32], black_box(KID), HOLDER);
        let message = aes128gcm::seal(&plaintext, &aes128gcm::input_key(session().bytes(), &context())[..], &header);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("open + seal", name), |b| {
            b.iter_batched(
                || message.clone(),
                |mut message| {
                    let key = session();
                    let input = aes128gcm::input_key(key.bytes(), &context());
                    let start = aes128gcm::Header::read(&message).expect("good").expect("complete").end();
                    let len = aes128gcm::open_in_place(&mut message[start..], &header, &input[..]).expect("opens");
                    let input = aes128gcm::input_key(key.bytes(), &context());
                    (aes128gcm::seal(&message[start..start + len], &input[..], &header), message)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn hpke(c: &mut Criterion) {
    let mut group = c.benchmark_group("hpke");
    for (curve, curve_name) in [(Curve::X25519, "X25519"), (Curve::P256, "P-256")] {
        for (size, name) in SIZES {
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
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(format!("{curve_name}, open + seal"), name), |b| {
                b.iter_batched(
                    || message.clone(),
                    |mut message| {
                        let opened = hpke::open(&mut message, black_box(&key).into(), &context()).expect("opens");
                        let answer =
                            opened.response.seal(&message[opened.plaintext.clone()], &answer, [1; 32], &context());
                        (answer, message)
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// One direction, nothing around it.
fn cipher(c: &mut Criterion) {
    let mut group = c.benchmark_group("cipher");
    let algorithms: [(&'static Algorithm, usize, &str); 2] =
        [(&AES_128_GCM, 16, "AES-128-GCM"), (&AES_256_GCM, 32, "AES-256-GCM")];
    for (algorithm, len, name) in algorithms {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32][..len]).expect("a key"));
        let mut bytes = vec![b'p'; 1 << 20];
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new(name, "1 MiB"), |b| {
            b.iter(|| {
                let nonce = Nonce::assume_unique_for_key([1; 12]);
                key.seal_in_place_separate_tag(nonce, Aad::empty(), black_box(&mut bytes)).expect("short enough")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, aes128gcm, hpke, cipher);
criterion_main!(benches);
