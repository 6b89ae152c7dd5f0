//! Answers on encrypted routes: sealed whole or not sent at all, whatever the upstream does.

use std::io::Write;

use crate::{
    envelopes::{BOUND, LENIENT, TABLES, USER, post, send, start},
    support::{
        Curl, Flow, Gateway, Setup, Upstream,
        credential::key_hash,
        expect_problem,
        node::Sealer,
        token,
        upstream::Call,
        wait::{Gate, until_true},
        wire::chunked,
    },
};

const ANSWER: &str = r#"{"secret":"of the upstream, Zoë"}"#;

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    brotli::CompressorWriter::new(&mut packed, 4096, 5, 20).write_all(text.as_bytes()).unwrap();
    packed
}

#[test]
fn an_upstream_that_compresses_all_the_same() {
    for (coding, packed) in [
        ("gzip", gzip(ANSWER)),
        ("x-gzip", gzip(ANSWER)),
        ("deflate", zlib(ANSWER)),
        ("deflate", raw_deflate(ANSWER)),
        ("br", brotli(ANSWER)),
        ("identity", ANSWER.as_bytes().to_vec()),
    ] {
        let upstream = Upstream::start(move |call| {
            call.body();
            call.respond(200, &[("Content-Encoding", coding), ("Content-Type", "application/json")], &packed)
        });
        let gateway = start(upstream.address());
        let answer = post(&gateway, USER, &Sealer::alice().seal("{}"));
        assert_eq!(answer.status, 200, "{coding}: {}", answer.lossy());
        assert_eq!(answer.header("content-encoding"), None, "{coding}");
        assert_eq!(Sealer::alice().open(&answer.json()), ANSWER, "{coding}");
    }
}

#[test]
fn a_coding_that_cannot_be_undone() {
    // An unknown one, a broken one, and one that unpacks to more than a gateway should hold.
    let bomb = gzip(&"\0".repeat(64 * 1024 * 1024));
    for (coding, packed) in [("zstd", b"zstd".to_vec()), ("gzip", b"not gzip".to_vec()), ("gzip", bomb)] {
        let upstream = Upstream::start(move |call| {
            call.body();
            call.respond(200, &[("Content-Encoding", coding)], &packed)
        });
        let gateway = start(upstream.address());
        let answer = post(&gateway, USER, &Sealer::alice().seal("{}"));
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
    }
}

fn scripted() -> Upstream {
    Upstream::start(|call: &mut Call<'_>| {
        call.body();
        match call.heard.target.trim_start_matches(USER) {
            "/chunked" => {
                call.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
                call.send(chunked(ANSWER.as_bytes(), 5));
                Flow::Keep
            }
            "/until-the-end" => {
                call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{ANSWER}"));
                Flow::Close
            }
            "/short" => {
                call.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{ANSWER}"));
                Flow::Close
            }
            "/short-chunked" => {
                call.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{ANSWER}"));
                Flow::Close
            }
            "/nothing" => Flow::Close,
            "/events" => {
                call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: secret\n\n");
                Flow::Close
            }
            "/upgrade" => {
                call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                call.send("secret");
                Flow::Close
            }
            "/hints" => {
                call.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
                call.respond(200, &[("Content-Type", "application/json")], ANSWER.as_bytes())
            }
            "/204" => call.respond(204, &[], b""),
            "/304" => call.respond(304, &[("ETag", "\"v1\"")], b""),
            "/empty" => call.respond(200, &[], b""),
            "/large" => call.respond(200, &[("Content-Type", "application/json")], large().as_bytes()),
            "/too-large" => call.respond(200, &[], &vec![b'x'; 9 * 1024 * 1024]),
            "/hashed" => {
                let hashes =
                    [("ETag", "\"hash\""), ("Content-Digest", "sha-256=:AA==:"), ("Digest", "x"), ("X-Kept", "1")];
                call.respond(200, &hashes, ANSWER.as_bytes())
            }
            "/418" => call.respond(418, &[("Content-Type", "text/plain")], b"short and stout"),
            _ => call.respond(200, &[("Content-Type", "application/json")], ANSWER.as_bytes()),
        }
    })
}

