//! Responses of routes with `stream = true`: sealed as they come, without waiting for what is not there yet, and never ended by anything
//! but their end. And what passes both ways at once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::sealed_streams::{AUTHORITY, Client, Sealed, fields, lines, start};
use crate::support::{
    Answer, Backend, Curl, Flow, Gateway, Upstream, Wire,
    credential::now_ms,
    expect_problem,
    gateway::{JWT_SECRET, command},
    token,
    wait::{Gate, until_true},
    wire::{self, chunked, request_bytes},
};

/// A request without a body, over a connection of its own.
fn ask(gateway: &Gateway, client: &Client, method: &str, target: &str) -> (Sealed, Wire) {
    let sealed = client.seal_for("", (method, AUTHORITY, target), now_ms());
    let value = format!("aes128gcm={}", URL_SAFE_NO_PAD.encode(&sealed.bytes));
    let mut wire = gateway.connect();
    wire.send(request_bytes(method, target, &[("Authorization", &*token()), ("X-Gapura-Envelope", &value)], b""));
    (sealed, wire)
}

fn get(gateway: &Gateway, client: &Client, target: &str) -> (Sealed, Answer) {
    let (sealed, mut wire) = ask(gateway, client, "GET", target);
    let answer = wire.answer("GET");
    (sealed, answer)
}

const TEXT: (&str, &str) = ("Content-Type", "text/plain");

#[test]
fn downloads_of_any_framing_are_sealed() {
    let content = lines(12_000);
    let whole = content.clone();
    let upstream = Upstream::start(move |call| match call.heard.target.as_str() {
        "/files/length" => call.respond(200, &[TEXT, ("ETag", "\"1\"")], whole.as_bytes()),
        "/files/chunked" => {
            call.send("HTTP/1.1 203 Some\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
            call.send(chunked(whole.as_bytes(), 7000));
            Flow::Keep
        }
        _ => {
            call.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n");
            call.send(&whole);
            Flow::Close
        }
    });
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    for (target, status) in [("/files/length", 200), ("/files/chunked", 203), ("/files/close", 200)] {
        let (sealed, answer) = get(&gateway, &client, target);
        assert_eq!((answer.status, answer.header("etag")), (status, None), "{target}");
        assert_eq!(sealed.open(&answer), content, "{target}");
        let heard = upstream.requests().pop().expect("a request");
        assert_eq!((heard.header("x-gapura-envelope"), heard.header("accept-encoding")), (None, Some("identity")));
        // And to a client of HTTP/2.
        let authority = gateway.https().to_string();
        let sealed = client.seal_for("", ("GET", &authority, target), now_ms());
        let value = format!("aes128gcm={}", URL_SAFE_NO_PAD.encode(&sealed.bytes));
        let call = Curl::h2(gateway.https(), target).header("Authorization", &token());
        assert_eq!(sealed.open(&call.header("X-Gapura-Envelope", &value).answer()), content, "{target}");
    }
}

#[test]
fn responses_without_a_body_have_none() {
    let upstream = Upstream::start(|call| match call.heard.target.as_str() {
        "/files/204" => call.respond(204, &[], b""),
        "/files/empty" => call.respond(200, &[TEXT], b""),
        "/files/chunked" => {
            call.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
            Flow::Keep
        }
        _ => call.respond(200, &[TEXT], b"of a GET"),
    });
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    let (_, no_content) = get(&gateway, &client, "/files/204");
    assert_eq!(
        (no_content.status, no_content.header("content-encoding"), no_content.header("content-length")),
        (204, None, None)
    );
    let (_, empty) = get(&gateway, &client, "/files/empty");
    assert_eq!((empty.header("content-encoding"), empty.header("content-length")), (None, Some("0")));
    let (_, mut wire) = ask(&gateway, &client, "HEAD", "/files/1");
    let head = wire.answer("HEAD");
    assert_eq!((head.status, head.header("content-encoding"), head.header("content-length")), (200, None, None));
    // That it is empty was not known when it began; now it is vouched for.
    let (sealed, late) = get(&gateway, &client, "/files/chunked");
    assert_eq!(sealed.open(&late), "");
    assert!(!late.body.is_empty());
}

/// Events and what else an upstream pauses after are there while it pauses.
#[test]
fn what_an_upstream_has_said_does_not_wait_for_more() {
    let seen = Gate::default();
    let gate = seen.clone();
    let upstream = Upstream::start(move |call| {
        let kind = if call.heard.target.ends_with("events") { "text/event-stream" } else { "text/plain" };
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"));
        call.send("d\r\ndata: first\n\n\r\n");
        gate.wait();
        call.send("c\r\ndata: last\n\n\r\n0\r\n\r\n");
        Flow::Keep
    });
    let gateway = start(upstream.address());
    let client = Client::of(&gateway);
    let mut waiting = Vec::new();
    for (target, record) in [("/files/events", 1024), ("/files/slow", 16 * 1024)] {
        let (sealed, mut wire) = ask(&gateway, &client, "GET", target);
        let mut answer = wire.head().expect("a head");
        assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("aes128gcm")));
        // The header, and one record which padding makes whole.
        let mut came = Vec::new();
        while came.len() < 21 || came.len() < 21 + usize::from(came[20]) + record {
            came.extend(wire.chunk().expect("the first event"));
        }
        assert_eq!(came[16..20], u32::try_from(record).unwrap().to_be_bytes());
        assert_eq!(came.len(), 21 + usize::from(came[20]) + record);
        answer.body = came;
        waiting.push((sealed, wire, answer));
    }
    seen.open();
    for (sealed, mut wire, mut answer) in waiting {
        wire.body("GET", &mut answer);
        assert_eq!(sealed.open(&answer), "data: first\n\ndata: last\n\n");
    }
}

