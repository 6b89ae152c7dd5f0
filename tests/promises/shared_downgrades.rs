//! Who has sent a strong envelope to one gateway goes back to a weak one at none of those that share its Redis, nor after a restart.

use serde_json::Value;

use crate::support::{
    Answer, Gateway, Redis, Setup, Token, Upstream, expect_problem, gateway::command, node::Sealer, token,
    wait::until_true, wire,
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
key_delivery = true

[state]
store = "redis"
redis = { url = "env:REDIS_URL", on_outage = "local", timeout = "20s" }

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[keyrings.bodies]
kind = "x25519"
versions = [{ id = "1", key = "file:@DIR@/x25519.pem", state = "active" }]

[encryption.payments]
profile = ["hpke", "cryptojs"]
keyrings = ["bodies"]
master_key = "env:MASTER_KEY"

[[routes]]
name = "payments"
path = "/payments"
upstream = "backend"
auth = ["jwt.users"]
encryption = "payments"
"#;

const X25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";

fn start(redis: &Redis, upstream: &Upstream) -> Gateway {
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address());
    let gateway = setup.file("x25519.pem", X25519).env("REDIS_URL", &redis.url()).start();
    until_true("the gateway has reached Redis", || gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5);
    gateway
}

#[track_caller]
fn weak(gateway: &Gateway, authorization: &str, envelope: &Value) -> Answer {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
    gateway.request("POST", "/payments", &headers, envelope.to_string())
}

/// Alice's, sealed to the gateway's public key.
#[track_caller]
fn strong(gateway: &Gateway) -> Answer {
    let keys = gateway.directory().join("keys.json");
    std::fs::write(&keys, gateway.get("/.well-known/gapura/keys").body).unwrap();
    let keys = keys.display().to_string();
    let url = "http://gateway.test/payments";
    let arguments =
        ["encrypt", "--profile", "hpke", "--keys", &keys, "--kid", "bodies.1", "--url", url, "--subject", "u-1001"];
    let sealed = command(&arguments, &[], b"{}");
    assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
    let headers = [("Authorization", &*token()), ("Content-Type", "application/vnd.gapura.hpke")];
    wire::request(gateway.http(), "POST", "/payments", &headers, &sealed.stdout)
}

#[test]
fn a_downgrade_is_refused_by_all_instances() {
    let mut redis = Redis::start();
    let upstream = Upstream::ok();
    let [one, other] = [(); 2].map(|()| start(&redis, &upstream));
    let (alice, bob) = (Sealer::alice(), Sealer { user_id: "u-1002".into(), ..Sealer::alice() });
    let bobs = Token::alice().with("sub", "u-1002").bearer();
    assert_eq!(weak(&other, &token(), &alice.seal("{}")).status, 200);

    let answer = strong(&one);
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    for gateway in [&one, &other, &start(&redis, &upstream)] {
        let answer = weak(gateway, &token(), &alice.seal("{}"));
        expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
        assert!(answer.lossy().contains("weaker"), "{}", answer.lossy());
        assert_eq!(weak(gateway, &bobs, &bob.seal("{}")).status, 200);
        let answer = strong(gateway);
        assert_eq!(answer.status, 200, "{}", answer.lossy());
    }

    // What it was told it knows; of the others it decides by what it has seen. With `on_outage = "closed"`: tests/redis_store.
    redis.kill();
    expect_problem(&weak(&other, &token(), &alice.seal("{}")), 400, "ENVELOPE_REQUIRED");
    assert_eq!(weak(&other, &bobs, &bob.seal("{}")).status, 200);
}
