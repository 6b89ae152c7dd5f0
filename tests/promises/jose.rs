//! Envelopes and tokens of the npm package `jose`, both ways: what any JOSE library makes the gateway opens, and what the gateway
//! seals any JOSE library opens.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Curl, Gateway, Setup, Token, Upstream, credential::now_ms, expect_problem, gateway::command, node,
    problem::comparable,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[jwt.sealed]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
decryption = { keyring = "tokens", algorithms = ["RSA-OAEP-256"], encryption = ["A256GCM", "A256CBC-HS512"] }

[keyrings.points]
kind = "p256"
versions = [
    { id = "2026-11", key = "file:@DIR@/p256.pem", state = "active" },
    { id = "2026-05", key = "file:@DIR@/x25519.pem", state = "revoked" },
]

[keyrings.curves]
kind = "x25519"
versions = [{ id = "1", key = "file:@DIR@/x25519.pem", state = "active" }]

[keyrings.sessions]
kind = "secret"
versions = [{ id = "1", key = "env:SESSION_SECRET", state = "active" }]

[keyrings.partners]
kind = "rsa"
versions = [{ id = "1", key = "file:@DIR@/rsa.pem", state = "active", kid = "gateway-key" }]

[keyrings.tokens]
kind = "rsa"
versions = [{ id = "1", key = "file:@DIR@/rsa.pem", state = "active" }]

[encryption.points]
profile = ["jwe", "cryptojs"]
master_key = "env:MASTER_KEY"
keyrings = ["points", "sessions"]

[encryption.curves]
profile = "jwe"
keyrings = ["curves"]

[encryption.visa]
profile = "jwe-rsa"
preset = "visa-mle"
keyrings = ["partners"]
response_key = "file:@DIR@/partner.pem"
response_kid = "partner-key"

[[routes]]
name = "points"
path = "/debug/request/points/**"
upstream = "backend"
auth = ["jwt.users"]
encryption = "points"

[[routes]]
name = "curves"
path = "/debug/request/curves"
upstream = "backend"
auth = ["jwt.users"]
encryption = "curves"

[[routes]]
name = "visa"
path = "/debug/request/visa"
upstream = "backend"
auth = ["jwt.users"]
encryption = "visa"

[[routes]]
name = "sealed"
path = "/debug/request/sealed"
upstream = "backend"
auth = ["jwt.sealed"]
"#;

const SESSION_SECRET: &str = "session-secret-8c1f2a7e5b904d63-not-for-any-log";
const JOSE: &str = "application/jose";

fn object(operation: &str, given: Value) -> Value {
    serde_json::from_str(&node::call(operation, given)).unwrap()
}

/// A gateway, and the keys that its clients know.
struct Fixture {
    gateway: Gateway,
    p256: Value,
    x25519: Value,
    rsa: Value,
    partner: Value,
}

impl Fixture {
    fn start(backend: impl ToString) -> Self {
        let [p256, x25519, rsa, partner] =
            ["p256", "x25519", "rsa", "rsa"].map(|kind| object("keyPair", json!({"kind": kind})));
        let pem = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        let gateway = Setup::tls(TABLES)
            .put("BACKEND", backend)
            .env("SESSION_SECRET", SESSION_SECRET)
            .file("p256.pem", pem(&p256, "pem"))
            .file("x25519.pem", pem(&x25519, "pem"))
            .file("rsa.pem", pem(&rsa, "pem"))
            .file("partner.pem", pem(&partner, "publicPem"))
            .start();
        Self { gateway, p256, x25519, rsa, partner }
    }

    fn post(&self, target: &str, content_type: &str, body: &str) -> Answer {
        let bearer = alice().bearer();
        let headers = [("Authorization", &*bearer), ("Content-Type", content_type)];
        self.gateway.request("POST", target, &headers, body)
    }

    fn ctx(method: &str, target: &str) -> Value {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        json!({
            "v": 1, "dir": "request", "method": method, "authority": "gateway.test", "path": path,
            "query": query, "sub": "u-1001", "tid": "t-7", "iat": now_ms(),
            "id": message_id(), "part": "",
        })
    }
}

