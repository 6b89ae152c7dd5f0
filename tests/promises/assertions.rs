//! An upstream can prove who calls and for which request, with the libraries that it has, whoever can reach it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    Gateway, Setup, Upstream, expect_problem, node, token,
    tool::{self, installed},
    wire,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]
identity_assertion = true

[upstreams.legacy]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[identity_assertion]
keys = ["file:@DIR@/a.key", "file:@DIR@/b.key"]
issuer = "https://gateway.test"

[[routes]]
name = "me"
path = "/me/**"
upstream = "backend"
auth = ["jwt.users"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"

[[routes]]
name = "without"
path = "/without"
upstream = "backend"
identity_assertion = false

[[routes]]
name = "legacy"
path = "/legacy"
upstream = "legacy"
"#;

/// A private key as OpenSSL makes it.
fn key(arguments: &[&str]) -> String {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(arguments);
    String::from_utf8(tool::output(openssl, b"").stdout).unwrap()
}

const P256: &[&str] = &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const ED25519: &[&str] = &["genpkey", "-algorithm", "ED25519"];
const RSA: &[&str] = &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
/// The older form, with the parameters of the curve before it.
const SEC1: &[&str] = &["ecparam", "-name", "prime256v1", "-genkey"];

fn setup(keys: [&str; 2], upstream: &Upstream) -> Setup {
    let setup = Setup::plain(TABLES).put("BACKEND", upstream.address());
    setup.file("a.key", keys[0]).file("b.key", keys[1])
}

fn keys_address(gateway: &Gateway) -> String {
    format!("http://{}/.well-known/gapura/assertion-keys", gateway.http())
}

/// As a Node service verifies.
fn verified(gateway: &Gateway, assertion: &str, audience: &str) -> Value {
    let given = json!({
        "token": assertion,
        "keys": keys_address(gateway),
        "issuer": "https://gateway.test",
        "audience": audience,
        "typ": "gapura-assertion+jwt",
    });
    serde_json::from_str(&node::call("verifyAssertion", given)).unwrap()
}

/// As a FastAPI service verifies.
fn verified_by_python(gateway: &Gateway, assertion: &str, audience: &str) -> Result<Value, String> {
    const SCRIPT: &str = "import json, sys, jwt\n\
        token, keys, audience = sys.argv[1:]\n\
        key = jwt.PyJWKClient(keys).get_signing_key_from_jwt(token).key\n\
        claims = jwt.decode(token, key, algorithms=['ES256', 'EdDSA', 'RS256'], audience=audience, issuer='https://gateway.test',\n\
                            options={'require': ['exp', 'iat', 'jti']})\n\
        print(json.dumps(claims))";
    let mut python = std::process::Command::new(installed(".venv/bin/python"));
    python.args(["-c", SCRIPT, assertion, &keys_address(gateway), audience]).env("NO_PROXY", "*");
    let output = tool::output(python, b"");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(serde_json::from_slice(&output.stdout).unwrap()) } else { Err(error) }
}

#[test]
fn an_upstream_verifies_who_calls_and_what_for() {
    let upstream = Upstream::ok();
    for (own, algorithm) in [(P256, "ES256"), (ED25519, "EdDSA"), (RSA, "RS256"), (SEC1, "ES256")] {
        let gateway = setup([&key(own), &key(P256)], &upstream).start();
        let bearer = token();
        let mut seen = Vec::new();
        gateway.every_way("/me/a%2d1?b=c", &[("Authorization", &bearer)], |answer| {
            assert_eq!(answer.status, 200, "{}", gateway.log());
            let heard = upstream.last();
            let assertion = heard.header("x-gapura-assertion").expect("an assertion").to_owned();
            let verified = verified(&gateway, &assertion, "backend");
            assert_eq!(verified["header"]["alg"], algorithm);
            let claims = &verified["claims"];
            let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
            assert_eq!(lifetime, 60);
            for (claim, expected) in [
                ("sub", json!("u-1001")),
                ("email", json!("alice@example.com")),
                ("roles", json!(["admin", "clerk"])),
                ("permissions", json!(["PAYMENT_PROCESS", "PAYMENT_READ"])),
                ("auth_method", json!("jwt.users")),
                ("route", json!("me")),
                ("htm", json!(heard.method)),
                ("request_id", json!(heard.header("x-request-id"))),
                ("target_sha256", json!(URL_SAFE_NO_PAD.encode(Sha256::digest(&heard.target)))),
            ] {
                assert_eq!(claims[claim], expected, "{claim}");
            }
            assert_eq!(heard.target, "/me/a-1?b=c");
            seen.push(claims["jti"].clone());
            let by_python = verified_by_python(&gateway, &assertion, "backend").unwrap();
            assert_eq!(&by_python, claims);
            assert!(verified_by_python(&gateway, &assertion, "other").is_err(), "for another audience");
            let (signed, signature) = assertion.rsplit_once('.').unwrap();
            let flipped = if signature.starts_with('A') { "B" } else { "A" };
            let forged = format!("{signed}.{flipped}{}", &signature[1..]);
            assert!(verified_by_python(&gateway, &forged, "backend").is_err(), "forged");
        });
        seen.dedup();
        assert_eq!(seen.len(), 3, "each is for one request");
        upstream.forget();
    }
}

