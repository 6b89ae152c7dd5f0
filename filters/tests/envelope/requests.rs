//! What opens, and what passes without.

use gapura_filters::contract::{Code, UserId};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stage::{NOW, Stage, forged};

#[test]
fn the_plaintext_arrives_byte_for_byte_with_its_content_type() {
    let stage = Stage::new();
    let plaintext = br#"{ "amount" : 1.50, "note":"na\u00efve" }"#;
    let fields = [
        ("content-type", "Application/JSON; charset=utf-8"),
        ("content-encoding", "identity"),
        ("content-digest", "sha-256=:x:"),
        ("repr-digest", "sha-256=:x:"),
        ("digest", "x"),
        ("content-md5", "x"),
        ("range", "bytes=0-1"),
        ("if-range", "\"x\""),
        ("accept-encoding", "gzip, br"),
        ("x-other", "stays"),
    ];
    let passed = stage.send(Method::POST, &fields, stage.envelope(plaintext)).unwrap();
    assert_eq!(&passed.body[..], plaintext);
    let mut names: Vec<_> = passed.head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "content-length", "content-type", "x-other"]);
    assert_eq!(passed.head.headers["content-type"], "application/json");
    assert_eq!(passed.head.headers["accept-encoding"], "identity");
    assert_eq!(stage.counted("opened"), 1);
    assert_eq!(format!("{:?}", passed.exchange.sealing), "Some(Sealing(due))");
}

#[test]
fn a_user_id_is_one_as_number_and_as_text() {
    for of_token in [UserId::number(7), UserId::string("7")] {
        let stage = Stage::new().called_by(of_token, Some(crate::stage::EMAIL));
        for in_body in [json!(7), json!("7")] {
            let mut envelope: Value = serde_json::from_str(&stage.envelope(b"[]")).unwrap();
            envelope["userId"] = in_body;
            assert_eq!(&stage.post(envelope.to_string()).unwrap().body[..], b"[]");
        }
        for wrong in [json!(8), json!("07"), json!("7 "), json!(-7), json!("")] {
            let mut envelope: Value = serde_json::from_str(&stage.envelope(b"[]")).unwrap();
            envelope["userId"] = wrong;
            assert_eq!(stage.post(envelope.to_string()).err().unwrap().code, Code::KeyVerificationFailed);
        }
    }
}