fn large() -> String {
    format!("\"{}\"", "large ".repeat(700_000))
}

#[track_caller]
fn ask(gateway: &Gateway, case: &str) -> crate::support::Answer {
    post(gateway, &format!("{USER}/{case}"), &Sealer::alice().seal("{}"))
}

#[test]
fn every_framing_is_sealed_with_an_exact_length() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    for case in ["", "chunked", "until-the-end", "hints"] {
        let answer = ask(&gateway, case);
        assert_eq!(answer.status, 200, "{case}: {}", answer.lossy());
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()), "{case}");
        assert_eq!(answer.header("transfer-encoding"), None, "{case}");
        assert!(!answer.lossy().contains("upstream"), "plaintext in the answer");
        assert_eq!(Sealer::alice().open(&answer.json()), ANSWER, "{case}");
    }
}

#[test]
fn a_large_answer_is_sealed() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    let answer = ask(&gateway, "large");
    assert_eq!(answer.status, 200);
    assert!(Sealer::alice().open(&answer.json()) == large());
    let headers = [("Authorization", token()), ("Content-Type", "application/json".into())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let envelope = Sealer::alice().seal("{}").to_string();
    let over_h2 = Curl::h2(gateway.https(), &format!("{USER}/large")).headers(&headers).body(envelope).answer();
    assert!(Sealer::alice().open(&over_h2.json()) == large());
}

#[test]
fn an_answer_that_is_not_whole_is_a_clean_refusal() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    for case in ["short", "short-chunked", "nothing", "too-large"] {
        let answer = ask(&gateway, case);
        assert_eq!(answer.status, 502, "{case}: {}", answer.lossy());
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        assert!(!answer.lossy().contains("secret"), "plaintext in {}", answer.lossy());
    }
}

#[test]
fn what_has_no_end_cannot_be_sealed() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    for case in ["events", "upgrade"] {
        let answer = ask(&gateway, case);
        assert_eq!(answer.status, 502, "{case}: {}", answer.lossy());
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        assert!(!answer.lossy().contains("secret"), "plaintext in {}", answer.lossy());
    }
}

#[test]
fn answers_without_a_body_stay_without() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    for (case, status) in [("204", 204), ("304", 304)] {
        let answer = ask(&gateway, case);
        assert_eq!((answer.status, answer.body.len(), answer.header("content-length")), (status, 0, None), "{case}");
    }
    let empty = ask(&gateway, "empty");
    assert_eq!((empty.status, empty.header("content-length")), (200, Some("0")));
    // HEAD tells the length that GET would have: same timestamp digits, same user.
    let get = send(&gateway, "GET", USER, &token(), b"");
    let head = send(&gateway, "HEAD", USER, &token(), b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), get.header("content-length"));
    let over_h2 = Curl::h2(gateway.https(), USER).header("Authorization", &token()).method("HEAD").answer();
    assert_eq!(over_h2.header("content-length"), get.header("content-length"));
}

#[test]
fn a_status_above_400_is_no_success() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    let answer = ask(&gateway, "418");
    assert_eq!((answer.status, &answer.json()["success"]), (418, &serde_json::json!(false)));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(Sealer::alice().open(&answer.json()), "short and stout");
}

