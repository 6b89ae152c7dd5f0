//! Leave for one operation is used once, by whom it was given to, for what it was given: whoever asks, as often and as fast as they like.

use std::{sync::Barrier, thread};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::{
    Answer, Gateway, Redis, Setup, Token, Upstream, expect_problem, node::Sealer, tool, wait::until_true,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[encryption.body]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[operation_tokens.payment]
key = "env:OPERATION_KEY"
issued_for = "body:/payment/id"
used_for = "path:id"

[operation_tokens.sealed]
key = "env:OPERATION_KEY"
issued_for = "body:/payment/id"
used_for = "path:id"
header = "X-Leave"

[[routes]]
name = "begin"
path = "/payments"
upstream = "backend"
auth = ["jwt.users"]
issues = "payment"

[[routes]]
name = "confirm"
path = "/payments/{id}/confirm"
upstream = "backend"
auth = ["jwt.users"]
requires = "payment"
roles = ["clerk"]

[[routes]]
name = "sealed"
path = "/sealed"
upstream = "backend"
auth = ["jwt.users"]
issues = "sealed"
encryption = "body"

[[routes]]
name = "sealed-confirm"
path = "/sealed/{id}"
upstream = "backend"
auth = ["jwt.users"]
requires = "sealed"
encryption = "body"
"#;

const KEY: &str = "operation-key-6b1f0c2d9e8a7f5b-not-for-any-log";

/// Begins payment 7, whatever is asked for.
fn upstream() -> Upstream {
    Upstream::start(|call| {
        let status = if call.heard.target.contains("fail") { 500 } else { 201 };
        let body: &[u8] = if call.heard.method == "GET" { b"[]" } else { br#"{"payment":{"id":"p-7"}}"# };
        call.respond(status, &[("Content-Type", "application/json"), ("X-Operation-Token", "of the upstream")], body)
    })
}

fn setup(more: &str, upstream: &Upstream) -> Setup {
    let setup = Setup::plain(&format!("{more}{TABLES}")).put("BACKEND", upstream.address());
    setup.env("OPERATION_KEY", KEY)
}

fn begin(gateway: &Gateway, bearer: &str) -> String {
    let answer = gateway.request("POST", "/payments", &[("Authorization", bearer)], b"{}");
    assert_eq!((answer.status, answer.header("cache-control")), (201, Some("no-store")), "{}", answer.lossy());
    answer.header("x-operation-token").expect("a token").to_owned()
}

fn confirm(gateway: &Gateway, bearer: &str, token: &str) -> Answer {
    let headers = [("Authorization", bearer), ("X-Operation-Token", token)];
    gateway.request("POST", "/payments/p-7/confirm", &headers, b"{}")
}

const BOB: &str = "u-2002";

#[test]
fn a_token_is_for_one_caller_one_transaction_and_once() {
    let upstream = upstream();
    let gateway = setup("", &upstream).start();
    let (alice, bob) = (Token::alice().bearer(), Token::new(BOB).with("roles", json!(["clerk"])).bearer());
    let token = begin(&gateway, &alice);
    upstream.forget();
    expect_problem(&confirm(&gateway, &bob, &token), 403, "PERMISSION_DENIED");
    let headers = [("Authorization", alice.as_str()), ("X-Operation-Token", token.as_str())];
    expect_problem(&gateway.request("POST", "/payments/p-8/confirm", &headers, b"{}"), 403, "PERMISSION_DENIED");
    expect_problem(&gateway.request("POST", "/payments/p-7/confirm", &headers[..1], b"{}"), 403, "PERMISSION_DENIED");
    // Refused for another reason, it is not used up.
    let poor = Token::new("u-1001").bearer();
    expect_problem(&confirm(&gateway, &poor, &token), 403, "PERMISSION_DENIED");
    assert!(upstream.requests().is_empty(), "a refused request reached the upstream");

    assert_eq!(confirm(&gateway, &alice, &token).status, 201);
    let heard = upstream.only();
    assert_eq!(heard.header("x-operation-token"), None, "it stays here");
    let again = expect_problem(&confirm(&gateway, &alice, &token), 403, "PERMISSION_DENIED");
    assert_eq!(again["detail"], "The operation token was used before.");
    assert_eq!(upstream.requests().len(), 1);
    let count = |result: &str| gateway.metric("gapura_operation_tokens_total", &[&format!("result=\"{result}\"")]);
    assert_eq!(
        (count("issued"), count("used"), count("replayed"), count("missing"), count("invalid")),
        (1.0, 1.0, 1.0, 1.0, 2.0)
    );
    assert!(!gateway.log().contains("eyJ") && !gateway.log().contains(KEY));
}

#[test]
fn only_a_success_that_names_the_transaction_gives_one() {
    let upstream = upstream();
    let gateway = setup("", &upstream).start();
    let alice = Token::alice().bearer();
    for (method, target, status) in
        [("POST", "/payments?fail", 500), ("HEAD", "/payments", 201), ("GET", "/payments", 201)]
    {
        let answer = gateway.request(method, target, &[("Authorization", &alice)], b"");
        assert_eq!((answer.status, answer.header("x-operation-token")), (status, None), "{method} {target}");
    }
    assert_eq!(upstream.last().header("accept-encoding"), Some("identity"));
    assert_eq!(gateway.metric("gapura_operation_tokens_total", &["result=\"unissued\""]), 1.0);
}

#[test]
fn it_works_through_sealed_bodies() {
    let upstream = upstream();
    let gateway = setup("", &upstream).start();
    let (alice, sealer) = (Token::alice().bearer(), Sealer::alice());
    let json = ("Content-Type", "application/json");
    let send = |target: &str, token: &str, body: String| {
        let headers = [("Authorization", alice.as_str()), json, ("X-Leave", token)];
        gateway.request("POST", target, &headers, body)
    };
    let answer = send("/sealed", "none", sealer.seal("{}").to_string());
    assert_eq!(sealer.open(&answer.json()), r#"{"payment":{"id":"p-7"}}"#);
    let token = answer.header("x-leave").expect("a token").to_owned();
    // An envelope that does not open has not used it up.
    let mut broken = sealer.seal("{}");
    broken["encryptedData"] = "U2FsdGVkX18AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    assert_eq!(send("/sealed/p-7", &token, broken.to_string()).status, 400);
    let answer = send("/sealed/p-7", &token, sealer.seal("{}").to_string());
    assert_eq!(answer.status, 201, "{}", answer.lossy());
    expect_problem(&send("/sealed/p-7", &token, sealer.seal("{}").to_string()), 403, "PERMISSION_DENIED");
}

/// A token that is out stays good while keys, and kinds of keys, follow each other by reloads.
#[test]
fn tokens_outlive_the_rotation_of_their_key() {
    let upstream = upstream();
    let openssl = {
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        tool::output(openssl, b"").stdout
    };
    let gateway = setup("", &upstream).file("ec.key", openssl).start();
    let alice = Token::alice().bearer();
    let (first, second) = (begin(&gateway, &alice), begin(&gateway, &alice));
    let becomes = |keys: &str| {
        let table = "[operation_tokens.payment]\n";
        let text = gateway.text().replace(&format!("{table}key = \"env:OPERATION_KEY\""), &format!("{table}{keys}"));
        gateway.rewrite(&text);
        assert_eq!(gateway.reload().status, 200, "{}", gateway.log());
    };
    let (secret, pem) = ("\"env:OPERATION_KEY\"", "\"file:@DIR@/ec.key\"");
    for ([signs, other], algorithm) in [([secret, pem], "HS256"), ([pem, secret], "ES256")] {
        becomes(&format!("keys = [{signs}, {other}]"));
        let token = begin(&gateway, &alice);
        assert_eq!(header_of(&token)["alg"], algorithm);
        assert_eq!(confirm(&gateway, &alice, &token).status, 201);
    }
    assert_eq!(confirm(&gateway, &alice, &first).status, 201);
    becomes(&format!("key = {pem}"));
    expect_problem(&confirm(&gateway, &alice, &second), 403, "PERMISSION_DENIED");
    assert_eq!(confirm(&gateway, &alice, &begin(&gateway, &alice)).status, 201);
    expect_problem(&confirm(&gateway, &alice, &first), 403, "PERMISSION_DENIED");
    assert!(!gateway.log().contains("eyJ") && !gateway.log().contains(KEY));
}

fn header_of(token: &str) -> serde_json::Value {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice(&header).unwrap()
}

/// So many at once, over these gateways.
fn race(gateways: &[&Gateway], upstream: &Upstream) {
    const USES: usize = 200;
    let alice = Token::alice().bearer();
    let token = begin(gateways[0], &alice);
    upstream.forget();
    let start = Barrier::new(USES);
    let answers: Vec<u16> = thread::scope(|scope| {
        let use_it = |n: usize| {
            let (start, alice, token) = (&start, &alice, &token);
            let gateway = gateways[n % gateways.len()];
            move || {
                start.wait();
                confirm(gateway, alice, token).status
            }
        };
        let uses: Vec<_> = (0..USES).map(|n| scope.spawn(use_it(n))).collect();
        uses.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let passed = answers.iter().filter(|status| **status == 201).count();
    let refused = answers.iter().filter(|status| **status == 403).count();
    assert_eq!((passed, refused), (1, USES - 1));
    assert_eq!(upstream.requests().len(), 1, "exactly one reached the upstream");
}

#[test]
fn of_two_hundred_uses_at_once_one_passes() {
    let upstream = upstream();
    let gateway = setup("", &upstream).start();
    race(&[&gateway], &upstream);
}

#[test]
fn of_two_hundred_uses_at_once_of_two_instances_one_passes() {
    let (redis, upstream) = (Redis::start(), upstream());
    let state = "\n[state]\nstore = \"redis\"\nredis = { url = \"env:REDIS_URL\", on_outage = \"closed\", timeout = \"20s\" }\n";
    let start = || setup(state, &upstream).env("REDIS_URL", &redis.url()).start();
    let gateways = [start(), start()];
    for gateway in &gateways {
        until_true("Redis is reached", || gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5);
    }
    race(&[&gateways[0], &gateways[1]], &upstream);
}

#[test]
fn explain_says_where_a_token_comes_from_and_goes() {
    let upstream = upstream();
    let explain = |target: &str| {
        let output = setup("", &upstream).command(&["explain", "POST", target]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = explain("/payments");
    let line = "operation_tokens operation_tokens.payment in x-operation-token, 900s, HS256: successful responses carry one for body:/payment/id";
    assert!(text.contains(line), "{text}");
    let text = explain("/payments/1/confirm");
    assert!(
        text.contains("a request needs one for path:id, and uses it up")
            && text.contains("withheld         x-operation-token"),
        "{text}"
    );
    let output = setup("", &upstream).env("OPERATION_KEY", "short").command(&["check"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.matches("has fewer than 32 bytes").count() == 2, "{text}");
}
