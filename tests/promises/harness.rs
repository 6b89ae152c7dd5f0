//! The harness itself: what the other tests rely on when they say that something did not happen.

use std::net::TcpStream;

use serde_json::json;

use crate::support::{
    Backend, Flow, Upstream, Wire,
    credential::now_ms,
    node::{self, Sealer},
    upstream::Closed,
    wait::until_true,
    wire::{chunked, request, request_bytes},
};

#[test]
fn an_upstream_records_what_it_receives() {
    let upstream = Upstream::start(|call| {
        let body = call.body();
        call.respond(201, &[("X-A", "1"), ("X-A", "2")], &body)
    });
    let mut wire = Wire::connect(upstream.address());
    wire.send(request_bytes("POST", "/a?b", &[("X-One", "1"), ("Transfer-Encoding", "chunked")], b""));
    wire.send(chunked(b"hello world", 3));
    let answer = wire.answer("POST");
    assert_eq!((answer.status, answer.text(), answer.all("x-a")), (201, "hello world", vec!["1", "2"]));
    let heard = upstream.only();
    assert_eq!((heard.method.as_str(), heard.target.as_str(), heard.text().as_str()), ("POST", "/a?b", "hello world"));
    assert_eq!((heard.header("x-one"), heard.header("host")), (Some("1"), Some("gateway.test")));
    wire.send(request_bytes("PUT", "/second", &[], b"12345"));
    assert_eq!(wire.answer("PUT").text(), "12345");
    assert_eq!((upstream.requests().len(), upstream.connections(), upstream.last().connection), (2, 1, 0));
    assert!(String::from_utf8_lossy(&upstream.bytes()).contains("PUT /second"));
    drop(wire);
    until_true("the end of the connection is seen", || upstream.ended() == 1);
}

#[test]
fn an_untouched_upstream_is_told_from_a_touched_one() {
    let upstream = Upstream::ok();
    upstream.expect_untouched();
    upstream.expect_untouched();
    let touched = std::panic::catch_unwind(|| {
        let _connection = TcpStream::connect(upstream.address()).unwrap();
        upstream.expect_untouched();
    });
    assert!(touched.is_err(), "a connection without a byte went unnoticed");
}

#[test]
fn a_body_that_is_cut_short_is_not_complete() {
    let upstream = Upstream::start(|call| {
        call.body();
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        Flow::Close
    });
    let mut wire = Wire::connect(upstream.address());
    wire.send(request_bytes("POST", "/", &[("Content-Length", "10")], b"hello"));
    wire.finish_sending();
    let answer = wire.answer("POST");
    assert_eq!((answer.complete, answer.text()), (false, "hello"));
    assert!(upstream.requests().iter().all(|heard| !heard.complete));
}

#[test]
fn a_closed_port_refuses() {
    let closed = Closed::port();
    assert!(TcpStream::connect(closed.address()).is_err());
}

#[test]
fn the_applications_answer() {
    for backend in Backend::both() {
        let answer = request(backend.address(), "GET", "/healthz", &[], b"");
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{}", backend.name);
    }
}

#[test]
fn crypto_js_opens_what_it_seals() {
    for bound in [false, true] {
        let sealer = Sealer { bound, ..Sealer::alice() };
        assert_eq!(sealer.open(&sealer.seal_at("\"Zoë\"", now_ms() - 7)), "\"Zoë\"");
    }
    assert!(node::try_call("no such operation", json!({})).is_err());
}
