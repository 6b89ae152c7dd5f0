use std::{
    future::Future,
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;

use super::*;
use crate::{
    contract::{KeyReader, Now, Principal, UserId},
    keyring::tests::{Lender, Loan},
    metrics::Metrics,
    replay::ReplayStore,
};

/// 2026-01-01T00:00:00Z.
const NOW_MS: u64 = 1_767_225_600_000;

fn now<T>(answer: impl Future<Output = T>) -> T {
    match Box::pin(answer).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

const CONFIG: &str = r#"
[server]
https = ["127.0.0.1:1"]
[tls]
self_signed = true
[upstreams.app]
servers = ["127.0.0.1:2"]
[jwt.users]
algorithms = ["HS256"]
secret = "env:A"
[operation_tokens.pay]
key = "@KEY@"
issued_for = "@ISSUED@"
used_for = "@USED@"
[[routes]]
name = "begin"
path = "/begin/{id}"
upstream = "app"
auth = ["jwt.users"]
issues = "pay"
[[routes]]
name = "confirm"
path = "/pay/{id}/confirm"
upstream = "app"
auth = ["jwt.users"]
requires = "pay"
"#;

fn config(issued: &str, used: &str) -> model::Config {
    let key = format!("file:{}/tests/keys/hs256.secret", env!("CARGO_MANIFEST_DIR"));
    let text = CONFIG.replace("@KEY@", &key).replace("@ISSUED@", issued).replace("@USED@", used);
    gapura_config::parse("test", &text).unwrap_or_else(|faults| panic!("{faults}")).config
}

struct Gate {
    issue: IssueTokens,
    require: RequireToken,
}

fn gate_with(config: &model::Config, services: &Services) -> Gate {
    let tokens = &build(config, services).unwrap()[0].1;
    Gate {
        issue: IssueTokens::new(tokens, &config.routes[0]).unwrap(),
        require: RequireToken::new(tokens, &config.routes[1]).unwrap(),
    }
}

fn services() -> Services {
    Services::in_memory(1000, 1000, Metrics::new().unwrap().into())
}

fn gate(issued: &str, used: &str) -> Gate {
    gate_with(&config(issued, used), &services())
}

fn exchange(user: &str, target: &str, at_ms: u64) -> Exchange {
    let monotonic = Duration::from_millis(at_ms - NOW_MS + 1000);
    let mut exchange = Exchange::new(Now { monotonic, unix_ms: at_ms }, [192, 0, 2, 1].into());
    exchange.target = target.parse().unwrap();
    exchange.principal = Some(Arc::new(Principal {
        method: "jwt.users".into(),
        user_id: UserId::string(user),
        email: None,
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: None,
        limits: Default::default(),
        token_id: None,
        claims: Default::default(),
    }));
    exchange
}

fn parts(headers: &[(&str, &str)]) -> request::Parts {
    let mut head = http::Request::post("/").body(()).unwrap().into_parts().0;
    for (name, value) in headers {
        head.headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    head
}

impl Gate {
    fn issue(&self, user: &str, target: &str, status: u16, headers: &[(&str, &str)], body: &'static str) -> HeaderMap {
        let mut exchange = exchange(user, target, NOW_MS);
        now(self.issue.on_request(&parts(&[]), &mut exchange)).unwrap();
        let mut head = http::Response::builder().status(status).body(()).unwrap().into_parts().0;
        head.headers = parts(headers).headers;
        now(self.issue.on_response_body(&mut head, &mut Bytes::from_static(body.as_bytes()), &mut exchange)).unwrap();
        head.headers
    }

    fn token(&self, id: &'static str) -> String {
        let answer = self.issue("u1", "/begin/7", 201, &[], id);
        assert_eq!(answer["cache-control"], "no-store");
        answer["x-operation-token"].to_str().unwrap().to_owned()
    }

    fn go(&self, user: &str, target: &str, at_ms: u64, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let mut exchange = exchange(user, target, at_ms);
        let head = parts(headers);
        now(self.require.on_request(&head, &mut exchange))?;
        now(self.require.on_forward(&head, &mut exchange))
    }
}

#[track_caller]
fn denied(outcome: Result<(), Refusal>, reason: &str) {
    let refusal = outcome.expect_err(reason);
    assert_eq!(refusal.code, Code::PermissionDenied);
    assert!(refusal.reason.contains(reason), "`{}` does not say `{reason}`", refusal.reason);
}

const HEADER: &str = "x-operation-token";

#[test]
fn a_token_is_used_once_by_whom_it_is_for() {
    let gate = gate("body:/payment/id", "path:id");
    let token = gate.token(r#"{"payment":{"id":"p-7"}}"#);
    let here = "/pay/p-7/confirm";
    let with = &[(HEADER, &*token)][..];
    denied(gate.go("u2", here, NOW_MS, with), "another caller's");
    denied(gate.go("u1", "/pay/p-8/confirm", NOW_MS, with), "another transaction");
    denied(gate.go("u1", here, NOW_MS, &[]), "there is no operation token");
    denied(gate.go("u1", here, NOW_MS, &[(HEADER, &token), (HEADER, &token)]), "more than one");
    denied(gate.go("u1", here, NOW_MS + 900_000, with), "has ended");
    // None of these has used it up.
    gate.go("u1", "/pay/p%2D7/confirm", NOW_MS + 899_999, with).unwrap();
    denied(gate.go("u1", here, NOW_MS + 899_999, with), "was used before");
    denied(gate.go("u1", here, NOW_MS, with), "was used before");
    gate.go("u1", here, NOW_MS, &[(HEADER, &gate.token(r#"{"payment":{"id":"p-7"}}"#))]).unwrap();
}

#[test]
fn every_byte_of_a_token_counts() {
    let gate = gate("body:/id", "path:id");
    let token = gate.token(r#"{"id":7}"#);
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        denied(gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &changed)]), "never given out");
    }
    for text in ["", "x", "a.b.c", &token[1..], &format!("{token}A"), &"A".repeat(5000)] {
        denied(gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, text)]), "operation token");
    }
    // A token of another table with the same secret.
    let mut other = config("body:/id", "path:id");
    let table = other.operation_tokens.remove("pay").unwrap();
    other.operation_tokens.insert("refund".into(), table);
    (other.routes[0].issues, other.routes[1].requires) = (Some("refund".into()), Some("refund".into()));
    let foreign = gate_with(&other, &services()).token(r#"{"id":7}"#);
    denied(gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &foreign)]), "never given out");
    // And of the same table for a route of another name.
    let mut other = config("body:/id", "path:id");
    other.routes[1].name = "cancel".into();
    let foreign = gate_with(&other, &services()).token(r#"{"id":7}"#);
    denied(gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &foreign)]), "another route");
    gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]).unwrap();
}

