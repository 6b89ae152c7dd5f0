//! Key pairs that never leave AWS KMS: partners' messages open, upstreams verify signatures by the published keys, and nobody who
//! is not let in makes the gateway ask.

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Moto, Setup, Token, Upstream, credential::now_ms, expect_problem, gateway::JWT_SECRET, node,
    token, wait::until_true, wire,
};

const TABLES: &str = r#"
[kms]
region = "eu-west-1"
endpoint = "@KMS@"
timeout = "@TIMEOUT@"

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[keyrings.partners]
kind = "rsa"
versions = [{ id = "1", key = "kms:key:@RSA@", state = "active", kid = "gateway-key" }]

[encryption.visa]
profile = "jwe-rsa"
preset = "visa-mle"
keyrings = ["partners"]
response_key = "file:@DIR@/partner.pem"
response_kid = "partner-key"

[identity_assertion]
keys = ["kms:key:@EC@", "kms:key:@SIGNING@"]
issuer = "https://gateway.test"

[operation_tokens.payment]
key = "kms:key:@SIGNING@"

[[routes]]
name = "visa"
path = "/visa"
upstream = "backend"
auth = ["jwt.users"]
encryption = "visa"

[[routes]]
name = "asserted"
path = "/asserted"
upstream = "backend"
auth = ["jwt.users"]
identity_assertion = true

[[routes]]
name = "begin"
path = "/begin"
upstream = "backend"
auth = ["jwt.users"]
issues = "payment"

[[routes]]
name = "confirm"
path = "/confirm"
upstream = "backend"
auth = ["jwt.users"]
requires = "payment"
"#;

struct Fixture {
    moto: &'static Moto,
    upstream: Upstream,
    gateway: Gateway,
    rsa: String,
    ec: String,
    signing: String,
    partner: Value,
}

impl Fixture {
    fn start(timeout: &str, moto: &'static Moto) -> Self {
        let upstream = Upstream::ok();
        let rsa = moto.key("RSA_2048", "ENCRYPT_DECRYPT");
        let (ec, signing) = (moto.key("ECC_NIST_P256", "SIGN_VERIFY"), moto.key("RSA_2048", "SIGN_VERIFY"));
        let partner: Value = serde_json::from_str(&node::call("keyPair", json!({"kind": "rsa"}))).unwrap();
        let server =
            "[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\nkey_delivery = true\n";
        let setup = Setup::new(&format!("{server}{TABLES}"))
            .put("BACKEND", upstream.address())
            .put("TIMEOUT", timeout)
            .put("RSA", &rsa)
            .put("EC", &ec)
            .put("SIGNING", &signing)
            .file("partner.pem", partner["publicPem"].as_str().unwrap());
        let gateway = moto.serve(setup).start();
        Self { moto, upstream, gateway, rsa, ec, signing, partner }
    }

    /// What clients are told to seal to.
    fn public(&self) -> Value {
        let keys = self.gateway.get("/.well-known/gapura/keys").json();
        keys["keys"][0].clone()
    }

