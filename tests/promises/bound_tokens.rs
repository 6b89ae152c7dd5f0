//! A token that is bound is worth nothing to who has stolen it: not without the certificate, not without the key, not twice.

use serde_json::{Value, json};

use crate::support::{
    Answer, Curl, Gateway, Redis, Setup, Token, Upstream, cert::Authority, expect_problem, node, wait::until_true,
};

const TABLES: &str = r#"
[tls]
self_signed = true
client_ca = "@DIR@/ca.pem"
client_auth = "optional"

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[jwt.bank]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
issuer = "https://bank.test"
binding = "dpop"

[jwt.fapi]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
issuer = "https://fapi.test"
binding = "certificate"

[[routes]]
name = "pay"
path = "/pay/**"
upstream = "backend"
auth = ["jwt.users", "jwt.bank", "jwt.fapi"]

[[routes]]
name = "discreet"
path = "/discreet"
upstream = "backend"
auth = ["jwt.bank"]
forward_credentials = false
"#;

const SERVER: &str = r#"
[server]
https = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
access_log = true
"#;

fn setup(more: &str, upstream: &Upstream, authority: &Authority) -> Setup {
    let setup = Setup::new(&format!("{SERVER}{TABLES}{more}")).put("BACKEND", upstream.address());
    setup.file("ca.pem", authority.cert())
}

fn start(more: &str) -> (Gateway, Upstream, Authority) {
    let (upstream, authority) = (Upstream::ok(), Authority::new("clients"));
    (setup(more, &upstream, &authority).start(), upstream, authority)
}

/// The access token that the issuer gives to the owner of this key.
fn of_key(thumbprint: &str, issuer: &str) -> String {
    Token::alice().with("iss", issuer).with("cnf", json!({"jkt": thumbprint})).sign()
}

const BANK: &str = "https://bank.test";

struct Client {
    thumbprint: String,
    token: String,
}

impl Client {
    fn new(algorithm: &str) -> Self {
        let thumbprint = node::call("dpopKey", json!({"algorithm": algorithm}));
        Self { token: of_key(&thumbprint, BANK), thumbprint }
    }

    fn proof(&self, method: &str, uri: &str, nonce: Option<&str>) -> String {
        let mut given: Value =
            json!({"thumbprint": self.thumbprint, "htm": method, "htu": uri, "accessToken": self.token});
        if let Some(nonce) = nonce {
            given["nonce"] = nonce.into();
        }
        node::call("dpopProof", given)
    }

    fn send(&self, gateway: &Gateway, h2: bool, target: &str, proof: &str) -> Answer {
        let to = if h2 { Curl::h2 } else { Curl::h1 };
        let headers = [("Authorization", &*format!("DPoP {}", self.token)), ("DPoP", proof)];
        to(gateway.https(), target).headers(&headers).answer()
    }
}

#[test]
fn a_client_with_the_key_passes_and_a_thief_of_everything_it_sent_does_not() {
    let (gateway, upstream, _) = start("");
    for algorithm in ["ES256", "Ed25519", "PS256", "RS256"] {
        let client = Client::new(algorithm);
        for (h2, target) in [(false, "/pay/7?x=1"), (true, "/pay/7?x=1"), (true, "/pay/a/../%37")] {
            let uri = format!("https://{}/pay/7", gateway.https());
            let proof = client.proof("GET", &uri, None);
            let answer = client.send(&gateway, h2, target, &proof);
            assert_eq!(answer.status, 200, "{algorithm}: {} {}", answer.lossy(), gateway.log());
            let heard = upstream.last();
            assert_eq!((heard.header("x-user-id"), heard.header("x-auth-method")), (Some("u-1001"), Some("jwt.bank")));
            // All that went over the wire, once more.
            let seen = upstream.requests().len();
            let replayed = client.send(&gateway, h2, target, &proof);
            expect_problem(&replayed, 401, "CREDENTIALS_INVALID");
            let challenge = replayed.header("www-authenticate").unwrap().to_owned();
            assert!(
                challenge.starts_with("DPoP ") && challenge.contains("error=\"invalid_dpop_proof\""),
                "{challenge}"
            );
            let headers = [("Authorization", &*format!("Bearer {}", client.token)), ("DPoP", &*proof)];
            expect_problem(&Curl::h2(gateway.https(), target).headers(&headers).answer(), 401, "CREDENTIALS_INVALID");
            assert_eq!(upstream.requests().len(), seen);
        }
    }
    assert_eq!(gateway.metric("gapura_dpop_proofs_total", &["result=\"accepted\""]), 12.0);
    assert_eq!(gateway.metric("gapura_dpop_proofs_total", &["result=\"replayed\""]), 12.0);
    assert!(!gateway.log().contains("eyJ"), "no token in the log");
}

