//! What is refused, with which code, and that all damage to a ciphertext reads the same.

use std::thread;

use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_config::{fault::Place, model::KeyDerivation};
use gapura_filters::{
    contract::{Code, Refusal, UserId},
    crypto,
    encryption::{Encryption, MemoryReplays, ReplayStore, client},
    metrics::Metrics,
};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stage::{NOW, Stage, config, forged, own_key};

fn code(stage: &Stage, body: impl Into<bytes::Bytes>) -> Option<Code> {
    stage.post(body).err().map(|refusal| refusal.code)
}

/// All that a client can see.
fn seen(refusal: Refusal) -> (Vec<u8>, usize) {
    (refusal.body("id"), refusal.headers.len())
}

#[test]
fn what_is_no_envelope_is_refused() {
    let stage = Stage::new();
    let hash = own_key().1;
    let good = |timestamp: Value, user: Value| forged("U2FsdGVkX18=", &hash, timestamp, user);
    for body in [
        "plain".to_owned(),
        "\u{feff}{}".to_owned(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
        good(json!("1700000000000"), json!("u1")),
        good(json!(-1), json!("u1")),
        good(json!(null), json!("u1")),
        good(json!(NOW), json!(null)),
        good(json!(NOW), json!(["u1"])),
        good(json!(NOW), json!(1.5)),
        good(json!(NOW), json!(true)),
        good(json!(NOW), json!("u1")).replace("1700000000000", "1.7e12"),
        good(json!(NOW), json!("u1")).replace("1700000000000", "1700000000000.0"),
        good(json!(NOW), json!("u1")).replace("1700000000000", "99999999999999999999999999"),
        good(json!(NOW), json!("u1")).replace("1700000000000", "01700000000000"),
        good(json!(NOW), json!("u1")) + "x",
        good(json!(NOW), json!("u1")) + "{}",
        good(json!(NOW), json!("u1")).replace("\"U2FsdGVkX18=\"", "[\"U2FsdGVkX18=\"]"),
        good(json!(NOW), json!("u1")).replacen('{', r#"{"timestamp":1700000000000,"#, 1),
        good(json!(NOW), json!("u1")).replacen('{', r#"{"\u0074imestamp":1700000000000,"#, 1),
        good(json!(NOW), json!("u1")).replacen('{', r#"{"userId":"eve","#, 1),
        good(json!(NOW), json!("u1")).replacen('{', r#"{"other":1,"\u006fther":1,"#, 1),
    ] {
        assert_eq!(code(&stage, body.clone()), Some(Code::EnvelopeRequired), "{:.200}", body);
    }
    let mut not_utf8 = stage.envelope(b"1").into_bytes();
    not_utf8.splice(1..1, *b"\"\xFF\":0,");
    assert_eq!(code(&stage, not_utf8), Some(Code::EnvelopeRequired));
    assert_eq!(stage.counted("not_envelope"), 26);
}

#[test]
fn another_content_type_or_coding_is_refused_before_the_body_is_read() {
    let stage = Stage::new();
    let send = |fields: &[(&str, &str)]| stage.send(Method::POST, fields, stage.envelope(b"1")).err().map(|r| r.code);
    for content_type in
        ["text/plain", "application/jsonx", "application/json, text/plain", "application/problem+json", ""]
    {
        assert_eq!(send(&[("content-type", content_type)]), Some(Code::ContentTypeUnsupported), "{content_type}");
    }
    assert_eq!(send(&[]), Some(Code::ContentTypeUnsupported));
    assert_eq!(
        send(&[("content-type", "application/json"), ("content-type", "application/json")]),
        Some(Code::ContentTypeUnsupported)
    );
    for coding in ["gzip", "identity, gzip", "br", "x"] {
        let fields = [("content-type", "application/json"), ("content-encoding", coding)];
        assert_eq!(send(&fields), Some(Code::ContentTypeUnsupported), "{coding}");
    }
}

#[test]
fn another_callers_key_is_refused() {
    let stage = Stage::new();
    let hash = own_key().1;
    for (key_hash, user) in [
        (hash.to_uppercase(), "u1"),
        (hash[..63].to_owned(), "u1"),
        (format!("{hash} "), "u1"),
        (String::new(), "u1"),
        ("0".repeat(64), "u1"),
        (hash.clone(), "u2"),
        (hash.clone(), ""),
    ] {
        assert_eq!(code(&stage, forged("x", &key_hash, json!(NOW), json!(user))), Some(Code::KeyVerificationFailed));
    }
    let envelope = stage.envelope(b"1");
    let other = Stage::new().called_by(UserId::string("u1"), Some("eve@example.com"));
    assert_eq!(code(&other, envelope.clone()), Some(Code::KeyVerificationFailed));
    let nobody = Stage::new().called_by(UserId::string("u1"), None);
    assert_eq!(code(&nobody, envelope), Some(Code::KeyVerificationFailed));
    // Bound to its timestamp, the key is another with another.
    let stage = Stage::with(json!({ "key_derivation": "user_timestamp" }));
    assert_eq!(stage.derivation, KeyDerivation::UserTimestamp);
    let moved = stage.envelope(b"1").replace(&NOW.to_string(), &(NOW + 1).to_string());
    assert_eq!(code(&stage, moved), Some(Code::KeyVerificationFailed));
}

#[test]
fn every_damage_to_the_ciphertext_reads_the_same() {
    let (passphrase, hash) = own_key();
    let seal = |plaintext: &[u8]| {
        let mut sealed = Vec::new();
        crypto::seal(plaintext, passphrase.as_bytes(), *b"saltsalt", &mut sealed);
        String::from_utf8(sealed).unwrap()
    };
    let good = seal(br#"{"a":"0123456789","b":"0123456789"}"#);
    let raw = STANDARD.decode(&good).unwrap();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = raw.clone();
        change(&mut bytes);
        STANDARD.encode(bytes)
    };
    assert!(good.ends_with("=="));
    let last = raw.len() - 1;
    let mut damaged = vec![
        String::new(),
        "x".into(),
        format!("{good} "),
        good.trim_end_matches('=').into(),
        changed(&|b| b[0] = b's'),
        changed(&|b| b[8] ^= 1),
        changed(&|b| b[16] ^= 1),
        changed(&|b| b[last] ^= 1),
        changed(&|b| b.truncate(last)),
        changed(&|b| b.truncate(16)),
        changed(&|b| b.truncate(32)),
        changed(&|b| b.truncate(48)),
        changed(&|b| b.extend_from_slice(&[0; 16])),
        // Good padding, bad content: empty, no JSON, JSON and more, no UTF-8.
        seal(b""),
        seal(b"hello"),
        seal(b"{} {}"),
        seal(b"\"\xFF\""),
        seal(b"\"\xED\xA0\x80\""),
        seal(b"{}\0"),
    ];
    // Bad padding of every kind behind good JSON: the block before the last decides it.
    damaged.extend((1..=255).map(|mask| changed(&|b| b[last - 16] ^= mask)));
    let stage = Stage::new();
    let mut all: Vec<_> = damaged
        .iter()
        .map(|data| {
            let refusal = stage.post(forged(data, &hash, json!(NOW), json!("u1"))).err().unwrap();
            assert_eq!(refusal.code, Code::DecryptionFailed, "{data}");
            seen(refusal)
        })
        .collect();
    assert_eq!(stage.counted("failed"), all.len() as u64);
    all.dedup();
    assert_eq!(all.len(), 1);
    assert!(stage.post(forged(&good, &hash, json!(NOW), json!("u1"))).is_ok());
}

#[test]
fn a_replay_is_refused_whatever_its_timestamp_says() {
    let mut stage = Stage::new();
    let envelope = stage.envelope(b"[1]");
    assert_eq!(code(&stage, envelope.clone()), None);
    assert_eq!(code(&stage, envelope.clone()), Some(Code::EnvelopeReplayed));
    let dressed = envelope.replace(&NOW.to_string(), &(NOW + 1).to_string()).replacen('{', r#"{"x":1,"#, 1);
    assert_eq!(code(&stage, dressed), Some(Code::EnvelopeReplayed));
    assert_eq!(stage.counted("replayed"), 2);
    // For twice max_age.
    stage.now = NOW + 600_000;
    let renewed = envelope.replace(&NOW.to_string(), &stage.now.to_string());
    assert_eq!(code(&stage, renewed), Some(Code::EnvelopeReplayed));

    let lax = Stage::with(json!({ "replay": "off" }));
    assert_eq!((code(&lax, envelope.clone()), code(&lax, envelope)), (None, None));
}

#[test]
fn rubbish_is_not_remembered_and_a_full_memory_refuses() {
    let stage = Stage::holding(json!({}), 2);
    let hash = own_key().1;
    let rubbish = client::seal_with_passphrase(b"[1]", b"another passphrase");
    for _ in 0..10 {
        assert_eq!(code(&stage, forged(&rubbish, &hash, json!(NOW), json!("u1"))), Some(Code::DecryptionFailed));
    }
    let codes = [(); 3].map(|()| code(&stage, stage.envelope(b"[1]")));
    assert_eq!(codes, [None, None, Some(Code::Overloaded)]);
}

#[test]
fn of_equal_envelopes_at_once_one_passes() {
    let stage = Stage::new();
    for _ in 0..50 {
        let envelope = stage.envelope(b"{\"pay\":1}");
        let passed: usize = thread::scope(|scope| {
            let post = || usize::from(stage.post(envelope.clone()).is_ok());
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(post)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1);
    }
}

#[test]
fn every_fault_of_an_entry_is_reported_at_its_place() {
    let mut config = config(json!({ "fields": { "data": "", "key_hash": "x", "timestamp": "x", "user_id": "y" } }));
    config.master_key = Some("env:GAPURA_NO_SUCH_VARIABLE".parse().unwrap());
    let replays = ReplayStore::Memory(MemoryReplays::new(1000).into());
    let faults = Encryption::new("payments", &config, replays, &Metrics::new().unwrap()).err().unwrap();
    let mut places: Vec<_> = faults.iter().map(|fault| fault.place.to_string()).collect();
    places.sort_unstable();
    let entry = Place::root().key("encryption").key("payments").to_string();
    let expected = ["fields.data", "fields.timestamp", "master_key"].map(|key| format!("{entry}.{key}"));
    assert_eq!(places, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any byte of any value changed: refused, with the code that belongs to the member.
    #[test]
    fn any_changed_byte_is_refused(member in 0..4_usize, at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let stage = Stage::new();
        let envelope: Value = serde_json::from_str(&stage.envelope(br#"{"amount":12.5,"to":"DE89 3704 0044"}"#)).unwrap();
        let (name, expected) = [
            ("encryptedData", Code::DecryptionFailed),
            ("keyHash", Code::KeyVerificationFailed),
            ("userId", Code::KeyVerificationFailed),
            ("timestamp", Code::EnvelopeExpired),
        ][member];
        let mut changed = envelope.clone();
        if name == "timestamp" {
            changed[name] = json!(NOW ^ (u64::from(flip) << 20));
        } else {
            let mut text: Vec<char> = envelope[name].as_str().unwrap().chars().collect();
            let at = at.index(text.len());
            text[at] = char::from(text[at] as u8 ^ flip);
            changed[name] = json!(text.into_iter().collect::<String>());
        }
        prop_assert_eq!(code(&stage, changed.to_string()), Some(expected));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 1..300)) {
        let stage = Stage::new();
        prop_assert!(stage.post(bytes.clone()).is_err());
        let (_, hash) = own_key();
        let salted = [b"Salted__", &bytes[..]].concat();
        let wrapped = forged(&STANDARD.encode(&salted), &hash, json!(NOW), json!("u1"));
        prop_assert_eq!(code(&stage, wrapped), Some(Code::DecryptionFailed));
        let _ = client::open_envelope(&bytes, stage.identity());
        let _ = client::open_with_passphrase(&bytes, b"x");
    }
}
