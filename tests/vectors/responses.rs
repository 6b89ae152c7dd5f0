//! llhttp's responses, given by an upstream behind the running gateway.

use crate::{
    Outcomes, base64,
    gateway::{Answer, Gateway, answers},
    list, suite, text,
};

/// Strict errors that reach the client as an answer, and why.
const EXPLAINED: &[(&str, &str)] = &[
    ("connection-005", AFTER_END),
    ("connection-007", AFTER_END),
    ("invalid-038", BARE_LF),
    ("invalid-040", BARE_LF),
    ("sample-053", BARE_LF),
    ("transfer-encoding-069", EXTENSION),
];

const AFTER_END: &str =
    "What an upstream sends behind its answer is not passed on, and its connection is not used again.";
const BARE_LF: &str = "A head of an upstream may end its lines with LF alone. It is written anew for the client.";
const EXTENSION: &str = "The extensions of chunks end with their line, are not read, and do not pass on.";

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn llhttp_responses() {
    let suite = suite("llhttp_response_cases.json");
    let cases = list(&suite, "cases");
    let raw: Vec<Vec<u8>> = cases.iter().map(|case| complete(base64(text(case, "raw_b64")))).collect();
    let mut gateway = Gateway::before(move |request| {
        let line = String::from_utf8_lossy(request);
        let index = line.split(['/', ' ']).nth(2).and_then(|index| index.parse::<usize>().ok()).expect("an index");
        raw[index].clone()
    });
    let mut outcomes = Outcomes::default();
    for (index, case) in cases.iter().enumerate() {
        let request = format!("GET /{index} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answers = answers(&gateway.converse(request.as_bytes()), false);
        let id = text(case, "id").trim_start_matches("llhttp-response-");
        // Nothing at all is a head whose body never began.
        let nothing = Answer { status: 0, code: None, body: Vec::new(), complete: false };
        assert!(answers.len() <= 1, "{id}: {answers:?}");
        let answer = answers.first().unwrap_or(&nothing);
        let refused = answer.code.as_deref() == Some("UPSTREAM_UNAVAILABLE") && answer.status == 502;
        assert!(refused || answer.code.is_none(), "{id}: {answer:?}");
        let (strict, error) = (text(case, "mode") == "response", case["llhttp_error"].as_str());
        let pause = error.is_some_and(|error| error.starts_with("Pause"));
        let what = format!(
            "`{}` ({}): {} {}, {} bytes",
            text(case, "title"),
            error.unwrap_or("-"),
            answer.status,
            if answer.complete { "whole" } else { "cut off" },
            answer.body.len()
        );
        let whole = answer.complete && !refused;
        outcomes.count(match (strict, error, whole) {
            (true, None, true) => "good passed",
            (true, None, false) => "good refused or cut off",
            (true, Some(_), true) => "errors passed",
            (true, Some(_), false) => "errors refused or cut off",
            (false, _, true) => "lenient passed",
            (false, _, false) => "lenient refused or cut off",
        });
        if strict && error.is_some() && !pause && whole {
            outcomes.differs(id, what);
        } else if whole != error.is_none() {
            println!("  {id}: {what}");
        }
    }
    gateway.is_sound();
    outcomes.judge("llhttp responses", EXPLAINED);
}

/// With the end that the suite leaves out.
fn complete(mut raw: Vec<u8>) -> Vec<u8> {
    if raw.ends_with(b"\r\n") && !raw.ends_with(b"\r\n\r\n") {
        raw.extend_from_slice(b"\r\n");
    }
    raw
}
