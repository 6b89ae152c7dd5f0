//! A token that was taken back is bad from the next request on.

use std::process::Command;

use serde_json::json;

use crate::support::{Gateway, Setup, Token, Upstream, credential::now_ms, expect_problem, gateway::BINARY, wire};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[[routes]]
name = "me"
path = "/me"
upstream = "backend"
auth = ["jwt.users"]
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::plain(TABLES).put("BACKEND", upstream.address()).start()
}

/// Issued some seconds ago, so that a revocation of now is about it.
fn token(user: &str, jti: &str) -> String {
    Token::new(user).with("jti", jti).with("iat", now_ms() / 1000 - 10).bearer()
}

fn call(gateway: &Gateway, headers: &[(&str, &str)], body: &str) -> wire::Answer {
    let length = body.len().to_string();
    let headers = [headers, &[("Content-Length", length.as_str())]].concat();
    wire::request(gateway.admin(), "POST", "/revocations", &headers, body.as_bytes())
}

#[test]
fn tokens_are_taken_back_one_by_one_by_user_and_by_time() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let status = |bearer: &str| gateway.request("GET", "/me", &[("Authorization", bearer)], b"").status;
    let (one, other, bob) = (token("alice", "t-1"), token("alice", "t-2"), token("bob", "t-3"));
    assert_eq!([&one, &other, &bob].map(|bearer| status(bearer)), [200, 200, 200]);
    assert_eq!(call(&gateway, &[], r#"{"jwt":"users","jti":"t-1"}"#).text(), "revoked\n");
    assert_eq!([&one, &other, &bob].map(|bearer| status(bearer)), [401, 200, 200]);
    let refused = gateway.request("GET", "/me", &[("Authorization", &one)], b"");
    expect_problem(&refused, 401, "CREDENTIALS_INVALID");

    let admin = gateway.admin().to_string();
    let revoke = |arguments: &[&str]| {
        Command::new(BINARY).args(["revoke", "--admin", &admin, "--jwt"]).args(arguments).output().unwrap()
    };
    let done = revoke(&["users", "--subject", "alice"]);
    assert_eq!((done.status.code(), String::from_utf8_lossy(&done.stdout).as_ref()), (Some(0), "revoked\n"));
    assert_eq!([&one, &other, &bob].map(|bearer| status(bearer)), [401, 401, 200]);
    let later = Token::new("alice").with("iat", now_ms() / 1000 + 20).bearer();
    assert_eq!(status(&later), 200, "who signs in again is let in");
    // A reload forgives nothing.
    assert_eq!(gateway.reload().status, 200);
    assert_eq!([&one, &other, &bob].map(|bearer| status(bearer)), [401, 401, 200]);
    assert_eq!(revoke(&["users", "--issued-before", "now"]).status.code(), Some(0));
    assert_eq!([&one, &other, &bob].map(|bearer| status(bearer)), [401, 401, 401]);
    assert_eq!(status(&later), 200);
    assert_eq!(gateway.metric("gapura_revocations_total", &[]), 3.0);

    let wrong = revoke(&["staff", "--jti", "x"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no such `[jwt.NAME]`"));
    assert_eq!(revoke(&["users"]).status.code(), Some(2));
    let log = gateway.log();
    assert!(log.contains("security: tokens of jwt.users are revoked, by subject"), "{log}");
    assert!(!log.contains("alice") && !log.contains("t-1"), "{log}");
}

#[test]
fn a_call_that_cannot_be_read_revokes_nothing() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let long = json!({"jwt": "users", "jti": "x".repeat(5000)}).to_string();
    for body in
        ["", "{", r#"{"jwt":"users"}"#, r#"{"jwt":"nobody","jti":"a"}"#, r#"{"jwt":"users","jti":"a","x":1}"#, &long]
    {
        expect_problem(&call(&gateway, &[], body), 400, "REQUEST_MALFORMED");
    }
    let page = call(&gateway, &[("Origin", "https://evil.test")], r#"{"jwt":"users","jti":"t-1"}"#);
    expect_problem(&page, 403, "PERMISSION_DENIED");
    let get = wire::request(gateway.admin(), "GET", "/revocations", &[], b"");
    expect_problem(&get, 405, "METHOD_NOT_ALLOWED");
    let bearer = token("alice", "t-1");
    assert_eq!(gateway.request("GET", "/me", &[("Authorization", &bearer)], b"").status, 200);
    let arguments = ["revoke", "--admin", "127.0.0.1:1", "--jwt", "users", "--jti", "a"];
    assert_eq!(Command::new(BINARY).args(arguments).output().unwrap().status.code(), Some(3));
}
