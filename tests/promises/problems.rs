//! Every error that the gateway makes itself is a problem (RFC 9457) with its code, status and fields; and no request that
//! it refuses reaches an upstream, not a byte.

use crate::support::{
    Curl, Flow, Gateway, Setup, Token, Upstream, expect_problem, nghttp, token, upstream::Closed, wire,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
keys = []

[api_keys.developers]
scheme = "ApiKey"
salt = "env:API_KEY_SALT"
keys = []

[rate_limits.tight]
limit = 1
window = "1h"
by = "client_ip"

[rate_limits.each]
limit = 2
window = "1h"
by = "user"

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"
max_body = "1KiB"

[[routes]]
name = "get-only"
path = "/get-only"
methods = ["GET", "PUT"]
upstream = "backend"

[[routes]]
name = "private"
path = "/private"
upstream = "backend"
auth = ["jwt.users", "api_keys.developers", "api_keys.partners"]
permissions = ["PAYMENT_PROCESS", "PAYMENT_READ"]

[[routes]]
name = "clerks"
path = "/clerks"
upstream = "backend"
auth = ["jwt.users"]
roles = ["clerk", "boss"]

[[routes]]
name = "limited"
path = "/limited"
upstream = "backend"
rate_limits = ["tight"]

[[routes]]
name = "each"
path = "/each"
upstream = "backend"
auth = ["jwt.users"]
rate_limits = ["each"]
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

#[test]
fn no_route_matches() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for target in ["/", "/nowhere", "/opener", "/Open", "/private/", "/private/x"] {
        expect_problem(&gateway.get(target), 404, "ROUTE_NOT_FOUND");
    }
    upstream.expect_untouched();
}

#[test]
fn a_path_without_this_method_names_those_it_takes() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = gateway.request(method, "/get-only", &[], b"");
        expect_problem(&answer, 405, "METHOD_NOT_ALLOWED");
        let allow = answer.header("allow").expect("Allow");
        let mut allowed: Vec<_> = allow.split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["GET", "HEAD", "PUT"], "{method}");
    }
    upstream.expect_untouched();
    assert_eq!(gateway.request("HEAD", "/get-only", &[], b"").status, 200, "GET includes HEAD");
}

#[test]
fn credentials_that_are_missing() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let answer = gateway.get("/private");
    expect_problem(&answer, 401, "CREDENTIALS_MISSING");
    let challenges = answer.all("www-authenticate").join(", ");
    for accepted in ["Bearer", "ApiKey", "X-Api-Key"] {
        assert!(challenges.contains(accepted), "{accepted} is not named: {challenges}");
    }
    assert!(!challenges.contains("error="), "nothing was presented, so nothing is wrong with it: {challenges}");
    let only_tokens = gateway.get("/clerks").all("www-authenticate").join(", ");
    assert!(only_tokens.contains("Bearer") && !only_tokens.contains("ApiKey"), "{only_tokens}");
    upstream.expect_untouched();
}

#[test]
fn credentials_that_are_bad() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let good = token();
    let unsigned = {
        // {"alg":"none"} before the same claims.
        let claims = good.split('.').nth(1).unwrap();
        format!("Bearer eyJhbGciOiJub25lIn0.{claims}.")
    };
    for bad in [
        "",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        &unsigned,
        &format!("{good}x"),
        &good.replace("Bearer ", "Token "),
        &format!("Bearer {}", Token::alice().sign_with("another-secret-of-at-least-32-bytes!")),
        &Token::alice().with("exp", 1_000_000_000).bearer(),
        &Token::alice().with("nbf", 4_000_000_000_u64).bearer(),
        &Token::alice().with("iat", 4_000_000_000_u64).bearer(),
        &Token::alice().without("exp").bearer(),
        &Token::alice().without("sub").bearer(),
        &Token::alice().with("sub", "line\nbreak").bearer(),
        "ApiKey unknown",
        "Basic dXNlcjpwYXNz",
    ] {
        let answer = gateway.request("GET", "/private", &[("Authorization", bad)], b"");
        expect_problem(&answer, 401, "CREDENTIALS_INVALID");
        assert!(!answer.all("www-authenticate").is_empty(), "{bad}");
        let problem = answer.text();
        assert!(bad.is_empty() || !problem.contains(bad), "the problem repeats the credential: {problem}");
    }
    // One good credential does not make up for a bad one, nor do two of the same.
    for headers in [
        [("Authorization", good.as_str()), ("X-Api-Key", "unknown")],
        [("Authorization", good.as_str()), ("Authorization", good.as_str())],
    ] {
        expect_problem(&gateway.request("GET", "/private", &headers, b""), 401, "CREDENTIALS_INVALID");
    }
    upstream.expect_untouched();
    assert_eq!(gateway.request("GET", "/private", &[("Authorization", &good)], b"").status, 200);
}