#[test]
fn a_token_is_given_out_for_what_the_response_says() {
    let by_body = gate("body:/a/0/b~1c", "path:id");
    let token = |headers: HeaderMap| headers.get(HEADER).map(|value| value.to_str().unwrap().to_owned());
    let good = token(by_body.issue("u1", "/begin/7", 200, &[], r#"{"a":[{"b/c":-5}]}"#)).unwrap();
    by_body.go("u1", "/pay/-5/confirm", NOW_MS, &[(HEADER, &good)]).unwrap();
    for body in [
        "",
        "not json",
        "{}",
        r#"{"a":[]}"#,
        r#"{"a":[{"b/c":null}]}"#,
        r#"{"a":[{"b/c":1.5}]}"#,
        r#"{"a":[{"b/c":""}]}"#,
        r#"{"a":[{"b/c":{}}]}"#,
        r#"{"a":[{"b/c":1,"b/c":2}]}"#,
    ] {
        assert_eq!(token(by_body.issue("u1", "/begin/7", 200, &[], body)), None, "{body}");
    }
    for status in [301, 400, 404, 500] {
        // Nor does what an upstream writes there pass for one.
        let answer = by_body.issue("u1", "/begin/7", status, &[(HEADER, "x")], r#"{"a":[{"b/c":5}]}"#);
        assert_eq!(token(answer), None, "{status}");
    }
    let by_path = gate("path:id", "header:X-Payment");
    let good = token(by_path.issue("u1", "/begin/%41", 204, &[], "")).unwrap();
    denied(by_path.go("u1", "/pay/1/confirm", NOW_MS, &[(HEADER, &good)]), "does not say");
    denied(by_path.go("u1", "/pay/1/confirm", NOW_MS, &[(HEADER, &good), ("x-payment", "B")]), "another transaction");
    let twice = [(HEADER, &*good), ("x-payment", "A"), ("x-payment", "A")];
    denied(by_path.go("u1", "/pay/1/confirm", NOW_MS, &twice), "does not say");
    let spellings = [(HEADER, &*good), ("x-payment", "A"), ("x_payment", "B")];
    denied(by_path.go("u1", "/pay/1/confirm", NOW_MS, &spellings), "does not say");
    by_path.go("u1", "/pay/1/confirm", NOW_MS, &[(HEADER, &good), ("x-payment", "A")]).unwrap();
    let by_header = gate("header:Location", "header:X-Payment");
    let good = token(by_header.issue("u1", "/begin/7", 201, &[("location", "/p/7")], "")).unwrap();
    by_header.go("u1", "/pay/1/confirm", NOW_MS, &[(HEADER, &good), ("x-payment", "/p/7")]).unwrap();
    assert_eq!(token(by_header.issue("u1", "/begin/7", 201, &[("location", "a"), ("location", "b")], "")), None);
}

#[test]
fn a_key_on_loan_signs_until_its_lease_is_over() {
    let loan = Arc::new(Loan::default());
    let services = Services { keys: KeyReader::new(Arc::new(Lender(Arc::clone(&loan)))), ..services() };
    let mut config = config("body:/payment/id", "path:id");
    config.operation_tokens.values_mut().for_each(|table| table.key = "kms:env:SEALED".parse().ok());
    let gate = gate_with(&config, &services);
    let begin = || gate.issue("u1", "/begin/7", 201, &[], r#"{"payment":{"id":"p-7"}}"#);
    assert!(begin().contains_key(HEADER));
    loan.0.store(true, Ordering::Relaxed);
    assert!(!begin().contains_key(HEADER), "the answer of the operation before comes all the same");
    loan.0.store(false, Ordering::Relaxed);
    assert!(begin().contains_key(HEADER));
}

#[test]
fn of_many_uses_at_once_one_is_the_first() {
    let services = services();
    let gate = gate_with(&config("body:/id", "path:id"), &services);
    let token = gate.token(r#"{"id":7}"#);
    let used: usize = std::thread::scope(|scope| {
        let ask = || usize::from(gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]).is_ok());
        let asked: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(used, 1);
    let count = |result| services.metrics.operation_tokens.with_label_values(&["operation_tokens.pay", result]).get();
    assert_eq!((count("issued"), count("used"), count("replayed")), (1, 1, 63));
}

#[test]
fn a_full_memory_lets_none_pass() {
    let services = Services::in_memory(1000, 1, Metrics::new().unwrap().into());
    let gate = gate_with(&config("body:/id", "path:id"), &services);
    let (first, second) = (gate.token(r#"{"id":7}"#), gate.token(r#"{"id":7}"#));
    gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &first)]).unwrap();
    let refusal = gate.go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &second)]).unwrap_err();
    assert_eq!(refusal.code, Code::Overloaded);
    assert!(matches!(services.replays, ReplayStore::Memory(_)));
}

#[test]
fn a_short_key_is_told() {
    let short = format!("file:{}/tests/keys/short.secret", env!("CARGO_MANIFEST_DIR"));
    let mut config = config("body:/id", "path:id");
    config.operation_tokens.get_mut("pay").unwrap().key = Some(short.parse().unwrap());
    let faults = build(&config, &services()).map(|_| ()).unwrap_err();
    assert!(faults[0].message.contains("fewer than 32 bytes"), "{}", faults[0].message);
}

fn config_with_keys(files: &[&str]) -> model::Config {
    let mut config = config("body:/id", "path:id");
    let table = config.operation_tokens.get_mut("pay").unwrap();
    let reference = |file: &&str| format!("file:{}/tests/keys/{file}", env!("CARGO_MANIFEST_DIR")).parse().unwrap();
    (table.key, table.keys) = (None, files.iter().map(reference).collect());
    config
}

const KINDS: [&str; 4] = ["hs256.secret", "p256.key", "ed25519.key", "rsa.key"];

#[test]
fn keys_of_each_kind_sign_and_follow_each_other() {
    let services = services();
    for (old, new) in KINDS.iter().flat_map(|old| KINDS.iter().map(move |new| (*old, *new))).filter(|(a, b)| a != b) {
        let gate = |files: &[&str]| gate_with(&config_with_keys(files), &services);
        // What one of them does while the other is told already, or not yet: each step of a rotation, on two instances.
        let steps = [gate(&[old]), gate(&[old, new]), gate(&[new, old]), gate(&[new])];
        for (one, other) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3)] {
            let token = steps[one].token(r#"{"id":7}"#);
            steps[other].go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]).unwrap();
            // The memory of what was used is no key's.
            denied(steps[one].go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]), "was used before");
        }
        let token = steps[0].token(r#"{"id":7}"#);
        denied(steps[3].go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]), "never given out");
    }
}

