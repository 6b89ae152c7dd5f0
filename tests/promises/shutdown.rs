//! SIGTERM: no new work, running requests end, then exit code 0. A start that cannot succeed says why, and with which code.

use std::net::{TcpListener, TcpStream};

use crate::support::{
    Flow, Gateway, Setup, Upstream, Wire,
    wait::{Gate, until_true},
    wire::request_bytes,
};

const TABLES: &str = r#"
[limits]
shutdown_grace = "@GRACE@"

[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

fn start(upstream: &Upstream, grace: &str) -> Gateway {
    Setup::plain(TABLES).put("BACKEND", upstream.address()).put("GRACE", grace).start()
}

fn held() -> (Gate, Upstream) {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        held.wait();
        call.respond(200, &[], b"finished all the same");
        Flow::Close
    });
    (gate, upstream)
}

#[test]
fn running_requests_end_first() {
    let (gate, upstream) = held();
    let gateway = start(&upstream, "60s");
    let address = gateway.http();
    let _idle = gateway.connect();
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/open", &[], b"x"));
    until_true("the request reaches the upstream", || upstream.requests().len() == 1);
    gateway.signal("TERM");
    until_true("no new connection is taken", || {
        assert!(gateway.exited().is_none(), "it ended before its running request did");
        // Refused, or taken by the kernel and closed.
        TcpStream::connect(address).is_err()
    });
    gate.open();
    let answer = wire.answer("POST");
    assert_eq!((answer.status, answer.text()), (200, "finished all the same"));
    assert_eq!(gateway.exit().code(), Some(0), "an idle connection holds nothing up");
}

const BODIES: [&str; 3] =
    ["\r\n", "Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"];

/// Each answer comes, tells its client that the connection ends, and then it ends (RFC 9112, section 9.6).
#[track_caller]
fn expect_last(wires: Vec<Wire>) {
    let mut silent = Vec::new();
    for (mut wire, body) in wires.into_iter().zip(BODIES) {
        let answer = wire.answer("POST");
        assert_eq!((answer.status, answer.text()), (200, "finished all the same"), "{body:?}");
        let said = answer.header("connection").map(str::to_owned);
        silent.extend((said.as_deref() != Some("close")).then(|| format!("{body:?}: {said:?}")));
        wire.expect_closed();
    }
    assert!(silent.is_empty(), "no `Connection: close`, but:\n{}", silent.join("\n"));
}

#[test]
fn the_answer_to_a_running_request_is_the_last() {
    let (gate, upstream) = held();
    let gateway = start(&upstream, "60s");
    let running = BODIES.map(|body| {
        let mut wire = gateway.connect();
        wire.send(format!("POST /open HTTP/1.1\r\nHost: gateway.test\r\n{body}"));
        wire
    });
    until_true("the requests reach the upstream", || upstream.requests().len() == BODIES.len());
    let address = gateway.http();
    gateway.signal("TERM");
    until_true("no new connection is taken", || TcpStream::connect(address).is_err());
    gate.open();
    expect_last(running.into());
}

#[test]
fn the_answer_to_a_head_that_had_begun_is_the_last() {
    let (gate, upstream) = held();
    let gateway = start(&upstream, "60s");
    let mut begun = BODIES.map(|_| gateway.connect());
    for wire in &mut begun {
        // An answer first, so that the gateway has this connection.
        wire.send("GET /nowhere HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
        assert_eq!(wire.answer("GET").status, 404);
        wire.send("POST /open HTTP/1.1\r\n");
    }
    // Comes behind them: when it is answered, they have been read.
    assert_eq!(gateway.get("/nowhere").status, 404);
    let address = gateway.http();
    gateway.signal("TERM");
    until_true("no new connection is taken", || TcpStream::connect(address).is_err());
    for (wire, body) in begun.iter_mut().zip(BODIES) {
        wire.send(format!("Host: gateway.test\r\n{body}"));
    }
    until_true("the requests reach the upstream", || upstream.requests().len() == BODIES.len());
    gate.open();
    expect_last(begun.into());
    assert_eq!(gateway.exit().code(), Some(0));
}

#[test]
fn nothing_to_wait_for() {
    let upstream = Upstream::ok();
    for signal in ["TERM", "INT"] {
        let gateway = start(&upstream, "60s");
        assert_eq!(gateway.get("/open").status, 200);
        gateway.signal(signal);
        assert_eq!(gateway.exit().code(), Some(0), "SIG{signal}");
    }
}

#[test]
fn a_request_that_does_not_end_is_left_after_the_grace() {
    let (gate, upstream) = held();
    let gateway = start(&upstream, "300ms");
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/open", &[], b"x"));
    until_true("the request reaches the upstream", || upstream.requests().len() == 1);
    gateway.signal("TERM");
    gateway.exit();
    gate.open();
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let upstream = Upstream::ok();
    for server in [
        "[server]\nhttp = [\"127.0.0.1:@PORT@\"]\nplaintext = true\n",
        "[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:@PORT@\"\n",
    ] {
        let gateway = Setup::new(&format!("{server}{TABLES}"))
            .put("BACKEND", upstream.address())
            .put("GRACE", "1s")
            .put("PORT", &port)
            .spawn();
        assert_eq!(gateway.exit().code(), Some(3), "{server}");
        until_true("the log names the port", || gateway.log().contains(&port));
    }
}

#[test]
fn a_bad_file_does_not_start() {
    let upstream = Upstream::ok();
    let gateway = Setup::plain(&TABLES.replace("upstream = \"backend\"", "upstream = \"nobody\""))
        .put("BACKEND", upstream.address())
        .put("GRACE", "1s")
        .spawn();
    assert_eq!(gateway.exit().code(), Some(1));
    until_true("the log has the fault", || gateway.log().contains("nobody"));
    assert!(gateway.output().is_empty(), "standard output carries only what was asked for");
}
