//! What an upstream answers passes as it is: without a body where it had none, compressed where it was, whatever ends it.

use std::io::Write;

use crate::support::{Curl, Flow, Gateway, Setup, Upstream, expect_problem, upstream::Call, wire::request_bytes};

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

fn echo(call: &mut Call<'_>) -> Flow {
    let body = call.body();
    call.respond(200, &[("Content-Type", "application/octet-stream")], &body)
}

#[test]
fn expect_100_continue() {
    let upstream = Upstream::start(|call| {
        // Where the gateway passes the expectation on, it is the upstream's to answer (RFC 9110, section 10.1.1).
        if call.heard.header("expect").is_some() {
            call.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        echo(call)
    });
    let gateway = start(&upstream);
    for length in [4, 200_000] {
        upstream.forget();
        let body = vec![b'x'; length];
        let mut wire = gateway.connect();
        let headers = [("Expect", "100-continue"), ("Content-Length", &length.to_string())];
        wire.send(request_bytes("POST", "/open", &headers, b""));
        assert_eq!(wire.head().expect("an interim answer").status, 100);
        wire.send(&body);
        let answer = wire.answer("POST");
        assert!((answer.status, &answer.body) == (200, &body), "{length}: {}", answer.status);
        assert!(upstream.only().body == body);
    }
}

#[test]
fn a_refused_request_is_not_asked_for_its_body() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    let expects = [("Expect", "100-continue"), ("Content-Length", "70000")];
    for (target, status, code) in
        [("/small", 413, "BODY_TOO_LARGE"), ("/private", 401, "CREDENTIALS_MISSING"), ("/none", 404, "ROUTE_NOT_FOUND")]
    {
        let mut wire = gateway.connect();
        wire.send(request_bytes("POST", target, &expects, b""));
        let mut answer = wire.head().expect("an answer");
        wire.body("POST", &mut answer);
        expect_problem(&answer, status, code);
    }
    upstream.expect_untouched();
}

#[test]
fn answers_without_a_body_stay_without() {
    let upstream = Upstream::start(|call| {
        call.body();
        match call.heard.target.as_str() {
            "/open/204" => call.respond(204, &[("X-Of-Upstream", "1")], b""),
            "/open/304" => call.respond(304, &[("ETag", "\"v1\"")], b""),
            _ => call.respond(200, &[("ETag", "\"v1\"")], b"twelve bytes"),
        }
    });
    let gateway = start(&upstream);
    // On one connection: a body that should not be there would be read as the next answer.
    let mut wire = gateway.connect();
    let chunked = [("Transfer-Encoding", "chunked")];
    for (headers, body) in [(&[][..], &b""[..]), (&chunked, b"4\r\nbody\r\n0\r\n\r\n")] {
        let mut ask = |method: &str, target: &str| {
            wire.send(request_bytes(method, target, headers, body));
            wire.answer(method)
        };
        let none = ask("DELETE", "/open/204");
        assert_eq!((none.status, none.header("x-of-upstream")), (204, Some("1")));
        assert_eq!((none.header("content-length"), none.header("transfer-encoding")), (None, None));
        let same = ask("GET", "/open/304");
        assert_eq!((same.status, same.header("etag")), (304, Some("\"v1\"")));
        let head = ask("HEAD", "/open/x");
        let fields = (head.header("content-length"), head.header("etag"));
        assert_eq!((head.status, fields), (200, (Some("12"), Some("\"v1\""))));
        assert_eq!(upstream.last().method, "HEAD");
        assert_eq!(ask("GET", "/open/x").text(), "twelve bytes");
    }
    let over_h2 = Curl::h2(gateway.https(), "/open/x").method("HEAD").answer();
    assert_eq!((over_h2.status, over_h2.header("content-length")), (200, Some("12")));
}

