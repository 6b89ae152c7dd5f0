//! What passes.

use http::Method;

use super::stage::*;

const JSON: &[u8] = br#"{"amount": 1.50}"#;

#[test]
fn a_request_and_its_response_pass() {
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, sent) = stage.seal(profile, JSON, &facts());
        let mut passed = stage.post(profile, &message).expect("it passes");
        assert_eq!(passed.body, JSON, "{profile}");
        assert_eq!(passed.head.headers["content-type"], "application/json");
        assert!(!passed.head.headers.contains_key("content-encoding"));
        let received = stage.answered(&mut passed, &sent, 201, "application/json; charset=utf-8", b"[1]");
        assert_eq!(received.plaintext, b"[1]");
        assert_eq!(received.content_type, "application/json; charset=utf-8");
    }
    assert_eq!(stage.counted("opened"), 2);
}

#[test]
fn the_head_of_a_response_says_what_its_body_is() {
    let stage = Stage::new();
    for (profile, content_type, coding) in
        [("hpke", "application/vnd.gapura.hpke", None), ("aes128gcm", "text/plain", Some("aes128gcm"))]
    {
        let (message, _) = stage.seal(profile, JSON, &facts());
        let mut passed = stage.post(profile, &message).expect("it passes");
        let (headers, body) =
            stage.answer(&mut passed, 200, &[("content-type", "text/plain"), ("etag", "\"x\"")], b"a secret");
        assert_eq!(headers["content-type"], content_type);
        assert_eq!(headers.get("content-encoding").map(|coding| coding.to_str().unwrap()), coding);
        assert_eq!(headers["content-length"], body.len().to_string());
        assert!(!headers.contains_key("etag"));
        assert!(!body.windows(6).any(|window| window == b"secret"));
    }
}

#[test]
fn a_request_without_a_body_brings_its_message_in_its_head() {
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, sent) = stage.seal(profile, b"", &facts());
        let mut passed = stage.get(profile, &message).expect("it passes");
        assert!(passed.body.is_empty());
        assert!(!passed.head.headers.contains_key("x-gapura-envelope"));
        assert!(!passed.head.headers.contains_key("content-type"));
        let received = stage.answered(&mut passed, &sent, 200, "application/json", b"{}");
        assert_eq!(received.plaintext, b"{}");
    }
}

#[test]
fn empty_responses_stay_empty() {
    let stage = Stage::new();
    for profile in PROFILES {
        for (status, body) in [(204, &b""[..]), (200, b""), (304, b"")] {
            let (message, _) = stage.seal(profile, JSON, &facts());
            let mut passed = stage.post(profile, &message).expect("it passes");
            let (_, sealed) = stage.answer(&mut passed, status, &[], body);
            assert!(sealed.is_empty(), "{profile} {status}");
        }
    }
}

/// The length that HEAD tells is that of the body which GET would have had.
#[test]
fn the_length_of_a_head_response_is_that_of_a_sealed_body() {
    let stage = Stage::new();
    for profile in PROFILES {
        let head = gapura_filters::encryption::sender::Facts { method: Method::HEAD.to_string(), ..facts() };
        let (message, _) = stage.seal(profile, b"", &head);
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let value = format!("{profile}={}", URL_SAFE_NO_PAD.encode(message));
        let mut passed = stage.send(&head, &[("x-gapura-envelope", &value)], b"").expect("it passes");
        let fields = [("content-type", "application/json"), ("content-length", "7")];
        let (headers, body) = stage.answer(&mut passed, 200, &fields, b"");
        assert!(body.is_empty());
        let (message, _) = stage.seal(profile, b"", &facts());
        let mut passed = stage.get(profile, &message).expect("it passes");
        let (_, sealed) = stage.answer(&mut passed, 200, &fields, b"1234567");
        assert_eq!(headers["content-length"], sealed.len().to_string(), "{profile}");
    }
}

#[test]
fn large_bodies_are_many_records() {
    let stage = Stage::new();
    let json = [b"\"", &vec![b'x'; 300_000][..], b"\""].concat();
    for profile in PROFILES {
        let (message, sent) = stage.seal(profile, &json, &facts());
        let mut passed = stage.post(profile, &message).expect("it passes");
        assert_eq!(passed.body, json);
        let received = stage.answered(&mut passed, &sent, 200, "application/json", &json);
        assert_eq!(received.plaintext, json);
    }
}

#[test]
fn other_inner_types_pass_where_they_are_listed() {
    let stage = Stage::with(serde_json::json!({ "inner_types": ["application/json", "text/csv"] }));
    for profile in PROFILES {
        let (message, _) = stage.seal_as(profile, b"a,b\n", "text/csv", &facts(), NOW);
        let fields = match profile {
            "hpke" => fields(profile),
            _ => vec![("content-type", "text/csv"), ("content-encoding", "aes128gcm")],
        };
        let passed = stage.send(&facts(), &fields, &message).expect("it passes");
        assert_eq!(passed.head.headers["content-type"], "text/csv");
        assert_eq!(passed.body, &b"a,b\n"[..]);
    }
}

#[test]
fn what_a_sender_keeps_may_be_written_down() {
    use gapura_filters::encryption::sender::Sent;
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, sent) = stage.seal(profile, JSON, &facts());
        let sent = Sent::from_json(&sent.to_json()).expect("it reads");
        let mut passed = stage.post(profile, &message).expect("it passes");
        assert_eq!(stage.answered(&mut passed, &sent, 200, "application/json", b"{}").plaintext, b"{}");
    }
}