#[test]
fn hashes_of_the_plaintext_do_not_leave() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    let answer = ask(&gateway, "hashed");
    for name in ["etag", "content-digest", "digest"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[test]
fn the_gateways_own_problems_are_not_sealed() {
    let upstream = scripted();
    let gateway = start(upstream.address());
    expect_problem(&gateway.request("GET", USER, &[], b""), 401, "CREDENTIALS_MISSING");
    expect_problem(&send(&gateway, "POST", BOUND, &token(), b"{}"), 400, "ENVELOPE_REQUIRED");
}

/// A pooled connection that has gone stale costs no sealed request either: the gateway holds the whole body.
/// An upstream that answers a large request before it has read it all, or as it reads it.
#[test]
fn an_answer_that_comes_before_the_end_of_the_request() {
    let text = format!("\"{}\"", "x".repeat(12 << 20));
    let length = text.len();
    let done = Gate::default();
    let end = done.clone();
    let upstream = Upstream::start(move |call| {
        if call.heard.header("x-case") == Some("refuses") {
            call.respond(413, &[], b"too large");
            // Reads no further, and does not close: what it said must be enough.
            end.wait();
            return Flow::Close;
        }
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"));
        let mut heard = 0;
        while heard < length {
            let bytes = call.receive();
            heard += bytes.len();
            call.send(bytes);
        }
        Flow::Keep
    });
    let lenient = "encryption = \"lenient\"";
    let tables = TABLES.replace(lenient, &format!("{lenient}\nmax_body = \"64MiB\""));
    let gateway = Setup::tls(&tables).put("BACKEND", upstream.address()).put("CI", key_hash("key-of-ci")).start();
    let bearer = token();
    let ask = |case: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("X-Case", case)];
        gateway.request("POST", LENIENT, &headers, &text)
    };
    let refused = ask("refuses");
    assert_eq!((refused.status, refused.text()), (413, "too large"));
    done.open();
    let echoed = ask("echoes");
    assert_eq!(echoed.status, 200, "{}", echoed.lossy());
    assert!(echoed.body == text.as_bytes());
}

#[test]
fn a_stale_connection_costs_no_sealed_request() {
    let upstream = Upstream::start(|call| {
        call.body();
        call.respond(200, &[], b"{}");
        Flow::Close
    });
    let gateway = start(upstream.address());
    for round in 0..6 {
        let answer = post(&gateway, USER, &Sealer::alice().seal("{}"));
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        until_true("the upstream has closed", || upstream.ended() > round);
    }
    assert_eq!(upstream.requests().len(), 6, "a request was sent twice");
}

#[test]
fn a_sealed_request_that_may_have_been_acted_upon_is_not_sent_again() {
    let upstream = Upstream::start(|call| {
        call.body();
        if call.heard.target.ends_with("/lost") { Flow::Close } else { call.respond(200, &[], b"{}") }
    });
    let gateway = start(upstream.address());
    assert_eq!(post(&gateway, USER, &Sealer::alice().seal("{}")).status, 200);
    let lost = post(&gateway, &format!("{USER}/lost"), &Sealer::alice().seal("{}"));
    expect_problem(&lost, 502, "UPSTREAM_UNAVAILABLE");
    assert_eq!(upstream.requests().len(), 2, "the payment was sent twice");
}

#[test]
fn an_upstream_that_is_slow_or_down() {
    let tables = crate::envelopes::TABLES.replace("max_body = \"2MiB\"", "max_body = \"2MiB\"\ntimeout = \"300ms\"");
    let gate = crate::support::wait::Gate::default();
    let held = gate.clone();
    let slow = Upstream::start(move |call| {
        call.body();
        held.wait();
        Flow::Close
    });
    let setup = |address: std::net::SocketAddr| Setup::tls(&tables).put("BACKEND", address).put("CI", "0".repeat(64));
    let gateway = setup(slow.address()).start();
    let envelope = Sealer::alice().seal("{}");
    expect_problem(&post(&gateway, USER, &envelope), 504, "UPSTREAM_TIMEOUT");
    assert_eq!(slow.requests().len(), 1);
    gate.open();
    let closed = crate::support::upstream::Closed::port();
    let gateway = setup(closed.address()).start();
    expect_problem(&post(&gateway, USER, &envelope), 502, "UPSTREAM_UNAVAILABLE");
}
