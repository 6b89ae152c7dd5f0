//! What a route lets through at once, and what a response may say of its cost.

use std::thread;

use crate::support::{
    Curl, Flow, Gateway, Setup, Upstream, expect_problem,
    wait::{Gate, until_true},
    wire::{Answer, Wire, request_bytes},
};

const TABLES: &str = r#"
[rate_limits.points]
limit = 20
window = "1h"
by = "header:x-tenant"
cost = { header = "X-Cost", default = 1, max = 10 }

[upstreams.backend]
servers = ["@UPSTREAM@"]

[[routes]]
name = "narrow"
path = "/narrow"
upstream = "backend"
max_in_flight = 1
queue = 1
queue_timeout = "1h"

[[routes]]
name = "hasty"
path = "/hasty"
upstream = "backend"
max_in_flight = 1
queue = 1
queue_timeout = "10ms"

[[routes]]
name = "points"
path = "/points/**"
upstream = "backend"
rate_limits = ["points"]
"#;

/// An upstream that answers nothing until the gate is open.
fn held(gate: &Gate) -> (Upstream, Gateway) {
    let gate = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        gate.wait();
        call.respond(200, &[], b"ok")
    });
    let gateway = Setup::tls(TABLES).put("UPSTREAM", upstream.address()).start();
    (upstream, gateway)
}

fn counts(gateway: &Gateway, route: &str, in_flight: u32, queued: u32) {
    let label = format!("route=\"{route}\"");
    until_true(&format!("{in_flight} in flight, {queued} queued"), || {
        let now = ["gapura_in_flight", "gapura_queued"].map(|name| gateway.metric(name, &[&label]));
        now == [f64::from(in_flight), f64::from(queued)]
    });
}

/// Small bodies that are read first, and large ones that stream.
#[test]
fn one_is_with_the_upstream_one_waits_and_the_next_is_refused() {
    for body in [b"".as_slice(), &[b'x'; 200_000]] {
        let gate = Gate::default();
        let (upstream, gateway) = held(&gate);
        let ask = || gateway.request("POST", "/narrow", &[], body);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let first = scope.spawn(ask);
            counts(&gateway, "narrow", 1, 0);
            let second = scope.spawn(ask);
            counts(&gateway, "narrow", 1, 1);
            let refused = ask();
            expect_problem(&refused, 503, "OVERLOADED");
            assert_eq!(refused.header("retry-after"), Some("3600"));
            // A place is counted before its request arrives.
            until_true("the first has arrived", || !upstream.requests().is_empty());
            assert_eq!(upstream.requests().len(), 1, "who waits has not reached it");
            gate.open();
            [first, second].into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(upstream.requests().len(), 2);
        counts(&gateway, "narrow", 0, 0);
        assert_eq!(ask().status, 200);
    }
}

#[test]
fn whoever_leaves_gives_back_the_place_and_the_turn() {
    let gate = Gate::default();
    let (_upstream, gateway) = held(&gate);
    let begin = || {
        let mut wire: Wire = gateway.connect();
        wire.send(request_bytes("GET", "/narrow", &[], b""));
        wire
    };
    let first = begin();
    counts(&gateway, "narrow", 1, 0);
    let second = begin();
    counts(&gateway, "narrow", 1, 1);
    drop(second);
    counts(&gateway, "narrow", 1, 0);
    let mut third = begin();
    counts(&gateway, "narrow", 1, 1);
    drop(first);
    // The place of the first is the third's now, though the upstream has answered neither.
    counts(&gateway, "narrow", 1, 0);
    gate.open();
    assert_eq!(third.answer("GET").status, 200);
    counts(&gateway, "narrow", 0, 0);
}

#[test]
fn who_waits_too_long_is_refused_over_every_protocol() {
    let gate = Gate::default();
    let (upstream, gateway) = held(&gate);
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/hasty"));
        counts(&gateway, "hasty", 1, 0);
        let refused = gateway.get("/hasty");
        expect_problem(&refused, 503, "OVERLOADED");
        assert_eq!(refused.header("retry-after"), Some("1"));
        expect_problem(&Curl::h2(gateway.https(), "/hasty").answer(), 503, "OVERLOADED");
        until_true("the first has arrived", || !upstream.requests().is_empty());
        assert_eq!(upstream.requests().len(), 1);
        gate.open();
        assert_eq!(first.join().unwrap().status, 200);
    });
    counts(&gateway, "hasty", 0, 0);
}

