//! The admin listener: health, metrics with bounded labels, and the reload. None of it on a public listener.

use std::collections::BTreeSet;

use crate::support::{
    Backend, Gateway, Setup, Token, Upstream, expect_problem, node::Sealer, token, wait::until_true, wire,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[rate_limits.few]
limit = 1
window = "1h"
by = "client_ip"

[encryption.bodies]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"

[[routes]]
name = "few"
path = "/few"
upstream = "backend"
rate_limits = ["few"]

[[routes]]
name = "sealed"
path = "/debug/**"
upstream = "backend"
auth = ["jwt.users"]
encryption = "bodies"
"#;

fn start(upstream: impl ToString) -> Gateway {
    Setup::plain(TABLES).put("BACKEND", upstream).start()
}

#[track_caller]
fn admin(gateway: &Gateway, method: &str, target: &str) -> wire::Answer {
    wire::request(gateway.admin(), method, target, &[], b"")
}

#[test]
fn health_and_readiness() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    for target in ["/healthz", "/readyz"] {
        assert_eq!(admin(&gateway, "GET", target).status, 200, "{target}");
        assert_eq!(admin(&gateway, "HEAD", target).status, 200, "{target}");
    }
    upstream.expect_untouched();
}

#[test]
fn what_does_not_exist_or_does_not_fit() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    assert_eq!(admin(&gateway, "GET", "/open").status, 404, "routes are not served here");
    let wrong = admin(&gateway, "GET", "/reload");
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("POST"));
    assert_eq!(admin(&gateway, "POST", "/metrics").status, 405);
    upstream.expect_untouched();
}

#[test]
fn nothing_of_it_is_public() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    for (method, target) in [("GET", "/metrics"), ("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/reload")] {
        expect_problem(&gateway.request(method, target, &[], b""), 404, "ROUTE_NOT_FOUND");
    }
    upstream.expect_untouched();
}

#[test]
fn the_metrics_of_the_contract() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    gateway.get("/open/x");
    gateway.get("/nowhere");
    gateway.get("/few");
    gateway.get("/few");
    let bearer = token();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let sealed = Sealer::alice().seal("{}").to_string();
    assert_eq!(gateway.request("POST", "/debug/request", &headers, &sealed).status, 200);
    expect_problem(&gateway.request("POST", "/debug/request", &headers, &sealed), 409, "ENVELOPE_REPLAYED");
    assert_eq!(gateway.reload().status, 200);
    let expect = |name: &str, labels: &[&str], value: u64| {
        // Counted when an exchange is over, which the client cannot see.
        let wanted = format!("{name} {labels:?} is {value}");
        until_true(&wanted, || gateway.metric(name, labels) as u64 == value);
    };
    expect("gapura_requests_total", &["route=\"open\"", "method=\"GET\"", "status=\"4xx\""], 1);
    expect("gapura_requests_total", &["route=\"sealed\"", "method=\"POST\"", "status=\"2xx\""], 1);
    expect("gapura_requests_total", &["route=\"sealed\"", "status=\"4xx\""], 1);
    expect("gapura_requests_total", &["route=\"(none)\"", "status=\"4xx\""], 1);
    expect("gapura_refusals_total", &["code=\"ROUTE_NOT_FOUND\""], 1);
    expect("gapura_refusals_total", &["code=\"RATE_LIMITED\""], 1);
    expect("gapura_refusals_total", &["code=\"ENVELOPE_REPLAYED\""], 1);
    expect("gapura_reloads_total", &["result="], 1);
    expect("gapura_request_duration_seconds_count", &["route=\"sealed\""], 2);
    expect("gapura_upstream_duration_seconds_count", &["upstream=\"backend\""], 3);
    assert!(gateway.metric("gapura_stage_duration_seconds_count", &["stage=\"decryption\""]) >= 2.0);
    // What happens to a response is not timed, and has no series that would say it took no time.
    assert!(!gateway.metrics().keys().any(|sample| sample.contains("stage=\"response_headers\"")));
    expect("gapura_rate_limit_decisions_total", &["rule=\"few\""], 2);
    expect("gapura_decryptions_total", &["encryption=\"bodies\""], 2);
    let listeners: Vec<_> =
        gateway.metrics().into_keys().filter(|sample| sample.starts_with("gapura_connections{listener=")).collect();
    assert!(!listeners.is_empty());
}

#[test]
fn the_metrics_are_in_prometheus_text() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    gateway.get("/open");
    // Counted when the exchange is over, which the client cannot see.
    until_true("the request is counted", || gateway.metric("gapura_requests_total", &["route=\"open\""]) > 0.0);
    let answer = admin(&gateway, "GET", "/metrics");
    assert!(answer.header("content-type").is_some_and(|value| value.starts_with("text/plain")), "{answer:?}");
    for name in ["gapura_requests_total", "gapura_request_duration_seconds"] {
        // A metric stands there once something was counted, which is when an exchange is over: its client cannot see that.
        let line = format!("# TYPE {name} ");
        until_true(&line, || admin(&gateway, "GET", "/metrics").text().contains(&line));
    }
}

/// Whoever may send requests must not be able to fill the memory of whoever counts them.
#[test]
fn labels_are_bounded() {
    let upstream = Upstream::ok();
    let gateway = start(upstream.address());
    let noise = |round: usize| {
        let made_up = format!("MADEUP{round}");
        let bearer = Token::new(format!("user-{round}")).bearer();
        gateway.request(
            &made_up,
            &format!("/open/made-up-{round}?made-up"),
            &[("Host", &format!("h{round}.test"))],
            b"",
        );
        gateway.request(&made_up, &format!("/made-up-{round}"), &[], b"");
        gateway.request("GET", "/debug/request", &[("Authorization", &bearer)], b"");
        gateway.request("GET", "/debug/request", &[("Authorization", &format!("Made{round} up"))], b"");
        gateway.connect().send(format!("{made_up} / HTTP/7.{round}\r\n\r\n")).try_answer("GET");
    };
    let series = || -> BTreeSet<_> { gateway.metrics().into_keys().collect() };
    noise(0);
    // The first noise has been counted whole, once the counts of the second have come.
    noise(1);
    let open = || gateway.metric("gapura_requests_total", &["route=\"open\""]);
    until_true("the noise is counted", || open() >= 2.0);
    let before = series();
    (2..30).for_each(noise);
    until_true("all of it", || open() >= 30.0);
    let grown: Vec<_> = series().difference(&before).cloned().collect();
    assert!(grown.is_empty(), "these labels grow with the requests: {grown:?}");
    assert!(before.iter().all(|sample| !sample.to_ascii_lowercase().contains("made")), "{before:?}");
}
