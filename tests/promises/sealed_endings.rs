//! How sealed streams end that do not run their course: clients that leave hold nothing, and a credential ends what it has opened.

use std::net::SocketAddr;

use super::sealed_streams::{Client, Sealed, TABLES, fields, lines};
use crate::support::{
    Flow, Gateway, Setup, Upstream, Wire,
    credential::{Token, now_ms},
    expect_problem,
    h2::{self, H2},
    token,
    upstream::Closed,
    wait::until_true,
    wire::{chunked, request_bytes},
};

/// One at a time. No time decides here: what does not end because the client has left lasts longer than any test.
fn start(backend: SocketAddr) -> Gateway {
    let bounds = "max_in_flight = 1\nqueue = 10\nqueue_timeout = \"10m\"\ntimeout = \"10m\"";
    let files = "max_body = \"256MiB\"";
    let tables = TABLES
        .replace(files, &format!("{files}\n{bounds}"))
        .replace("[server]", "[server]\naccess_log = true")
        .replace("[jwt.users]", "[jwt.users]\nleeway = \"1s\"");
    Setup::new(&tables).put("BACKEND", backend).put("PAUSE", "10m").file("secret", [b's'; 32]).start()
}

/// Reads requests to their end and answers none of them, but for those of `/files/answer`.
fn silent() -> Upstream {
    Upstream::start(|call| {
        call.body();
        if call.heard.target == "/files/answer" {
            return call.respond(200, &[("Content-Type", "text/plain")], b"answered");
        }
        while !call.receive().is_empty() {}
        Flow::Close
    })
}

fn aborted(gateway: &Gateway, reason: &str) -> f64 {
    let reason = format!("reason=\"{reason}\"");
    gateway.metric("gapura_envelope_streams_aborted_total", &["encryption=\"files\"", &reason])
}

fn queued(gateway: &Gateway) -> f64 {
    gateway.metric("gapura_queued", &["route=\"files\""])
}

fn head(target: &str, authorization: &str) -> Vec<u8> {
    let framing = vec![("Transfer-Encoding", "chunked")];
    request_bytes("POST", target, &[fields(authorization), framing].concat(), b"")
}

/// The whole of this, in chunks of HTTP/1.1.
fn send(gateway: &Gateway, target: &str, sealed: &Sealed) -> Wire {
    let mut wire = gateway.connect();
    wire.send([head(target, &token()), chunked(&sealed.bytes, 4000)].concat());
    wire
}

/// A request in two frames of HTTP/2.
fn send_h2(gateway: &Gateway, client: &Client, target: &str, content: &str) -> H2 {
    let authority = gateway.https().to_string();
    let sealed = client.seal_for(content, ("POST", &authority, target), now_ms());
    let bearer = token();
    let mut all = vec![(":method", "POST"), (":scheme", "https"), (":authority", &authority), (":path", target)];
    let named = fields(&bearer).into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect::<Vec<_>>();
    all.extend(named.iter().map(|(name, value)| (name.as_str(), *value)));
    let all: Vec<(&[u8], &[u8])> = all.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let mut connection = H2::connect(gateway.https());
    connection.frames(&h2::request(1, &all, Some(&sealed.bytes)));
    connection
}

/// All was sent, and the upstream has it: nobody waits for its answer.
#[test]
fn a_client_that_leaves_after_its_upload_holds_nothing() {
    let upstream = silent();
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    for round in 1..=2 {
        let heard = || upstream.requests().iter().filter(|heard| heard.complete).count();
        let wire = send(&gateway, "/files/1", &client.seal(&lines(200), "/files/1"));
        until_true("the upload is with the upstream", || heard() == round * 2 - 1);
        drop(wire);
        until_true("the upstream is left, too", || upstream.ended() == upstream.connections());
        let mut connection = send_h2(&gateway, &client, "/files/1", &lines(200));
        until_true("the upload is with the upstream", || heard() == round * 2);
        connection.frames(&h2::reset(1));
        until_true("the upstream is left, too", || upstream.ended() == upstream.connections());
    }
    assert_eq!((aborted(&gateway, "client"), aborted(&gateway, "upstream")), (4.0, 0.0));
    let sealed = client.seal(&lines(200), "/files/answer");
    assert_eq!(sealed.open(&send(&gateway, "/files/answer", &sealed).answer("POST")), "answered");
}

