//! Existing clients stay as they are: what crypto-js seals reaches an unchanged application as plain JSON, and crypto-js
//! opens what comes back.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Curl, Gateway, Setup, Token, Upstream,
    credential::{key_hash, now_ms},
    expect_problem,
    gateway::MASTER_KEY,
    node::{self, Sealer},
    token,
};

pub const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[api_keys.developers]
scheme = "ApiKey"
salt = "env:API_KEY_SALT"
keys = [{ id = "ci", hash = "@CI@", user_id = "ci-1", email = "ci@example.com" }]

[encryption.user]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[encryption.bound]
profile = "cryptojs"
master_key = "env:MASTER_KEY"
key_derivation = "user_timestamp"
response_wrap = "none"

[encryption.lenient]
profile = "cryptojs"
master_key = "env:MASTER_KEY"
required = false
replay = "off"
max_age = "off"

[encryption.renamed]
profile = "cryptojs"
master_key = "env:MASTER_KEY"
fields = { data = "d", key_hash = "k", timestamp = "t", user_id = "u" }

[[routes]]
name = "payments"
path = "/payments/**"
upstream = "backend"
auth = ["jwt.users", "api_keys.developers"]
encryption = "user"

[[routes]]
name = "user"
path = "/debug/request/user/**"
upstream = "backend"
auth = ["jwt.users", "api_keys.developers"]
encryption = "user"
max_body = "2MiB"

[[routes]]
name = "bound"
path = "/debug/request/bound"
upstream = "backend"
auth = ["jwt.users"]
encryption = "bound"

[[routes]]
name = "lenient"
path = "/debug/request/lenient"
upstream = "backend"
auth = ["jwt.users"]
encryption = "lenient"

[[routes]]
name = "renamed"
path = "/debug/request/renamed"
upstream = "backend"
auth = ["jwt.users"]
encryption = "renamed"
"#;

pub const USER: &str = "/debug/request/user";
pub const BOUND: &str = "/debug/request/bound";
pub const LENIENT: &str = "/debug/request/lenient";
pub const RENAMED: &str = "/debug/request/renamed";

pub fn start(upstream: impl ToString) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream).put("CI", key_hash("key-of-ci")).start()
}

/// POSTs an envelope as Alice.
#[track_caller]
pub fn post(gateway: &Gateway, target: &str, envelope: &Value) -> Answer {
    send(gateway, "POST", target, &token(), envelope.to_string().as_bytes())
}

#[track_caller]
pub fn send(gateway: &Gateway, method: &str, target: &str, authorization: &str, body: &[u8]) -> Answer {
    let headers = [("Authorization", authorization), ("Content-Type", "application/json")];
    gateway.request(method, target, &headers, body)
}

/// What the backend of `/debug/request` saw.
struct Seen(Value);

impl Seen {
    fn body(&self) -> String {
        String::from_utf8(STANDARD.decode(self.0["body_base64"].as_str().unwrap()).unwrap()).unwrap()
    }
    fn header(&self, name: &str) -> Vec<&str> {
        let pairs = self.0["headers"].as_array().unwrap();
        pairs.iter().filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap()).collect()
    }
}

/// Texts whose bytes a careless gateway would change.
const PAYLOADS: [&str; 6] = [
    "{}",
    r#"{"amount":1999,"currency":"EUR","card":"4242424242424242"}"#,
    "{ \"spaces\" :  [1,2 , 3.0],\n\t\"twice\": 1, \"nested\": {\"a\":{}} }",
    r#"{"unicode":"Zoë 用户 😀","escaped":"\u00e9\/\"\n"}"#,
    r#""just text""#,
    "[12345678901234567890, 0.1, -0.0, 1e400]",
];