#[test]
fn unknown_members_are_allowed_and_escapes_are_read() {
    let stage = Stage::new();
    let envelope = stage.envelope(b"{}").replace("encryptedData", r"encrypted\u0044ata").replace('/', r"\/");
    let envelope = envelope.replacen('{', r#"{"version":{"deep":[1,2]},"":null,"#, 1);
    assert_eq!(&stage.post(envelope).unwrap().body[..], b"{}");
}

#[test]
fn members_may_have_other_names() {
    let stage =
        Stage::with(json!({ "fields": { "data": "d\"ata", "key_hash": "k", "timestamp": "t", "user_id": "uid" } }));
    let envelope: Value = serde_json::from_str(&stage.envelope(b"[1]")).unwrap();
    let named =
        json!({ "d\"ata": envelope["encryptedData"], "k": envelope["keyHash"], "t": NOW, "uid": "u1" }).to_string();
    let mut passed = stage.post(named).unwrap();
    assert_eq!(&passed.body[..], b"[1]");
    let (_, body) = stage.answer(&mut passed, 200, &[], b"[2]");
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert!(answer["data"]["d\"ata"].is_string() && answer["data"]["uid"] == "u1");
    assert_eq!(stage.post(stage.envelope(b"[1]")).err().unwrap().code, Code::EnvelopeRequired);
}

#[test]
fn a_request_without_a_body_passes_and_its_response_is_sealed() {
    for required in [true, false] {
        let stage = Stage::with(json!({ "required": required }));
        let passed = stage.send(Method::GET, &[("range", "bytes=0-1")], "").unwrap();
        assert!(passed.exchange.sealing.unwrap().is_due() && passed.body.is_empty());
        assert!(!passed.head.headers.contains_key("range") && !passed.head.headers.contains_key("content-type"));
        let nobody = stage.called_by(UserId::string("u1"), None);
        assert_eq!(nobody.send(Method::GET, &[], "").err().unwrap().code, Code::KeyVerificationFailed);
    }
}

#[test]
fn without_a_caller_nothing_passes() {
    let mut stage = Stage::new();
    stage.principal = None;
    assert_eq!(stage.send(Method::GET, &[], "").err().unwrap().code, Code::Internal);
}

#[test]
fn plaintext_passes_where_it_may_and_is_answered_in_plaintext() {
    let stage = Stage::with(json!({ "required": false }));
    for (content_type, body) in [
        ("text/plain", "hello"),
        ("application/json", r#"{"keyHash":"x"}"#),
        ("application/json", r#"{"encryptedData":"x","#),
        ("application/json", "[\"encryptedData\"]"),
        ("application/json", "\"encryptedData\""),
    ] {
        let mut passed = stage.send(Method::POST, &[("content-type", content_type)], body).unwrap();
        assert_eq!(&passed.body[..], body.as_bytes());
        assert_eq!(passed.head.headers["content-type"], content_type);
        let (headers, answer) = stage.answer(&mut passed, 200, &[("etag", "\"1\"")], b"plain");
        assert_eq!((&answer[..], headers["etag"].as_bytes()), (&b"plain"[..], &b"\"1\""[..]));
    }
    assert_eq!(stage.counted("plaintext"), 5);
    // Nobody's key is needed for it.
    let nobody = stage.called_by(UserId::string("u1"), None);
    assert_eq!(&nobody.post("[1]").unwrap().body[..], b"[1]");
}

#[test]
fn an_object_with_the_data_member_is_held_to_everything() {
    let stage = Stage::with(json!({ "required": false }));
    let code = |body: String| stage.post(body).err().unwrap().code;
    assert_eq!(code(r#"{"encryptedData":"x"}"#.into()), Code::EnvelopeRequired);
    assert_eq!(code(r#"{"encrypted\u0044ata":7}"#.into()), Code::EnvelopeRequired);
    assert_eq!(code(forged("x", "y", json!(NOW), json!("u1"))), Code::KeyVerificationFailed);
    let text = stage.send(Method::POST, &[("content-type", "text/plain")], stage.envelope(b"1"));
    assert_eq!(text.err().unwrap().code, Code::ContentTypeUnsupported);
    let coded = stage.send(Method::POST, &[("content-encoding", "gzip")], "plain?");
    assert_eq!(coded.err().unwrap().code, Code::ContentTypeUnsupported);
    assert!(stage.post(stage.envelope(b"1")).unwrap().exchange.sealing.unwrap().is_due());
}

#[test]
fn a_megabyte_and_a_million_brackets_open() {
    let stage = Stage::new();
    for plaintext in [
        format!("\"{}\"", "x".repeat(1 << 20)),
        ["[".repeat(1 << 19), "]".repeat(1 << 19)].concat(),
        "9".repeat(1 << 20),
        format!("-1.{}e{}", "0".repeat(1000), "9".repeat(1000)),
    ] {
        assert_eq!(stage.post(stage.envelope(plaintext.as_bytes())).unwrap().body, plaintext);
    }
}

#[test]
fn a_timestamp_is_good_to_the_millisecond_on_both_sides() {
    let mut stage = Stage::with(json!({ "max_age": "5m" }));
    for (distance, good) in [(300_000, true), (300_001, false), (-300_000, true), (-300_001, false)] {
        let envelope = stage.envelope(b"0");
        stage.now = NOW.checked_add_signed(distance + 300_001).unwrap();
        let mut shifted: Value = serde_json::from_str(&envelope).unwrap();
        shifted["timestamp"] = json!(NOW + 300_001);
        assert_eq!(stage.post(shifted.to_string()).is_ok(), good, "{distance}");
        stage.now = NOW;
    }
    assert_eq!(stage.counted("expired"), 2);
    let mut stage = Stage::with(json!({ "max_age": "off" }));
    let envelope = stage.envelope(b"0");
    stage.now += 1 << 40;
    assert!(stage.post(envelope).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..8).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_goes_there_and_back(value in any_json(), bound in any::<bool>(), user in ".{1,20}", status in 200_u16..600) {
        let derivation = if bound { "user_timestamp" } else { "user" };
        let stage = Stage::with(json!({ "key_derivation": derivation })).called_by(UserId::string(user), Some(crate::stage::EMAIL));
        let plaintext = value.to_string();
        let mut passed = stage.post(stage.envelope(plaintext.as_bytes())).unwrap();
        prop_assert_eq!(&passed.body[..], plaintext.as_bytes());
        let body = passed.body.clone();
        let (headers, sealed) = stage.answer(&mut passed, status, &[], &body);
        if ![204, 304].contains(&status) {
            prop_assert_eq!(headers["content-length"].to_str().unwrap().parse::<usize>().unwrap(), sealed.len());
            let opened = gapura_filters::encryption::client::open_envelope(&sealed, stage.identity()).unwrap();
            prop_assert_eq!(opened, plaintext.into_bytes());
        }
    }
}
