//! What is sealed, what has no body to seal, and what its head says.

use bytes::Bytes;
use gapura_filters::{
    contract::{Code, Filter, UserId},
    encryption::client,
};
use http::Method;
use serde_json::{Value, json};

use crate::stage::{EMAIL, NOW, Stage, ready, response};

#[test]
fn a_response_is_the_contracts_to_the_byte() {
    let stage = Stage::new();
    let mut passed = stage.post(stage.envelope(b"[]")).unwrap();
    passed.exchange.now.unix_ms = NOW + 5;
    let (headers, body) = stage.answer(&mut passed, 404, &[("content-type", "text/html")], b"<p>no JSON</p>");
    let text = std::str::from_utf8(&body).unwrap();
    let hash = crate::stage::own_key().1;
    let data = text.split('"').nth(7).unwrap();
    assert_eq!(
        text,
        format!(
            r#"{{"success":false,"data":{{"encryptedData":"{data}","keyHash":"{hash}","timestamp":{},"userId":"u1"}}}}"#,
            NOW + 5
        )
    );
    assert_eq!(client::open_envelope(&body, stage.identity()).unwrap(), b"<p>no JSON</p>");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["content-length"], body.len().to_string());
}

#[test]
fn success_is_a_status_below_400() {
    let stage = Stage::new();
    let mut passed = stage.send(Method::GET, &[], "").unwrap();
    for (status, success) in
        [(200, true), (201, true), (302, true), (399, true), (400, false), (500, false), (599, false)]
    {
        let (_, body) = stage.answer(&mut passed, status, &[], b"1");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["success"], success);
    }
}

#[test]
fn the_user_id_is_written_as_the_token_had_it() {
    for (user_id, written) in
        [(UserId::number(7), "7}"), (UserId::string("7"), "\"7\"}"), (UserId::string("a\"\\ü"), "\"a\\\"\\\\ü\"}")]
    {
        let stage = Stage::with(json!({ "response_wrap": "none" })).called_by(user_id, Some(EMAIL));
        let mut passed = stage.send(Method::GET, &[], "").unwrap();
        let (_, body) = stage.answer(&mut passed, 200, &[], b"{}");
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.starts_with(r#"{"encryptedData":""#) && text.ends_with(written), "{text}");
    }
}

#[test]
fn with_user_timestamp_the_response_carries_the_timestamp_of_its_key() {
    let stage = Stage::with(json!({ "key_derivation": "user_timestamp" }));
    let sent = client::seal_request(b"[]", stage.identity(), NOW - 1000);
    for (mut passed, timestamp) in
        [(stage.post(sent).unwrap(), NOW - 1000), (stage.send(Method::GET, &[], "").unwrap(), NOW)]
    {
        passed.exchange.now.unix_ms = NOW + 9000;
        let (_, body) = stage.answer(&mut passed, 200, &[], b"[1]");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["data"]["timestamp"], timestamp);
        assert_eq!(client::open_envelope(&body, stage.identity()).unwrap(), b"[1]");
    }
}

#[test]
fn nothing_in_the_head_describes_the_plaintext() {
    let stage = Stage::new();
    let described = [
        ("etag", "\"md5\""),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("accept-ranges", "bytes"),
        ("content-range", "bytes 0-1/2"),
        ("content-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x"),
        ("content-length", "2"),
        ("x-other", "stays"),
    ];
    let mut passed = stage.send(Method::GET, &[], "").unwrap();
    let (headers, body) = stage.answer(&mut passed, 200, &described, b"[]");
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "x-other"]);
    assert_eq!(headers["content-length"], body.len().to_string());
}

#[test]
fn what_has_no_body_stays_without() {
    let stage = Stage::new();
    for status in [204, 304, 103] {
        let mut passed = stage.send(Method::GET, &[], "").unwrap();
        let (headers, body) = stage.answer(&mut passed, status, &[("etag", "\"1\""), ("content-length", "9")], b"");
        assert!(body.is_empty() && headers.is_empty(), "{status}: {headers:?}");
    }
    let mut passed = stage.send(Method::GET, &[], "").unwrap();
    let (headers, body) = stage.answer(&mut passed, 200, &[("content-length", "0")], b"");
    assert_eq!((body.len(), headers["content-length"].as_bytes()), (0, &b"0"[..]));
}

#[test]
fn head_has_the_length_that_get_has() {
    let stage = Stage::new();
    for len in [1, 15, 16, 17, 1000] {
        let plaintext = vec![b'1'; len];
        let length = len.to_string();
        let mut get = stage.send(Method::GET, &[], "").unwrap();
        let (of_get, _) = stage.answer(&mut get, 200, &[("content-length", &length)], &plaintext);
        let mut head = stage.send(Method::HEAD, &[], "").unwrap();
        let (of_head, body) = stage.answer(&mut head, 200, &[("content-length", &length)], b"");
        assert!(body.is_empty());
        assert_eq!(of_head, of_get);
    }
    let length = |fields: &[(&str, &str)]| {
        let mut passed = stage.send(Method::HEAD, &[], "").unwrap();
        stage.answer(&mut passed, 200, fields, b"").0.get("content-length").map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(length(&[]), None);
    assert_eq!(length(&[("content-length", "0")]).as_deref(), Some("0"));
    // Compressed all the same, larger than is sealed, no number: the length is unknown.
    assert_eq!(length(&[("content-length", "9"), ("content-encoding", "gzip")]), None);
    assert_eq!(length(&[("content-length", "18446744073709551615")]), None);
    assert_eq!(length(&[("content-length", "+5")]), None);
}

#[test]
fn a_response_without_a_decision_does_not_leave_in_clear() {
    let stage = Stage::new();
    let mut passed = stage.send(Method::GET, &[], "").unwrap();
    passed.exchange.sealing = None;
    let mut body = Bytes::from_static(b"secret");
    let refused = ready(stage.filter.on_response_body(&mut response(200, &[]), &mut body, &mut passed.exchange));
    assert_eq!(refused.unwrap_err().code, Code::Internal);
}

#[test]
fn no_two_responses_share_a_salt() {
    let stage = Stage::new();
    let mut passed = stage.send(Method::GET, &[], "").unwrap();
    let mut bodies: Vec<_> = (0..100).map(|_| stage.answer(&mut passed, 200, &[], b"same").1).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 100);
}
