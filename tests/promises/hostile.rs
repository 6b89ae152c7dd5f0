//! What two readers could read in two ways is refused before anyone else reads it: one problem, then the connection closes,
//! and no upstream has seen a byte.

use crate::support::{Gateway, Setup, Upstream, Wire, expect_problem, token};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"

[[routes]]
name = "private"
path = "/private/**"
upstream = "backend"
auth = ["jwt.users"]
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

/// Sends each on a connection of its own. `[H]` stands for a valid Host field.
#[track_caller]
fn refused(gateway: &Gateway, upstream: &Upstream, tls: bool, requests: &[&[u8]]) {
    let mut wrong = Vec::new();
    for request in requests {
        let text = String::from_utf8_lossy(request).into_owned();
        let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
        wire.send(replace(request, b"[H]", b"Host: gateway.test\r\n"));
        match wire.try_answer("GET") {
            Some(answer) if answer.status == 400 => {
                expect_problem(&answer, 400, "REQUEST_MALFORMED");
                wire.expect_closed();
            }
            Some(answer) => wrong.push(format!("{text:?} -> {}", answer.status)),
            None => wrong.push(format!("{text:?} -> closed without an answer")),
        }
    }
    assert!(wrong.is_empty(), "not refused as malformed (TLS: {tls}):\n{}", wrong.join("\n"));
    upstream.expect_untouched();
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + to.len());
    let mut rest = bytes;
    while let Some(at) = crate::support::wire::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

const FRAMING: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\n[H]Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 3, 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: -1\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 0x3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 3a\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 3 4\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Content-Length:\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Content-Length: 99999999999999999999999\r\n\r\nabc",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: identity\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H] Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n[H]Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\n[H]Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

const HEADS: &[&[u8]] = &[
    b"GET / HTTP/1.1\n[H]\n",
    b"GET / HTTP/1.1\nHost: gateway.test\n\n",
    b"GET / HTTP/1.1\r\n[H]X: a\nY: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\rY: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\r\n folded\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\r\n\tfolded\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\x01b\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X: a\x7fb\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X : a\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X(Y): a\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]X\xc3\xa9: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H]Host: other.test\r\n\r\n",
    b"GET / HTTP/1.1\r\n[H][H]\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test/path\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test?q\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test:port\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: caf\xc3\xa9.test\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
];

const LINES: &[&[u8]] = &[
    b"GET /\r\n\r\n",
    b"GET / HTTP/2.0\r\n[H]\r\n",
    b"GET / HTTP/0.9\r\n[H]\r\n",
    b"GET / HTTP/1.2\r\n[H]\r\n",
    b"GET / HTTP/1.10\r\n[H]\r\n",
    b"GET / http/1.1\r\n[H]\r\n",
    b"GET / HTTPS/1.1\r\n[H]\r\n",
    b"GET /  HTTP/1.1\r\n[H]\r\n",
    b"GET  / HTTP/1.1\r\n[H]\r\n",
    b"GET / a HTTP/1.1\r\n[H]\r\n",
    b"GET\t/\tHTTP/1.1\r\n[H]\r\n",
    b" GET / HTTP/1.1\r\n[H]\r\n",
    b"G(T / HTTP/1.1\r\n[H]\r\n",
    b"/ HTTP/1.1\r\n[H]\r\n",
    b"GET /a\0b HTTP/1.1\r\n[H]\r\n",
    b"GET /a\rb HTTP/1.1\r\n[H]\r\n",
    b"GET /a\x7f HTTP/1.1\r\n[H]\r\n",
    b"GET /a\x01 HTTP/1.1\r\n[H]\r\n",
    b"GET /caf\xc3\xa9 HTTP/1.1\r\n[H]\r\n",
    b"GET t HTTP/1.1\r\n[H]\r\n",
    b"GET ! HTTP/1.1\r\n[H]\r\n",
    b"GET @host/ HTTP/1.1\r\n[H]\r\n",
    b"GET :80/ HTTP/1.1\r\n[H]\r\n",
    b"GET * HTTP/1.1\r\n[H]\r\n",
    b"GET gateway.test:80 HTTP/1.1\r\n[H]\r\n",
    b"GET http://other.test/ HTTP/1.1\r\n[H]\r\n",
    b"GET ftp://gateway.test/ HTTP/1.1\r\n[H]\r\n",
    b"GET /a#fragment HTTP/1.1\r\n[H]\r\n",
    b"GET /a<b HTTP/1.1\r\n[H]\r\n",
    b"GET /a>b HTTP/1.1\r\n[H]\r\n",
    b"GET /a\"b HTTP/1.1\r\n[H]\r\n",
    b"GET /a`b HTTP/1.1\r\n[H]\r\n",
    b"GET /?a<b HTTP/1.1\r\n[H]\r\n",
    b"GET /?a>b HTTP/1.1\r\n[H]\r\n",
    b"GET /?a\"b HTTP/1.1\r\n[H]\r\n",
    b"GET http://gateway.test/a<b HTTP/1.1\r\n[H]\r\n",
];

#[test]
fn two_ways_to_frame_a_body() {
    let upstream = Upstream::ok();
    refused(&start(&upstream), &upstream, false, FRAMING);
}

