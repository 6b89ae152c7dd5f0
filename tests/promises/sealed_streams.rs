//! With `stream = true` bodies of `aes128gcm` pass record by record, both ways. What is spoiled or cut off on the way reaches no
//! upstream as a whole request, and no client as a whole response. Sealed and opened by http_ece.

use std::{fmt::Write as _, net::SocketAddr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::key_delivery::ask;
use crate::support::{
    Answer, Backend, Curl, Flow, Gateway, Setup, Upstream,
    credential::now_ms,
    expect_problem, nghttp, node, token,
    wait::{until, until_true},
    wire::{self, chunked, request_bytes},
};

pub const TABLES: &str = r#"
[server]
https = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
key_delivery = true

[tls]
self_signed = true

[limits]
body_timeout = "@PAUSE@"

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[keyrings.sessions]
kind = "secret"
versions = [{ id = "1", key = "file:@DIR@/secret", state = "active" }]

[encryption.files]
profile = "aes128gcm"
keyrings = ["sessions"]
stream = true
inner_types = ["application/octet-stream", "text/plain"]

[[routes]]
name = "files"
path = "/files/**"
upstream = "backend"
auth = ["jwt.users"]
encryption = "files"
max_body = "256MiB"

[[routes]]
name = "small"
path = "/small"
upstream = "backend"
auth = ["jwt.users"]
encryption = "files"
max_body = "64KiB"

[[routes]]
name = "seen"
path = "/seen"
upstream = "backend"
"#;

pub fn start(backend: SocketAddr) -> Gateway {
    start_with(backend, "30s")
}

fn start_with(backend: SocketAddr, pause: &str) -> Gateway {
    Setup::new(TABLES).put("BACKEND", backend).put("PAUSE", pause).file("secret", [b's'; 32]).start()
}

/// A caller with its session key.
pub struct Client {
    pub session: Value,
}

/// A message, and what its client keeps of it.
pub struct Sealed {
    pub bytes: Vec<u8>,
    handle: String,
    records: usize,
}

/// Small, so that there are many.
const RS: usize = 1000;
pub const AUTHORITY: &str = "gateway.test";

impl Client {
    pub fn of(gateway: &Gateway) -> Self {
        Self { session: ask(gateway, "path=/files/1", &token(), b"").json() }
    }

    pub fn seal(&self, content: &str, target: &str) -> Sealed {
        self.seal_for(content, ("POST", AUTHORITY, target), now_ms())
    }

    pub fn seal_for(&self, content: &str, (method, authority, path): (&str, &str, &str), iat: u64) -> Sealed {
        let content_type = if content.is_empty() { "" } else { "text/plain" };
        let kid = self.session["kid"].as_str().unwrap();
        let given = json!({
            "iat": iat, "contentType": content_type, "content": content, "rs": RS, "kid": kid,
            "sessionKey": self.session["session_key"],
            "request": {"method": method, "authority": authority, "path": path, "subject": "u-1001"},
        });
        let made: Value = serde_json::from_str(&node::call("eceSeal", given)).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(made["message"].as_str().unwrap()).unwrap();
        let records = 21 + usize::from(bytes[20]);
        Sealed { bytes, handle: made["handle"].as_str().unwrap().to_owned(), records }
    }
}

impl Sealed {
    /// Where a record begins.
    pub fn record(&self, number: usize) -> usize {
        self.records + number * RS
    }

    pub fn try_open(&self, answer: &Answer) -> Result<String, String> {
        let content_type = answer.header("content-type").unwrap();
        let message = URL_SAFE_NO_PAD.encode(&answer.body);
        let given =
            json!({"handle": self.handle, "status": answer.status, "message": message, "contentType": content_type});
        node::try_call("eceOpen", given)
    }

    #[track_caller]
    pub fn open(&self, answer: &Answer) -> String {
        assert!(answer.complete, "{} {}", answer.status, answer.lossy());
        assert_eq!(answer.header("content-encoding"), Some("aes128gcm"), "{} {}", answer.status, answer.lossy());
        assert_eq!(answer.header("content-length"), None);
        self.try_open(answer).unwrap_or_else(|why| panic!("{why}: {} bytes", answer.body.len()))
    }
}

pub fn fields(authorization: &str) -> Vec<(&str, &str)> {
    vec![("Authorization", authorization), ("Content-Type", "text/plain"), ("Content-Encoding", "aes128gcm")]
}

/// So many different lines.
pub fn lines(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "this is line {line:08}");
        text
    })
}