/// A response that breaks off has no last record, and the transport does not end it either.
#[test]
fn a_response_that_breaks_off_is_not_taken_for_whole() {
    let content = lines(8000);
    let upstream = Upstream::start(move |call| {
        call.body();
        let framing = match call.heard.target.as_str() {
            "/files/length" => "Content-Length: 999999",
            _ => "Transfer-Encoding: chunked",
        };
        call.send(format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n\r\n"));
        let body =
            if framing.starts_with('C') { content.clone().into_bytes() } else { chunked(content.as_bytes(), 9000) };
        call.send(&body[..body.len() - 5]);
        Flow::Close
    });
    let gateway = start(upstream.address());
    let (client, authorization) = (Client::of(&gateway), token());
    for target in ["/files/length", "/files/chunked"] {
        let (sealed, answer) = get(&gateway, &client, target);
        assert_eq!((answer.status, answer.complete), (200, false), "{target}");
        assert!(sealed.try_open(&answer).is_err(), "{target}");
        // In answer to an upload, too, and over HTTP/2.
        let authority = gateway.https().to_string();
        let sealed = client.seal_for(&lines(9000), ("POST", &authority, target), now_ms());
        let call = Curl::h2(gateway.https(), target).headers(&fields(&authorization)).method("POST");
        let fetched = call.streamed(&sealed.bytes).run();
        assert_ne!(fetched.exit, 0, "{target}: {}", fetched.log);
        // A reset overtakes what the gateway had not sent yet: the head, too.
        match fetched.answer.status {
            0 => assert!(fetched.answer.body.is_empty()),
            200 => assert!(sealed.try_open(&fetched.answer).is_err(), "{target}"),
            other => panic!("{target}: {other}"),
        }
    }
    let labels = ["encryption=\"files\"", "reason=\"upstream\""];
    assert_eq!(gateway.metric("gapura_envelope_streams_aborted_total", &labels), 4.0);
}

/// A request that turns out spoiled while its response is on its way: the response breaks off.
#[test]
fn a_response_ends_with_its_request() {
    let upstream = Upstream::start(|call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        call.body();
        call.send("0\r\n\r\n");
        Flow::Close
    });
    let gateway = start(upstream.address());
    let (client, authorization) = (Client::of(&gateway), token());
    for spoiled in [false, true] {
        let sealed = client.seal(&lines(2000), "/files/1");
        let (first, rest) = sealed.bytes.split_at(30_000);
        let framing = vec![("Transfer-Encoding", "chunked")];
        let mut wire = gateway.connect();
        wire.send(request_bytes("POST", "/files/1", &[fields(&authorization), framing].concat(), b""));
        wire.send([format!("{:x}\r\n", first.len()).as_bytes(), first, b"\r\n"].concat());
        let mut answer = wire.head().expect("a head");
        assert_eq!(answer.status, 200);
        let mut rest = rest.to_vec();
        if spoiled {
            rest[5000] ^= 1;
        }
        wire.try_send(chunked(&rest, 5000));
        wire.body("POST", &mut answer);
        assert_eq!(answer.complete, !spoiled);
        let opened = sealed.try_open(&answer).is_ok_and(|content| content == "early");
        assert_eq!(opened, !spoiled);
    }
    until_true("both requests were read", || upstream.ended() == 2);
    assert_eq!(upstream.requests().iter().filter(|heard| heard.complete).count(), 1);
}

