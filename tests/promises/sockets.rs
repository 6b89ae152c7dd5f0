//! What a credential has opened ends with it: WebSockets, and streams of events.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Backend, Flow, Gateway, Redis, Setup, Socket, Token, Upstream, Wire,
    credential::now_ms,
    gateway::{API_KEY_SALT, BINARY},
    wait::{Gate, until_true},
    wire::{self, find, request_bytes},
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
access_log = true

[tls]
self_signed = true

@STATE@

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
leeway = "1s"

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
database = "sqlite:@DIR@/keys.db"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]
"#;

const EXPIRED: &str = "the credential has expired";
const REVOKED: &str = "the credential is revoked";
/// What the documentation promises of a revocation, on every instance.
const PROMISED: Duration = Duration::from_secs(1);

#[track_caller]
fn start(address: impl ToString) -> Gateway {
    Setup::new(TABLES).put("BACKEND", address.to_string()).put("STATE", "").start()
}

fn ended(gateway: &Gateway, kind: &str, reason: &str) -> f64 {
    let labels = [format!("kind=\"{kind}\""), format!("reason=\"{reason}\"")];
    gateway.metric("gapura_streams_ended_total", &labels.each_ref().map(String::as_str))
}

/// Ends after so many seconds at most, leeway included; and when that is, in milliseconds.
fn short_token(seconds: u64) -> (String, u64) {
    let end = now_ms() / 1000 + seconds;
    (Token::new("alice").with("exp", end - 1).bearer(), end * 1000)
}

fn revoke(gateway: &Gateway, body: &Value) {
    let body = body.to_string();
    let length = body.len().to_string();
    let headers = [("Content-Length", length.as_str())];
    let answer = wire::request(gateway.admin(), "POST", "/revocations", &headers, body.as_bytes());
    assert_eq!(answer.text(), "revoked\n");
}

#[test]
fn a_socket_ends_with_its_token() {
    let backends = Backend::both();
    let gateways = backends.each_ref().map(|backend| start(backend.address()));
    let mut all = Vec::new();
    for (gateway, backend) in gateways.iter().zip(&backends) {
        for url in [format!("ws://{}/ws", gateway.http()), format!("wss://{}/ws", gateway.https())] {
            let (bearer, end) = short_token(5);
            let mut socket = Socket::open(&url, ("Authorization", &bearer));
            let other = Socket::open(&url, ("Authorization", &Token::new("bob").bearer()));
            socket.echo("before");
            all.push((backend.name, socket, other, end));
        }
    }
    for (name, socket, mut other, end) in all {
        socket.expect_close(1008, EXPIRED);
        let late = now_ms().checked_sub(end).expect("it does not end before its token");
        println!("{name}: a socket was closed at most {late} ms after its token ended");
        other.echo("still here");
    }
    for gateway in gateways {
        until_true("both are counted", || ended(&gateway, "websocket", "expired") > 1.5);
        assert_eq!(ended(&gateway, "websocket", "revoked"), 0.0);
        until_true("the access log says why", || gateway.log().contains(&format!("code=- reason={EXPIRED:?}")));
    }
}

#[test]
fn a_socket_of_a_revoked_token_is_closed_on_every_instance() {
    let (redis, backend) = (Redis::start(), Backend::express());
    let gateway = || {
        let state = "[state]\nstore = \"redis\"\nredis = { url = \"env:REDIS_URL\", timeout = \"20s\" }";
        let setup = Setup::new(TABLES).put("BACKEND", backend.address()).put("STATE", state);
        setup.env("REDIS_URL", &redis.url()).start()
    };
    let gateways = [gateway(), gateway()];
    let open = |gateway: &Gateway, user: &str, jti: &str| {
        let token = Token::new(user).with("jti", jti).with("iat", now_ms() / 1000 - 5).bearer();
        Socket::open(&format!("ws://{}/ws", gateway.http()), ("Authorization", &token))
    };
    let mut bobs = gateways.each_ref().map(|gateway| open(gateway, "bob", "b"));
    let mut revocations = 0;
    // By token and by user; and again by token, where the machine had too much else to do for the time that is promised.
    let soon = (0..20).any(|n| {
        let (jti, user) = (format!("jti-{n}"), format!("user-{n}"));
        let what = if n == 1 { json!({"jwt": "users", "subject": user}) } else { json!({"jwt": "users", "jti": jti}) };
        let mut sockets = gateways.each_ref().map(|gateway| open(gateway, &user, &jti));
        sockets.iter_mut().for_each(|socket| socket.echo("before"));
        revoke(&gateways[0], &what);
        let told = Instant::now();
        for (place, socket) in sockets.iter().enumerate() {
            socket.expect_close(1008, REVOKED);
            println!(
                "revoked at the first gateway, closed at gateway {} after {} ms",
                place + 1,
                told.elapsed().as_millis()
            );
        }
        let taken = told.elapsed();
        bobs.iter_mut().for_each(|bob| bob.echo("still here"));
        revocations += 1;
        n > 0 && taken < PROMISED
    });
    assert!(soon, "never within {PROMISED:?}");
    until_true("all are counted", || {
        gateways.each_ref().map(|gateway| ended(gateway, "websocket", "revoked")) == [f64::from(revocations); 2]
    });
    revoke(&gateways[1], &json!({"jwt": "users", "issued_before": now_ms() / 1000}));
    bobs.iter().for_each(|bob| bob.expect_close(1008, REVOKED));
}

