//! A gateway that is full refuses first what matters least.

use crate::support::{
    Curl, Gateway, Setup, Upstream, Wire, expect_problem,
    wait::{Gate, until_true},
    wire::request_bytes,
};

const TABLES: &str = r#"
[limits]
max_in_flight = 10

[upstreams.backend]
servers = ["@UPSTREAM@"]

[rate_limits.few]
limit = 2
window = "1h"
by = "header:x-tenant"

[[routes]]
name = "low"
path = "/low"
upstream = "backend"
priority = "low"
rate_limits = ["few"]

[[routes]]
name = "normal"
path = "/normal"
upstream = "backend"

[[routes]]
name = "high"
path = "/high"
upstream = "backend"
priority = "high"
"#;

static LARGE: [u8; 200_000] = [b'x'; 200_000];

/// So many requests that hang at the upstream; every other with a body that streams.
fn hang(gateway: &Gateway, target: &str, number: usize, load: u32) -> Vec<Wire> {
    let begin = |n: usize| {
        let mut wire = gateway.connect();
        let body: &[u8] = if n.is_multiple_of(2) { b"" } else { &LARGE };
        // A tenant each: the rule by header is for those who are told no.
        wire.send(request_bytes("POST", target, &[("X-Tenant", &format!("{load} {n}"))], body));
        wire
    };
    let wires = (0..number).map(begin).collect();
    expect_load(gateway, load);
    wires
}

#[track_caller]
fn expect_load(gateway: &Gateway, load: u32) {
    until_true(&format!("a load of {load}"), || gateway.metric("gapura_load", &[]) == f64::from(load));
}

#[track_caller]
fn expect_shed(gateway: &Gateway, target: &str) {
    for body in [b"".as_slice(), &LARGE] {
        let refused = gateway.request("POST", target, &[("X-Tenant", "told no")], body);
        expect_problem(&refused, 503, "OVERLOADED");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    expect_problem(&Curl::h2(gateway.https(), target).header("X-Tenant", "told no").answer(), 503, "OVERLOADED");
}

#[test]
fn who_matters_less_is_refused_first() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        held.wait();
        call.respond(200, &[], b"ok")
    });
    let gateway = Setup::tls(TABLES).put("UPSTREAM", upstream.address()).start();
    let low = hang(&gateway, "/low", 8, 8);
    expect_shed(&gateway, "/low");
    let normal = hang(&gateway, "/normal", 1, 9);
    expect_shed(&gateway, "/low");
    expect_shed(&gateway, "/normal");
    let high = hang(&gateway, "/high", 1, 10);
    expect_shed(&gateway, "/high");
    // Health and metrics are of another listener.
    assert_eq!(gateway.reload().status, 200);
    expect_shed(&gateway, "/high");
    let shed =
        ["low", "normal", "high"].map(|name| gateway.metric("gapura_shed_total", &[&format!("priority=\"{name}\"")]));
    assert_eq!(shed, [6.0, 3.0, 6.0]);
    // Whoever leaves makes room.
    drop(high);
    expect_load(&gateway, 9);
    let high = hang(&gateway, "/high", 1, 10);
    gate.open();
    for mut wire in low.into_iter().chain(normal).chain(high) {
        assert_eq!(wire.answer("POST").status, 200);
    }
    expect_load(&gateway, 0);
    // Who was told no was charged nothing.
    let asked = || gateway.request("GET", "/low", &[("X-Tenant", "told no")], b"").status;
    assert_eq!([asked(), asked(), asked()], [200, 200, 429]);
}

#[test]
fn explain_says_who_is_refused_when() {
    let setup = Setup::plain(TABLES).put("UPSTREAM", "127.0.0.1:1");
    let told = setup.command(&["explain", "GET", "/low"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("priority         low: refused with 503 while 8 of at most 10"), "{told}");
}