/// 16 bytes that no other message of this run has.
fn message_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let bytes = [now_ms().to_be_bytes(), NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn alice() -> Token {
    Token::alice().with("jti", "t-7")
}

fn encrypt(text: &str, header: &Value, key: &Value) -> String {
    node::call("jweEncrypt", json!({"text": text, "header": header, "key": key}))
}

fn decrypt(message: &str, key: &Value, alg: &str) -> (Value, Value) {
    let opened = object("jweDecrypt", json!({"message": message, "key": key, "alg": alg}));
    (opened["header"].clone(), serde_json::from_str(opened["text"].as_str().unwrap()).unwrap())
}

/// What the application saw.
fn body_of(seen: &Value) -> String {
    String::from_utf8(STANDARD.decode(seen["body_base64"].as_str().unwrap()).unwrap()).unwrap()
}

const PAYLOAD: &str = r#"{ "amount": 1999.00, "to":"Zoë 😀" }"#;

#[test]
fn a_message_of_jose_reaches_the_application_and_jose_opens_the_answer() {
    let backend = Backend::fastapi();
    let fixture = Fixture::start(backend.address());
    for (target, key, kid) in [
        ("/debug/request/points/1?a=b&c", &fixture.p256, "points.2026-11"),
        ("/debug/request/curves", &fixture.x25519, "curves.1"),
    ] {
        let reply = object("keyPair", json!({"kind": "x25519"}));
        let mut ctx = Fixture::ctx("POST", target);
        ctx["rpk"] = reply["public"].clone();
        let header = json!({"alg": "ECDH-ES", "enc": "A256GCM", "kid": kid, "cty": "application/json", "ctx": ctx});
        let answer = fixture.post(target, JOSE, &encrypt(PAYLOAD, &header, &key["public"]));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(JOSE)), "{}", answer.lossy());
        let (answered, seen) = decrypt(answer.text(), &reply["private"], "ECDH-ES");
        assert_eq!(body_of(&seen), PAYLOAD);
        assert_eq!(answered["ctx"]["irt"], ctx["id"]);
        assert_eq!((&answered["ctx"]["status"], &answered["kid"]), (&json!(200), &json!(kid)));
        assert_eq!(answer.text().split('.').nth(1), Some(""), "direct agreement has no encrypted key");
    }
    assert_eq!(fixture.gateway.metric("gapura_envelopes_total", &["encryption=\"points\"", "profile=\"jwe\""]), 1.0);
}

#[test]
fn a_session_key_of_node_is_the_gateways() {
    let backend = Backend::fastapi();
    let fixture = Fixture::start(backend.address());
    let kid = format!("sessions.1.{}", now_ms() / 1000 + 600);
    let key = object(
        "sessionKey",
        json!({"secret": SESSION_SECRET, "kid": kid, "method": "jwt.users", "subject": "u-1001", "tokenId": "t-7"}),
    );
    let target = "/debug/request/points/2";
    // Over HTTP/2 and TLS, where the authority is that of the other listener.
    let mut ctx = Fixture::ctx("POST", target);
    ctx["authority"] = fixture.gateway.https().to_string().into();
    let header = json!({"alg": "A256KW", "enc": "A256GCM", "kid": kid, "cty": "application/json", "ctx": ctx});
    let fetched = Curl::h2(fixture.gateway.https(), target)
        .method("POST")
        .header("Authorization", &alice().bearer())
        .header("Content-Type", JOSE)
        .body(encrypt(PAYLOAD, &header, &key))
        .answer();
    assert_eq!(fetched.status, 200, "{}", fetched.lossy());
    let (answered, seen) = decrypt(fetched.text(), &key, "A256KW");
    assert_eq!((body_of(&seen), &answered["kid"]), (PAYLOAD.to_owned(), &json!(kid)));

    // Without a body: the message is in the header, and never reaches the application.
    let header = json!({"alg": "A256KW", "enc": "A256GCM", "kid": kid, "ctx": Fixture::ctx("GET", target)});
    let field = format!("jwe={}", encrypt("", &header, &key));
    let (bearer, gateway) = (alice().bearer(), &fixture.gateway);
    let answer = gateway.request("GET", target, &[("Authorization", &bearer), ("X-Gapura-Envelope", &field)], "");
    let (_, seen) = decrypt(answer.text(), &key, "A256KW");
    let names: Vec<&str> = seen["headers"].as_array().unwrap().iter().filter_map(|pair| pair[0].as_str()).collect();
    assert!(names.contains(&"x-user-id") && !names.contains(&"x-gapura-envelope"), "{names:?}");
    let again = gateway.request("GET", target, &[("Authorization", &bearer), ("X-Gapura-Envelope", &field)], "");
    expect_problem(&again, 409, "ENVELOPE_REPLAYED");
}

