//! The master key of the founding format can be changed while its clients go on: old and new envelopes open side by side, and
//! each is answered under its own key.

use serde_json::{Value, json};

use crate::support::{
    Answer, Curl, Gateway, Setup, Upstream, credential::now_ms, expect_problem, gateway::command, node::call, token,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[keyrings.masters]
kind = "secret"
versions = [
  { id = "old", key = "file:@DIR@/old.secret", state = "active" },
  { id = "new", key = "file:@DIR@/new.secret", state = "pending" },
]

[encryption.user]
profile = "cryptojs"
master_keys = "masters"
accept_legacy_until = 2099-12-31

[[routes]]
name = "payments"
path = "/payments/**"
upstream = "backend"
auth = ["jwt.users"]
encryption = "user"
"#;

const OLD: &str = "the-old-master-key-6b1f-not-for-any-log";
const NEW: &str = "the-new-master-key-90ac-not-for-any-log";
const ACTIVE: &str = "state = \"active\"";
const PENDING: &str = "state = \"pending\"";
const RETIRING: &str = "state = \"retiring\"";

fn passphrase(master_key: &str) -> String {
    call("passphrase", json!({"userId": "u-1001", "email": "alice@example.com", "masterKey": master_key}))
}

fn key_hash(master_key: &str) -> String {
    call("keyHash", json!({"passphrase": passphrase(master_key)}))
}

/// Alice's, by crypto-js.
fn envelope(text: &str, master_key: &str) -> Value {
    let passphrase = passphrase(master_key);
    json!({
        "encryptedData": call("encrypt", json!({"text": text, "passphrase": passphrase})),
        "keyHash": key_hash(master_key), "timestamp": now_ms(), "userId": "u-1001",
    })
}

/// The content of an answer, if it is under this master key.
#[track_caller]
fn opened(answer: &Answer, master_key: &str) -> String {
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let data = answer.json()["data"].clone();
    assert_eq!(data["keyHash"], key_hash(master_key).as_str(), "another master key");
    call("decrypt", json!({"data": data["encryptedData"], "passphrase": passphrase(master_key)}))
}

#[track_caller]
fn send(gateway: &Gateway, method: &str, body: &[u8]) -> Answer {
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    gateway.request(method, "/payments/1", &headers, body)
}

#[track_caller]
fn passes(gateway: &Gateway, master_key: &str) {
    let sent = envelope("{\"amount\":1}", master_key);
    let answer = send(gateway, "POST", sent.to_string().as_bytes());
    assert_eq!(opened(&answer, master_key), "{\"heard\":\"{\\\"amount\\\":1}\"}");
}

/// What is given out, and answers requests without a body.
#[track_caller]
fn is_offered(gateway: &Gateway, master_key: &str) {
    assert_eq!(opened(&send(gateway, "GET", b""), master_key), "{\"heard\":\"\"}");
    let target = "/.well-known/gapura/session-key?path=/payments/1";
    let given = Curl::h1(gateway.https(), target).method("POST").header("Authorization", &token()).answer().json();
    assert_eq!(given["passphrase"], passphrase(master_key));
    assert_eq!(given["key_hash"], key_hash(master_key));
}

#[track_caller]
fn reload(gateway: &Gateway, changes: &[(&str, &str)]) {
    let text = changes.iter().fold(gateway.text().to_owned(), |text, (from, to)| text.replace(from, to));
    gateway.rewrite(&text);
    let answer = gateway.reload();
    assert_eq!(answer.status, 200, "{}", answer.lossy());
}

#[test]
fn a_master_key_is_changed_while_clients_go_on() {
    let upstream = Upstream::start(|call| {
        let answer = json!({"heard": String::from_utf8(call.body()).unwrap()}).to_string();
        call.respond(200, &[("Content-Type", "application/json")], answer.as_bytes())
    });
    let text = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
         key_delivery = true\n\n[tls]\nself_signed = true\n\n{TABLES}"
    );
    let setup = Setup::new(&text).put("BACKEND", upstream.address());
    let gateway = setup.file("old.secret", OLD).file("new.secret", NEW).start();

    // All instances know the new one before any client is given it.
    for master_key in [OLD, NEW] {
        passes(&gateway, master_key);
    }
    is_offered(&gateway, OLD);

    let swapped = [(ACTIVE, RETIRING), (PENDING, ACTIVE)];
    reload(&gateway, &swapped);
    for master_key in [OLD, NEW] {
        passes(&gateway, master_key);
    }
    is_offered(&gateway, NEW);

    // What people make with the command line is of a version as well.
    for (file, master_key) in [("old.secret", OLD), ("new.secret", NEW)] {
        let reference = format!("file:{}", gateway.directory().join(file).display());
        let arguments = ["encrypt", "--master-key", &reference, "--user-id", "u-1001", "--email", "alice@example.com"];
        let sealed = command(&arguments, &[], b"{}").stdout;
        assert_eq!(opened(&send(&gateway, "POST", &sealed), master_key), "{\"heard\":\"{}\"}");
    }
    let path = gateway.directory().join("gapura.toml").display().to_string();
    let environment = [("JWT_SECRET", crate::support::gateway::JWT_SECRET)];
    let told = |arguments: &[&str]| String::from_utf8(command(arguments, &environment, b"").stdout).unwrap();
    let listed = told(&["keyring", "list", "--config", &path]);
    let lines: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["encryption"], json!(["user"]));
    assert_eq!((&lines[0]["state"], &lines[1]["state"]), (&"retiring".into(), &"active".into()));
    let explained = told(&["explain", "--config", &path, "POST", "/payments/1"]);
    let line = "master keys: keyring masters (secret): masters.old retiring, masters.new active";
    assert!(explained.contains(line), "{explained}");

    // The key file of a revoked version may be gone.
    std::fs::remove_file(gateway.directory().join("old.secret")).unwrap();
    reload(&gateway, &[(ACTIVE, "state = \"revoked\""), (PENDING, ACTIVE)]);
    passes(&gateway, NEW);
    is_offered(&gateway, NEW);
    let heard = upstream.requests().len();
    let old = envelope("{}", OLD).to_string();
    expect_problem(&send(&gateway, "POST", old.as_bytes()), 400, "KEY_VERIFICATION_FAILED");
    assert_eq!(upstream.requests().len(), heard);
    for secret in [OLD, NEW] {
        assert!(!gateway.log().contains(secret));
    }
}
