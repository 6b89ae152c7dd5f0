//! On routes that need no body whole, bodies pass as they come, both ways: nothing is held back, changed or cut unnoticed.

use crate::support::{
    Curl, Flow, Gateway, Setup, Upstream, Wire, expect_problem, nghttp,
    upstream::Call,
    wait::{Gate, until_true},
    wire::{chunked, find, request_bytes},
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"
max_body = "16MiB"

[[routes]]
name = "small"
path = "/small"
upstream = "backend"
max_body = "64KiB"

[[routes]]
name = "private"
path = "/private"
upstream = "backend"
auth = ["jwt.users"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

/// Bytes that do not compress and do not repeat within a block.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    next.flatten().take(length).collect()
}

fn echo(call: &mut Call<'_>) -> Flow {
    let body = call.body();
    call.respond(200, &[("Content-Type", "application/octet-stream")], &body)
}

#[test]
fn a_request_body_is_not_held_back() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    // A short body of known length may be read whole first, so that it can be sent again; of a long one up to a TCP
    // segment may wait for more.
    let part = "first".repeat(20_000);
    let (length, whole) = ((2 * part.len()).to_string(), format!("{part}{part}"));
    for framing in [("Transfer-Encoding", "chunked"), ("Content-Length", length.as_str())] {
        upstream.forget();
        let coded = framing.0 == "Transfer-Encoding";
        let piece = if coded { format!("{:x}\r\n{part}\r\n", part.len()) } else { part.clone() };
        let mut wire = gateway.connect();
        wire.send(request_bytes("POST", "/open", &[framing], b""));
        wire.send(&piece);
        until_true(&format!("the first part reaches the upstream ({})", framing.0), || {
            let head = find(&upstream.bytes(), b"\r\n\r\n").unwrap_or(usize::MAX);
            upstream.bytes().len().saturating_sub(head) > part.len() - 1500
        });
        wire.send(&piece);
        if coded {
            wire.send("0\r\n\r\n");
        }
        assert_eq!(wire.answer("POST").text(), whole);
    }
}

#[test]
fn a_response_body_is_not_held_back() {
    let seen = Gate::default();
    let gate = seen.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.send("d\r\ndata: first\n\n\r\n");
        gate.wait();
        call.send("c\r\ndata: last\n\n\r\n0\r\n\r\n");
        Flow::Keep
    });
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send(request_bytes("GET", "/open/events", &[], b""));
    let head = wire.head().expect("a head");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    // The upstream sends the rest only now, and so has sent nothing more yet.
    let mut first = Vec::new();
    while first != b"data: first\n\n" {
        first.extend(wire.chunk().expect("the first event"));
        assert!(b"data: first\n\n".starts_with(&first), "{:?}", String::from_utf8_lossy(&first));
    }
    seen.open();
    let mut rest = Vec::new();
    while let Some(chunk) = wire.chunk().filter(|chunk| !chunk.is_empty()) {
        rest.extend(chunk);
    }
    assert_eq!(rest, b"data: last\n\n");
}

#[test]
fn a_response_of_known_length_is_not_held_back() {
    let seen = Gate::default();
    let gate = seen.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        gate.wait();
        call.send("other");
        Flow::Keep
    });
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send(request_bytes("GET", "/open", &[], b""));
    assert_eq!(wire.head().expect("a head").header("content-length"), Some("10"));
    assert_eq!(wire.take(5).expect("the first part"), b"first");
    seen.open();
    assert_eq!(wire.take(5).expect("the other part"), b"other");
}

/// However much the client is still sending.
#[test]
fn the_refusal_of_an_upload_is_heard() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    let large = vec![b'x'; 8 << 20];
    let gone = Upstream::ok().address();
    let down = Setup::tls(TABLES).put("BACKEND", gone).start();
    for _ in 0..12 {
        let overrun = Curl::h1(gateway.https(), "/small").header("Expect", "").streamed(&large).answer();
        expect_problem(&overrun, 413, "BODY_TOO_LARGE");
        let nobody = Curl::h1(down.https(), "/open").header("Expect", "").body(&large).answer();
        expect_problem(&nobody, 502, "UPSTREAM_UNAVAILABLE");
    }
}