fn echo() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        if !call.heard.complete {
            return Flow::Close;
        }
        call.respond(200, &[("Content-Type", "text/plain")], &body)
    })
}

#[test]
fn records_pass_as_they_come() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let (client, content, authorization) = (Client::of(&gateway), lines(9000), token());
    let sealed = client.seal(&content, "/files/1");
    let length = sealed.bytes.len().to_string();
    for framing in [("Transfer-Encoding", "chunked"), ("Content-Length", &length)] {
        upstream.forget();
        let sealed = client.seal(&content, "/files/1");
        let coded = framing.0 == "Transfer-Encoding";
        let frame = |bytes: &[u8]| match coded {
            true => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            false => bytes.to_vec(),
        };
        let mut wire = gateway.connect();
        wire.send(request_bytes("POST", "/files/1", &[fields(&authorization), vec![framing]].concat(), b""));
        // The end of each piece is in the middle of a record: as much as is authentic is there, and no more.
        for (at, until) in [(0, 1), (1, 70)] {
            let start = if at == 0 { 0 } else { sealed.record(at) + 500 };
            wire.send(frame(&sealed.bytes[start..sealed.record(until) + 500]));
            let plain = until * (RS - 17);
            let there = &content.as_bytes()[plain - 100..plain];
            until_true("what has come is at the upstream", || wire::find(&upstream.bytes(), there).is_some());
        }
        wire.send(frame(&sealed.bytes[sealed.record(70) + 500..]));
        if coded {
            wire.send("0\r\n\r\n");
        }
        assert_eq!(sealed.open(&wire.answer("POST")), content);
        let heard = upstream.last();
        assert_eq!(heard.text(), content);
        assert_eq!(heard.header("transfer-encoding"), Some("chunked"));
        assert_eq!((heard.header("content-length"), heard.header("content-encoding")), (None, None));
        assert_eq!(heard.header("content-type"), Some("text/plain"));
    }
    let authority = gateway.https().to_string();
    for (number, curl) in [Curl::h1, Curl::h2].into_iter().enumerate() {
        let sealed = client.seal_for(&content, ("POST", &authority, "/files/1"), now_ms());
        let call = curl(gateway.https(), "/files/1").headers(&fields(&authorization)).method("POST");
        assert_eq!(sealed.open(&call.streamed(&sealed.bytes).answer()), content, "{number}");
        assert_eq!(upstream.last().text(), content);
    }
    assert_eq!(gateway.metric("gapura_decryptions_total", &["encryption=\"files\"", "result=\"opened\""]), 4.0);
}

/// One record, or none: judged whole before the upstream, and sent with its length.
#[test]
fn a_message_of_one_record_goes_on_whole() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let (client, authorization) = (Client::of(&gateway), token());
    for content in ["x".to_owned(), "y".repeat(RS - 17)] {
        let sealed = client.seal(&content, "/files/1");
        let answer = gateway.request("POST", "/files/1", &fields(&authorization), &sealed.bytes);
        assert_eq!(sealed.open(&answer), content);
        assert_eq!(upstream.last().header("content-length"), Some(&*content.len().to_string()));
        upstream.forget();
        let mut longer = client.seal(&content, "/files/1");
        longer.bytes.push(0);
        let answer = gateway.request("POST", "/files/1", &fields(&authorization), &longer.bytes);
        expect_problem(&answer, 400, "DECRYPTION_FAILED");
        assert_eq!(upstream.requests().len(), 0);
    }
    let none = gateway.request("POST", "/files/1", &fields(&authorization), "");
    expect_problem(&none, 400, "ENVELOPE_REQUIRED");
    let plain = gateway.request("POST", "/files/1", &[("Authorization", &authorization)], "in clear");
    expect_problem(&plain, 415, "CONTENT_TYPE_UNSUPPORTED");
    assert_eq!(upstream.requests().len(), 0);
}

