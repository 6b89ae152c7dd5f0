//! Idle connections to an upstream, however many: what came on them unasked is nobody's answer, and one that died costs
//! no request, nor lets it go through all of them.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use crate::support::{
    Answer, Flow, Gateway, Setup, Upstream, expect_problem,
    h2::{self, H2},
    wait::{Gate, until_true},
};

const TABLES: &str = r#"
[limits]
max_streams = 400

[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
"#;

/// More than a task may poll before it yields, and more than are kept.
const MANY: usize = 160;

/// What goes before a body decides which connections carry it: the gateway has its own, and passes the others on.
const FRAMINGS: [(&str, &str, &str); 2] =
    [("held", "Content-Length: 4", "body"), ("streamed", "Transfer-Encoding: chunked", "4\r\nbody\r\n0\r\n\r\n")];

/// One test at a time: each has hundreds of sockets.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers `/fill` when all have come, so that each has a connection of its own. Connections that answered one then meet
/// their `fate`, once its gate is open; on others `/lost` is not answered.
struct Filled {
    upstream: Upstream,
    fate: Gate,
    met: Arc<AtomicUsize>,
}

impl Filled {
    fn start(fate: impl Fn(&mut crate::support::upstream::Call<'_>) -> Flow + Send + Sync + 'static) -> Self {
        let (come, met) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (full, gate) = (Gate::default(), Gate::default());
        let (counted, opened) = (met.clone(), gate.clone());
        let upstream = Upstream::start(move |call| {
            call.body();
            match call.heard.target.as_str() {
                "/fill" => {
                    if come.fetch_add(1, Ordering::SeqCst) + 1 == MANY {
                        full.open();
                    }
                    full.wait();
                    call.respond(200, &[], b"filled");
                    opened.wait();
                    let flow = fate(call);
                    counted.fetch_add(1, Ordering::SeqCst);
                    flow
                }
                "/lost" => Flow::Close,
                _ => call.respond(200, &[], b"fresh"),
            }
        });
        Self { upstream, fate: gate, met }
    }

    fn gateway(&self) -> Gateway {
        Setup::tls(TABLES).put("BACKEND", self.upstream.address()).start()
    }

    /// Opens [`MANY`] connections at once, which then are idle; and what becomes of them then.
    #[track_caller]
    fn fill(&self, gateway: &Gateway, way: &str) {
        let method = if way == "held" { &b"GET"[..] } else { b"POST" };
        let body = (way != "held").then_some(&b"body"[..]);
        let fields =
            [(&b":method"[..], method), (b":scheme", b"https"), (b":authority", b"gateway.test"), (b":path", b"/fill")];
        let mut client = H2::connect(gateway.https());
        let all: Vec<u8> =
            (0..MANY).flat_map(|at| h2::request(u32::try_from(at).unwrap() * 2 + 1, &fields, body)).collect();
        client.frames(&all);
        let mut ended = 0;
        while ended < MANY {
            let frame = client.frame().expect("an answer to each");
            assert!(!matches!(frame.kind, h2::RST_STREAM | h2::GOAWAY), "{frame:?}");
            ended += usize::from(frame.ends_stream());
        }
        assert_eq!(self.upstream.connections(), MANY, "not all were open at once");
        self.fate.open();
        until_true("all connections have met their fate", || self.met.load(Ordering::SeqCst) == MANY);
    }
}

#[track_caller]
fn ask(gateway: &Gateway, method: &str, target: &str, framing: &str, body: &str) -> Answer {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n{framing}\r\n\r\n{body}");
    gateway.connect().send(request).answer(method)
}

fn speak(call: &mut crate::support::upstream::Call<'_>) -> Flow {
    call.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON");
    Flow::Keep
}

#[test]
fn what_comes_on_idle_connections_is_nobodys_answer() {
    let _alone = alone();
    for (way, framing, body) in FRAMINGS {
        let filled = Filled::start(speak);
        let gateway = filled.gateway();
        filled.fill(&gateway, way);
        for round in 0..20 {
            let answer = ask(&gateway, "POST", "/next", framing, body);
            assert_eq!((answer.status, answer.text()), (200, "fresh"), "{way}, request {round}");
        }
    }
}

#[test]
fn idle_connections_that_the_upstream_closed_cost_no_request() {
    let _alone = alone();
    for (way, framing, body) in FRAMINGS {
        let filled = Filled::start(|_| Flow::Close);
        let gateway = filled.gateway();
        filled.fill(&gateway, way);
        until_true("the upstream has closed all", || filled.upstream.ended() == MANY);
        for round in 0..20 {
            let answer = ask(&gateway, "POST", "/next", framing, body);
            assert_eq!((answer.status, answer.text()), (200, "fresh"), "{way}, request {round}");
        }
        let heard = filled.upstream.requests().iter().filter(|heard| heard.target == "/next").count();
        assert_eq!(heard, 20, "{way}: a request was sent twice");
    }
}

/// A request that kills its server is not shown to all of them.
#[test]
fn a_request_without_an_answer_is_sent_twice_at_most() {
    let _alone = alone();
    for (way, framing, body) in FRAMINGS {
        let filled = Filled::start(|_| Flow::Keep);
        let gateway = filled.gateway();
        filled.fill(&gateway, way);
        let lost = || filled.upstream.requests().iter().filter(|heard| heard.target == "/lost").count();
        for (method, most) in [("POST", 1), ("GET", 2), ("PATCH", 1), ("PUT", 2), ("DELETE", 2)] {
            let before = lost();
            let (framing, body) = if method == "GET" { ("X-No: body", "") } else { (framing, body) };
            expect_problem(&ask(&gateway, method, "/lost", framing, body), 502, "UPSTREAM_UNAVAILABLE");
            let sent = lost() - before;
            assert!((1..=most).contains(&sent), "{way}: {method} was sent {sent} times");
        }
    }
}
