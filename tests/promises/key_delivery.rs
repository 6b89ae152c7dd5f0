//! No client needs the master key: the gateway tells everyone its public keys, and callers their own session key, under the
//! very conditions of the request that the key is for.

use serde_json::Value;

use crate::support::{
    Answer, Curl, Gateway, Setup, Token, Upstream, credential::key_hash, expect_problem, token, wire,
};

pub const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
keys = [{ id = "p", hash = "@PARTNER@", user_id = "partner", email = "p@example.com" }]

[keyrings.bodies]
kind = "x25519"
versions = [
  { id = "2026-11", key = "file:@DIR@/x25519.pem", state = "active" },
  { id = "2026-12", key = "file:@DIR@/next.pem", state = "pending" },
]

[keyrings.points]
kind = "p256"
versions = [{ id = "a", key = "file:@DIR@/p256.pem", state = "active" }]

[keyrings.sessions]
kind = "secret"
versions = [{ id = "2026-11", key = "file:@DIR@/secret", state = "active" }]

[encryption.payments]
profile = ["hpke", "aes128gcm"]
keyrings = ["bodies", "points", "sessions"]

[encryption.tokens]
profile = "jwe"
keyrings = ["points"]

[encryption.founding]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[rate_limits.few]
limit = 3
window = "1h"
by = "user"

[[routes]]
name = "payments"
path = "/payments/**"
methods = ["POST", "GET"]
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]
encryption = "payments"

[[routes]]
name = "clerks"
path = "/clerks"
upstream = "backend"
auth = ["jwt.users"]
roles = ["clerk"]
encryption = "payments"

[[routes]]
name = "few"
path = "/few"
upstream = "backend"
auth = ["jwt.users"]
encryption = "payments"
rate_limits = ["few"]

[[routes]]
name = "tokens"
path = "/tokens"
upstream = "backend"
auth = ["jwt.users"]
encryption = "tokens"

[[routes]]
name = "founding"
path = "/founding"
upstream = "backend"
auth = ["jwt.users"]
encryption = "founding"

[[routes]]
name = "plain"
path = "/plain"
upstream = "backend"
auth = ["jwt.users"]

[[routes]]
name = "wide"
path = "/**"
upstream = "backend"
"#;

const X25519: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
const NEXT: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI\n-----END PRIVATE KEY-----\n";

/// With TLS, the keys, and `key_delivery` as told.
pub fn setup(upstream: &Upstream, delivery: bool) -> Setup {
    let server = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
         key_delivery = {delivery}\n\n[tls]\nself_signed = true\n\n[lockout]\nfailures = 3\nexempt = []\n\n"
    );
    let p256 = crate::support::tool::output(
        {
            let mut command = std::process::Command::new("openssl");
            command.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
            command
        },
        b"",
    );
    assert!(p256.status.success(), "openssl makes a key");
    Setup::new(&(server + TABLES))
        .put("BACKEND", upstream.address())
        .put("PARTNER", key_hash("the-partners-key"))
        .file("x25519.pem", X25519)
        .file("next.pem", NEXT)
        .file("p256.pem", p256.stdout)
        .file("secret", [b's'; 32])
}

const KEYS: &str = "/.well-known/gapura/keys";

/// Asks for the session key of a request, over TLS.
#[track_caller]
pub fn ask(gateway: &Gateway, of: &str, authorization: &str, body: &[u8]) -> Answer {
    let target = format!("/.well-known/gapura/session-key?{of}");
    let call = Curl::h1(gateway.https(), &target).method("POST").body(body);
    let call = if authorization.is_empty() { call } else { call.header("Authorization", authorization) };
    call.answer()
}

#[test]
fn public_keys_are_told_to_everyone() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    let answer = gateway.get(KEYS);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let set = answer.json();
    let keys = set["keys"].as_array().expect("a list");
    let kids: Vec<&str> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    // Neither the pending version nor any secret.
    assert_eq!(kids, ["bodies.2026-11", "points.a"]);
    assert_eq!(keys[0]["kty"], "OKP");
    assert_eq!(keys[0]["crv"], "X25519");
    assert_eq!(keys[0]["use"], "enc");
    // Of each entry what it takes the key for: one that lists `jwe` says nothing of another.
    assert_eq!(keys[0]["encryption"], serde_json::json!({"payments": ["hpke"]}));
    assert_eq!(keys[1]["encryption"], serde_json::json!({"payments": ["hpke"], "tokens": ["jwe"]}));
    assert_eq!(keys[1]["crv"], "P-256");
    assert!(keys.iter().all(|key| key.get("d").is_none()));
    let etag = answer.header("etag").expect("a tag").to_owned();
    for given in [etag.as_str(), "*"] {
        let again = gateway.request("GET", KEYS, &[("If-None-Match", given)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    for answer in [Curl::h2(gateway.https(), KEYS).answer(), gateway.get("/.well-known/./gapura/keys")] {
        assert_eq!(answer.json(), set);
    }
    assert_eq!(gateway.request("HEAD", KEYS, &[], b"").status, 200);
    expect_problem(&gateway.request("POST", KEYS, &[], b""), 405, "METHOD_NOT_ALLOWED");
    expect_problem(&gateway.get("/.well-known/gapura/other"), 404, "ROUTE_NOT_FOUND");
    expect_problem(&gateway.get("/.well-known/gapura/session-key"), 405, "METHOD_NOT_ALLOWED");
    upstream.expect_untouched();
}

#[test]
fn without_the_switch_the_paths_are_as_any() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, false).start();
    assert_eq!(gateway.get(KEYS).status, 200);
    assert_eq!(upstream.only().target, KEYS);
}

