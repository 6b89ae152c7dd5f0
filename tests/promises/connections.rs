//! Limits that hold against whoever can open a connection: on its silence, its slowness, its size and its number.

use std::thread;

use crate::support::{
    Curl, Gateway, Setup, Upstream, Wire, expect_problem,
    wait::until_true,
    wire::{chunked, request_bytes},
};

const ROUTES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[encryption.bodies]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[[routes]]
name = "sealed"
path = "/sealed"
upstream = "backend"
auth = ["jwt.users"]
encryption = "bodies"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
"#;

fn start(limits: &str, upstream: &Upstream) -> Gateway {
    Setup::tls(&format!("[limits]\n{limits}\n{ROUTES}")).put("BACKEND", upstream.address()).start()
}

#[test]
fn a_handshake_that_does_not_come() {
    let upstream = Upstream::ok();
    let gateway = start("handshake_timeout = \"300ms\"", &upstream);
    // Below TLS: nothing at all, the start of a record, and a whole record header without its record.
    for bytes in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01"] {
        let mut wire = Wire::connect(gateway.https());
        wire.send(bytes);
        wire.rest();
    }
    upstream.expect_untouched();
    // One that comes, as soon as the machine lets it come in time.
    until_true("a handshake in time", || Curl::h2(gateway.https(), "/").run().answer.status == 200);
}

#[test]
fn a_head_that_trickles() {
    let upstream = Upstream::ok();
    let gateway = start("head_timeout = \"500ms\"", &upstream);
    // A head that never ends, though something always comes.
    let mut wire = gateway.connect();
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\nX: ");
    expect_problem(&wire.dribble(b'x', "GET"), 408, "REQUEST_TIMEOUT");
    wire.rest();
    // The same for the second request of a connection.
    let mut wire = gateway.connect();
    wire.send(request_bytes("GET", "/", &[], b""));
    assert_eq!(wire.answer("GET").status, 200);
    wire.send("GET /second HTTP/1.1\r\n");
    expect_problem(&wire.dribble(b'x', "GET"), 408, "REQUEST_TIMEOUT");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_head_that_stops() {
    let upstream = Upstream::ok();
    let gateway = start("head_timeout = \"1s\"", &upstream);
    let mut wire = gateway.connect();
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n");
    expect_problem(&wire.answer("GET"), 408, "REQUEST_TIMEOUT");
    wire.expect_closed();
    let mut wire = Wire::tls(gateway.https(), &["http/1.1"]);
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n");
    expect_problem(&wire.answer("GET"), 408, "REQUEST_TIMEOUT");
    wire.expect_closed();
    upstream.expect_untouched();
}

#[test]
fn a_connection_that_is_idle() {
    let upstream = Upstream::ok();
    let gateway = start("idle_timeout = \"1s\"", &upstream);
    gateway.connect().expect_closed();
    Wire::tls(gateway.https(), &["http/1.1"]).rest();
    let mut used = gateway.connect();
    used.send(request_bytes("GET", "/", &[], b""));
    assert_eq!(used.answer("GET").status, 200);
    used.expect_closed();
    // HTTP/2: a preface and SETTINGS, then silence. What comes before the end is the gateway's own frames.
    let mut h2 = Wire::tls(gateway.https(), &["h2"]);
    h2.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    h2.rest();
}

#[test]
fn a_body_that_stops_before_anything_was_forwarded() {
    let upstream = Upstream::ok();
    let gateway = start("body_timeout = \"300ms\"", &upstream);
    let bearer = crate::support::token();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Content-Length", "100")];
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/sealed", &headers, b"{\"encryptedData\""));
    expect_problem(&wire.answer("POST"), 408, "REQUEST_TIMEOUT");
    wire.expect_closed();
    upstream.expect_untouched();
}

#[test]
fn a_streamed_body_that_stops() {
    let upstream = Upstream::ok();
    let gateway = start("body_timeout = \"300ms\"", &upstream);
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/", &[("Content-Length", "100")], b"part"));
    if let Some(answer) = wire.try_answer("POST") {
        expect_problem(&answer, 408, "REQUEST_TIMEOUT");
    }
    wire.rest();
    assert!(upstream.requests().iter().all(|heard| !heard.complete), "a cut body looked complete");
}