#[test]
fn a_proof_is_for_one_request() {
    let (gateway, upstream, _) = start("");
    let (client, other) = (Client::new("ES256"), Client::new("ES256"));
    let here = format!("https://{}/pay/7", gateway.https());
    let elsewhere = [
        client.proof("POST", &here, None),
        client.proof("GET", &format!("{here}0"), None),
        client.proof("GET", "https://other.test/pay/7", None),
        client.proof("GET", &here.replace("https:", "http:"), None),
        other.proof("GET", &here, None),
        "x".to_owned(),
        format!("{}x", client.proof("GET", &here, None)),
    ];
    for proof in elsewhere {
        expect_problem(&client.send(&gateway, true, "/pay/7", &proof), 401, "CREDENTIALS_INVALID");
    }
    let bare = Curl::h2(gateway.https(), "/pay/7").header("Authorization", &format!("DPoP {}", client.token)).answer();
    expect_problem(&bare, 401, "CREDENTIALS_INVALID");
    // A token of the bank that is bound to nothing.
    let plain = Token::alice().with("iss", BANK).bearer();
    let answer = gateway.request("GET", "/pay/7", &[("Authorization", &plain)], b"");
    expect_problem(&answer, 401, "CREDENTIALS_INVALID");
    upstream.expect_untouched();
    // Bound, where nothing asks for it: it is held to it all the same.
    let token = Token::alice().with("cnf", json!({"jkt": client.thumbprint})).bearer();
    expect_problem(&gateway.request("GET", "/pay/7", &[("Authorization", &token)], b""), 401, "CREDENTIALS_INVALID");
    upstream.expect_untouched();
}

/// Where the gateway judges another request than the one that was sent, the proof is for the one that was sent: else a proof for a
/// payment would fetch the key of who made it.
#[test]
fn a_session_key_takes_a_proof_for_itself() {
    let upstream = Upstream::ok();
    let authority = Authority::new("clients");
    let sealed = r#"
[keyrings.sessions]
kind = "secret"
versions = [{ id = "1", key = "file:@FOLDER@/session-secret", state = "active" }]

[encryption.sealed]
profile = "aes128gcm"
keyrings = ["sessions"]

[[routes]]
name = "sealed"
path = "/sealed"
upstream = "backend"
auth = ["jwt.bank"]
encryption = "sealed"
"#;
    let server = SERVER.replace("access_log = true", "key_delivery = true");
    let setup = Setup::new(&format!("{server}{TABLES}{sealed}")).put("BACKEND", upstream.address());
    let setup = setup.file("ca.pem", authority.cert()).file("session-secret", [b's'; 32]);
    let folder = setup.directory().display().to_string();
    let gateway = setup.put("FOLDER", folder).start();
    let client = Client::new("ES256");
    let target = "/.well-known/gapura/session-key";
    let ask = |proof: &str| {
        let headers = [("Authorization", &*format!("DPoP {}", client.token)), ("DPoP", proof)];
        Curl::h2(gateway.https(), &format!("{target}?path=/sealed&method=PUT"))
            .method("POST")
            .headers(&headers)
            .answer()
    };
    for (method, path) in [("PUT", "/sealed"), ("POST", "/sealed"), ("PUT", target)] {
        let proof = client.proof(method, &format!("https://{}{path}", gateway.https()), None);
        expect_problem(&ask(&proof), 401, "CREDENTIALS_INVALID");
    }
    let answer = ask(&client.proof("POST", &format!("https://{}{target}", gateway.https()), None));
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    upstream.expect_untouched();
}

#[test]
fn proofs_and_tokens_stay_here_where_the_route_says_so() {
    let (gateway, upstream, _) = start("");
    let client = Client::new("ES256");
    let proof = client.proof("GET", &format!("https://{}/discreet", gateway.https()), None);
    assert_eq!(client.send(&gateway, true, "/discreet", &proof).status, 200);
    let heard = upstream.only();
    assert_eq!((heard.header("authorization"), heard.header("dpop")), (None, None));
    let bytes = String::from_utf8_lossy(&upstream.bytes()).into_owned();
    assert!(!bytes.contains(&client.token) && !bytes.contains(&proof), "{bytes}");
}