    fn message(&self, kid: &str, key: &Value) -> String {
        let header = json!({
            "alg": "RSA-OAEP-256", "enc": "A128GCM", "kid": kid, "typ": "JOSE", "iat": now_ms().to_string(),
        });
        node::call("jweEncrypt", json!({"text": r#"{"pan":"4111"}"#, "header": header, "key": key}))
    }

    fn send(&self, message: &str, bearer: &str) -> Answer {
        let headers = [("Authorization", bearer), ("Content-Type", "application/json")];
        self.gateway.request("POST", "/visa", &headers, json!({"encData": message}).to_string())
    }

    fn verified(&self) -> Value {
        let given = json!({
            "token": self.upstream.last().header("x-gapura-assertion"),
            "keys": format!("http://{}/.well-known/gapura/assertion-keys", self.gateway.http()),
            "issuer": "https://gateway.test", "audience": "backend", "typ": "gapura-assertion+jwt",
        });
        serde_json::from_str(&node::call("verifyAssertion", given)).unwrap()
    }
}

#[test]
fn messages_to_a_key_in_kms_open_and_no_others_are_asked_about() {
    let fixture = Fixture::start("30s", Moto::shared());
    let public = fixture.public();
    assert_eq!((&public["kid"], &public["alg"]), (&json!("gateway-key"), &json!("RSA-OAEP-256")));
    let answer = fixture.send(&fixture.message("gateway-key", &public), &token());
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    assert_eq!(fixture.upstream.last().text(), r#"{"pan":"4111"}"#);
    let sealed = answer.json();
    let given = json!({"message": sealed["encData"], "key": fixture.partner["private"], "alg": "RSA-OAEP-256"});
    let opened: Value = serde_json::from_str(&node::call("jweDecrypt", given)).unwrap();
    assert_eq!(opened["text"], "ok");
    assert_eq!(fixture.moto.calls("Decrypt"), 1);

    // Not asked: whoever is not let in, and what cannot be a message to this key.
    let good = fixture.message("gateway-key", &public);
    let before = fixture.upstream.requests().len();
    assert_eq!(
        fixture
            .send(&good, &format!("Bearer {}", Token::alice().sign_with("another-secret-of-32-bytes-or-more")))
            .status,
        401
    );
    let parts: Vec<&str> = good.split('.').collect();
    let mut bad = vec![fixture.message("another", &public)];
    bad.push([parts[0], "AAAA", parts[2], parts[3], parts[4]].join("."));
    bad.push(good.replace('.', ""));
    let mut refusals = Vec::new();
    for message in &bad {
        refusals.push(fixture.send(message, &token()));
    }
    assert_eq!(fixture.moto.calls("Decrypt"), 1, "nobody was asked");
    // Asked, and told like all the others: to another key, changed on the way.
    refusals.push(fixture.send(&fixture.message("gateway-key", &fixture.partner["public"]), &token()));
    refusals
        .push(fixture.send(&[parts[0], parts[1], parts[2], parts[3], "AAAAAAAAAAAAAAAAAAAAAA"].join("."), &token()));
    assert_eq!(fixture.moto.calls("Decrypt"), 3);
    let details: Vec<Value> = refusals
        .iter()
        .map(|answer| {
            let mut problem = expect_problem(answer, 400, "DECRYPTION_FAILED");
            problem["request_id"] = Value::Null;
            problem
        })
        .collect();
    assert!(details.windows(2).all(|pair| pair[0] == pair[1]), "{details:?}");
    assert_eq!(fixture.upstream.requests().len(), before);
    // And the message that was left alone is still good, once.
    assert_eq!(fixture.send(&good, &token()).status, 200);
    expect_problem(&fixture.send(&good, &token()), 409, "ENVELOPE_REPLAYED");

    // An alias that is no key, keys for something else.
    for (name, other, said) in [
        ("RSA", "alias/nothing", "AWS KMS says no: NotFoundException"),
        ("RSA", &*fixture.signing, "for ENCRYPT_DECRYPT"),
        ("RSA", &*fixture.ec, "for ENCRYPT_DECRYPT"),
        ("EC", &*fixture.rsa, "for SIGN_VERIFY"),
    ] {
        let text = fixture.gateway.text().replacen(&format!("kms:key:@{name}@"), &format!("kms:key:{other}"), 1);
        fixture.gateway.rewrite(&text);
        let refused = fixture.gateway.reload();
        assert_eq!(refused.status, 422, "{}", refused.lossy());
        assert!(refused.lossy().contains(said), "{said}: {}", refused.lossy());
    }
    assert_eq!(fixture.send(&fixture.message("gateway-key", &public), &token()).status, 200);
}

#[test]
fn an_outage_is_no_fault_of_the_message() {
    let fixture = Fixture::start("30s", Box::leak(Box::new(Moto::start())));
    let public = fixture.public();
    until_true("messages open", || fixture.send(&fixture.message("gateway-key", &public), &token()).status == 200);
    for mode in ["error", "deny", "hang"] {
        if mode == "hang" {
            fixture.moto.mode("");
            fixture.gateway.rewrite(&fixture.gateway.text().replace("@TIMEOUT@", "1s"));
            until_true("a reload with less patience", || fixture.gateway.reload().status == 200);
        }
        fixture.moto.mode(mode);
        let before = fixture.upstream.requests().len();
        expect_problem(&fixture.send(&fixture.message("gateway-key", &public), &token()), 503, "OVERLOADED");
        if mode == "error" {
            let asserted = fixture.gateway.request("GET", "/asserted", &[("Authorization", &token())], b"");
            expect_problem(&asserted, 503, "OVERLOADED");
        }
        assert_eq!(fixture.upstream.requests().len(), before, "{mode}");
    }
    fixture.moto.mode("");
    until_true("KMS is back", || fixture.send(&fixture.message("gateway-key", &public), &token()).status == 200);
    // Nothing is on loan: there is nothing to end.
    assert_eq!(wire::request(fixture.gateway.admin(), "GET", "/readyz", &[], b"").status, 200);
    assert!(
        fixture.gateway.metric("gapura_kms_calls_total", &["operation=\"unwrap\"", "result=\"unavailable\""]) >= 2.0
    );
    assert!(fixture.gateway.metric("gapura_kms_calls_total", &["operation=\"unwrap\"", "result=\"refused\""]) >= 1.0);
    let log = fixture.gateway.log();
    assert!(log.contains("KMSInternalException") && !log.contains("4111") && !log.contains(JWT_SECRET), "{log}");
}

#[test]
fn what_kms_signs_is_verified_by_the_published_keys() {
    let fixture = Fixture::start("30s", Moto::shared());
    let ask = |bearer: &str| fixture.gateway.request("GET", "/asserted", &[("Authorization", bearer)], b"");
    assert_eq!(ask(&token()).status, 200);
    let verified = fixture.verified();
    assert_eq!((&verified["header"]["alg"], &verified["claims"]["sub"]), (&json!("ES256"), &json!("u-1001")));
    // More than KMS takes as it is: its digest is signed.
    let roles: Vec<String> = (0..90).map(|n| format!("a-role-with-a-rather-long-name-{n:03}")).collect();
    assert_eq!(ask(&Token::alice().with("roles", json!(roles)).bearer()).status, 200);
    assert!(fixture.upstream.last().header("x-gapura-assertion").unwrap().len() > 4200);
    assert_eq!(fixture.verified()["claims"]["roles"][89], roles[89].as_str());

    // One-time tokens: signed there, verified here.
    let begin = || fixture.gateway.request("POST", "/begin", &[("Authorization", &*token())], b"{}");
    let given = begin().header("x-operation-token").expect("a token").to_owned();
    let before = fixture.moto.calls("Sign");
    let confirm = |given: &str| {
        let headers = [("Authorization", &*token()), ("X-Operation-Token", given)];
        fixture.gateway.request("POST", "/confirm", &headers, b"{}")
    };
    let forged = format!("{}{}", &given[..given.len() - 4], if given.ends_with("AAAA") { "BBBB" } else { "AAAA" });
    expect_problem(&confirm(&forged), 403, "PERMISSION_DENIED");
    assert_eq!(confirm(&given).status, 200);
    expect_problem(&confirm(&given), 403, "PERMISSION_DENIED");
    assert_eq!(fixture.moto.calls("Sign"), before, "verified without KMS");

    // The second key of the list, first: RSA.
    let (ec, rsa) = ("\"kms:key:@EC@\"", "\"kms:key:@SIGNING@\"");
    fixture.gateway.rewrite(&fixture.gateway.text().replace(&format!("[{ec}, {rsa}]"), &format!("[{rsa}, {ec}]")));
    assert_eq!(fixture.gateway.reload().status, 200);
    assert_eq!(ask(&token()).status, 200);
    assert_eq!(fixture.verified()["header"]["alg"], "RS256");
}