#[test]
fn whatever_is_wrong_is_answered_with_the_same_bytes_and_reaches_nobody() {
    let upstream = Upstream::ok();
    let fixture = Fixture::start(upstream.address());
    let target = "/debug/request/points/3";
    let reply = object("keyPair", json!({"kind": "p256"}));
    let header = || {
        let mut ctx = Fixture::ctx("POST", target);
        ctx["rpk"] = reply["public"].clone();
        json!({"alg": "ECDH-ES", "enc": "A256GCM", "kid": "points.2026-11", "cty": "application/json", "ctx": ctx})
    };
    let key = &fixture.p256["public"];
    let mut bad = Vec::new();
    for (name, other) in [
        ("method", json!("PUT")),
        ("authority", json!("evil.example")),
        ("path", json!("/debug/request/points/4")),
        ("query", json!("a=b")),
        ("sub", json!("u-1002")),
        ("tid", json!("t-8")),
        ("part", json!("/amount")),
        ("v", json!(2)),
        ("dir", json!("response")),
    ] {
        let mut header = header();
        header["ctx"][name] = other;
        bad.push(encrypt(PAYLOAD, &header, key));
    }
    for (name, other) in
        [("kid", json!("points.2026-05")), ("kid", json!("nobody")), ("enc", json!("A128GCM")), ("cty", json!(7))]
    {
        let mut header = header();
        header[name] = other;
        bad.push(encrypt(PAYLOAD, &header, key));
    }
    let other = object("keyPair", json!({"kind": "p256"}));
    bad.push(encrypt(PAYLOAD, &header(), &other["public"]));
    bad.push(encrypt("{\"amount\":", &header(), key));
    let good = encrypt(PAYLOAD, &header(), key);
    let parts: Vec<&str> = good.split('.').collect();
    for at in [0, 2, 3, 4] {
        let mut changed = parts.clone();
        let flipped = format!("{}{}", if parts[at].starts_with('A') { "B" } else { "A" }, &parts[at][1..]);
        changed[at] = &flipped;
        bad.push(changed.join("."));
    }
    bad.push(good[..good.len() - 1].to_owned());
    bad.push(format!("{good}="));
    bad.push("garbage".into());
    let told = bad.iter().map(|message| {
        let answer = fixture.post(target, JOSE, message);
        expect_problem(&answer, 400, "DECRYPTION_FAILED");
        comparable(&answer)
    });
    let told: std::collections::BTreeSet<String> = told.collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    let mut old = header();
    old["ctx"]["iat"] = json!(now_ms() - 301_000);
    expect_problem(&fixture.post(target, JOSE, &encrypt(PAYLOAD, &old, key)), 400, "ENVELOPE_EXPIRED");
    expect_problem(&fixture.post(target, "text/plain", &good), 415, "CONTENT_TYPE_UNSUPPORTED");
    expect_problem(&fixture.post(target, "application/json", PAYLOAD), 400, "ENVELOPE_REQUIRED");
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(fixture.post(target, JOSE, &good).status, 200);
    expect_problem(&fixture.post(target, JOSE, &good), 409, "ENVELOPE_REPLAYED");
    assert_eq!(upstream.requests().len(), 1);
    let log = fixture.gateway.log();
    assert!(!log.contains("1999.00") && !log.contains(parts[3]), "{log}");
}

#[test]
fn a_partner_of_visa_is_understood_and_answered() {
    let backend = Backend::fastapi();
    let fixture = Fixture::start(backend.address());
    let header = json!({
        "alg": "RSA-OAEP-256", "enc": "A128GCM", "kid": "gateway-key", "typ": "JOSE", "iat": now_ms().to_string(),
    });
    let message = encrypt(PAYLOAD, &header, &fixture.rsa["public"]);
    let body = json!({"encData": message}).to_string();
    let answer = fixture.post("/debug/request/visa", "application/json", &body);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{}", answer.lossy());
    let sealed = answer.json();
    let (answered, seen) = decrypt(sealed["encData"].as_str().unwrap(), &fixture.partner["private"], "RSA-OAEP-256");
    assert_eq!(body_of(&seen), PAYLOAD);
    assert_eq!((&answered["kid"], &answered["enc"]), (&json!("partner-key"), &json!("A128GCM")));
    expect_problem(&fixture.post("/debug/request/visa", "application/json", &body), 409, "ENVELOPE_REPLAYED");
}

