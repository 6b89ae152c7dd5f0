//! Guessing is slow: an address that presents credentials which nobody issued is locked out, and nobody else is.

use crate::support::{
    Gateway, Redis, Setup, Token, Upstream, credential::key_hash, expect_problem, token, wait::until_true,
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1/32"]
access_log = true

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
keys = [{ id = "p", hash = "@PARTNER@", user_id = "partner" }]

[rate_limits.wide]
limit = 1000
window = "1h"
by = "client_ip"

[[routes]]
name = "me"
path = "/me"
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]
rate_limits = ["wide"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::new(TABLES).put("BACKEND", upstream.address()).put("PARTNER", key_hash("the-partners-key")).start()
}

const MALLORY: (&str, &str) = ("X-Forwarded-For", "198.51.100.7");
const GUESS: &str = "guessed-key-that-must-not-be-logged";

#[test]
fn a_guesser_is_locked_out_whatever_it_presents_then() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for n in 0..10 {
        let answer = gateway.request("GET", "/me", &[MALLORY, ("X-Api-Key", &format!("{GUESS}-{n}"))], b"");
        expect_problem(&answer, 401, "CREDENTIALS_INVALID");
    }
    let bearer = token();
    let presented = [
        vec![MALLORY, ("X-Api-Key", "the-partners-key")],
        vec![MALLORY, ("Authorization", &bearer)],
        vec![MALLORY, ("X-Api-Key", GUESS)],
        vec![MALLORY],
    ];
    let mut details = Vec::new();
    for headers in &presented {
        gateway.every_way("/me", headers, |answer| {
            let problem = expect_problem(&answer, 429, "RATE_LIMITED");
            let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=30).contains(&seconds), "{seconds}");
            assert_eq!(answer.header("ratelimit"), Some(format!("\"lockout\";r=0;t={seconds}").as_str()));
            assert!(answer.all("www-authenticate").is_empty());
            details.push(problem["detail"].clone());
        });
    }
    assert!(details.iter().all(|detail| *detail == details[0]));
    upstream.expect_untouched();

    assert_eq!(gateway.request("GET", "/open", &[MALLORY], b"").status, 200, "public routes stay open");
    let elsewhere = ("X-Forwarded-For", "192.0.2.1");
    assert_eq!(gateway.request("GET", "/me", &[elsewhere, ("Authorization", &bearer)], b"").status, 200);
    assert_eq!(gateway.metric("gapura_lockouts_total", &["by=\"address\""]), 1.0);
    assert_eq!(gateway.metrics()["gapura_lockout_refusals_total"], 12.0);
    let log = gateway.log();
    assert!(log.contains("security: 198.51.100.7 is locked out for 30 s"), "{log}");
    assert!(!log.contains("guessed-key"), "{log}");
}

#[test]
fn a_guessed_user_is_never_locked_out() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let forged = format!("Bearer {}", Token::alice().sign_with("not the secret"));
    for n in 0..40 {
        let from = format!("203.0.113.{n}");
        let answer = gateway.request("GET", "/me", &[("X-Forwarded-For", &from), ("Authorization", &forged)], b"");
        expect_problem(&answer, 401, "CREDENTIALS_INVALID");
    }
    // A host that guesses once at a watched identity is out with that.
    let again = [("X-Forwarded-For", "203.0.113.39"), ("Authorization", forged.as_str())];
    expect_problem(&gateway.request("GET", "/me", &again, b""), 429, "RATE_LIMITED");
    let bearer = token();
    let home = [("X-Forwarded-For", "192.0.2.1"), ("Authorization", bearer.as_str())];
    assert_eq!(gateway.request("GET", "/me", &home, b"").status, 200);
    // It is watched longer after each ten.
    assert_eq!(gateway.metric("gapura_lockouts_total", &["by=\"identity\""]), 4.0);
    assert_eq!(gateway.metric("gapura_lockouts_total", &["by=\"address\""]), 31.0);
    let log = gateway.log();
    assert!(log.contains("security: jwt.users identity ") && !log.contains("u-1001 is"), "{log}");
}

#[test]
fn a_proxy_that_nobody_listed_is_not_locked_out_for_its_clients() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for _ in 0..30 {
        expect_problem(&gateway.request("GET", "/me", &[("X-Api-Key", GUESS)], b""), 401, "CREDENTIALS_INVALID");
    }
    assert_eq!(gateway.request("GET", "/me", &[("X-Api-Key", "the-partners-key")], b"").status, 200);
}

/// What Redis does is the subject, not how soon.
const SHARED: &str = r#"
[state]
store = "redis"

[state.redis]
url = "env:REDIS_URL"
timeout = "20s"
"#;

#[test]
fn instances_count_failures_together_and_each_holds_what_it_knows() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let start = || {
        let setup = Setup::new(&format!("{TABLES}{SHARED}")).env("REDIS_URL", &redis.url());
        setup.put("BACKEND", upstream.address()).put("PARTNER", key_hash("the-partners-key")).start()
    };
    let gateways = [start(), start()];
    for gateway in &gateways {
        until_true("it has found Redis", || gateway.metric("gapura_store_up", &[]) == 1.0);
    }
    let guess = |gateway: &Gateway| gateway.request("GET", "/me", &[MALLORY, ("X-Api-Key", GUESS)], b"").status;
    let locked = |gateway: &Gateway| {
        let presented = [MALLORY, ("X-Api-Key", "the-partners-key")];
        gateway.request("GET", "/me", &presented, b"").status == 429
    };
    // Ten of both together: the one that sees the last of them is told, the other one looks.
    (0..10).for_each(|turn| assert_eq!(guess(&gateways[turn % 2]), 401));
    assert!(locked(&gateways[1]));
    until_true("the other one knows", || locked(&gateways[0]));
    redis.kill();
    assert!(gateways.iter().all(locked));
    // Without Redis each counts for itself.
    let other = [("X-Forwarded-For", "198.51.100.8"), ("X-Api-Key", GUESS)];
    for _ in 0..10 {
        expect_problem(&gateways[0].request("GET", "/me", &other, b""), 401, "CREDENTIALS_INVALID");
    }
    expect_problem(&gateways[0].request("GET", "/me", &other, b""), 429, "RATE_LIMITED");
}