/// RFC 9110, section 8.6, and RFC 9112, section 6.1: a 204 has neither; a client that believes one would wait for a body.
#[test]
fn a_204_that_tells_of_a_body_arrives_without() {
    for framing in ["Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked"] {
        for body in ["", "hello"] {
            let upstream = Upstream::start(move |call| {
                call.body();
                match call.heard.target.as_str() {
                    "/open/204" => {
                        call.send(format!("HTTP/1.1 204 No Content\r\n{framing}\r\nX-End: 1\r\n\r\n{body}"));
                        if body.is_empty() { Flow::Keep } else { Flow::Close }
                    }
                    _ => call.respond(200, &[], b"next"),
                }
            });
            let gateway = start(&upstream);
            let mut wire = gateway.connect();
            let bodies =
                ["\r\n", "Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"];
            for sent in bodies {
                wire.send(format!("POST /open/204 HTTP/1.1\r\nHost: gateway.test\r\n{sent}"));
                let none = wire.answer("POST");
                assert_eq!((none.status, none.header("x-end")), (204, Some("1")), "{framing}");
                let fields = (none.header("content-length"), none.header("transfer-encoding"));
                assert_eq!(fields, (None, None), "{framing}, {sent:?}");
                // What follows on the same connection is the next answer, and nothing of this one.
                wire.send(request_bytes("GET", "/open", &[], b""));
                assert_eq!(wire.answer("GET").text(), "next", "{framing}, {sent:?}");
            }
            let ways: [fn(Curl) -> Curl; 3] = [|curl| curl, |curl| curl.body("x"), |curl| curl.streamed("x")];
            for way in ways {
                let none = way(Curl::h2(gateway.https(), "/open/204")).answer();
                let fields = (none.header("content-length"), none.header("transfer-encoding"));
                assert_eq!((none.status, fields), (204, (None, None)), "{framing}, HTTP/2");
            }
        }
    }
}

/// Where two readers could see two ends, what stands between them would be somebody else's answer.
#[test]
fn an_answer_with_two_lengths_is_none() {
    let mut wrong = Vec::new();
    for framing in [
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 40",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: 0x2",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
    ] {
        let upstream = Upstream::start(move |call| {
            call.body();
            call.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nPOISON"));
            Flow::Close
        });
        let gateway = start(&upstream);
        let mut ways = ["none", "held", "streamed"].into_iter();
        // Where a body streams, Pingora drops a length beside a coding before we see it (RFC 9112, section 6.3, allows it).
        let dropped = framing == "Content-Length: 2\r\nTransfer-Encoding: chunked";
        gateway.every_way("/open", &[], |answer| {
            let way = ways.next().unwrap_or_default();
            if way == "streamed" && dropped {
                return;
            }
            wrong.extend((answer.status != 502).then(|| format!("{framing:?}, {way}: {}", answer.status)));
        });
        for (way, curl) in [
            ("none", Curl::h2(gateway.https(), "/open")),
            ("streamed", Curl::h2(gateway.https(), "/open").streamed("x")),
        ] {
            if way == "streamed" && dropped {
                continue;
            }
            let status = curl.run().answer.status;
            wrong.extend((status != 502).then(|| format!("{framing:?}, {way}, HTTP/2: {status}")));
        }
    }
    assert!(wrong.is_empty(), "not refused (upstream's framing, request body):\n{}", wrong.join("\n"));
}

#[test]
fn compressed_answers_pass_as_they_are() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(b"compressed by the upstream").unwrap();
    let packed = encoder.finish().unwrap();
    let body = packed.clone();
    let upstream = Upstream::start(move |call| {
        call.respond(200, &[("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")], &body)
    });
    let gateway = start(&upstream);
    gateway.every_way("/open", &[("Accept-Encoding", "gzip, br")], |answer| {
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert_eq!(answer.body, packed);
        assert_eq!(upstream.last().header("accept-encoding"), Some("gzip, br"));
    });
}

#[test]
fn an_answer_that_ends_with_its_connection_passes() {
    let upstream = Upstream::start(|call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end");
        Flow::Close
    });
    let gateway = start(&upstream);
    gateway.every_way("/open", &[], |answer| assert_eq!(answer.text(), "until the end"));
    assert_eq!(Curl::h2(gateway.https(), "/open").answer().text(), "until the end");
}

#[test]
fn interim_answers_of_the_upstream_do_no_harm() {
    let upstream = Upstream::start(|call| {
        call.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
        call.send("HTTP/1.1 100 Continue\r\n\r\n");
        call.body();
        call.respond(200, &[], b"final")
    });
    let gateway = start(&upstream);
    gateway.every_way("/open", &[], |answer| assert_eq!(answer.text(), "final"));
    assert_eq!(Curl::h2(gateway.https(), "/open").answer().text(), "final");
}