#[test]
fn more_connections_than_allowed() {
    let upstream = Upstream::ok();
    let gateway = start("max_connections = 2", &upstream);
    let open = || {
        let mut wire = gateway.connect();
        wire.send(request_bytes("GET", "/", &[], b""));
        (wire.try_answer("GET").is_some_and(|answer| answer.status == 200), wire)
    };
    let ((first, wire), (second, _kept)) = (open(), open());
    assert!(first && second);
    let (third, mut refused) = open();
    assert!(!third, "a third connection was served");
    refused.rest();
    assert!(Curl::h2(gateway.https(), "/").run().exit != 0, "the limit is of all listeners together");
    drop(wire);
    until_true("the place of a closed connection is free", || open().0);
}

#[test]
fn a_head_with_too_many_bytes() {
    let upstream = Upstream::ok();
    let gateway = start("max_head = \"4KiB\"", &upstream);
    let long = "x".repeat(5000);
    let path = format!("/{long}");
    let by_field = gateway.request("GET", "/", &[("X-Long", &long)], b"");
    expect_problem(&by_field, 431, "HEAD_TOO_LARGE");
    expect_problem(&gateway.get(&path), 431, "HEAD_TOO_LARGE");
    // One that never ends is refused as soon as it is too long, not when it ends.
    let mut wire = gateway.connect();
    wire.send(format!("GET / HTTP/1.1\r\nHost: gateway.test\r\nX: {long}"));
    expect_problem(&wire.answer("GET"), 431, "HEAD_TOO_LARGE");
    wire.expect_closed();
    let mut tls = Wire::tls(gateway.https(), &["http/1.1"]);
    tls.send(format!("GET / HTTP/1.1\r\nHost: gateway.test\r\nX: {long}\r\n\r\n"));
    expect_problem(&tls.answer("GET"), 431, "HEAD_TOO_LARGE");
    let over_h2 = Curl::h2(gateway.https(), "/").header("X-Long", &long).run();
    assert!(over_h2.exit != 0 || over_h2.answer.status == 431, "HTTP/2: {}", over_h2.answer.status);
    upstream.expect_untouched();
    let fits = "x".repeat(3500);
    assert_eq!(gateway.request("GET", "/", &[("X-Long", &fits)], b"").status, 200);
    assert_eq!(Curl::h2(gateway.https(), "/").header("X-Long", &fits).answer().status, 200);
}

#[test]
fn a_head_with_too_many_fields() {
    let upstream = Upstream::ok();
    let gateway = start("max_headers = 20", &upstream);
    let names: Vec<_> = (0..30).map(|number| format!("X-{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    expect_problem(&gateway.request("GET", "/", &headers, b""), 431, "HEAD_TOO_LARGE");
    let over_h2 = Curl::h2(gateway.https(), "/").headers(&headers).run();
    expect_problem(&over_h2.answer, 431, "HEAD_TOO_LARGE");
    upstream.expect_untouched();
    assert_eq!(gateway.request("GET", "/", &headers[..15], b"").status, 200);
}

#[test]
fn many_requests_share_a_connection() {
    let upstream = Upstream::ok();
    let gateway = start("", &upstream);
    let mut wire = gateway.connect();
    for round in 0..50 {
        let body = vec![b'x'; round * 100];
        match round % 3 {
            0 => wire.send(request_bytes("GET", "/", &[], b"")),
            1 => wire.send(request_bytes("POST", "/", &[], &body)),
            _ => wire
                .send(request_bytes("POST", "/", &[("Transfer-Encoding", "chunked")], b""))
                .send(chunked(&body, 999)),
        };
        assert_eq!(wire.answer("GET").status, 200, "request {round}");
    }
    assert_eq!(upstream.requests().len(), 50);
    let open = || gateway.metric("gapura_connections", &["listener=\"http://"]) as i64;
    assert_eq!(open(), 1, "the gauge counts this connection");
    drop(wire);
    until_true("the gauge no longer counts it", || open() == 0);
}

#[test]
fn many_streams_share_a_connection() {
    let upstream = Upstream::ok();
    let gateway = start("", &upstream);
    let output = std::process::Command::new("nghttp")
        .args(["--no-verify-peer", "--null-out", "--stat", "--multiply=50"])
        .arg(format!("https://{}/", gateway.https()))
        .output()
        .expect("nghttp; run `scripts/install.sh test` once");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert_eq!(upstream.requests().len(), 50, "{text}");
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let upstream = Upstream::ok();
    let gateway = start("", &upstream);
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut wire = gateway.connect();
            wire.send("GET / HTTP/1.1\r\nHost: ");
            wire
        })
        .collect();
    let address = gateway.http();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..10 {
                    assert_eq!(crate::support::wire::request(address, "GET", "/", &[], b"").status, 200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(slow.len(), 100);
    assert_eq!(upstream.requests().len(), 40);
}