#[test]
fn a_nested_token_of_jose_lets_its_caller_in() {
    let backend = Backend::fastapi();
    let fixture = Fixture::start(backend.address());
    let target = "/debug/request/sealed";
    let ask =
        |token: &str| fixture.gateway.request("GET", target, &[("Authorization", &format!("Bearer {token}"))], "");
    let signed = alice().sign();
    for enc in ["A256GCM", "A256CBC-HS512"] {
        let header = json!({"alg": "RSA-OAEP-256", "enc": enc, "cty": "JWT", "kid": "tokens.1"});
        let answer = ask(&encrypt(&signed, &header, &fixture.rsa["public"]));
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let seen = answer.json();
        assert!(seen["headers"].as_array().unwrap().contains(&json!(["x-user-id", "u-1001"])), "{seen}");
    }
    let header = |cty: &str, enc: &str| json!({"alg": "RSA-OAEP-256", "enc": enc, "cty": cty});
    let expired = alice().with("exp", now_ms() / 1000 - 60).sign();
    let forged = alice().sign_with("another-secret-of-at-least-32-bytes");
    let claims = r#"{"sub":"u-1001","exp":99999999999}"#;
    for (text, cty, enc) in [
        (&*signed, "JWT", "A128GCM"),
        (&*signed, "json", "A256GCM"),
        (&*expired, "JWT", "A256GCM"),
        (&*forged, "JWT", "A256GCM"),
        (claims, "JWT", "A256GCM"),
    ] {
        let token = encrypt(text, &header(cty, enc), &fixture.rsa["public"]);
        expect_problem(&ask(&token), 401, "CREDENTIALS_INVALID");
    }
    expect_problem(
        &ask(&encrypt(&signed, &header("JWT", "A256GCM"), &fixture.partner["public"])),
        401,
        "CREDENTIALS_INVALID",
    );
    expect_problem(&ask(&signed), 401, "CREDENTIALS_INVALID");
    let log = fixture.gateway.log();
    assert!(!log.contains(&signed), "a token stands in the log");
}

/// One command of the gateway's own, which must succeed.
#[track_caller]
fn gapura(arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let output = command(arguments, &[("SESSION_KEY", &session_key())], input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn session_kid() -> &'static str {
    static KID: OnceLock<String> = OnceLock::new();
    KID.get_or_init(|| format!("sessions.1.{}", now_ms() / 1000 + 600))
}

fn session_key() -> String {
    let given = json!({"secret": SESSION_SECRET, "kid": session_kid(), "method": "jwt.users", "subject": "u-1001", "tokenId": "t-7"});
    object("sessionKey", given)["k"].as_str().unwrap().to_owned()
}

#[test]
fn the_command_line_seals_and_opens_what_the_gateway_does() {
    let backend = Backend::fastapi();
    let fixture = Fixture::start(backend.address());
    let target = "/debug/request/points/9";
    let context = json!({
        "method": "POST", "authority": "gateway.test", "path": target, "sub": "u-1001", "tid": "t-7",
    });
    let context = context.to_string();
    let reference = |name: &str, content: &Value| {
        let path = fixture.gateway.directory().join(name);
        std::fs::write(&path, content.as_str().map_or_else(|| content.to_string(), str::to_owned)).unwrap();
        format!("file:{}", path.display())
    };
    let reply = object("keyPair", json!({"kind": "x25519"}));
    let (public, private) = (reference("public.json", &fixture.p256["public"]), reference("reply.pem", &reply["pem"]));
    let common = ["--profile", "jwe", "--context", &context];
    let to_key = ["encrypt", "--key", &public, "--reply-key", &private, "--kid", "points.2026-11"];
    let under_session = ["encrypt", "--session-key", "env:SESSION_KEY", "--kid", session_kid()];
    let opens = [["decrypt", "--key", &private], ["decrypt", "--session-key", "env:SESSION_KEY"]];
    for (seals, opens) in [(&to_key[..], opens[0]), (&under_session[..], opens[1])] {
        let message = gapura(&[seals, &common].concat(), PAYLOAD);
        let answer = fixture.post(target, JOSE, message.trim_end());
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let context = r#"{"dir":"response","status":200,"sub":"u-1001"}"#;
        let options = ["--profile", "jwe", "--context", context];
        let opened = gapura(&[&opens[..], &options].concat(), answer.text());
        assert_eq!(body_of(&serde_json::from_str(&opened).unwrap()), PAYLOAD);
        let wrong = ["--profile", "jwe", "--context", r#"{"status":201}"#];
        let environment = [("SESSION_KEY", &*session_key())];
        let output = command(&[&opens[..], &wrong].concat(), &environment, answer.text());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("its `status` differs"), "{said}");
    }
    // A private key is nothing to seal to, and nothing of it is printed.
    let secret = reference("private.json", &fixture.p256["private"]);
    let arguments = ["encrypt", "--key", &secret, "--reply-key", &private, "--kid", "points.2026-11"];
    let output = command(&[&arguments[..], &common].concat(), &[], PAYLOAD);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("this is a private key") && !said.contains(fixture.p256["private"]["d"].as_str().unwrap()),
        "{said}"
    );
}
