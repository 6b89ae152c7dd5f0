//! `hpke` and `aes128gcm` with libraries that nobody here wrote: @hpke/core and http_ece seal, the gateway opens and answers,
//! they open; and what was changed, sent elsewhere or sent twice reaches no upstream.

use std::thread;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::key_delivery::{ask, setup};
use crate::support::{
    Answer, Gateway, Upstream, credential::now_ms, expect_problem, gateway::Setup, node, token, wire,
};

/// A client, and the keys that it was given.
struct Client {
    keys: Value,
    session: Value,
}

/// A message, and what its client keeps of it.
struct Sealed {
    profile: &'static str,
    bytes: Vec<u8>,
    handle: String,
}

const JSON: &str = r#"{"amount": 19.90}"#;
const TARGET: &str = "/payments/1?a=1";

impl Client {
    fn of(gateway: &Gateway) -> Self {
        let keys = gateway.get("/.well-known/gapura/keys").json();
        Self { keys, session: ask(gateway, "path=/payments/1", &token(), b"").json() }
    }

    /// As the tests' wire sends it.
    fn request(method: &str) -> Value {
        json!({"method": method, "authority": "gateway.test", "path": "/payments/1", "query": "a=1", "subject": "u-1001"})
    }

    fn seal(&self, profile: &'static str, content: &str) -> Sealed {
        self.seal_for(profile, content, Self::request("POST"), now_ms())
    }

    /// `hpke-p256` is hpke with the key on the other curve.
    fn seal_for(&self, profile: &'static str, content: &str, request: Value, iat: u64) -> Sealed {
        let content_type = if content.is_empty() { "" } else { "application/json" };
        let mut given = json!({"iat": iat, "contentType": content_type, "content": content, "request": request});
        let operation = if profile == "aes128gcm" {
            given["sessionKey"] = self.session["session_key"].clone();
            given["kid"] = self.session["kid"].clone();
            given["rs"] = 30.into();
            "eceSeal"
        } else {
            let p256 = profile == "hpke-p256";
            let key = &self.keys["keys"][usize::from(p256)];
            let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
            let raw = if p256 { [vec![4], part("x"), part("y")].concat() } else { part("x") };
            given["publicKey"] = URL_SAFE_NO_PAD.encode(raw).into();
            given["kem"] = if p256 { "p256" } else { "x25519" }.into();
            given["kid"] = key["kid"].clone();
            "hpkeSeal"
        };
        let made: Value = serde_json::from_str(&node::call(operation, given)).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(made["message"].as_str().unwrap()).unwrap();
        Sealed { profile, bytes, handle: made["handle"].as_str().unwrap().to_owned() }
    }
}

impl Sealed {
    fn send(&self, gateway: &Gateway) -> Answer {
        self.send_to(gateway, "POST", TARGET, &self.bytes)
    }

    fn send_to(&self, gateway: &Gateway, method: &str, target: &str, bytes: &[u8]) -> Answer {
        let authorization = token();
        let mut headers = vec![("Authorization", authorization.as_str())];
        headers.extend(match self.profile {
            "aes128gcm" => vec![("Content-Type", "application/json"), ("Content-Encoding", "aes128gcm")],
            _ => vec![("Content-Type", "application/vnd.gapura.hpke")],
        });
        wire::request(gateway.http(), method, target, &headers, bytes)
    }

    #[track_caller]
    fn open(&self, answer: &Answer) -> String {
        let mut given =
            json!({"handle": self.handle, "status": answer.status, "message": URL_SAFE_NO_PAD.encode(&answer.body)});
        if self.profile == "aes128gcm" {
            assert_eq!(answer.header("content-encoding"), Some("aes128gcm"));
            given["contentType"] = answer.header("content-type").unwrap().into();
            return node::call("eceOpen", given);
        }
        assert_eq!(answer.header("content-type"), Some("application/vnd.gapura.hpke"));
        let opened: Value = serde_json::from_str(&node::call("hpkeOpen", given)).unwrap();
        assert_eq!(opened["contentType"], "application/json");
        opened["content"].as_str().unwrap().to_owned()
    }
}

const PROFILES: [&str; 3] = ["hpke", "hpke-p256", "aes128gcm"];

fn upstream() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        let answer = if body.is_empty() { b"{\"empty\":true}".to_vec() } else { body };
        call.respond(201, &[("Content-Type", "application/json")], &answer)
    })
}

fn start(upstream: &Upstream) -> Gateway {
    let setup: Setup = setup(upstream, true);
    setup.start()
}

