//! llhttp's requests, sent to the running gateway over a plain listener.
//!
//! What Node's strict parser refuses, the gateway refuses before an upstream sees a byte of it: a request that two parsers
//! read differently is how requests are smuggled. Most cases are cut short and name no host, so each is sent twice: as it
//! is, and with a `Host` and its missing end.

use std::thread;

use serde_json::Value;

use crate::{
    Outcomes, base64,
    gateway::{Gateway, answers},
    list, suite, text,
};

/// Gateways at work at once.
const WORKERS: usize = 8;

/// Strict errors that the gateway does not answer with a problem, and why.
const EXPLAINED: &[(&str, &str)] = &[
    ("connection-002", AFTER_CLOSE),
    ("connection-003", AFTER_CLOSE),
    ("invalid-041", ANY_METHOD),
    ("invalid-051", ANY_METHOD),
    ("transfer-encoding-115", EXTENSION),
    ("transfer-encoding-117", EXTENSION),
];

const AFTER_CLOSE: &str =
    "The first request is good and is answered; the connection ends behind it, and what follows is never read.";
const ANY_METHOD: &str = "Routes may name methods that no registry has: any upper-case token is one.";
const EXTENSION: &str = "The extensions of chunks end with their line, are not read, and do not pass on.";

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The upstream has so many requests, and the client the answers.
    Passed(usize),
    /// A problem, of this code; so many requests before it passed. The upstream saw nothing of it, or the start of a stream
    /// that was broken off.
    Refused(String, usize),
    /// An answer of this status, and no problem with it.
    Bare(u16),
    /// The upstream has the whole of what the client was refused.
    Leaked(String),
    /// No answer: the gateway still waits for bytes that never came.
    Silent,
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn llhttp_requests() {
    let suite = suite("llhttp_request_cases.json");
    let cases = list(&suite, "cases");
    let mut outcomes = Outcomes::default();
    let all: Vec<(&Value, Outcome)> = thread::scope(|scope| {
        let share = |worker: usize| {
            scope.spawn(move || {
                let mut gateway = Gateway::before(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
                let mine = cases.iter().skip(worker).step_by(WORKERS);
                let seen: Vec<_> = mine.map(|case| (case, try_case(&gateway, case))).collect();
                gateway.is_sound();
                seen
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(share).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
    });
    for (case, outcome) in all {
        let (strict, error) = (text(case, "mode") == "request", case["llhttp_error"].as_str());
        // llhttp stops at CONNECT, at upgrades and at HTTP/2's preface to hand them over; that is no verdict.
        let pause = error.is_some_and(|error| error.starts_with("Pause"));
        let id = text(case, "id").trim_start_matches("llhttp-request-");
        let (class, wrong) = match (&outcome, strict, error) {
            (Outcome::Passed(_), true, None) => ("good passed", false),
            (Outcome::Passed(_), true, Some(_)) if pause => ("handed over passed", false),
            (Outcome::Passed(_), true, Some(_)) => ("errors passed", true),
            (Outcome::Passed(_), false, _) => ("lenient passed", true),
            (Outcome::Bare(_), ..) => ("refused without a problem", true),
            // Bytes behind a request to upgrade, sent before the upstream agreed to it: whether they come before or behind
            // its answer is chance. Not one of them passes, and the connection ends.
            (Outcome::Leaked(_), true, Some(_)) if pause => ("handed over, then broken off", false),
            (Outcome::Leaked(_), ..) => ("refused too late", true),
            (Outcome::Refused(..), true, None) => ("good refused", false),
            (Outcome::Refused(..), true, Some(_)) if pause => ("handed over refused", false),
            (Outcome::Refused(..), true, Some(_)) => ("errors refused", false),
            (Outcome::Refused(..), false, _) => ("lenient refused", false),
            (Outcome::Silent, true, Some(_)) if !pause => ("errors left waiting", true),
            (Outcome::Silent, ..) => ("incomplete", false),
        };
        outcomes.count(class);
        if wrong {
            outcomes.differs(id, format!("`{}` ({}): {outcome:?}", text(case, "title"), error.unwrap_or("-")));
        } else if class == "good refused" || class == "lenient passed" {
            println!("  {id}: `{}`: {outcome:?}", text(case, "title"));
        }
    }
    outcomes.judge("llhttp requests", EXPLAINED);
}

fn try_case(gateway: &Gateway, case: &Value) -> Outcome {
    let raw = base64(text(case, "raw_b64"));
    let as_it_is = send(gateway, &raw);
    // Without a host nothing of HTTP/1.1 passes, whatever else is right with it.
    let no_host = !contains(&raw.to_ascii_lowercase(), b"host:") && !contains(&raw, b"HTTP/1.0\r\n");
    assert!(!no_host || !matches!(as_it_is, Outcome::Passed(_)), "{}", text(case, "id"));
    // These are about an end in the middle.
    if text(case, "mode") == "request-finish" {
        return as_it_is;
    }
    send(gateway, &complete(&raw))
}

fn send(gateway: &Gateway, bytes: &[u8]) -> Outcome {
    gateway.received.lock().expect("no holder panics").clear();
    let answers = answers(&gateway.converse(bytes), bytes.starts_with(b"HEAD "));
    let received = std::mem::take(&mut *gateway.received.lock().expect("no holder panics"));
    let passed = answers.iter().take_while(|answer| answer.status == 200).count();
    for request in &received {
        check_forwarded(&request.bytes);
    }
    match answers.get(passed) {
        Some(refused) => {
            assert!(refused.status >= 400 && refused.complete, "{refused:?}");
            let Some(code) = refused.code.clone() else { return Outcome::Bare(refused.status) };
            match received.iter().filter(|request| request.whole).nth(passed) {
                None => Outcome::Refused(code, passed),
                Some(more) => Outcome::Leaked(format!("{code}, {:?}", String::from_utf8_lossy(&more.bytes))),
            }
        }
        None if passed > 0 => Outcome::Passed(passed),
        None => match received.iter().find(|request| request.whole) {
            None => Outcome::Silent,
            Some(more) => Outcome::Leaked(format!("no answer, {:?}", String::from_utf8_lossy(&more.bytes))),
        },
    }
}

/// What leaves the gateway can be read in one way only.
fn check_forwarded(request: &[u8]) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let shown = String::from_utf8_lossy(request);
    assert!(head.parse(request).is_ok_and(|status| status.is_complete()), "{shown}");
    let count = |name: &str| head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!(count("host"), 1, "{shown}");
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{shown}");
    assert_eq!(head.version, Some(1), "{shown}");
    let text = shown.split("\r\n\r\n").next().unwrap_or_default();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']), "{shown}");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// With a `Host` in each head that has none, and the end that the suite leaves out.
fn complete(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, after) = rest.split_at(at + 2);
        out.extend_from_slice(line);
        rest = after;
        let head = &rest[..rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(rest.len())];
        if is_request_line(line) && !contains(&head.to_ascii_lowercase(), b"host:") {
            out.extend_from_slice(b"Host: hypnotoad.org\r\n");
        }
    }
    out.extend_from_slice(rest);
    if out.ends_with(b"\r\n\r\n") {
    } else if out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    } else if !contains(&out, b"\r\n\r\n") {
        out.extend_from_slice(b"\r\n\r\n");
    }
    out
}

fn is_request_line(line: &[u8]) -> bool {
    line.first().is_some_and(u8::is_ascii_uppercase)
        && (line.ends_with(b" HTTP/1.1\r\n") || line.ends_with(b" HTTP/1.0\r\n"))
}
