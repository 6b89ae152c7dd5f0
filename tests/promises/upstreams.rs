//! What an upstream does wrong becomes one honest answer; and no request is sent twice that may have been acted upon.

use std::{
    collections::HashSet,
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{
    Curl, Flow, Gateway, Setup, Upstream, expect_problem,
    upstream::Closed,
    wait::{Gate, until_true},
    wire::request_bytes,
};

/// Bodies that the gateway may hold whole, and bodies that it can only pass on.
const BODIES: [&[u8]; 2] = [b"pay once", &[b'x'; 200_000]];

const TABLES: &str = r#"
[upstreams.backend]
servers = [@SERVERS@]
connect_timeout = "1s"

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"

[[routes]]
name = "hasty"
path = "/hasty"
upstream = "backend"
timeout = "300ms"
"#;

fn start(servers: &[std::net::SocketAddr]) -> Gateway {
    let servers: Vec<_> = servers.iter().map(|address| format!("\"{address}\"")).collect();
    Setup::tls(TABLES).put("SERVERS", servers.join(", ")).start()
}

#[test]
fn an_upstream_that_does_not_answer_in_time() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        held.wait();
        Flow::Close
    });
    let gateway = start(&[upstream.address()]);
    for body in BODIES {
        expect_problem(&gateway.request("POST", "/hasty", &[], body), 504, "UPSTREAM_TIMEOUT");
    }
    expect_problem(&Curl::h2(gateway.https(), "/hasty").answer(), 504, "UPSTREAM_TIMEOUT");
    until_true("all have come", || upstream.requests().len() >= 3);
    assert_eq!(upstream.requests().len(), 3, "a request that may still be worked on was sent again");
    gate.open();
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let closed = Closed::port();
    let upstream = Upstream::ok();
    let gateway = start(&[closed.address(), upstream.address()]);
    for _ in 0..4 {
        assert_eq!(gateway.request("POST", "/open", &[], b"x").status, 200);
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[test]
fn servers_take_turns() {
    let (one, two) = (Upstream::ok(), Upstream::ok());
    let gateway = start(&[one.address(), two.address()]);
    for _ in 0..4 {
        assert_eq!(gateway.get("/open").status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (2, 2));
}

#[test]
fn an_upstream_that_comes_back_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gateway = start(&[address]);
    expect_problem(&gateway.get("/open"), 502, "UPSTREAM_UNAVAILABLE");
    let _upstream = Upstream::on(TcpListener::bind(address).unwrap(), |call| call.respond(200, &[], b"back"));
    until_true("the gateway finds its upstream", || gateway.get("/open").status == 200);
}

#[test]
fn an_answer_that_is_no_http() {
    for rubbish in ["rubbish\r\n\r\n", "HTTP/1.1 two hundred\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ""] {
        let upstream = Upstream::start(move |call| {
            call.body();
            call.send(rubbish);
            Flow::Close
        });
        let gateway = start(&[upstream.address()]);
        for body in BODIES {
            let answer = gateway.request("POST", "/open", &[], body);
            let problem = expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
            assert!(!problem.to_string().contains("rubbish"), "upstream internals: {problem}");
        }
    }
}

#[test]
fn a_truncated_answer_never_looks_complete() {
    let upstream = Upstream::start(|call| {
        call.body();
        match call.heard.target.as_str() {
            "/open/chunked" => call.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
            _ => call.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst"),
        };
        Flow::Close
    });
    let gateway = start(&[upstream.address()]);
    for target in ["/open/length", "/open/chunked"] {
        for body in BODIES {
            let mut wire = gateway.connect();
            wire.send(request_bytes("POST", target, &[], body));
            // Either the whole is a 502, or what came ends visibly short.
            if let Some(answer) = wire.try_answer("POST") {
                assert!(answer.status == 502 || !answer.complete, "{target}: {answer:?}");
            }
        }
        let over_h2 = Curl::h2(gateway.https(), target).run();
        assert!(over_h2.answer.status == 502 || over_h2.exit != 0, "{target}: {}", over_h2.answer.lossy());
    }
}

#[test]
fn a_pooled_connection_that_the_upstream_closed_costs_no_request() {
    // Answers as if the connection stayed open, and closes it.
    let upstream = Upstream::start(|call| {
        call.body();
        call.respond(200, &[], b"ok");
        Flow::Close
    });
    let gateway = start(&[upstream.address()]);
    for (round, method) in ["GET", "POST", "GET", "POST", "POST", "PUT", "DELETE", "POST"].iter().enumerate() {
        let body = if *method == "GET" { b"" } else { BODIES[round % 2] };
        let answer = gateway.request(method, "/open", &[], body);
        assert_eq!(answer.status, 200, "{method}, {}", answer.lossy());
        // The end has reached the gateway's side: what it does with its pool now is its own choice.
        until_true("the upstream has closed", || upstream.ended() > round);
    }
    assert_eq!(upstream.requests().len(), 8, "a request was sent twice");
}

#[test]
fn connections_to_the_upstream_are_used_again() {
    let upstream = Upstream::ok();
    let gateway = start(&[upstream.address()]);
    for _ in 0..10 {
        assert_eq!(gateway.request("POST", "/open", &[], b"x").status, 200);
    }
    assert!(upstream.connections() < 10, "each request had a connection of its own");
}

/// Requests for `/lost` are read and not answered: all of them, or those on a connection that was used before.
fn forgetful(always: bool) -> (Upstream, Arc<AtomicUsize>) {
    let unanswered = Arc::new(AtomicUsize::new(0));
    let count = unanswered.clone();
    let used = Mutex::new(HashSet::new());
    let upstream = Upstream::start(move |call| {
        call.body();
        let first = used.lock().unwrap().insert(call.heard.connection);
        if call.heard.target.ends_with("/lost") && (always || !first) {
            count.fetch_add(1, Ordering::SeqCst);
            return Flow::Close;
        }
        call.respond(200, &[], b"ok")
    });
    (upstream, unanswered)
}

#[test]
fn a_post_that_may_have_been_acted_upon_is_not_sent_again() {
    let (upstream, unanswered) = forgetful(true);
    let gateway = start(&[upstream.address()]);
    for (method, body) in [("POST", BODIES[0]), ("PATCH", BODIES[0]), ("POST", BODIES[1])] {
        // So that the lost request goes over a pooled connection, where a careless proxy tries again.
        assert_eq!(gateway.request("POST", "/open", &[], b"first").status, 200);
        let before = unanswered.load(Ordering::SeqCst);
        let answer = gateway.request(method, "/open/lost", &[], body);
        expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        assert_eq!(unanswered.load(Ordering::SeqCst) - before, 1, "{method} was sent again");
    }
}

#[test]
fn a_get_on_a_connection_that_broke_is_tried_on_a_new_one() {
    let (upstream, unanswered) = forgetful(false);
    let gateway = start(&[upstream.address()]);
    // A connection is back in the pool some time after its answer has reached the client.
    until_true("a pooled connection breaks", || {
        assert_eq!(gateway.get("/open").status, 200);
        assert_eq!(gateway.get("/open/lost").status, 200, "a pooled connection broke, a new one must answer");
        unanswered.load(Ordering::SeqCst) > 0
    });
}

#[test]
fn an_upstream_that_answers_before_it_has_read_everything() {
    let upstream = Upstream::start(|call| {
        call.respond(413, &[("Connection", "close")], b"too much for me");
        Flow::Close
    });
    let gateway = start(&[upstream.address()]);
    let mut wire = gateway.connect();
    wire.send(request_bytes("POST", "/open", &[("Content-Length", "500000")], b""));
    wire.send(vec![b'x'; 100_000]);
    let answer = wire.answer("POST");
    assert_eq!((answer.status, answer.text()), (413, "too much for me"));
}