#[test]
fn tables_with_one_key_pair_take_each_their_own() {
    for kind in KINDS {
        let config = config_with_keys(&[kind]);
        let mut other = config.clone();
        let table = other.operation_tokens.remove("pay").unwrap();
        other.operation_tokens.insert("refund".into(), table);
        other.routes.iter_mut().for_each(|route| {
            (route.issues, route.requires) =
                (route.issues.take().map(|_| "refund".into()), route.requires.take().map(|_| "refund".into()));
        });
        let token = gate_with(&other, &services()).token(r#"{"id":7}"#);
        let outcome = gate_with(&config, &services()).go("u1", "/pay/7/confirm", NOW_MS, &[(HEADER, &token)]);
        denied(outcome, if kind == "hs256.secret" { "never given out" } else { "of another table" });
    }
}

#[test]
fn every_key_that_cannot_sign_is_told() {
    let faults = build(&config_with_keys(&["short.secret", "p256.pub.pem", "p384.key", "absent"]), &services());
    let faults = faults.map(|_| ()).unwrap_err();
    let told: Vec<(String, &str)> = faults.iter().map(|fault| (fault.place.to_string(), &*fault.message)).collect();
    for (i, why) in ["fewer than 32 bytes", "the private one signs", "neither EC on P-256", "absent"].iter().enumerate()
    {
        assert_eq!(told[i].0, format!("operation_tokens.pay.keys[{i}]"));
        assert!(told[i].1.contains(why), "{why}: {}", told[i].1);
    }
}
