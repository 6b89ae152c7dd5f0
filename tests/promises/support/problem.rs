//! What every refusal looks like (RFC 9457), whatever it refuses.

use serde_json::Value;

use super::wire::Answer;

/// The answer is this problem: status, media type, members, and the same request id in body and head. Gives the problem.
#[track_caller]
pub fn expect_problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "expected {code}, got {:?}", answer.lossy());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{code}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    let mut members: Vec<_> = problem.as_object().expect("an object").keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["code", "detail", "request_id", "status", "title", "type"], "{problem}");
    for member in ["type", "title", "detail", "request_id"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} is empty: {problem}");
    }
    assert_eq!(answer.header("x-request-id"), problem["request_id"].as_str(), "{problem}");
    problem
}

/// An answer without what differs between any two answers: status, fields and body, the request id left out.
#[track_caller]
pub fn comparable(answer: &Answer) -> String {
    let mut text = format!("{} {}", answer.status, answer.text());
    for (name, value) in answer.headers.iter().filter(|(name, _)| name != "date") {
        text.push_str(&format!("\n{name}: {value}"));
    }
    text.replace(answer.header("x-request-id").expect("X-Request-Id"), "ID")
}