#[test]
fn a_caller_gets_a_session_key_for_the_request_it_names() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    for curl in [Curl::h1, Curl::h2] {
        let target = "/.well-known/gapura/session-key?path=/payments/1&method=GET";
        let bearer = Token::alice().with("jti", "t-1").bearer();
        let answer = curl(gateway.https(), target).method("POST").header("Authorization", &bearer).answer();
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let given = answer.json();
        assert_eq!(given["subject"], "u-1001");
        assert_eq!(given["token_id"], "t-1");
        assert_eq!(given["encryption"], "payments");
        assert_eq!(given["profiles"], serde_json::json!(["hpke", "aes128gcm"]));
        assert!(given["kid"].as_str().unwrap().starts_with("sessions.2026-11."));
        assert_eq!(given["session_key"].as_str().map(str::len), Some(43));
        // The tests' tokens live for 300 s and `leeway`, less than `session_key_lifetime`.
        let expires = given["expires"].as_u64().unwrap();
        let now = crate::support::credential::now_ms() / 1000;
        assert!((now + 200..=now + 330).contains(&expires), "{expires} at {now}");
    }
    upstream.expect_untouched();
}

#[test]
fn the_route_of_the_request_decides_who_gets_one() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    let bearer = token();
    let bare = Curl::h1(gateway.https(), "/.well-known/gapura/session-key?path=/payments/1").method("POST").answer();
    expect_problem(&bare, 401, "CREDENTIALS_MISSING");
    expect_problem(&ask(&gateway, "path=/payments/1", "Bearer x.y.z", b""), 401, "CREDENTIALS_INVALID");
    expect_problem(&ask(&gateway, "path=/payments/1&method=DELETE", &bearer, b""), 405, "METHOD_NOT_ALLOWED");
    expect_problem(&ask(&gateway, "path=/plain", &bearer, b""), 404, "ROUTE_NOT_FOUND");
    let nobody = Token::new("u-2").bearer();
    expect_problem(&ask(&gateway, "path=/clerks", &nobody, b""), 403, "PERMISSION_DENIED");
    assert_eq!(ask(&gateway, "path=/clerks", &bearer, b"").status, 200);
    for bad in ["", "path=payments", "path=/payments/1&path=/plain", "path=/a%2Fb%5C", "path=/payments&x=1"] {
        expect_problem(&ask(&gateway, bad, &bearer, b""), 400, "REQUEST_MALFORMED");
    }
    for bad in [&b"x"[..], b"[]", b"{\"a\":1}", b"{\"public_key\":{\"kty\":\"RSA\"}}", b"{\"public_key\":1}"] {
        expect_problem(&ask(&gateway, "path=/payments/1", &bearer, bad), 400, "REQUEST_MALFORMED");
    }
    expect_problem(&ask(&gateway, "path=/payments/1", &bearer, &[b' '; 4097]), 413, "BODY_TOO_LARGE");
    upstream.expect_untouched();
}

#[test]
fn limits_and_lock_outs_hold_here_too() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    let bearer = token();
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "path=/few", &bearer, b"").status, 200);
    }
    expect_problem(&ask(&gateway, "path=/few", &bearer, b""), 429, "RATE_LIMITED");
    for n in 0..3 {
        let guess = format!("guess-{n}");
        let target = "/.well-known/gapura/session-key?path=/payments/1";
        let answer = Curl::h1(gateway.https(), target).method("POST").header("X-Api-Key", &guess).answer();
        expect_problem(&answer, 401, "CREDENTIALS_INVALID");
    }
    // Who guessed here is locked out, here and on the route.
    expect_problem(&ask(&gateway, "path=/payments/1", &bearer, b""), 429, "RATE_LIMITED");
    expect_problem(&gateway.request("GET", "/payments/1", &[("Authorization", &bearer)], b""), 429, "RATE_LIMITED");
    upstream.expect_untouched();
}

#[test]
fn in_the_clear_keys_are_given_only_sealed() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    let headers = [("Authorization", &*token())];
    let target = "/.well-known/gapura/session-key?path=/payments/1";
    expect_problem(&wire::request(gateway.http(), "POST", target, &headers, b""), 403, "PERMISSION_DENIED");
    let public = r#"{"public_key":{"kty":"OKP","crv":"X25519","x":"hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"}}"#;
    let answer = wire::request(gateway.http(), "POST", target, &headers, public.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let given = answer.json();
    assert_eq!(given.get("session_key"), None);
    assert_eq!(given["sealed"].as_str().map(|sealed| sealed.split('.').count()), Some(5));
    upstream.expect_untouched();
}

#[test]
fn of_the_founding_format_a_caller_gets_its_own_passphrase() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream, true).start();
    let given: Value = ask(&gateway, "path=/founding", &token(), b"").json();
    let alice = crate::support::node::Sealer::alice();
    assert_eq!(given["passphrase"], alice.passphrase(0));
    assert_eq!(given.get("session_key"), None);
    assert_eq!(given["key_hash"].as_str().map(str::len), Some(64));
    assert!(!gateway.log().contains(given["passphrase"].as_str().unwrap()));
}