/// Who waits for a place and leaves gives the turn back, also where more was sent than is read.
#[test]
fn a_client_that_leaves_the_queue_holds_no_turn() {
    let upstream = silent();
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    let first = send(&gateway, "/files/1", &client.seal(&lines(200), "/files/1"));
    until_true("the only place is taken", || upstream.requests().len() == 1);
    // The last is more than is read ahead, and no more than the system takes of a client whose end it is then to hear of.
    let contents = ["one record".to_owned(), lines(200), lines(2500)];
    let waiting = contents.each_ref().map(|content| send(&gateway, "/files/1", &client.seal(content, "/files/1")));
    let mut reset = send_h2(&gateway, &client, "/files/1", &lines(200));
    until_true("all others wait", || queued(&gateway) == 4.0);
    let sealed = client.seal(&lines(9000), "/files/answer");
    let mut patient = send(&gateway, "/files/answer", &sealed);
    until_true("one more waits", || queued(&gateway) == 5.0);
    drop(waiting);
    reset.frames(&h2::reset(1));
    until_true("those who have left do not", || queued(&gateway) == 1.0);
    drop(first);
    assert_eq!(sealed.open(&patient.answer("POST")), "answered");
    assert_eq!(upstream.requests().len(), 2, "a request whose client has left reached the upstream");
}

/// An upstream that always has more to say puts off neither the end of its client's credential nor that of the connection, of which
/// a part of the request was not read.
#[test]
fn events_without_a_pause_end_with_their_token() {
    let upstream = Upstream::start(|call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        let events = chunked("data: event\n\n".repeat(5000).as_bytes(), 65_000);
        let events = &events[..events.len() - 5];
        // Long after the token; then without an end.
        let end = now_ms() + 60_000;
        while now_ms() < end && call.send(events) {}
        Flow::Close
    });
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    for (number, part) in [(1, 1.0), (2, 0.5)] {
        let sealed = client.seal(&lines(300), "/files/1");
        let bearer = Token::alice().with("exp", now_ms() / 1000 + 2).bearer();
        let mut wire = gateway.connect();
        let mut body = chunked(&sealed.bytes, 1500);
        body.truncate((body.len() as f64 * part) as usize);
        wire.send([head("/files/1", &bearer), body].concat());
        assert_eq!(wire.head().map(|answer| answer.status), Some(200));
        while !wire.chunk().expect("an end of the events").is_empty() {}
        assert_eq!(wire.line().as_deref(), Some(""));
        let ended = gateway.metric("gapura_streams_ended_total", &["kind=\"events\"", "reason=\"expired\""]);
        assert_eq!(ended, f64::from(number));
        if part < 1.0 {
            wire.expect_closed();
        }
    }
}

/// What ends an exchange is counted for what it was, and the log says it.
#[test]
fn the_reason_of_an_end_is_told() {
    let upstream = Upstream::start(|call| {
        if call.heard.target == "/files/half" {
            call.body();
            call.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\nhalf");
            return Flow::Close;
        }
        call.body();
        call.respond(200, &[], b"")
    });
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    let sealed = client.seal(&lines(200), "/files/1");
    let mut wire = gateway.connect();
    let part = &sealed.bytes[..sealed.record(2)];
    let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    wire.send([head("/files/1", &token()), chunk].concat());
    until_true("some of it is with the upstream", || upstream.requests().len() == 1);
    wire.send("zz\r\n");
    expect_problem(&wire.answer("POST"), 400, "REQUEST_MALFORMED");
    assert_eq!((aborted(&gateway, "malformed"), aborted(&gateway, "late")), (1.0, 0.0));

    let cut = send(&gateway, "/files/half", &client.seal("short", "/files/half")).answer("POST");
    assert_eq!((cut.status, cut.complete), (200, false));
    until_true("the log says why", || {
        let told = |line: &str| line.contains("path=\"/files/half\"") && line.contains("code=UPSTREAM_UNAVAILABLE");
        gateway.log().lines().any(|line| told(line) && line.contains("status=200"))
    });
    assert_eq!(aborted(&gateway, "upstream"), 1.0);

    let nobody = Closed::port();
    let gateway = start(nobody.address());
    let client = Client::of(&gateway);
    for (content, count) in [("one record".to_owned(), 1.0), (lines(200), 2.0)] {
        let answer = send(&gateway, "/files/1", &client.seal(&content, "/files/1")).answer("POST");
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        assert_eq!(aborted(&gateway, "upstream"), count);
    }
}