/// Of an upstream that is not there, refuses early, or answers what cannot be sealed.
#[test]
fn errors_before_the_response_are_told() {
    let upstream = Upstream::start(|call| match call.heard.target.as_str() {
        "/files/coded" => {
            call.body();
            call.respond(200, &[TEXT, ("Content-Encoding", "gzip")], b"not asked for")
        }
        "/files/silent" => Flow::Close,
        // Without reading the body.
        _ => {
            call.respond(403, &[TEXT], b"not you");
            Flow::Close
        }
    });
    let gateway = start(upstream.address());
    let (client, authorization) = (Client::of(&gateway), token());
    let large = lines(40_000);
    for (target, status) in [("/files/coded", 502), ("/files/silent", 502), ("/files/refused", 403)] {
        for round in 0..2 {
            let sealed = client.seal(&large, target);
            let answer = wire::request(gateway.http(), "POST", target, &fields(&authorization), &sealed.bytes);
            assert_eq!(answer.status, status, "{target} {round}");
            if status == 403 {
                assert_eq!(sealed.open(&answer), "not you");
            } else {
                expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
            }
        }
    }
}

#[test]
fn explain_says_how_bodies_pass() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let file = gateway.directory().join("gapura.toml").display().to_string();
    let told = command(&["explain", "--config", &file, "POST", "/files/1"], &[("JWT_SECRET", JWT_SECRET)], "");
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("bodies of any length pass record by record, both ways"), "{text}");
    assert!(text.contains("bodies           sealed both ways as they come"), "{text}");
}

/// Whatever the length of a body, and however the other side takes it, the gateway holds a few records of it.
#[test]
fn memory_is_bounded() {
    const SIZE: usize = 96 << 20;
    let [mut node, _] = Backend::recorders();
    let gateway = start(node.address());
    let client = Client::of(&gateway);
    let mut call = json!({
        "port": gateway.http().port(), "path": "/files/echo", "authority": AUTHORITY, "authorization": token(),
        "sessionKey": client.session["session_key"], "kid": client.session["kid"], "subject": "u-1001", "size": 1 << 20,
    });
    // The first one has the code in memory, and the allocator has what it keeps.
    for (size, most) in [(8 << 20, u64::MAX), (SIZE, 32 << 10)] {
        let before = gateway.memory("VmHWM");
        call["size"] = size.into();
        let answer: Value = serde_json::from_str(&node.ask(&call.to_string())).unwrap();
        assert_eq!(answer, json!({"status": 200, "equal": true}));
        let grown = gateway.memory("VmHWM").saturating_sub(before);
        assert!(grown <= most, "{grown} KiB for a body of {size} bytes");
    }
}