/// A WebSocket is in flight as long as it lasts, and one that waits gets its tunnel with all that was said in it.
#[test]
fn a_websocket_holds_its_place_until_it_ends() {
    let upstream = Upstream::start(|call| {
        call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let heard = call.receive();
        call.send(heard);
        while !call.receive().is_empty() {}
        Flow::Close
    });
    let gateway = Setup::tls(TABLES).put("UPSTREAM", upstream.address()).start();
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let begin = || {
        let mut wire = gateway.connect();
        wire.send(request_bytes("GET", "/narrow", &headers, b""));
        wire
    };
    let mut first = begin();
    assert_eq!(first.head().expect("a head").status, 101);
    counts(&gateway, "narrow", 1, 0);
    let mut second = begin();
    counts(&gateway, "narrow", 1, 1);
    expect_problem(&gateway.get("/narrow"), 503, "OVERLOADED");
    second.send("early");
    drop(first);
    assert_eq!(second.head().expect("a head").status, 101);
    assert_eq!(second.take(5).as_deref(), Some(b"early".as_slice()));
    counts(&gateway, "narrow", 1, 0);
    drop(second);
    counts(&gateway, "narrow", 0, 0);
}

/// One that waits for its turn, and one whose upstream has not answered; also a client that says more than is read ahead of it.
#[test]
fn a_websocket_that_is_left_before_it_opens_gives_back_its_place() {
    let gate = Gate::default();
    let (_upstream, gateway) = held(&gate);
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    for (headers, more) in [(&upgrade[..], 0), (&upgrade[..], 5), (&upgrade[..], 100_000), (&[], 100_000)] {
        for tls in [false, true] {
            let begin = || {
                let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
                wire.send(request_bytes("GET", "/narrow", headers, b""));
                wire.send(vec![b'x'; more]);
                wire
            };
            let first = begin();
            counts(&gateway, "narrow", 1, 0);
            let second = begin();
            counts(&gateway, "narrow", 1, 1);
            drop(second);
            counts(&gateway, "narrow", 1, 0);
            drop(first);
            counts(&gateway, "narrow", 0, 0);
        }
    }
    gate.open();
}

/// All that a client says before its tunnel opens is for the tunnel, however much it is.
#[test]
fn what_is_said_before_a_websocket_opens_arrives_in_it() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        held.wait();
        call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut heard = 0;
        while heard < 200_000 {
            let bytes = call.receive();
            assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == b'x'), "after {heard}");
            heard += bytes.len();
        }
        call.send("all");
        Flow::Close
    });
    let gateway = Setup::tls(TABLES).put("UPSTREAM", upstream.address()).start();
    for tls in [false, true] {
        let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
        let mut sent = request_bytes("GET", "/narrow", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b"");
        sent.extend([b'x'; 100]);
        wire.send(sent);
        counts(&gateway, "narrow", 1, 0);
        wire.send(vec![b'x'; 199_900]);
        gate.open();
        assert_eq!(wire.head().expect("a head").status, 101);
        assert_eq!(wire.take(3).as_deref(), Some(b"all".as_slice()));
        drop(wire);
        counts(&gateway, "narrow", 0, 0);
    }
}

/// A response is in flight until its last byte, however it ends.
#[test]
fn a_response_that_streams_holds_its_place_until_it_ends() {
    for body in [b"".as_slice(), &[b'x'; 200_000]] {
        let gate = Gate::default();
        let held = gate.clone();
        let upstream = Upstream::start(move |call| {
            call.body();
            call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            held.wait();
            // Broken off: there is no last chunk.
            Flow::Close
        });
        let gateway = Setup::tls(TABLES).put("UPSTREAM", upstream.address()).start();
        let begin = || {
            let mut wire = gateway.connect();
            wire.send(request_bytes("POST", "/narrow", &[], body));
            assert_eq!(wire.head().expect("a head").status, 200);
            wire
        };
        let leaves = begin();
        counts(&gateway, "narrow", 1, 0);
        drop(leaves);
        counts(&gateway, "narrow", 0, 0);
        let stays = begin();
        counts(&gateway, "narrow", 1, 0);
        gate.open();
        counts(&gateway, "narrow", 0, 0);
        drop(stays);
    }
}