#[test]
fn a_client_writes_no_assertion() {
    let upstream = Upstream::ok();
    let gateway = setup([&key(P256), &key(ED25519)], &upstream).start();
    let forged = [
        ("X-Gapura-Assertion", "forged"),
        ("x_gapura_assertion", "forged"),
        ("X.Gapura.Assertion", "forged"),
        ("Connection", "close, x-gapura-assertion"),
    ];
    for target in ["/open", "/without", "/legacy"] {
        gateway.every_way(target, &forged, |answer| {
            assert_eq!(answer.status, 200);
            let heard = upstream.last();
            assert!(!heard.raw_headers.iter().any(|(_, value)| value == "forged"), "{target}: {:?}", heard.raw_headers);
            let assertion = heard.header("x-gapura-assertion");
            assert_eq!(assertion.is_some(), target == "/open", "{target}");
            if let Some(assertion) = assertion {
                let claims = &verified(&gateway, assertion, "backend")["claims"];
                assert_eq!((claims.get("sub"), &claims["route"]), (None, &json!("open")), "nobody's");
            }
        });
    }
    let streamed = gateway.metric("gapura_assertions_total", &["result=\"signed\""]);
    assert_eq!(streamed, 3.0);
}

#[test]
fn keys_are_published_and_rotate() {
    let upstream = Upstream::ok();
    let (first, next) = (key(P256), key(ED25519));
    let gateway = setup([&first, &next], &upstream).start();
    let path = "/.well-known/gapura/assertion-keys";
    let answer = gateway.get(path);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    let keys = answer.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.iter().map(|key| key["alg"].as_str().unwrap()).collect::<Vec<_>>(), ["ES256", "EdDSA"]);
    assert!(keys.iter().all(|key| key.get("d").is_none()));
    let admin = wire::request(gateway.admin(), "GET", path, &[], b"");
    assert_eq!((admin.status, &admin.body), (200, &answer.body));
    let head = gateway.request("HEAD", path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let post = gateway.request("POST", path, &[], b"x");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    expect_problem(&post, 405, "METHOD_NOT_ALLOWED");
    upstream.expect_untouched();

    let bearer = token();
    let ask = || {
        assert_eq!(gateway.request("GET", "/me", &[("Authorization", &bearer)], b"").status, 200);
        upstream.last().header("x-gapura-assertion").unwrap().to_owned()
    };
    let before = ask();
    gateway.rewrite(&gateway.text().replace("a.key\", \"file:@DIR@/b.key", "b.key\", \"file:@DIR@/a.key"));
    assert_eq!(gateway.reload().status, 200);
    let after = ask();
    let kid = |assertion: &str| verified(&gateway, assertion, "backend")["header"]["kid"].clone();
    assert_eq!((kid(&before), kid(&after)), (keys[0]["kid"].clone(), keys[1]["kid"].clone()), "both verify");
    for part in first.lines().chain(next.lines()).filter(|line| !line.starts_with('-') && line.len() > 20) {
        assert!(!gateway.log().contains(part), "a key in the log");
    }
}

#[test]
fn check_and_explain_say_what_is_signed() {
    let upstream = Upstream::ok();
    let good = setup([&key(P256), &key(ED25519)], &upstream).command(&["explain", "GET", "/me"]);
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    let line = "assertion        x-gapura-assertion: ES256, issuer https://gateway.test, audience backend, 60s, for this request alone";
    assert!(text.contains(line), "{text}");
    let published = setup([&key(P256), &key(ED25519)], &upstream);
    let published = published.command(&["explain", "GET", "/.well-known/gapura/assertion-keys"]);
    let text = String::from_utf8_lossy(&published.stdout).into_owned();
    assert!(text.contains("answered by the gateway: 200, the keys of `[identity_assertion]`"), "{text}");
    let p384 = key(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let one = key(P256);
    for (keys, part) in [
        ([one.as_str(), one.as_str()], "stands in the list already"),
        ([&one, &p384], "it is neither EC on P-256, nor Ed25519, nor RSA of 2048 to 8192 bits"),
        ([&one, "nothing"], "not exactly one key in PEM"),
    ] {
        let output = setup(keys, &upstream).command(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(part), "{part}: {text}");
    }
}
