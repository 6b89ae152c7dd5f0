//! Of all protocols that a client may ask to upgrade to, only WebSocket is passed on. A request that asks for another is
//! like any request: framed, limited in time, and followed by the next.

use crate::support::{
    Curl, Flow, Gateway, Setup, Upstream, Wire, expect_problem,
    wait::{Gate, until_true},
};

const TABLES: &str = r#"
[limits]
body_timeout = "@BODY@"

[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "hasty"
path = "/hasty"
upstream = "backend"
timeout = "300ms"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
"#;

const UPGRADES: [&str; 7] = [
    "Upgrade: x\r\n",
    "Upgrade: x\r\nConnection: Upgrade\r\n",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "Upgrade:\r\n",
    "Upgrade:\r\nConnection: upgrade\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: websocket, h2c\r\nConnection: upgrade\r\n",
];
/// The one that is passed on.
const WEBSOCKET: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

/// With so much time for a body.
fn start(upstream: &Upstream, body: &str) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).put("BODY", body).start()
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream, "300ms");
    let framings =
        ["Content-Length: 10\r\n\r\n", "Content-Length: 100000\r\n\r\na", "Transfer-Encoding: chunked\r\n\r\n5\r\n"];
    // All at once: each takes as long as a body may.
    let mut open = Vec::new();
    for upgrade in UPGRADES.into_iter().chain([WEBSOCKET]) {
        for framing in framings {
            for tls in [false, true] {
                let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
                wire.send(format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{upgrade}{framing}"));
                open.push(wire);
            }
        }
    }
    for mut wire in open {
        expect_problem(&wire.answer("POST"), 408, "REQUEST_TIMEOUT");
        wire.expect_closed();
    }
    assert!(upstream.requests().iter().all(|heard| !heard.complete), "a cut body looked complete");
}

#[test]
fn an_upstream_that_hangs_is_not_waited_for() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        held.wait();
        Flow::Close
    });
    let gateway = start(&upstream, "30s");
    let ask = |upgrade| {
        let mut wire = gateway.connect();
        wire.send(format!("GET /hasty HTTP/1.1\r\nHost: gateway.test\r\n{upgrade}\r\n"));
        wire
    };
    let open: Vec<_> = UPGRADES.into_iter().chain([WEBSOCKET]).map(ask).collect();
    for mut wire in open {
        expect_problem(&wire.answer("GET"), 504, "UPSTREAM_TIMEOUT");
    }
    gate.open();
}

#[test]
fn an_upgrade_that_is_not_passed_on_changes_nothing() {
    let upstream = Upstream::start(|call| {
        call.body();
        let heard = format!("{} {} {}", call.heard.method, call.heard.target, call.heard.text());
        call.respond(200, &[], heard.as_bytes())
    });
    let gateway = start(&upstream, "30s");
    for upgrade in UPGRADES {
        for (method, framing, body) in [
            ("GET", "\r\n", ""),
            ("POST", "Content-Length: 5\r\n\r\nhello", "hello"),
            ("POST", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello"),
        ] {
            upstream.forget();
            let first = format!("{method} /first HTTP/1.1\r\nHost: gateway.test\r\n{upgrade}{framing}");
            let next = "GET /next HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n";
            let mut wire = gateway.connect();
            // In one write: what follows is a request of its own, never the inside of a tunnel.
            wire.send(format!("{first}{next}"));
            let answers = [wire.answer(method), wire.answer("GET")];
            let texts = answers.each_ref().map(|answer| (answer.status, answer.text()));
            assert_eq!(texts, [(200, &*format!("{method} /first {body}")), (200, "GET /next ")], "{upgrade:?}");
            wire.expect_closed();
            let heard = upstream.requests();
            assert_eq!(heard.len(), 2, "{upgrade:?}");
            for name in ["upgrade", "http2-settings"] {
                assert_eq!(heard[0].header(name), None, "{upgrade:?}: {name} passed");
            }
            let connection = heard[0].header("connection").unwrap_or_default().to_ascii_lowercase();
            assert!(!connection.contains("upgrade"), "{upgrade:?}: {connection}");
        }
    }
}

/// A server that switches where nobody asked for it would make a tunnel past everything that the gateway checks.
#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nRAW BYTES");
        held.wait();
        call.send("RAW BYTES");
        Flow::Close
    });
    let gateway = start(&upstream, "30s");
    let framings = [
        "\r\n".to_owned(),
        "Content-Length: 4\r\n\r\nbody".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n".to_owned(),
        // A request with a body makes no tunnel.
        format!("{WEBSOCKET}Content-Length: 4\r\n\r\nbody"),
    ];
    let upgrades = UPGRADES.map(|upgrade| format!("{upgrade}\r\n"));
    let mut open = Vec::new();
    for framing in framings.into_iter().chain(upgrades) {
        let mut wire = gateway.connect();
        wire.send(format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{framing}"));
        let answer = wire.answer("POST");
        assert_ne!(answer.status, 101, "{framing:?}");
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        open.push((framing, wire));
    }
    let ways: [fn(Curl) -> Curl; 3] = [|curl| curl, |curl| curl.body("body"), |curl| curl.streamed("body")];
    for way in ways {
        let answer = way(Curl::h2(gateway.https(), "/")).answer();
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
    }
    gate.open();
    until_true("the upstream has said all", || upstream.ended() == upstream.connections());
    for (framing, mut wire) in open {
        wire.finish_sending();
        let rest = wire.rest();
        assert!(rest.is_empty(), "{framing:?}: {:?}", String::from_utf8_lossy(&rest));
    }
}