#[test]
fn a_caller_who_may_not() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let reader = Token::alice().with("permissions", serde_json::json!(["PAYMENT_READ"])).bearer();
    let answer = gateway.request("GET", "/private", &[("Authorization", &reader)], b"");
    expect_problem(&answer, 403, "PERMISSION_DENIED");
    let nobody = Token::new("u-2").bearer();
    for target in ["/private", "/clerks"] {
        expect_problem(&gateway.request("GET", target, &[("Authorization", &nobody)], b""), 403, "PERMISSION_DENIED");
    }
    upstream.expect_untouched();
    // All permissions, but any one of the roles.
    let clerk = Token::new("u-3").with("roles", serde_json::json!(["clerk"])).bearer();
    assert_eq!(gateway.request("GET", "/clerks", &[("Authorization", &clerk)], b"").status, 200);
}

#[test]
fn a_limit_that_is_reached() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let first = gateway.get("/limited");
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"tight\";q=1;w=3600"));
    assert!(first.header("ratelimit").is_some_and(|state| state.starts_with("\"tight\";r=0;t=")), "{first:?}");
    for _ in 0..2 {
        let answer = gateway.get("/limited");
        let problem = expect_problem(&answer, 429, "RATE_LIMITED");
        let retry: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
        // A window is counted in slices: up to one slice longer.
        assert!((1..=2 * 3600).contains(&retry), "{retry}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"tight\";q=1;w=3600"));
        assert_eq!(answer.header("ratelimit"), Some(format!("\"tight\";r=0;t={retry}").as_str()), "{problem}");
    }
    assert_eq!(upstream.requests().len(), 1, "a refused request reached the upstream");
    assert!(gateway.metric("gapura_rate_limit_decisions_total", &["rule=\"tight\""]) >= 3.0);
}

#[test]
fn each_user_has_a_limit_of_their_own() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for user in ["a", "b"] {
        let bearer = Token::new(user).bearer();
        let headers = [("Authorization", bearer.as_str())];
        for _ in 0..2 {
            assert_eq!(gateway.request("GET", "/each", &headers, b"").status, 200);
        }
        expect_problem(&gateway.request("GET", "/each", &headers, b""), 429, "RATE_LIMITED");
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn a_body_that_says_it_is_too_large() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    expect_problem(&gateway.request("POST", "/open/x", &[], vec![b'x'; 1025]), 413, "BODY_TOO_LARGE");
    // Refused by its head: the body need not come.
    let mut wire = gateway.connect();
    wire.send(wire::request_bytes("POST", "/open/x", &[("Content-Length", "1000000")], b""));
    expect_problem(&wire.answer("POST"), 413, "BODY_TOO_LARGE");
    let over_h2 = nghttp::post(gateway.https(), "/open/x", &[], &[b'x'; 1025]);
    expect_problem(&over_h2, 413, "BODY_TOO_LARGE");
    upstream.expect_untouched();
    assert_eq!(gateway.request("POST", "/open/x", &[], vec![b'x'; 1024]).status, 200);
}

#[test]
fn an_upstream_that_is_down() {
    let closed = Closed::port();
    let gateway = Setup::plain(TABLES).put("BACKEND", closed.address()).start();
    let problem = expect_problem(&gateway.get("/open/x"), 502, "UPSTREAM_UNAVAILABLE");
    let port = closed.address().port().to_string();
    assert!(!problem.to_string().contains(&port), "upstream internals: {problem}");
}

#[test]
fn an_upstream_that_hangs_up() {
    let upstream = Upstream::start(|call| {
        call.body();
        Flow::Close
    });
    let gateway = start(&upstream);
    expect_problem(&gateway.request("POST", "/open/x", &[], b"{}"), 502, "UPSTREAM_UNAVAILABLE");
}

#[test]
fn problems_are_the_same_over_http_2() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let https = gateway.https();
    expect_problem(&Curl::h2(https, "/nowhere").answer(), 404, "ROUTE_NOT_FOUND");
    expect_problem(&Curl::h2(https, "/get-only").method("DELETE").answer(), 405, "METHOD_NOT_ALLOWED");
    let missing = Curl::h2(https, "/private").answer();
    expect_problem(&missing, 401, "CREDENTIALS_MISSING");
    assert!(!missing.all("www-authenticate").is_empty());
    let bad = Curl::h2(https, "/private").header("Authorization", "Bearer x").answer();
    expect_problem(&bad, 401, "CREDENTIALS_INVALID");
    expect_problem(&Curl::h2(https, "/open/a%2fb").answer(), 400, "REQUEST_MALFORMED");
    upstream.expect_untouched();
}

#[test]
fn problems_carry_the_routes_security_headers() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let answer = gateway.get("/private");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn the_answer_to_head_has_no_body() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    // The second answer would not be found behind a body that does not belong there.
    wire.send(wire::request_bytes("HEAD", "/nowhere", &[], b""));
    let answer = wire.answer("HEAD");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    wire.send(wire::request_bytes("GET", "/open/x", &[], b""));
    assert_eq!(wire.answer("GET").status, 200);
}