#[test]
fn libraries_of_others_seal_and_open() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    for profile in PROFILES {
        let sealed = client.seal(profile, JSON);
        let answer = sealed.send(&gateway);
        assert_eq!(answer.status, 201, "{profile}: {}", answer.lossy());
        let heard = upstream.last();
        assert_eq!(heard.body, JSON.as_bytes(), "{profile}");
        assert_eq!(heard.header("content-type"), Some("application/json"));
        assert_eq!(heard.header("content-encoding"), None);
        assert_eq!(heard.header("content-length"), Some(&*JSON.len().to_string()));
        assert_eq!(sealed.open(&answer), JSON, "{profile}");
    }
    assert!(gateway.metric("gapura_envelopes_total", &["encryption=\"payments\"", "profile=\"hpke\""]) >= 2.0);
}

#[test]
fn a_request_without_a_body_is_answered_sealed() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    for (profile, name) in [("hpke", "hpke"), ("hpke-p256", "hpke"), ("aes128gcm", "aes128gcm")] {
        let sealed = client.seal_for(profile, "", Client::request("GET"), now_ms());
        let value = format!("{name}={}", URL_SAFE_NO_PAD.encode(&sealed.bytes));
        let headers = [("Authorization", &*token()), ("X-Gapura-Envelope", &*value)];
        let answer = wire::request(gateway.http(), "GET", TARGET, &headers, b"");
        assert_eq!(answer.status, 201, "{profile}: {}", answer.lossy());
        assert_eq!(upstream.last().header("x-gapura-envelope"), None);
        assert_eq!(sealed.open(&answer), "{\"empty\":true}", "{profile}");
    }
    let answer = wire::request(gateway.http(), "GET", TARGET, &[("Authorization", &token())], b"");
    expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
}

/// The problem without what names the request.
fn uniform(answer: &Answer) -> (u16, String) {
    let id = answer.header("x-request-id").unwrap_or_default();
    (answer.status, answer.lossy().replace(id, ""))
}

#[test]
fn what_was_changed_or_sent_elsewhere_reaches_no_upstream_and_looks_alike() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    let mut seen: Vec<(u16, String)> = Vec::new();
    for profile in PROFILES {
        let sealed = client.seal(profile, JSON);
        let len = sealed.bytes.len();
        for at in [0, 1, 5, len / 3, len / 2, len - 17, len - 1] {
            let mut bytes = sealed.bytes.clone();
            bytes[at] ^= 1;
            seen.push(uniform(&sealed.send_to(&gateway, "POST", TARGET, &bytes)));
        }
        for cut in [1, 30, len - 1] {
            seen.push(uniform(&sealed.send_to(&gateway, "POST", TARGET, &sealed.bytes[..cut])));
        }
        seen.push(uniform(&sealed.send_to(&gateway, "GET", TARGET, &sealed.bytes)));
        for target in ["/payments/2?a=1", "/payments/1", "/payments/1?a=1&b"] {
            seen.push(uniform(&sealed.send_to(&gateway, "POST", target, &sealed.bytes)));
        }
        for (member, value) in [("authority", "other.test"), ("subject", "u-1002"), ("tokenId", "t"), ("part", "/a")] {
            let mut request = Client::request("POST");
            request[member] = value.into();
            seen.push(uniform(&client.seal_for(profile, JSON, request, now_ms()).send(&gateway)));
        }
        seen.push(uniform(&client.seal(profile, "{\"amount\":").send(&gateway)));
    }
    let (first, rest) = seen.split_first().unwrap();
    assert_eq!(first.0, 400);
    assert!(first.1.contains("DECRYPTION_FAILED"), "{}", first.1);
    for (at, other) in rest.iter().enumerate() {
        assert_eq!(other, first, "number {}", at + 1);
    }
    upstream.expect_untouched();
}

#[test]
fn what_is_old_or_new_or_known_is_told_so() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    for profile in PROFILES {
        for iat in [now_ms() - 301_000, now_ms() + 65_000] {
            let sealed = client.seal_for(profile, JSON, Client::request("POST"), iat);
            expect_problem(&sealed.send(&gateway), 400, "ENVELOPE_EXPIRED");
        }
    }
    upstream.expect_untouched();
    for profile in PROFILES {
        let sealed = client.seal(profile, JSON);
        assert_eq!(sealed.send(&gateway).status, 201);
        expect_problem(&sealed.send(&gateway), 409, "ENVELOPE_REPLAYED");
    }
    assert_eq!(upstream.requests().len(), PROFILES.len());
}

#[test]
fn of_fifty_at_once_exactly_one_passes() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    for profile in ["hpke", "aes128gcm"] {
        upstream.forget();
        let sealed = client.seal(profile, JSON);
        let statuses: Vec<u16> = thread::scope(|scope| {
            let racers: Vec<_> = (0..50).map(|_| scope.spawn(|| sealed.send(&gateway).status)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{profile}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 49, "{profile}: {statuses:?}");
        assert_eq!(upstream.requests().len(), 1);
    }
}

/// A record size that would make the gateway hold what it must not, and a body that ends within a record.
#[test]
fn records_are_bounded() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway);
    let sealed = client.seal("aes128gcm", JSON);
    for size in [0_u32, 17, (1 << 20) + 1, u32::MAX] {
        let mut bytes = sealed.bytes.clone();
        bytes[16..20].copy_from_slice(&size.to_be_bytes());
        expect_problem(&sealed.send_to(&gateway, "POST", TARGET, &bytes), 400, "DECRYPTION_FAILED");
    }
    upstream.expect_untouched();
}

