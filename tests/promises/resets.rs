//! A client that opens streams only to leave them holds nothing behind the gateway (CVE-2023-44487).

use crate::support::{
    Flow, Gateway, Setup, Upstream,
    h2::{self, H2},
    wait::until_true,
};

/// No time decides here: what is not closed because the client has left stays open for longer than any test.
const TABLES: &str = r#"
[limits]
max_streams = 100
body_timeout = "10m"

[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
timeout = "10m"
"#;

const MAX_STREAMS: usize = 100;
/// Streams of one round, and how many rounds.
const ROUND: usize = 50;
const ROUNDS: usize = 10;

/// Takes requests, and never answers: each connection ends when the gateway ends it.
fn silent() -> Upstream {
    Upstream::start(|call| {
        while !call.receive().is_empty() {}
        Flow::Close
    })
}

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

fn open(upstream: &Upstream) -> usize {
    upstream.connections() - upstream.ended()
}

fn fields(method: &'static [u8]) -> [(&'static [u8], &'static [u8]); 4] {
    [(b":method", method), (b":scheme", b"https"), (b":authority", b"gateway.test"), (b":path", b"/held")]
}

/// The frames of a request on this stream.
type Request = fn(u32) -> Vec<u8>;

/// Without a body, with one that the gateway holds, with one that it passes on; the last also before its end.
fn ways() -> [(&'static str, Request); 4] {
    [
        ("no body", |stream| h2::request(stream, &fields(b"GET"), None)),
        ("a short body", |stream| {
            let fields = [&fields(b"POST")[..], &[(b"content-length", b"4")]].concat();
            h2::request(stream, &fields, Some(b"body"))
        }),
        ("a streamed body", |stream| h2::request(stream, &fields(b"POST"), Some(b"body"))),
        ("a body that goes on", |stream| h2::begun(stream, &fields(b"POST"), b"body")),
    ]
}

#[test]
fn streams_that_are_reset_hold_no_upstream_connections() {
    for (what, request) in ways() {
        let upstream = silent();
        let gateway = start(&upstream);
        let mut client = H2::connect(gateway.https());
        let mut most = 0;
        for round in 0..ROUNDS {
            let streams: Vec<u32> = (0..ROUND).map(|at| u32::try_from((round * ROUND + at) * 2 + 1).unwrap()).collect();
            let opened: Vec<u8> = streams.iter().flat_map(|stream| request(*stream)).collect();
            assert!(client.frames(&opened), "{what}: the gateway left in round {round}");
            // Each has its connection now: one that was reset before would prove nothing.
            let come = (round + 1) * ROUND;
            until_true(&format!("{what}: round {round} reaches the upstream"), || upstream.requests().len() >= come);
            // Those of earlier rounds are on their way out.
            until_true(&format!("{what}: connections of streams that were reset close"), || {
                most = most.max(open(&upstream));
                open(&upstream) <= MAX_STREAMS
            });
            let resets: Vec<u8> = streams.iter().flat_map(|stream| h2::reset(*stream)).collect();
            assert!(client.frames(&resets), "{what}: the gateway left in round {round}");
        }
        // The client is still there.
        until_true(&format!("{what}: all connections close, {most} were open"), || open(&upstream) == 0);
        assert!(client.frames(&h2::window(0, 1)), "{what}: the connection of the client ended");
    }
}

#[test]
fn a_client_that_leaves_holds_no_upstream_connections() {
    for (what, request) in ways() {
        let upstream = silent();
        let gateway = start(&upstream);
        let mut client = H2::connect(gateway.https());
        let opened: Vec<u8> = (0..50).flat_map(|at| request(at * 2 + 1)).collect();
        client.frames(&opened);
        until_true("the requests reach the upstream", || upstream.requests().len() >= 50);
        drop(client);
        until_true(&format!("{what}: all connections close"), || open(&upstream) == 0);
    }
}

#[test]
fn a_client_of_http_1_that_leaves_holds_none_either() {
    let upstream = silent();
    let gateway = start(&upstream);
    for request in [
        "GET /held HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
        "POST /held HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\nbody",
        "POST /held HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
    ] {
        upstream.forget();
        let mut wire = gateway.connect();
        wire.send(request);
        until_true("the request reaches the upstream", || !upstream.requests().is_empty());
        drop(wire);
        until_true(&format!("the connection closes: {request:?}"), || open(&upstream) == 0);
    }
}