/// `gapura keys …` beside a gateway that runs.
fn keys(gateway: &Gateway, arguments: &[&str]) -> String {
    let (command, rest) = arguments.split_first().unwrap();
    let mut keys = Command::new(BINARY);
    keys.args(["keys", command, "--config"]).arg(gateway.directory().join("gapura.toml")).args(rest);
    let output = keys.env("API_KEY_SALT", API_KEY_SALT).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_socket_ends_with_its_api_key() {
    let backend = Backend::express();
    let gateway = start(backend.address());
    let open = || {
        let key = keys(&gateway, &["create", "--user-id", "acme"]);
        let known = || gateway.request("GET", "/me", &[("X-Api-Key", &key)], b"").status == 200;
        until_true("the key is known", known);
        (Socket::open(&format!("ws://{}/ws", gateway.http()), ("X-Api-Key", &key)), key)
    };
    let id = |key: &str| key.split('_').nth(1).unwrap().to_owned();
    let ((mut revoked, first), (mut rotated, second), (mut kept, _)) = (open(), open(), open());
    for socket in [&mut revoked, &mut rotated, &mut kept] {
        socket.echo("before");
    }
    keys(&gateway, &["revoke", &id(&first)]);
    revoked.expect_close(1008, REVOKED);
    rotated.expect_silence();
    keys(&gateway, &["rotate", &id(&second), "--overlap", "2s"]);
    rotated.expect_close(1008, EXPIRED);
    kept.echo("still here");
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A socket that the client has upgraded, with a token of two seconds.
fn upgraded(gateway: &Gateway) -> Wire {
    let (bearer, _) = short_token(2);
    let mut wire = gateway.connect();
    wire.send(request_bytes("GET", "/ws", &[&UPGRADE[..], &[("Authorization", &bearer)]].concat(), b""));
    assert_eq!(wire.head().expect("a head").status, 101);
    wire
}

/// The upstream hears why, too, and not a byte that the client says after the end.
#[test]
fn both_ends_are_told() {
    let upstream = Upstream::start(|call| {
        // A message, whole.
        call.send([SWITCHED.as_bytes(), &[0x81, 2, b'h', b'i']].concat());
        while !call.receive().is_empty() {}
        Flow::Close
    });
    let gateway = start(upstream.address());
    let mut wire = upgraded(&gateway);
    // A ping, with a mask.
    wire.send([0x89, 0x82, 1, 2, 3, 4, 5, 6]);
    let said = wire.rest();
    let close = [&[0x88, 2 + EXPIRED.len() as u8, 0x03, 0xf0], EXPIRED.as_bytes()].concat();
    assert_eq!(said, [&[0x81, 2, b'h', b'i'], &close[..]].concat());
    until_true("the upstream's side ends", || upstream.ended() == 1);
    let masked = [&[0x88, 0x80 | (2 + EXPIRED.len() as u8), 0, 0, 0, 0, 0x03, 0xf0], EXPIRED.as_bytes()].concat();
    let heard = upstream.bytes();
    assert!(heard.ends_with(&masked), "{heard:?}");
}

/// In the middle of a message there is no place for a last word.
#[test]
fn a_frame_that_is_not_whole_is_broken_off() {
    let gate = Gate::default();
    let held = gate.clone();
    let half = [&[0x82, 126, 0x10, 0x00][..], &[b'x'; 100]].concat();
    let sent = half.clone();
    let upstream = Upstream::start(move |call| {
        call.send(SWITCHED);
        call.send(&sent);
        held.wait();
        Flow::Close
    });
    let gateway = start(upstream.address());
    let mut wire = upgraded(&gateway);
    assert_eq!(wire.rest(), half);
    gate.open();
    until_true("it is counted", || ended(&gateway, "websocket", "expired") > 0.5);
}

/// Where the request's length is unknown the response takes another way: nothing of it passes after the token's end.
#[test]
fn events_that_answer_a_streamed_request_end_with_their_token() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.send("9\r\ndata: 1\n\n\r\n");
        held.wait();
        call.send("9\r\ndata: 2\n\n\r\n");
        Flow::Close
    });
    let gateway = start(upstream.address());
    let (bearer, end) = short_token(3);
    let mut wire = gateway.connect();
    let head = "Host: gateway.test\r\nTransfer-Encoding: chunked\r\nConnection: close";
    wire.send(format!("POST /events HTTP/1.1\r\n{head}\r\nAuthorization: {bearer}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"));
    assert_eq!(wire.head().map(|answer| answer.status), Some(200));
    assert_eq!(wire.chunk().as_deref(), Some(&b"data: 1\n\n"[..]));
    until_true("the token has ended", || now_ms() > end);
    gate.open();
    assert!(find(&wire.rest(), b"data: 2").is_none());
    until_true("it is counted", || ended(&gateway, "events", "expired") > 0.5);
}

/// A stream of events is a socket in all but name; a download that began in time may end.
#[test]
fn a_stream_of_events_ends_with_its_token_and_a_download_does_not() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        let kind = if call.heard.target == "/events" { "text/event-stream" } else { "text/plain" };
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        call.send("9\r\ndata: 1\n\n\r\n");
        held.wait();
        call.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        Flow::Close
    });
    let gateway = start(upstream.address());
    let (bearer, end) = short_token(2);
    let ask = |target: &'static str| {
        let mut wire = gateway.connect();
        wire.send(request_bytes("GET", target, &[("Authorization", &bearer)], b""));
        thread::spawn(move || wire.answer("GET"))
    };
    let (events, download) = (ask("/events"), ask("/download"));
    let events = events.join().unwrap();
    assert!(now_ms() >= end, "it ended before its token");
    assert_eq!((events.status, events.text()), (200, "data: 1\n\n"));
    gate.open();
    assert_eq!(download.join().unwrap().text(), "data: 1\n\ndata: 2\n\n");
    assert_eq!((ended(&gateway, "events", "expired"), ended(&gateway, "websocket", "expired")), (1.0, 0.0));
    assert!(find(gateway.log().as_bytes(), b"alice@").is_none());
}