/// What is in flight keeps its place, and a wider bound holds at once.
#[test]
fn a_reload_forgets_nobody_who_is_in_flight() {
    let gate = Gate::default();
    let (_upstream, gateway) = held(&gate);
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/hasty"));
        counts(&gateway, "hasty", 1, 0);
        assert_eq!(gateway.reload().status, 200);
        expect_problem(&gateway.get("/hasty"), 503, "OVERLOADED");
        gateway.rewrite(&gateway.text().replace("max_in_flight = 1\n", "max_in_flight = 2\n"));
        assert_eq!(gateway.reload().status, 200);
        let second = scope.spawn(|| gateway.get("/hasty"));
        counts(&gateway, "hasty", 2, 0);
        expect_problem(&gateway.get("/hasty"), 503, "OVERLOADED");
        gate.open();
        assert!([first, second].into_iter().all(|asked| asked.join().unwrap().status == 200));
    });
    counts(&gateway, "hasty", 0, 0);
}

/// A wider bound lets in who waits, though nobody leaves and nobody comes; one that goes and comes back has forgotten nobody.
#[test]
fn a_reload_lets_in_who_waits_and_counts_who_is_there() {
    let gate = Gate::default();
    let (_upstream, gateway) = held(&gate);
    let reload = |text: &str| {
        gateway.rewrite(text);
        assert_eq!(gateway.reload().status, 200);
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/narrow"));
        counts(&gateway, "narrow", 1, 0);
        let second = scope.spawn(|| gateway.get("/narrow"));
        counts(&gateway, "narrow", 1, 1);
        let wider = gateway
            .text()
            .replace("max_in_flight = 1\n", "max_in_flight = 2\n")
            .replace("\"1h\"\n\n[[", "\"10ms\"\n\n[[");
        reload(&wider);
        counts(&gateway, "narrow", 2, 0);
        reload(&wider.replacen("max_in_flight = 2\nqueue = 1\nqueue_timeout = \"10ms\"\n", "", 1));
        let third = scope.spawn(|| gateway.get("/narrow"));
        counts(&gateway, "narrow", 3, 0);
        reload(&wider);
        expect_problem(&gateway.get("/narrow"), 503, "OVERLOADED");
        gate.open();
        assert!([first, second, third].into_iter().all(|asked| asked.join().unwrap().status == 200));
    });
    counts(&gateway, "narrow", 0, 0);
}

/// Of small bodies that the gateway sends itself, and of large ones that stream.
#[test]
fn a_response_tells_what_its_request_cost_and_the_client_never_sees_it() {
    let upstream = Upstream::start(|call| {
        let cost = call.heard.target.trim_start_matches("/points/").to_owned();
        call.body();
        let fields: &[(&str, &str)] = if cost == "none" { &[] } else { &[("X-Cost", &cost)] };
        call.respond(200, fields, b"ok")
    });
    let gateway = Setup::plain(TABLES).put("UPSTREAM", upstream.address()).start();
    for (tenant, body) in [("small", b"".as_slice()), ("large", &[b'x'; 200_000])] {
        let mut left = 20;
        for (cost, points) in [("3", 3), ("none", 1), ("0", 0), ("much", 1), ("99", 10)] {
            let answer = gateway.request("POST", &format!("/points/{cost}"), &[("X-Tenant", tenant)], body);
            assert_eq!((answer.status, answer.header("x-cost")), (200, None), "{cost}");
            left -= points;
            let state = answer.header("ratelimit").unwrap_or_default();
            assert!(state.starts_with(&format!("\"points\";r={left};")), "{cost}: {state}");
        }
        // Five are left, and a request may cost ten.
        let refused = gateway.request("POST", "/points/1", &[("X-Tenant", tenant)], body);
        expect_problem(&refused, 429, "RATE_LIMITED");
    }
    assert_eq!(upstream.requests().len(), 10);
}
