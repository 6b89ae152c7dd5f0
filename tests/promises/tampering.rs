//! Whatever is wrong with a ciphertext is answered with the same bytes, and no wrong envelope reaches an upstream.

use serde_json::{Value, json};

use crate::{
    envelopes::{BOUND, USER, post, send, start},
    support::{
        Curl, Token, Upstream,
        credential::now_ms,
        expect_problem, nghttp,
        node::{self, Sealer},
        problem::comparable,
        token,
    },
};

/// The ciphertext's bytes, changed by `change`.
fn changed(envelope: &Value, change: impl FnOnce(&mut Vec<u8>)) -> Value {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut bytes = STANDARD.decode(envelope["encryptedData"].as_str().unwrap()).unwrap();
    change(&mut bytes);
    let mut envelope = envelope.clone();
    envelope["encryptedData"] = STANDARD.encode(bytes).into();
    envelope
}

#[test]
fn every_kind_of_tampering_is_answered_with_the_same_bytes() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let alice = Sealer::alice();
    let good = alice.seal(r#"{"amount":1999,"to":"somebody else entirely"}"#);
    let data = good["encryptedData"].as_str().unwrap().to_owned();
    let with_data = |data: &str| {
        let mut envelope = good.clone();
        envelope["encryptedData"] = data.into();
        envelope
    };
    let sealed_bytes = |bytes: &str| {
        let passphrase = alice.passphrase(0);
        with_data(&node::call("encryptBase64", json!({"bytes": bytes, "passphrase": passphrase})))
    };
    let other_key = {
        let mallory = Sealer { email: "mallory@example.com".into(), ..Sealer::alice() };
        with_data(mallory.seal(r#"{"amount":1}"#)["encryptedData"].as_str().unwrap())
    };
    let cases = [
        ("the first byte of the prefix", changed(&good, |bytes| bytes[0] ^= 1)),
        ("the salt", changed(&good, |bytes| bytes[8] ^= 1)),
        ("the first block", changed(&good, |bytes| bytes[16] ^= 1)),
        ("a middle block", changed(&good, |bytes| bytes[33] ^= 0x80)),
        ("the last byte, so the padding", changed(&good, |bytes| *bytes.last_mut().unwrap() ^= 1)),
        (
            "the block before the last",
            changed(&good, |bytes| {
                let at = bytes.len() - 17;
                bytes[at] ^= 1
            }),
        ),
        ("a block less", changed(&good, |bytes| bytes.truncate(bytes.len() - 16))),
        ("a block more", changed(&good, |bytes| bytes.extend([7; 16]))),
        ("a byte less", changed(&good, |bytes| bytes.truncate(bytes.len() - 1))),
        ("a byte more", changed(&good, |bytes| bytes.push(0))),
        ("no block", changed(&good, |bytes| bytes.truncate(16))),
        ("no salt", changed(&good, |bytes| bytes.truncate(8))),
        (
            "blocks swapped",
            changed(&good, |bytes| {
                let (a, b) = bytes[16..48].split_at_mut(16);
                a.swap_with_slice(b)
            }),
        ),
        ("nothing", with_data("")),
        ("no base64", with_data("!!!!")),
        ("base64url", with_data(&data.replace('+', "-").replace('/', "_").replacen('=', "-", 1))),
        ("base64 with a line end", with_data(&format!("{}\n{}", &data[..20], &data[20..]))),
        ("base64 without its padding", with_data(&format!("{}A", data.trim_end_matches('=')))),
        ("another key", other_key),
        ("no JSON inside", sealed_bytes("bm90IEpTT04=")),
        ("no UTF-8 inside", sealed_bytes("Iv//Ig==")),
        ("JSON cut short inside", sealed_bytes("eyJhIjo=")),
        ("nothing inside", sealed_bytes("")),
    ];
    let mut answers = Vec::new();
    for (what, envelope) in &cases {
        let answer = post(&gateway, USER, envelope);
        assert_eq!(answer.status, 400, "{what}: {}", answer.lossy());
        expect_problem(&answer, 400, "DECRYPTION_FAILED");
        answers.push((what, comparable(&answer)));
    }
    for (what, answer) in &answers {
        assert_eq!(answer, &answers[0].1, "{what} can be told from {}", answers[0].0);
    }
    upstream.expect_untouched();
    // None of them used the envelope up.
    assert_eq!(post(&gateway, USER, &good).status, 200);
    let failed = gateway.metric("gapura_refusals_total", &["code=\"DECRYPTION_FAILED\""]);
    assert!((failed - cases.len() as f64).abs() < f64::EPSILON, "{failed}");
}

#[test]
fn an_envelope_passes_once() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let alice = Sealer::alice();
    let envelope = alice.seal(r#"{"amount":1}"#);
    assert_eq!(post(&gateway, USER, &envelope).status, 200);
    expect_problem(&post(&gateway, USER, &envelope), 409, "ENVELOPE_REPLAYED");
    // The ciphertext counts: another timestamp or other spelling around it is the same message.
    let mut later = envelope.clone();
    later["timestamp"] = (now_ms() + 1).into();
    expect_problem(&post(&gateway, USER, &later), 409, "ENVELOPE_REPLAYED");
    let spaced = serde_json::to_string_pretty(&envelope).unwrap();
    expect_problem(&send(&gateway, "POST", USER, &token(), spaced.as_bytes()), 409, "ENVELOPE_REPLAYED");
    let elsewhere = send(&gateway, "PUT", &format!("{USER}/other"), &token(), envelope.to_string().as_bytes());
    expect_problem(&elsewhere, 409, "ENVELOPE_REPLAYED");
    let curl = Curl::h2(gateway.https(), USER).header("Authorization", &token());
    let over_h2 = curl.header("Content-Type", "application/json").body(envelope.to_string()).answer();
    expect_problem(&over_h2, 409, "ENVELOPE_REPLAYED");
    assert_eq!(upstream.requests().len(), 1, "a replay reached the upstream");
    // The same content sealed anew is a new message; and a reload forgets nothing.
    assert_eq!(post(&gateway, USER, &alice.seal(r#"{"amount":1}"#)).status, 200);
    assert_eq!(gateway.reload().status, 200);
    expect_problem(&post(&gateway, USER, &envelope), 409, "ENVELOPE_REPLAYED");
}

#[test]
fn an_envelope_passes_once_though_many_bring_it_at_once() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let envelope = Sealer::alice().seal("{}").to_string();
    let bearer = token();
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let ask = || send(&gateway, "POST", USER, &bearer, envelope.as_bytes()).status;
        let all: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 409)), "{statuses:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn an_envelope_of_another_time() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let alice = Sealer::alice();
    let bound = Sealer { bound: true, ..Sealer::alice() };
    // A minute beyond `max_age`, both ways.
    for timestamp in [now_ms() - 360_000, now_ms() + 360_000, 0, 1] {
        expect_problem(&post(&gateway, USER, &alice.seal_at("{}", timestamp)), 400, "ENVELOPE_EXPIRED");
        expect_problem(&post(&gateway, BOUND, &bound.seal_at("{}", timestamp)), 400, "ENVELOPE_EXPIRED");
    }
    upstream.expect_untouched();
    for timestamp in [now_ms() - 240_000, now_ms() + 240_000] {
        assert_eq!(post(&gateway, USER, &alice.seal_at("{}", timestamp)).status, 200);
    }
}

#[test]
fn an_envelope_of_another_caller() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let alice = Sealer::alice();
    let bob = Sealer { user_id: "u-2".into(), email: "bob@example.com".into(), bound: false };
    // Bob's own envelope, Bob's name on Alice's, a key hash of another key, an odd spelling of the right one.
    let mut renamed = alice.seal("{}");
    renamed["userId"] = "u-2".into();
    let mut rehashed = alice.seal("{}");
    rehashed["keyHash"] = bob.seal("{}")["keyHash"].clone();
    let mut upper = alice.seal("{}");
    upper["keyHash"] = upper["keyHash"].as_str().unwrap().to_uppercase().into();
    let mut short = alice.seal("{}");
    short["keyHash"] = "".into();
    for envelope in [bob.seal("{}"), renamed, rehashed, upper, short] {
        expect_problem(&post(&gateway, USER, &envelope), 400, "KEY_VERIFICATION_FAILED");
    }
    // A caller without e-mail has no key.
    let nameless = Token::alice().without("email").bearer();
    let answer = send(&gateway, "POST", USER, &nameless, alice.seal("{}").to_string().as_bytes());
    expect_problem(&answer, 400, "KEY_VERIFICATION_FAILED");
    upstream.expect_untouched();
}

#[test]
fn a_body_that_is_no_envelope() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let good = Sealer::alice().seal("{}");
    let without = |member: &str| {
        let mut envelope = good.clone();
        envelope.as_object_mut().unwrap().remove(member);
        envelope.to_string()
    };
    let with = |member: &str, value: Value| {
        let mut envelope = good.clone();
        envelope[member] = value;
        envelope.to_string()
    };
    let text = good.to_string();
    let mut bodies = vec![
        "plain".to_owned(),
        "{}".into(),
        "[]".into(),
        "null".into(),
        r#"{"amount":1}"#.into(),
        format!("[{text}]"),
        text[..text.len() - 1].to_owned(),
        format!("{text}x"),
        format!("{text}{text}"),
        // Twice, plain and escaped: two readers could see two messages.
        text.replacen('{', r#"{"encryptedData":"x","#, 1),
        text.replacen('{', r#"{"\u006beyHash":"x","#, 1),
        with("encryptedData", json!(7)),
        with("encryptedData", json!(null)),
        with("keyHash", json!(["x"])),
        with("timestamp", json!("1700000000000")),
        with("timestamp", json!(1.5)),
        with("timestamp", json!(-1)),
        with("userId", json!(null)),
        with("userId", json!(7.5)),
    ];
    bodies.extend(["encryptedData", "keyHash", "timestamp", "userId"].map(without));
    for body in bodies {
        let answer = send(&gateway, "POST", USER, &token(), body.as_bytes());
        assert_eq!(answer.status, 400, "{body}");
        expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
    }
    upstream.expect_untouched();
    assert_eq!(post(&gateway, USER, &good).status, 200);
}

#[test]
fn a_content_type_or_coding_that_is_not_read() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let bearer = token();
    let ask = |headers: &[(&str, &str)]| {
        let headers = [&[("Authorization", bearer.as_str())], headers].concat();
        gateway.request("POST", USER, &headers, Sealer::alice().seal("{}").to_string())
    };
    let json = ("Content-Type", "application/json");
    for headers in [
        &[][..],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "application/jsonx")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[json, ("Content-Type", "text/plain")],
        &[json, ("Content-Encoding", "gzip")],
        &[json, ("Content-Encoding", "identity, br")],
    ] {
        expect_problem(&ask(headers), 415, "CONTENT_TYPE_UNSUPPORTED");
    }
    upstream.expect_untouched();
    for accepted in ["application/json", "Application/JSON; charset=utf-8"] {
        assert_eq!(ask(&[("Content-Type", accepted)]).status, 200, "{accepted}");
    }
}

#[test]
fn a_sealed_body_over_its_limit() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let body = Sealer::alice().seal(&format!("\"{}\"", "x".repeat(2 * 1024 * 1024))).to_string();
    expect_problem(&send(&gateway, "POST", USER, &token(), body.as_bytes()), 413, "BODY_TOO_LARGE");
    // Of unknown length. Not so much beyond the limit that the gateway loses patience while the rest is sent.
    let body = &body.as_bytes()[..2 * 1024 * 1024 + 10_000];
    let bearer = token();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let curl = Curl::h1(gateway.https(), USER).headers(&headers).method("POST").streamed(body);
    expect_problem(&curl.answer(), 413, "BODY_TOO_LARGE");
    expect_problem(&nghttp::post_streamed(gateway.https(), USER, &headers, body), 413, "BODY_TOO_LARGE");
    upstream.expect_untouched();
}