/// Each way to spoil what comes behind the first record.
fn spoiled(sealed: &Sealed) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = &sealed.bytes;
    let at = |record: usize| sealed.record(record);
    let mut changed = bytes.clone();
    changed[at(150) + 7] ^= 1;
    let mut last = bytes.clone();
    *last.last_mut().unwrap() ^= 1;
    vec![
        ("a changed record", changed),
        ("a changed last record", last),
        ("cut between records", bytes[..at(150)].to_vec()),
        ("cut within a record", bytes[..at(150) + 400].to_vec()),
        ("without the last byte", bytes[..bytes.len() - 1].to_vec()),
        (
            "two records swapped",
            [&bytes[..at(100)], &bytes[at(101)..at(102)], &bytes[at(100)..at(101)], &bytes[at(102)..]].concat(),
        ),
        ("a record twice", [&bytes[..at(101)], &bytes[at(100)..]].concat()),
        ("a record missing", [&bytes[..at(100)], &bytes[at(101)..]].concat()),
        ("a byte behind the last record", [&bytes[..], b"x"].concat()),
        ("the message again", [&bytes[..], &bytes[at(0)..]].concat()),
    ]
}

#[test]
fn nothing_spoiled_is_taken_for_whole() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let (client, content, authorization) = (Client::of(&gateway), lines(9000), token());
    let authority = gateway.https().to_string();
    let count = spoiled(&client.seal(&content, "/files/1")).len();
    for case in 0..count {
        for http2 in [false, true] {
            // Of each kind one is enough to know the other transport by.
            if http2 && !matches!(case, 0 | 2 | 8 | 9) {
                continue;
            }
            upstream.forget();
            let place = ("POST", if http2 { &*authority } else { AUTHORITY }, "/files/1");
            let (name, bytes) = spoiled(&client.seal_for(&content, place, now_ms())).swap_remove(case);
            let answer = if http2 {
                nghttp::post_streamed(gateway.https(), "/files/1", &fields(&authorization), &bytes)
            } else {
                let mut wire = gateway.connect();
                let framing = vec![("Transfer-Encoding", "chunked")];
                wire.send(request_bytes("POST", "/files/1", &[fields(&authorization), framing].concat(), b""));
                wire.try_send(chunked(&bytes, 4000));
                wire.answer("POST")
            };
            assert_eq!(answer.status, 400, "{name}: {}", answer.lossy());
            expect_problem(&answer, 400, "DECRYPTION_FAILED");
            until_true("the upstream's connections end", || upstream.ended() == upstream.connections());
            for heard in upstream.requests() {
                assert!(!heard.complete, "{name}: taken for whole with {} bytes", heard.body.len());
                // What the client may take for the answer of its next request never comes.
                assert!(wire::find(&upstream.bytes(), b"0\r\n\r\n").is_none(), "{name}");
            }
        }
    }
    assert_eq!((aborted(&gateway, "record"), aborted(&gateway, "truncated")), (7.0, 7.0));
}

/// Before anything has reached the upstream: what the first record shows, and what it cannot show.
#[test]
fn what_the_first_record_tells_is_judged_before_the_upstream() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let (client, content, authorization) = (Client::of(&gateway), lines(9000), token());
    let send = |target: &str, bytes: &[u8]| gateway.request("POST", target, &fields(&authorization), bytes);
    let sealed = client.seal(&content, "/files/1");
    for at in [0, 17, 30, 60, sealed.record(0), sealed.record(1) - 1] {
        let mut changed = sealed.bytes.clone();
        changed[at] ^= 1;
        expect_problem(&send("/files/1", &changed), 400, "DECRYPTION_FAILED");
    }
    expect_problem(&send("/files/2", &sealed.bytes), 400, "DECRYPTION_FAILED");
    expect_problem(&send("/files/1", &sealed.bytes[..sealed.record(0) + 5]), 400, "DECRYPTION_FAILED");
    for iat in [now_ms() - 301_000, now_ms() + 65_000] {
        let old = client.seal_for(&content, ("POST", AUTHORITY, "/files/1"), iat);
        expect_problem(&send("/files/1", &old.bytes), 400, "ENVELOPE_EXPIRED");
    }
    let typed = [("Authorization", &*authorization), ("Content-Type", "text/html"), ("Content-Encoding", "aes128gcm")];
    expect_problem(&gateway.request("POST", "/files/1", &typed, &sealed.bytes), 400, "DECRYPTION_FAILED");
    let mut both = fields(&authorization);
    both.push(("X-Gapura-Envelope", "aes128gcm=AA"));
    expect_problem(&gateway.request("POST", "/files/1", &both, &sealed.bytes), 400, "ENVELOPE_REQUIRED");
    upstream.expect_untouched();
    assert_eq!(sealed.open(&send("/files/1", &sealed.bytes)), content, "nothing of this has used it up");
    upstream.forget();
    expect_problem(&send("/files/1", &sealed.bytes), 409, "ENVELOPE_REPLAYED");
    // What was broken off was sent as well.
    let sealed = client.seal(&content, "/files/1");
    expect_problem(&send("/files/1", &sealed.bytes[..sealed.record(3)]), 400, "DECRYPTION_FAILED");
    until_true("some of it reaches the upstream", || upstream.requests().len() == 1);
    upstream.forget();
    expect_problem(&send("/files/1", &sealed.bytes), 409, "ENVELOPE_REPLAYED");
    assert_eq!(upstream.requests().len(), 0);
}