#[test]
fn fields_that_are_none() {
    let upstream = Upstream::ok();
    refused(&start(&upstream), &upstream, false, HEADS);
}

#[test]
fn request_lines_that_are_none() {
    let upstream = Upstream::ok();
    refused(&start(&upstream), &upstream, false, LINES);
}

#[test]
fn the_same_over_tls() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    // One handshake each: every third case will do.
    let some: Vec<_> = FRAMING.iter().chain(HEADS).chain(LINES).step_by(3).copied().collect();
    refused(&gateway, &upstream, true, &some);
}

#[test]
fn a_refused_second_request_closes_the_connection_too() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(wire.answer("GET").status, 200);
    let heard = upstream.bytes().len();
    wire.send(
        "GET / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    expect_problem(&wire.answer("GET"), 400, "REQUEST_MALFORMED");
    wire.expect_closed();
    assert_eq!(upstream.bytes().len(), heard, "the refused request reached the upstream");
}

/// A broken chunk is found when the upstream may have the head already: it must then never look complete.
#[test]
fn broken_chunks_never_make_a_complete_request() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
    ] {
        upstream.forget();
        let mut wire = gateway.connect();
        wire.send("POST / HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n").send(body);
        // Nothing more will come: a gateway that waits for the rest must not wait for ever.
        wire.finish_sending();
        if let Some(answer) = wire.try_answer("POST") {
            expect_problem(&answer, 400, "REQUEST_MALFORMED");
        }
        let whole = upstream.requests().into_iter().find(|heard| heard.complete);
        assert!(whole.is_none(), "{body:?} became a complete request: {whole:?}");
    }
}

/// A body that ends early: the same, whatever its framing.
#[test]
fn a_body_cut_short_never_makes_a_complete_request() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for (framing, body) in [
        ("Content-Length: 10", "hello"),
        ("Content-Length: 200000", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n"),
    ] {
        upstream.forget();
        let mut wire = gateway.connect();
        wire.send(format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{framing}\r\n\r\n{body}"));
        wire.finish_sending();
        let answer = wire.try_answer("POST");
        assert!(answer.is_none_or(|answer| answer.status >= 400), "{framing}");
        assert!(upstream.requests().iter().all(|heard| !heard.complete), "{framing}");
    }
}

#[test]
fn a_pipelined_request_is_judged_on_its_own() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    let first = format!("GET /private/1 HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: {bearer}\r\n\r\n");
    let second = "GET /private/2 HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    let mut wire = gateway.connect();
    wire.send(format!("{first}{second}"));
    assert_eq!(wire.answer("GET").status, 200);
    // Not to read it, and to close, is as good.
    if let Some(answer) = wire.try_answer("GET") {
        expect_problem(&answer, 401, "CREDENTIALS_MISSING");
    }
    assert_eq!(upstream.only().target, "/private/1");
}

#[test]
fn what_stands_in_a_body_is_never_a_request() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n";
    let mut wire = gateway.connect();
    // Refused by its head; its body then stands where the next request would.
    wire.send(format!(
        "POST /private HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    ));
    expect_problem(&wire.answer("POST"), 401, "CREDENTIALS_MISSING");
    wire.send("GET /next HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    if let Some(answer) = wire.try_answer("GET") {
        assert_eq!(answer.status, 200);
    }
    assert!(upstream.requests().iter().all(|heard| heard.target == "/next"), "{:?}", upstream.requests());
}

#[test]
fn methods_that_make_tunnels_or_mirrors_do_not_pass() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for request in [
        "CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
        "TRACE / HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
    ] {
        let answer = gateway.connect().send(request).answer("GET");
        assert!(matches!(answer.status, 400 | 405 | 501), "{request:?} -> {}", answer.status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{request:?}");
    }
    upstream.expect_untouched();
}

#[test]
fn a_target_in_absolute_form_is_the_same_request() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let answer = gateway.request("GET", "http://gateway.test/a?b", &[], b"");
    assert_eq!(answer.status, 200, "RFC 9112, section 3.2.2: a server must accept it: {}", answer.lossy());
    let heard = upstream.only();
    assert_eq!((heard.target.as_str(), heard.header("host")), ("/a?b", Some("gateway.test")));
    expect_problem(&gateway.request("GET", "http://gateway.test/private/x", &[], b""), 401, "CREDENTIALS_MISSING");
}

#[test]
fn an_older_client_is_served() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send("GET / HTTP/1.0\r\nHost: gateway.test\r\n\r\n");
    let bytes = String::from_utf8_lossy(&wire.rest()).into_owned();
    assert!(bytes.contains(" 200 ") && bytes.ends_with("ok"), "{bytes:?}");
    assert!(!bytes.to_ascii_lowercase().contains("transfer-encoding"), "HTTP/1.0 has no chunks: {bytes:?}");
}

#[test]
fn what_is_refused_is_counted() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    gateway.connect().send("GET / HTTP/9.9\r\n\r\n").answer("GET");
    gateway.connect().send("GET //x HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET");
    let counted = gateway.metric("gapura_refusals_total", &["code=\"REQUEST_MALFORMED\""]);
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}
