//! With a shared store a token that one gateway was told to take back is bad at all of them, within a second.

use std::{
    fs,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use crate::support::{
    Gateway, Redis, Setup, Upstream, credential::now_ms, expect_problem, tool::repository, wait::until_true, wire,
};

/// Signed with a public key, so that every gateway remembers which tokens it has verified.
const TABLES: &str = r#"
[state]
store = "redis"
redis = { url = "env:REDIS_URL", on_outage = "@OUTAGE@", timeout = "20s" }

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["EdDSA"]
public_key = "file:@KEYS@/ed25519.pub.pem"

[[routes]]
name = "me"
path = "/me"
upstream = "backend"
auth = ["jwt.users"]
"#;

/// What the documentation promises.
const PROMISED: Duration = Duration::from_secs(1);

#[track_caller]
fn start(redis: &Redis, outage: &str, upstream: &Upstream) -> Gateway {
    let setup = Setup::plain(TABLES).put("BACKEND", upstream.address()).put("OUTAGE", outage);
    setup.put("KEYS", repository("filters/tests/keys").display()).env("REDIS_URL", &redis.url()).start()
}

/// Issued some seconds ago, so that a revocation of now is about it.
fn token(user: &str, jti: &str) -> String {
    let key = fs::read(repository("filters/tests/keys/ed25519.key")).unwrap();
    let now = now_ms() / 1000;
    let claims = json!({"sub": user, "jti": jti, "iat": now - 10, "exp": now + 600});
    let key = EncodingKey::from_ed_pem(&key).unwrap();
    format!("Bearer {}", jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap())
}

fn revoke(gateway: &Gateway, body: &str) -> wire::Answer {
    let length = body.len().to_string();
    wire::request(gateway.admin(), "POST", "/revocations", &[("Content-Length", length.as_str())], body.as_bytes())
}

fn status(gateway: &Gateway, bearer: &str) -> u16 {
    gateway.request("GET", "/me", &[("Authorization", bearer)], b"").status
}

fn is_up(gateway: &Gateway) -> bool {
    gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5
}

#[test]
fn a_token_taken_back_at_one_is_bad_at_all() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let (one, other) = (start(&redis, "local", &upstream), start(&redis, "local", &upstream));
    until_true("both have reached Redis", || is_up(&one) && is_up(&other));
    let (first, second, bob) = (token("alice", "jti-1"), token("alice", "jti-2"), token("bob", "jti-3"));
    for gateway in [&one, &other] {
        // Twice: the second one is remembered.
        for _ in 0..2 {
            assert_eq!([&first, &second, &bob].map(|bearer| status(gateway, bearer)), [200; 3]);
        }
    }
    let calls = [(r#"{"jwt":"users","jti":"jti-1"}"#, &first), (r#"{"jwt":"users","subject":"alice"}"#, &second)];
    for (call, bearer) in calls {
        let answer = revoke(&one, call);
        let told = Instant::now();
        assert_eq!((answer.status, answer.text()), (200, "revoked\n"));
        assert_eq!(status(&one, bearer), 401, "at once where it was said");
        until_true("the other one knows", || status(&other, bearer) == 401);
        println!("revoked at one gateway, refused by the other after {} ms", told.elapsed().as_millis());
    }
    // On a machine that has much else to do any single one may take longer.
    let soon = (0..20).any(|n| {
        let bearer = token("carol", &format!("soon-{n}"));
        assert_eq!([status(&one, &bearer), status(&other, &bearer)], [200; 2]);
        let told = Instant::now();
        assert_eq!(revoke(&one, &format!(r#"{{"jwt":"users","jti":"soon-{n}"}}"#)).status, 200);
        until_true("the other one knows", || status(&other, &bearer) == 401);
        told.elapsed() < PROMISED
    });
    assert!(soon, "never within {PROMISED:?}");
    assert_eq!([status(&one, &bob), status(&other, &bob)], [200; 2]);

    // From the first request on, without anybody telling it.
    let third = start(&redis, "local", &upstream);
    assert_eq!([&first, &second, &bob].map(|bearer| status(&third, bearer)), [401, 401, 200]);

    // In an outage each keeps what it holds, and what is revoked then holds where it was said.
    redis.kill();
    for gateway in [&one, &other, &third] {
        assert_eq!([&first, &bob].map(|bearer| status(gateway, bearer)), [401, 200]);
    }
    let answer = revoke(&one, r#"{"jwt":"users","jti":"jti-3"}"#);
    expect_problem(&answer, 503, "OVERLOADED");
    assert!(answer.lossy().contains("It holds on this instance from now on"), "{}", answer.lossy());
    assert_eq!([&one, &other, &third].map(|gateway| status(gateway, &bob)), [401, 200, 200]);

    // It came back empty, and is told what there was.
    redis.restart();
    until_true("all have learned of it", || [&other, &third].iter().all(|gateway| status(gateway, &bob) == 401));
    let fourth = start(&redis, "local", &upstream);
    until_true("a gateway that is new knows all", || {
        [&first, &second, &bob].map(|bearer| status(&fourth, bearer)) == [401; 3]
    });
    assert_eq!(revoke(&fourth, r#"{"jwt":"users","jti":"jti-4"}"#).text(), "revoked\n");
    for gateway in [&one, &other, &third, &fourth] {
        assert!(!["alice", "bob", "jti-1", "jti-3"].iter().any(|private| gateway.log().contains(private)));
    }
}

/// `closed`: who cannot know what is revoked takes no token.
#[test]
fn a_token_that_may_be_revoked_is_not_taken_where_an_outage_closes() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let gateway = start(&redis, "closed", &upstream);
    let bearer = token("alice", "jti-1");
    assert_eq!(status(&gateway, &bearer), 200);
    redis.kill();
    until_true("tokens are not taken", || status(&gateway, &bearer) == 503);
    let refused = gateway.request("GET", "/me", &[("Authorization", &bearer)], b"");
    expect_problem(&refused, 503, "OVERLOADED");
    assert_eq!(status(&gateway, "Bearer guess"), 401);
    redis.restart();
    until_true("tokens are taken again", || status(&gateway, &bearer) == 200);
}