/// With the commands and curl alone: a key made by `keyring new`, the keys that the gateway tells, a message sealed for a URL, and
/// its response opened.
#[test]
fn the_command_line_seals_and_opens() {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::support::{Curl, gateway::command};

    let upstream = upstream();
    let gateway = start(&upstream);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("keys.json"), gateway.get("/.well-known/gapura/keys").body).unwrap();
    let client = Client::of(&gateway);
    std::fs::write(path("session"), client.session["session_key"].as_str().unwrap()).unwrap();
    let url = format!("https://{}{TARGET}", gateway.https());
    let (keys, state, session) = (path("keys.json"), path("state"), format!("file:{}", path("session")));
    for (profile, kid) in [("hpke", "bodies.2026-11"), ("aes128gcm", client.session["kid"].as_str().unwrap())] {
        let common = ["--profile", profile, "--state", &state];
        let mut arguments = vec!["encrypt", "--url", &url, "--subject", "u-1001", "--kid", kid];
        arguments.extend(common);
        arguments.extend(if profile == "hpke" { ["--keys", &keys] } else { ["--session-key", &session] });
        let sealed = command(&arguments, &[], JSON);
        assert!(sealed.status.success(), "{}", String::from_utf8_lossy(&sealed.stderr));
        assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
        let mut curl = Curl::h1(gateway.https(), TARGET).header("Authorization", &token()).body(&sealed.stdout);
        curl = match profile {
            "hpke" => curl.header("Content-Type", "application/vnd.gapura.hpke"),
            _ => curl.header("Content-Type", "application/json").header("Content-Encoding", "aes128gcm"),
        };
        let answer = curl.answer();
        assert_eq!(answer.status, 201, "{profile}: {}", answer.lossy());
        let mut arguments = vec!["decrypt", "--status", "201"];
        arguments.extend(common);
        let opened = command(&arguments, &[], &answer.body);
        assert_eq!(opened.stdout, JSON.as_bytes(), "{profile}: {}", String::from_utf8_lossy(&opened.stderr));
        arguments[2] = "200";
        assert_eq!(command(&arguments, &[], &answer.body).status.code(), Some(1), "another status is another message");
    }
}

#[test]
fn key_files_are_made_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::support::gateway::command;

    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display().to_string();
    for kind in ["x25519", "p256", "secret"] {
        let made = command(&["keyring", "new", kind, "--kind", kind, "--id", "2026-11", "--folder", &at], &[], "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let text = String::from_utf8(made.stdout).unwrap();
        let end = if kind == "secret" { "secret" } else { "pem" };
        let file = folder.path().join(format!("{kind}-2026-11.{end}"));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = std::fs::read_to_string(&file).unwrap();
        assert!(!key.lines().any(|line| !line.starts_with("-----") && text.contains(line)), "no key is printed");
        assert!(text.contains(&format!("[keyrings.{kind}]")) && text.contains("state = \"active\""), "{text}");
        // What is there is never written over.
        let again = command(&["keyring", "new", kind, "--kind", kind, "--id", "2026-11", "--folder", &at], &[], "");
        assert_eq!(again.status.code(), Some(3));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    }
}

#[test]
fn a_ring_is_listed_and_rotated() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let file = gateway.directory().join("gapura.toml").display().to_string();
    let environment = [
        ("JWT_SECRET", crate::support::gateway::JWT_SECRET),
        ("API_KEY_SALT", crate::support::gateway::API_KEY_SALT),
        ("MASTER_KEY", crate::support::gateway::MASTER_KEY),
    ];
    let run = |arguments: &[&str]| crate::support::gateway::command(arguments, &environment, "");
    let listed = String::from_utf8(run(&["keyring", "list", "--config", &file]).stdout).unwrap();
    let lines: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!((&lines[0]["kid"], &lines[0]["state"]), (&json!("bodies.2026-11"), &json!("active")));
    assert_eq!(lines[1]["state"], "pending");
    let rotated = run(&["keyring", "rotate", "--config", &file, "bodies", "--id", "next"]);
    let text = String::from_utf8(rotated.stdout).unwrap();
    assert!(
        text.contains("id = \"next\"") && text.contains("state = \"pending\"") && text.contains("retiring"),
        "{text}"
    );
    assert!(gateway.directory().join("bodies-next.pem").exists());
    assert_eq!(run(&["keyring", "rotate", "--config", &file, "bodies", "--id", "2026-12"]).status.code(), Some(1));
    assert_eq!(run(&["keyring", "rotate", "--config", &file, "nothing"]).status.code(), Some(1));
}