/// Backends know whether a body came to its end, and so does the one that asks them.
#[test]
fn real_backends_see_a_broken_request_as_broken() {
    for backend in Backend::recorders() {
        let gateway = start(backend.address());
        let (client, content, authorization) = (Client::of(&gateway), lines(9000), token());
        let sealed = client.seal(&content, "/files/1");
        let whole = gateway.request("POST", "/files/1", &fields(&authorization), &sealed.bytes);
        use sha2::{Digest as _, Sha256};
        let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let types = whole.header("content-type").map(str::to_owned);
        let seen = || gateway.get("/seen").json();
        assert_eq!(seen()[0]["sha256"], *digest, "{}: {types:?}", backend.name);
        let (_, cut) = spoiled(&client.seal(&content, "/files/1")).swap_remove(0);
        let refused = gateway.request("POST", "/files/1", &fields(&authorization), &cut);
        expect_problem(&refused, 400, "DECRYPTION_FAILED");
        let record =
            until("the backend sees the end", || Some(seen()[1].clone()).filter(|record| record["closed"] == true));
        assert_eq!(record["ended"], false, "{}: {record}", backend.name);
        assert!(record["bytes"].as_u64().unwrap() < content.len() as u64, "{}: {record}", backend.name);
    }
}

fn aborted(gateway: &Gateway, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    gateway.metric("gapura_envelope_streams_aborted_total", &["encryption=\"files\"", &reason])
}

#[test]
fn limits_and_silence_break_a_request_off() {
    let upstream = echo();
    let [patient, hasty] = ["30s", "2s"].map(|pause| start_with(upstream.address(), pause));
    let authorization = token();
    let head = |target: &str| {
        let framing = vec![("Transfer-Encoding", "chunked")];
        request_bytes("POST", target, &[fields(&authorization), framing].concat(), b"")
    };
    let large = Client::of(&patient).seal(&lines(9000), "/small");
    let mut wire = patient.connect();
    wire.send(head("/small")).try_send(chunked(&large.bytes, 4096));
    expect_problem(&wire.answer("POST"), 413, "BODY_TOO_LARGE");
    // One stops sending, one leaves.
    for gateway in [&hasty, &patient] {
        let sealed = Client::of(gateway).seal(&lines(9000), "/files/1");
        let before = upstream.requests().len();
        let mut wire = gateway.connect();
        let part = &sealed.bytes[..sealed.record(5)];
        wire.send([&head("/files/1"), format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
        until_true("the request is with the upstream", || upstream.requests().len() > before);
        if std::ptr::eq(gateway, &hasty) {
            expect_problem(&wire.answer("POST"), 408, "REQUEST_TIMEOUT");
        } else {
            drop(wire);
        }
        until_true("the upstream's connections end", || upstream.ended() == upstream.connections());
    }
    assert!(upstream.requests().iter().all(|heard| !heard.complete));
    assert_eq!((aborted(&hasty, "late"), aborted(&patient, "too_large"), aborted(&patient, "client")), (1.0, 1.0, 1.0));
}