/// Of a server of HTTP/1.0 only the framing is its own: what goes out is framed as HTTP/1.1, and says so.
#[test]
fn an_answer_of_an_old_server_goes_out_in_our_own_version() {
    let upstream = Upstream::start(|call| {
        let length = if call.heard.target.ends_with("known") { "Content-Length: 3\r\n" } else { "" };
        call.body();
        call.send(format!("HTTP/1.0 200 OK\r\n{length}\r\nold"));
        Flow::Close
    });
    let gateway = start(&upstream);
    for target in ["/open/known", "/open/until-close"] {
        gateway.every_way(target, &[], |answer| assert_eq!(answer.text(), "old"));
        for body in [b"".as_slice(), &[b'x'; 100_000]] {
            let mut wire = gateway.connect();
            let line = wire.send(request_bytes("POST", target, &[], body)).line();
            assert_eq!(line.as_deref(), Some("HTTP/1.1 200 OK"), "{target}");
        }
    }
}

#[test]
fn a_coding_of_http_1_0_is_no_answer() {
    let upstream = Upstream::start(|call| {
        call.body();
        call.send(
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        );
        Flow::Keep
    });
    let gateway = start(&upstream);
    gateway.every_way("/open", &[], |answer| drop(expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE")));
}

/// curl 7.88 shows no status where the stream is reset right behind the answer.
#[test]
fn over_http_2_a_refusal_is_heard_before_the_end_of_the_body() {
    let upstream = Upstream::start(echo);
    let gateway = start(&upstream);
    for (target, status, code) in [
        ("/small", 413, "BODY_TOO_LARGE"),
        ("/private", 401, "CREDENTIALS_MISSING"),
        ("/nowhere", 404, "ROUTE_NOT_FOUND"),
    ] {
        for length in [2_000, 66_000, 200_000, 2_000_000] {
            // What `/small` takes is no refusal.
            if status != 413 || length > 65_536 {
                expect_problem(&Curl::h2(gateway.https(), target).body(vec![b'x'; length]).answer(), status, code);
            }
        }
        if status != 413 {
            expect_problem(&Curl::h2(gateway.https(), target).streamed(vec![b'x'; 200_000]).answer(), status, code);
        }
    }
    upstream.expect_untouched();
    // Found only on the way.
    let overrun = Curl::h2(gateway.https(), "/small").streamed(vec![b'x'; 200_000]).answer();
    expect_problem(&overrun, 413, "BODY_TOO_LARGE");
}

/// A client that was promised none must not take one for its answer (RFC 9110, section 15.2).
#[test]
fn interim_answers_stay_here_and_are_bounded() {
    let upstream = Upstream::start(|call| {
        let many = if call.heard.target.ends_with("many") { 17 } else { 16 };
        call.body();
        for _ in 0..many {
            call.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nContent-Length: 5\r\n\r\n");
        }
        call.respond(200, &[], b"final")
    });
    let gateway = start(&upstream);
    let large = vec![b'x'; 100_000];
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for body in [b"".as_slice(), &large] {
            let ask = |target: &str| {
                let request = String::from_utf8(request_bytes("POST", target, &[], body)).unwrap();
                let mut wire = gateway.connect();
                wire.send(request.replacen("HTTP/1.1", version, 1));
                wire.answer("POST")
            };
            assert_eq!(ask("/open").text(), "final", "{version}");
            assert_eq!(ask("/open/many").status, 502, "{version}");
        }
    }
}

#[test]
fn set_cookie_fields_stay_apart() {
    let upstream = Upstream::start(|call| call.respond(200, &[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2, c")], b""));
    let gateway = start(&upstream);
    gateway.every_way("/open", &[], |answer| assert_eq!(answer.all("set-cookie"), ["a=1", "b=2, c"]));
    // Cookies that HTTP/2 splits become one field again (RFC 9113, section 8.2.3).
    Curl::h2(gateway.https(), "/open").header("Cookie", "a=1; b=2").answer();
    assert_eq!(upstream.last().header("cookie"), Some("a=1; b=2"));
}
