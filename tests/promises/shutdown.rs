//! SIGTERM: no new work, running requests end, then exit code 0. A start that cannot succeed says why, and with which code.

use std::net::{TcpListener, TcpStream};

use crate::support::{
    Flow, Gateway, Setup, Upstream,
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