#[test]
fn a_nonce_is_asked_for_as_the_rfc_has_it() {
    let (gateway, upstream, _) = start("[dpop]\nnonce = true\n");
    let client = Client::new("ES256");
    let uri = format!("https://{}/pay/7", gateway.https());
    let refused = client.send(&gateway, true, "/pay/7", &client.proof("GET", &uri, None));
    expect_problem(&refused, 401, "CREDENTIALS_INVALID");
    assert!(refused.header("www-authenticate").unwrap().contains("error=\"use_dpop_nonce\""));
    let nonce = refused.header("dpop-nonce").expect("DPoP-Nonce").to_owned();
    upstream.expect_untouched();
    for _ in 0..2 {
        let answer = client.send(&gateway, true, "/pay/7", &client.proof("GET", &uri, Some(&nonce)));
        assert_eq!(answer.status, 200, "{}", answer.lossy());
    }
    let made_up = client.proof("GET", &uri, Some("AAAAAGlXbQBhYmNkZWZnaGlqa2xtbm9w"));
    assert_eq!(client.send(&gateway, true, "/pay/7", &made_up).status, 401);
    // Another instance with another key asks for its own.
    let (other, _, _) = start("[dpop]\nnonce = true\n");
    let there = format!("https://{}/pay/7", other.https());
    assert_eq!(client.send(&other, true, "/pay/7", &client.proof("GET", &there, Some(&nonce))).status, 401);
}

#[test]
fn instances_that_share_redis_take_a_proof_once_between_them() {
    let (redis, upstream, authority) = (Redis::start(), Upstream::ok(), Authority::new("clients"));
    let state =
        "[state]\nstore = \"redis\"\nredis = { url = \"env:REDIS_URL\", on_outage = \"closed\", timeout = \"20s\" }\n";
    let start = || setup(state, &upstream, &authority).env("REDIS_URL", &redis.url()).start();
    let gateways = [start(), start()];
    for gateway in &gateways {
        until_true("Redis is reached", || gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5);
    }
    let client = Client::new("ES256");
    let proof = client.proof("GET", "https://api.test/pay/7", None);
    let headers = [("Authorization", &*format!("DPoP {}", client.token)), ("DPoP", &*proof)];
    // Both serve api.test; curl goes to the one or the other.
    let send = |gateway: &Gateway| {
        let port = gateway.https().port();
        let curl =
            Curl::to("https://api.test/pay/7").options(["--connect-to", &format!("api.test:443:127.0.0.1:{port}")]);
        curl.headers(&headers).answer().status
    };
    assert_eq!((send(&gateways[0]), send(&gateways[1]), send(&gateways[0])), (200, 401, 401));
}

#[test]
fn a_token_of_a_certificate_needs_the_certificate() {
    let (gateway, upstream, authority) = start("");
    let (mine, other) = (authority.client("mine"), authority.client("other"));
    let token = |issuer: Option<&str>| {
        let token = Token::alice().with("cnf", json!({"x5t#S256": mine.x5t()}));
        issuer.map_or(token.clone(), |issuer| token.with("iss", issuer)).bearer()
    };
    let send = |h2: bool, pem: Option<&crate::support::cert::Pem>, bearer: &str| {
        let to = if h2 { Curl::h2 } else { Curl::h1 };
        let options = pem.map(|pem| pem.curl_options(gateway.directory(), "client")).unwrap_or_default();
        let curl = to(gateway.https(), "/pay/7").header("Authorization", bearer);
        options.iter().filter(|option| !option.is_empty()).fold(curl, |curl, option| curl.option(option)).answer()
    };
    for issuer in [None, Some("https://fapi.test")] {
        let bearer = token(issuer);
        for h2 in [false, true] {
            assert_eq!(send(h2, Some(&mine), &bearer).status, 200);
            let seen = upstream.requests().len();
            for thief in [Some(&other), None] {
                expect_problem(&send(h2, thief, &bearer), 401, "CREDENTIALS_INVALID");
            }
            assert_eq!(upstream.requests().len(), seen);
        }
        expect_problem(
            &gateway.request("GET", "/pay/7", &[("Authorization", &bearer)], b""),
            401,
            "CREDENTIALS_INVALID",
        );
    }
    let unbound = Token::alice().with("iss", "https://fapi.test").bearer();
    expect_problem(&send(true, Some(&mine), &unbound), 401, "CREDENTIALS_INVALID");
}

#[test]
fn explain_says_what_a_token_must_be_bound_to() {
    let (upstream, authority) = (Upstream::ok(), Authority::new("clients"));
    let output = setup("", &upstream, &authority).command(&["explain", "GET", "/pay/7"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "leeway 30s, bound to a key (DPoP)",
        "bound to the client's certificate",
        "DPoP proofs by ES256 ES384 EdDSA PS256 RS256, at most 60s old",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = setup("[dpop]\nnonce = true\nnonce_key = \"env:SHORT\"\n", &upstream, &authority)
        .env("SHORT", "abc")
        .command(&["check"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("`env:SHORT` has fewer than 32 bytes"), "{text}");
}
