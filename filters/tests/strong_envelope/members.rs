//! Bodies that are clear but for some members.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_filters::{
    contract::Code,
    encryption::{
        client,
        sender::{Facts, Sent},
    },
};
use serde_json::{Value, json};

use super::stage::*;

fn stage(settings: Value) -> Stage {
    let mut all = json!({ "members": ["/card/number", "/card/cvv"] });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Stage::with(all)
}

const CLEAR: [(&str, &str); 1] = [("content-type", "application/json")];

/// A member as its client seals it.
fn member(stage: &Stage, profile: &str, pointer: &str, value: &str) -> (String, Sent) {
    let facts = Facts { part: pointer.into(), ..facts() };
    let (message, sent) = stage.seal(profile, value.as_bytes(), &facts);
    (URL_SAFE_NO_PAD.encode(message), sent)
}

#[test]
fn only_the_members_change() {
    let stage = stage(json!({}));
    for profile in PROFILES {
        let (number, sent) = member(&stage, profile, "/card/number", "\"4111 1111\"");
        let (cvv, _) = member(&stage, profile, "/card/cvv", " 123");
        let body = format!("{{ \"amount\":1.50, \"card\" : {{\"cvv\": \"{cvv}\",\"number\":\"{number}\"}} }}");
        let mut passed = stage.send(&facts(), &CLEAR, body.as_bytes()).expect("it passes");
        assert_eq!(passed.body, &br#"{ "amount":1.50, "card" : {"cvv":  123,"number":"4111 1111"} }"#[..], "{profile}");
        assert_eq!(passed.head.headers["content-type"], "application/json");
        let answer = br#"{"ok": true , "card":{"number":"4111 1111"}}"#;
        let (headers, sealed) = stage.answer(&mut passed, 200, &CLEAR, answer);
        assert_eq!(headers["content-type"], "application/json");
        assert!(sealed.starts_with(br#"{"ok": true , "card":{"number":""#));
        let parsed: Value = serde_json::from_slice(&sealed).unwrap();
        let message = URL_SAFE_NO_PAD.decode(parsed["card"]["number"].as_str().unwrap()).unwrap();
        // Sealed in answer to the first listed member, for the place where it stands.
        let opened = sent.open(message.clone(), "application/json", 200).expect("its client opens it");
        assert_eq!(opened.plaintext, b"\"4111 1111\"");
        assert!(sent.open(message, "application/json", 201).is_err());
    }
}

#[test]
fn of_the_founding_format_a_member_is_the_object() {
    let stage = stage(json!({ "profile": "cryptojs", "keyrings": [] }));
    let envelope = stage.founding(b"\"4111\"");
    let body = format!("{{\"card\":{{\"number\":{envelope}}},\"a\":[]}}");
    let mut passed = stage.send(&facts(), &CLEAR, body.as_bytes()).expect("it passes");
    assert_eq!(passed.body, &br#"{"card":{"number":"4111"},"a":[]}"#[..]);
    let (_, sealed) = stage.answer(&mut passed, 200, &CLEAR, br#"{"card":{"cvv":1},"b":2}"#);
    let parsed: Value = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(parsed["b"], 2);
    let identity = client::Identity {
        user_id: "u1",
        email: EMAIL,
        master_key: MASTER_KEY.as_bytes(),
        key_derivation: gapura_config::model::KeyDerivation::User,
    };
    let opened = client::open_envelope(parsed["card"]["cvv"].to_string().as_bytes(), identity).expect("opens");
    assert_eq!(opened, b"1");
}

#[track_caller]
fn code(stage: &Stage, body: &str) -> Option<Code> {
    stage.send(&facts(), &CLEAR, body.as_bytes()).err().map(|refusal| refusal.code)
}

#[test]
fn a_member_in_clear_or_in_anothers_place_is_refused() {
    let stage = stage(json!({}));
    for clear in [
        r#"{"card":{"number":"4111"}}"#,
        r#"{"card":{"number":4111}}"#,
        r#"{"card":{"number":{}}}"#,
        r#"{"card":{"cvv":null}}"#,
    ] {
        assert_eq!(code(&stage, clear), Some(Code::EnvelopeRequired), "{clear}");
    }
    for profile in PROFILES {
        let (cvv, _) = member(&stage, profile, "/card/cvv", "1");
        let (whole, _) = member(&stage, profile, "", "1");
        for text in [&cvv, &whole] {
            assert_eq!(code(&stage, &format!(r#"{{"card":{{"number":"{text}"}}}}"#)), Some(Code::DecryptionFailed));
        }
        let twice = format!(r#"{{"card":{{"cvv":"{cvv}","cvv":1}}}}"#);
        assert_eq!(code(&stage, &twice), Some(Code::EnvelopeRequired));
        // It was not used up by any of them.
        let once = format!(r#"{{"card":{{"cvv":"{cvv}"}}}}"#);
        assert_eq!(code(&stage, &once), None);
        assert_eq!(code(&stage, &once), Some(Code::EnvelopeReplayed));
        let (bad, _) = member(&stage, profile, "/card/cvv", "{\"a\":");
        assert_eq!(code(&stage, &format!(r#"{{"card":{{"cvv":"{bad}"}}}}"#)), Some(Code::DecryptionFailed));
    }
    assert_eq!(code(&stage, "{\"card\":"), Some(Code::EnvelopeRequired));
    let outcome = stage.send(&facts(), &[("content-type", "text/plain")], b"{}");
    assert_eq!(outcome.err().map(|refusal| refusal.code), Some(Code::ContentTypeUnsupported));
}

/// Nothing listed stands in the request: only a message in the head can say how the response is to be sealed.
#[test]
fn a_body_without_such_a_member_needs_the_header() {
    let stage = stage(json!({}));
    assert_eq!(code(&stage, r#"{"card":{}}"#), Some(Code::EnvelopeRequired));
    let (message, sent) = stage.seal("hpke", b"", &facts());
    let value = format!("hpke={}", URL_SAFE_NO_PAD.encode(message));
    let fields = [CLEAR[0], ("x-gapura-envelope", &*value)];
    let mut passed = stage.send(&facts(), &fields, br#"{"card":{}}"#).expect("it passes");
    assert_eq!(passed.body, &br#"{"card":{}}"#[..]);
    let (_, sealed) = stage.answer(&mut passed, 200, &CLEAR, br#"{"card":{"number":1}}"#);
    let parsed: Value = serde_json::from_slice(&sealed).unwrap();
    let message = URL_SAFE_NO_PAD.decode(parsed["card"]["number"].as_str().unwrap()).unwrap();
    // For the member's place: the client says so to what it kept of the header's message.
    let mut kept: Value = serde_json::from_str(&sent.to_json()).unwrap();
    kept["facts"]["part"] = "/card/number".into();
    let sent = Sent::from_json(&kept.to_string()).unwrap();
    assert_eq!(sent.open(message, "application/json", 200).expect("opens").plaintext, b"1");
}

#[test]
fn a_response_that_cannot_be_told_apart_does_not_leave() {
    use gapura_filters::contract::Filter;
    let stage = stage(json!({}));
    for body in [&br#"{"card":{"number":1,"number":2}}"#[..], b"{\"card\":"] {
        let (cvv, _) = member(&stage, "hpke", "/card/cvv", "1");
        let request = format!(r#"{{"card":{{"cvv":"{cvv}"}}}}"#);
        let mut passed = stage.send(&facts(), &CLEAR, request.as_bytes()).expect("it passes");
        let mut head =
            http::Response::builder().header("content-type", "application/json").body(()).unwrap().into_parts().0;
        let mut body = bytes::Bytes::copy_from_slice(body);
        let outcome = ready(stage.filter.on_response_body(&mut head, &mut body, &mut passed.exchange));
        assert_eq!(outcome.err().map(|refusal| refusal.code), Some(Code::UpstreamUnavailable));
    }
}