#[test]
fn unchanged_applications_see_plain_json() {
    for backend in Backend::both() {
        let gateway = start(backend.address());
        for payload in PAYLOADS {
            let answer = post(&gateway, USER, &Sealer::alice().seal(payload));
            assert_eq!(answer.status, 200, "{}: {}", backend.name, answer.lossy());
            let seen = Seen(serde_json::from_str(&Sealer::alice().open(&answer.json())).unwrap());
            assert_eq!(seen.body(), payload, "{}", backend.name);
            assert_eq!(seen.header("content-length"), [payload.len().to_string()], "{}", backend.name);
            assert_eq!(seen.header("content-type"), ["application/json"], "{}", backend.name);
            assert_eq!(seen.header("accept-encoding"), ["identity"], "{}", backend.name);
            assert_eq!(seen.header("transfer-encoding"), [""; 0], "{}", backend.name);
            assert_eq!(seen.header("x-user-id"), ["u-1001"], "{}", backend.name);
        }
    }
}

#[test]
fn a_payment_from_end_to_end() {
    for backend in Backend::both() {
        let gateway = start(backend.address());
        let alice = Sealer::alice();
        let payment = json!({"amount": 1999, "currency": "EUR", "card": "4242424242424242", "reference": "Zoë"});
        let created = post(&gateway, "/payments", &alice.seal(&payment.to_string()));
        assert_eq!(created.status, 201, "{}: {}", backend.name, created.lossy());
        assert_eq!(created.header("content-length"), Some(created.body.len().to_string().as_str()));
        assert_eq!(created.header("content-type"), Some("application/json"));
        assert!(!created.lossy().contains("4242"), "plaintext in the answer");
        let wrapped = created.json();
        assert_eq!(wrapped["success"], true);
        let created: Value = serde_json::from_str(&alice.open(&wrapped)).unwrap();
        assert_eq!((&created["user_id"], &created["reference"]), (&json!("u-1001"), &json!("Zoë")));
        let location = format!("/payments/{}", created["id"].as_str().unwrap());

        // Without a body: sealed for the caller all the same.
        let read = send(&gateway, "GET", &location, &token(), b"");
        assert_eq!(serde_json::from_str::<Value>(&alice.open(&read.json())).unwrap(), created, "{}", backend.name);

        // An application's own errors are sealed like any answer.
        let invalid = post(&gateway, "/payments", &alice.seal(r#"{"amount":-1}"#));
        assert_eq!((invalid.status, &invalid.json()["success"]), (422, &json!(false)), "{}", backend.name);
        assert!(alice.open(&invalid.json()).contains("amount"), "{}", backend.name);
        let other = Token::new("u-2").with("email", "bob@example.com").bearer();
        let hidden = send(&gateway, "GET", &location, &other, b"");
        let bob = Sealer { user_id: "u-2".into(), email: "bob@example.com".into(), bound: false };
        assert_eq!(hidden.status, 404);
        assert!(bob.open(&hidden.json()).contains("no such payment"), "{}", backend.name);

        let gone = send(&gateway, "DELETE", &location, &token(), b"");
        assert_eq!((gone.status, gone.body.len(), gone.header("content-length")), (204, 0, None), "{}", backend.name);
    }
}

#[test]
fn over_http_2_and_without_a_length() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let payload = json!({"text": "x".repeat(200_000)}).to_string();
    let clients: [fn(std::net::SocketAddr, &str) -> Curl; 2] = [Curl::h1, Curl::h2];
    for client in clients {
        for streamed in [false, true] {
            let body = Sealer::alice().seal(&payload).to_string();
            let curl = client(gateway.https(), USER).header("Authorization", &token());
            let curl = curl.header("Content-Type", "application/json").method("POST");
            let answer = if streamed { curl.streamed(&body) } else { curl.body(&body) }.answer();
            assert_eq!(answer.status, 200, "{}", answer.lossy());
            let seen = Seen(serde_json::from_str(&Sealer::alice().open(&answer.json())).unwrap());
            let body = seen.body();
            assert!(body == payload, "streamed: {streamed}: {} bytes, {:.200}", body.len(), body);
            assert_eq!(seen.header("content-length"), [payload.len().to_string()]);
        }
    }
}

#[test]
fn keys_bound_to_the_timestamp() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let bound = Sealer { bound: true, ..Sealer::alice() };
    let timestamp = now_ms() - 1000;
    let answer = post(&gateway, BOUND, &bound.seal_at(r#"{"a":1}"#, timestamp));
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let envelope = answer.json();
    assert_eq!(
        (&envelope["timestamp"], envelope.get("data")),
        (&json!(timestamp), None),
        "bare, under the request's key"
    );
    assert_eq!(Seen(serde_json::from_str(&bound.open(&envelope)).unwrap()).body(), r#"{"a":1}"#);
    // Without a body the answer's own timestamp is that of its key.
    let read = send(&gateway, "GET", BOUND, &token(), b"").json();
    assert!(read["timestamp"].as_u64().unwrap().abs_diff(now_ms()) < 60_000, "{read}");
    assert_eq!(Seen(serde_json::from_str(&bound.open(&read)).unwrap()).0["method"], "GET");
    // The other derivation's envelope is not this one's.
    expect_problem(&post(&gateway, BOUND, &Sealer::alice().seal("{}")), 400, "KEY_VERIFICATION_FAILED");
}

#[test]
fn a_user_id_may_be_a_number() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    for claimed in [json!(7), json!("7")] {
        let bearer = Token::new(claimed.clone()).with("email", "seven@example.com").bearer();
        let mine = Sealer { user_id: claimed, email: "seven@example.com".into(), bound: false };
        for written in [json!(7), json!("7")] {
            let mut envelope = mine.seal(r#"{"n":7}"#);
            envelope["userId"] = written;
            let answer = send(&gateway, "POST", USER, &bearer, envelope.to_string().as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.lossy());
            // `open` checks that the answer has the id as the token has it.
            assert!(mine.open(&answer.json()).contains("body_base64"));
        }
    }
}

#[test]
fn an_api_key_has_an_envelope_too() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let ci = Sealer { user_id: "ci-1".into(), email: "ci@example.com".into(), bound: false };
    let answer = send(&gateway, "POST", USER, "ApiKey key-of-ci", ci.seal("[]").to_string().as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    assert_eq!(Seen(serde_json::from_str(&ci.open(&answer.json())).unwrap()).body(), "[]");
}

#[test]
fn names_of_an_envelopes_members_can_be_chosen() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let usual = Sealer::alice().seal(r#"{"a":1}"#);
    let envelope =
        json!({"d": usual["encryptedData"], "k": usual["keyHash"], "t": usual["timestamp"], "u": usual["userId"]});
    let answer = post(&gateway, RENAMED, &envelope);
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let data = answer.json()["data"].take();
    let passphrase = Sealer::alice().passphrase(0);
    let opened = node::call("decrypt", json!({"data": data["d"], "passphrase": passphrase}));
    assert_eq!(Seen(serde_json::from_str(&opened).unwrap()).body(), r#"{"a":1}"#);
    assert_eq!(data["u"], "u-1001");
    expect_problem(&post(&gateway, RENAMED, &Sealer::alice().seal("{}")), 400, "ENVELOPE_REQUIRED");
}

#[test]
fn where_envelopes_are_not_required() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let alice = Sealer::alice();
    // Plaintext in, plaintext out.
    let plain = send(&gateway, "POST", LENIENT, &token(), br#"{"plain":true}"#);
    assert_eq!((plain.status, Seen(plain.json()).body().as_str()), (200, r#"{"plain":true}"#));
    let text = gateway.request("POST", LENIENT, &[("Authorization", &token()), ("Content-Type", "text/plain")], "text");
    let seen = Seen(text.json());
    assert_eq!((seen.body().as_str(), seen.header("content-type")), ("text", vec!["text/plain"]));
    // Sealed in, sealed out; and again, as this entry allows replays and any age.
    let old = alice.seal_at(r#"{"sealed":true}"#, 1_500_000_000_000);
    for _ in 0..2 {
        let answer = post(&gateway, LENIENT, &old);
        assert_eq!(Seen(serde_json::from_str(&alice.open(&answer.json())).unwrap()).body(), r#"{"sealed":true}"#);
    }
    // No body in, sealed out.
    let read = send(&gateway, "GET", LENIENT, &token(), b"");
    assert_eq!(Seen(serde_json::from_str(&alice.open(&read.json())).unwrap()).0["method"], "GET");
    // What means to be an envelope and is none does not pass for plaintext.
    expect_problem(&post(&gateway, LENIENT, &json!({"encryptedData": "x"})), 400, "ENVELOPE_REQUIRED");
}

#[test]
fn fields_that_describe_the_sealed_body_do_not_pass() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let body = Sealer::alice().seal("{}").to_string();
    let headers = [
        ("Authorization", token()),
        ("Content-Type", "application/json; charset=utf-8".into()),
        ("Content-Digest", "sha-256=:AAAA:".into()),
        ("Digest", "sha-256=AAAA".into()),
        ("Range", "bytes=0-1".into()),
        ("Accept-Encoding", "gzip, br".into()),
        ("X-Kept", "1".into()),
    ];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(gateway.request("POST", USER, &headers, &body).status, 200);
    let heard = upstream.only();
    for name in ["content-digest", "digest", "range", "content-encoding"] {
        assert_eq!(heard.header(name), None, "{name} passed");
    }
    assert_eq!((heard.text().as_str(), heard.header("content-length")), ("{}", Some("2")));
    assert_eq!(heard.header("content-type"), Some("application/json"));
    assert_eq!((heard.header("accept-encoding"), heard.header("x-kept")), (Some("identity"), Some("1")));
}

#[test]
fn the_command_line_speaks_the_same_format() {
    use crate::support::gateway::command;
    let environment = [("MASTER_KEY", MASTER_KEY)];
    let who = ["--master-key", "env:MASTER_KEY", "--user-id", "u-1001", "--email", "alice@example.com"];
    let text = r#"{"from":"the command line, Zoë"}"#;
    let alice = Sealer::alice();
    let sealed = command(&[&["encrypt"], &who[..]].concat(), &environment, text);
    assert_eq!(sealed.status.code(), Some(0), "{}", String::from_utf8_lossy(&sealed.stderr));
    let envelope: Value = serde_json::from_slice(&sealed.stdout).expect("JSON on standard output");
    assert_eq!(alice.open(&envelope), text);
    let opened = command(&[&["decrypt"], &who[..]].concat(), &environment, alice.seal(text).to_string());
    assert_eq!(String::from_utf8_lossy(&opened.stdout).trim_end(), text);
    // A body that the gateway accepts.
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let answer = post(&gateway, USER, &envelope);
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let opened = command(&[&["decrypt"], &who[..]].concat(), &environment, &answer.body);
    let seen = Seen(serde_json::from_slice(&opened.stdout).expect("the answer, opened"));
    assert_eq!(seen.body(), text);
    // The bare ciphertext under a passphrase.
    let environment = [("PASSPHRASE", "correct horse")];
    let data = command(&["encrypt", "--passphrase", "env:PASSPHRASE"], &environment, text);
    let data = String::from_utf8(data.stdout).unwrap();
    let given = json!({"data": data.trim(), "passphrase": "correct horse"});
    assert_eq!(node::call("decrypt", given), text);
    let data = node::call("encrypt", json!({"text": text, "passphrase": "correct horse"}));
    let opened = command(&["decrypt", "--passphrase", "env:PASSPHRASE"], &environment, data);
    assert_eq!(String::from_utf8_lossy(&opened.stdout).trim_end(), text);
    // Another key: an error for people, and nothing on standard output.
    let wrong = command(
        &["decrypt", "--master-key", "env:MASTER_KEY", "--user-id", "u-2", "--email", "b@example.com"],
        &[("MASTER_KEY", MASTER_KEY)],
        alice.seal(text).to_string(),
    );
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(1), 0));
    assert!(!wrong.stderr.is_empty());
}