/// A head alone is an answer, too: its body may take long.
#[test]
fn a_response_head_is_not_held_back() {
    let seen = Gate::default();
    let gate = seen.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        gate.wait();
        call.send("0\r\n\r\n");
        Flow::Keep
    });
    let gateway = start(&upstream);
    for tls in [false, true] {
        let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
        wire.send(request_bytes("GET", "/open", &[], b""));
        assert_eq!(wire.head().expect("a head").status, 200);
    }
    seen.open();
}

/// The end of a body is written once: what follows it on the wire would be read as the next request.
#[test]
fn nothing_follows_the_end_of_a_body() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    let body = noise(100_000);
    for round in 0..5 {
        let clients: [fn(std::net::SocketAddr, &str) -> Curl; 2] = [Curl::h1, Curl::h2];
        for client in clients {
            for streamed in [false, true] {
                let curl = client(gateway.https(), "/open").method("POST");
                let answer = if streamed { curl.streamed(&body) } else { curl.body(&body) }.run().answer;
                assert!((answer.status, &answer.body) == (200, &body), "round {round}: {}", answer.status);
            }
        }
    }
    let heard = upstream.requests();
    assert_eq!(heard.len(), 20);
    assert!(heard.iter().all(|heard| heard.method == "POST" && heard.complete && heard.body == body));
}

#[test]
fn chunked_bodies_pass_both_ways() {
    let body = noise(300_000);
    let answer = body.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        call.send(chunked(&answer, 7000));
        Flow::Keep
    });
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send(request_bytes("PUT", "/open", &[("Transfer-Encoding", "chunked")], b""));
    wire.send(chunked(&body, 999));
    let got = wire.answer("PUT");
    assert!(got.complete && got.body == body, "{} bytes", got.body.len());
    let heard = upstream.only();
    assert!(heard.body == body, "{} bytes reached the upstream", heard.body.len());
    assert_eq!(heard.all("content-length").len() + heard.all("transfer-encoding").len(), 1, "{:?}", heard.raw_headers);
    let over_h2 = Curl::h2(gateway.https(), "/open").streamed(&body).answer();
    assert!(over_h2.body == body && upstream.last().body == body);
}

#[test]
fn large_bodies_pass_both_ways() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    let body = noise(8 * 1024 * 1024);
    let plain = gateway.request("POST", "/open", &[], &body);
    assert!(plain.complete && plain.body == body, "{} bytes", plain.body.len());
    assert_eq!(plain.header("content-length"), Some("8388608"));
    for curl in [Curl::h1(gateway.https(), "/open"), Curl::h2(gateway.https(), "/open")] {
        let answer = curl.body(&body).answer();
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
}

#[test]
fn a_body_of_unknown_length_is_cut_at_its_limit() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    let fits = noise(64 * 1024);
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/small", &[("Transfer-Encoding", "chunked")], b"")).send(chunked(&fits, 4096));
    assert!(wire.answer("POST").body == fits);

    upstream.forget();
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/small", &[("Transfer-Encoding", "chunked")], b""));
    wire.send(chunked(&noise(64 * 1024 + 1), 4096));
    expect_problem(&wire.answer("POST"), 413, "BODY_TOO_LARGE");
    let over_h2 = nghttp::post_streamed(gateway.https(), "/small", &[], &noise(64 * 1024 + 1));
    expect_problem(&over_h2, 413, "BODY_TOO_LARGE");
    // The upstream may have seen a part, but must never take it for a whole.
    until_true("the upstream's connections end", || upstream.ended() >= upstream.connections().saturating_sub(1));
    for heard in upstream.requests() {
        assert!(!heard.complete, "a cut body looked complete: {} bytes", heard.body.len());
    }
}
