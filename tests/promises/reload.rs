//! A reload changes everything but the listeners, without a lost request and without a forgotten count; a bad file changes
//! nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use crate::support::{
    Curl, Gateway, Setup, Token, Upstream, Wire,
    cert::Authority,
    expect_problem,
    h2::H2,
    upstream::Flow,
    wait::{Gate, until, until_true},
    wire::request_bytes,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "file:@DIR@/jwt"

[rate_limits.three]
limit = 3
window = "1h"
by = "client_ip"

[[routes]]
name = "open"
path = "/open"
upstream = "backend"

[[routes]]
name = "private"
path = "/private"
upstream = "backend"
auth = ["jwt.users"]

[[routes]]
name = "limited"
path = "/limited"
upstream = "backend"
rate_limits = ["three"]
"#;

const OLD: &str = "the-old-secret-of-at-least-32-bytes";
const NEW: &str = "the-new-secret-of-at-least-32-bytes";

fn start(upstream: &Upstream) -> Gateway {
    Setup::plain(TABLES).put("BACKEND", upstream.address()).file("jwt", OLD).start()
}

#[track_caller]
fn reload(gateway: &Gateway, text: &str) {
    gateway.rewrite(text);
    let answer = gateway.reload();
    assert_eq!(answer.status, 200, "{}", answer.lossy());
}

fn reloads(gateway: &Gateway) -> u64 {
    gateway.metric("gapura_reloads_total", &[]) as u64
}

#[test]
fn routes_change() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    expect_problem(&gateway.get("/new"), 404, "ROUTE_NOT_FOUND");
    reload(&gateway, &gateway.text().replace("path = \"/open\"", "path = \"/new\""));
    assert_eq!(gateway.get("/new").status, 200);
    expect_problem(&gateway.get("/open"), 404, "ROUTE_NOT_FOUND");
}

#[test]
fn keys_change() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let ask = |secret: &str| {
        let bearer = format!("Bearer {}", Token::alice().sign_with(secret));
        gateway.request("GET", "/private", &[("Authorization", &bearer)], b"").status
    };
    assert_eq!((ask(OLD), ask(NEW)), (200, 401));
    std::fs::write(gateway.directory().join("jwt"), NEW).unwrap();
    assert_eq!((ask(OLD), ask(NEW)), (200, 401), "a secret changes with a reload, not behind its back");
    assert_eq!(gateway.reload().status, 200);
    assert_eq!((ask(OLD), ask(NEW)), (401, 200));
}

#[test]
fn upstreams_change() {
    let (one, two) = (Upstream::ok(), Upstream::ok());
    let gateway = start(&one);
    gateway.get("/open");
    reload(&gateway, &gateway.text().replace("@BACKEND@", &two.address().to_string()));
    for _ in 0..3 {
        assert_eq!(gateway.get("/open").status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (1, 3));
}

#[test]
fn a_count_is_not_forgotten() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for _ in 0..2 {
        assert_eq!(gateway.get("/limited").status, 200);
    }
    assert_eq!(gateway.reload().status, 200);
    // Another limit under the same name goes on from the same count.
    assert_eq!(gateway.get("/limited").status, 200);
    assert_eq!(gateway.reload().status, 200);
    expect_problem(&gateway.get("/limited"), 429, "RATE_LIMITED");
}

#[test]
fn limits_change() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    reload(&gateway, &gateway.text().replace("limit = 3", "limit = 1"));
    assert_eq!(gateway.get("/limited").status, 200);
    expect_problem(&gateway.get("/limited"), 429, "RATE_LIMITED");
}

#[test]
fn certificates_change() {
    let upstream = Upstream::ok();
    let authority = Authority::new("servers");
    let pem = |name: &str| authority.server(&[name]);
    let (old, new) = (pem("old.test"), pem("new.test"));
    let server = "[server]\nhttps = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\n[tls]\n\
                  certificates = [{ cert = \"@DIR@/cert.pem\", key = \"@DIR@/cert.key\" }]\n";
    let gateway = Setup::new(&format!("{server}{TABLES}"))
        .put("BACKEND", upstream.address())
        .file("jwt", OLD)
        .file("cert.pem", old.cert)
        .file("cert.key", old.key)
        .start();
    let shown = || Curl::h1(gateway.https(), "/open").option("-v").run().log;
    assert!(shown().contains("CN=old.test"));
    let mut before = Wire::tls(gateway.https(), &["http/1.1"]);
    before.send(request_bytes("GET", "/open", &[], b""));
    assert_eq!(before.answer("GET").status, 200);
    std::fs::write(gateway.directory().join("cert.pem"), new.cert).unwrap();
    // A certificate without its key is a bad file.
    assert_eq!(gateway.reload().status, 422);
    assert!(shown().contains("CN=old.test"));
    std::fs::write(gateway.directory().join("cert.key"), new.key).unwrap();
    assert_eq!(gateway.reload().status, 200);
    assert!(shown().contains("CN=new.test"));
    before.send(request_bytes("GET", "/open", &[], b""));
    assert_eq!(before.answer("GET").status, 200, "a connection from before the reload goes on");
}

#[test]
fn a_bad_file_changes_nothing() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bad = gateway.text().replace("path = \"/open\"", "path = \"/new\"\nmax_bodie = \"1KiB\"");
    gateway.rewrite(&bad.replace("upstream = \"backend\"\nauth", "upstream = \"missing\"\nauth"));
    let before = reloads(&gateway);
    let answer = gateway.reload();
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    // All faults at once, each with the key to look for.
    for part in ["max_bodie", "max_body", "missing"] {
        assert!(answer.text().contains(part), "{part} is not in {}", answer.text());
        until_true("the log has the fault", || gateway.log().contains(part));
    }
    assert_eq!(gateway.get("/open").status, 200);
    expect_problem(&gateway.get("/new"), 404, "ROUTE_NOT_FOUND");
    assert_eq!(reloads(&gateway), before + 1);
    let results = |gateway: &Gateway| {
        gateway
            .metrics()
            .into_iter()
            .filter(|(name, value)| name.starts_with("gapura_reloads_total") && *value > 0.0)
            .count()
    };
    assert_eq!(results(&gateway), 1);
    reload(&gateway, TABLES_WITH_SERVER);
    assert_eq!(results(&gateway), 2, "good and bad reloads are counted apart");
}

const TABLES_WITH_SERVER: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"

[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

#[test]
fn a_missing_secret_changes_nothing() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    std::fs::remove_file(gateway.directory().join("jwt")).unwrap();
    let answer = gateway.reload();
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("secret"), "{}", answer.text());
    let bearer = format!("Bearer {}", Token::alice().sign_with(OLD));
    assert_eq!(gateway.request("GET", "/private", &[("Authorization", &bearer)], b"").status, 200);
}

#[test]
fn sighup_reloads_too() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    gateway.rewrite(&gateway.text().replace("path = \"/open\"", "path = \"/new\""));
    gateway.signal("HUP");
    until_true("the new route is served", || gateway.get("/new").status == 200);
    gateway.rewrite("routes = 7");
    gateway.signal("HUP");
    until_true("the bad reload is counted", || reloads(&gateway) == 2);
    assert_eq!(gateway.get("/new").status, 200);
}

#[test]
fn a_changed_listener_is_refused_by_name() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for (from, to, name) in [
        ("http = [\"127.0.0.1:0\"]", "http = [\"127.0.0.1:0\", \"127.0.0.2:0\"]", "http"),
        ("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.2:0\"", "admin"),
        ("plaintext = true", "plaintext = true\nthreads = 3", "threads"),
    ] {
        let changed = gateway.text().replace(from, to).replace("path = \"/open\"", "path = \"/new\"");
        gateway.rewrite(&changed);
        let answer = gateway.reload();
        assert_eq!(answer.status, 422, "{name}");
        assert!(answer.text().contains(name), "{name} is not named: {}", answer.text());
        assert_eq!(gateway.get("/open").status, 200);
    }
}

/// The README lists what is refused; these are not in that list.
#[test]
fn bounds_and_authorities_of_http2_and_tls_change() {
    let upstream = Upstream::ok();
    let gateway = Setup::tls(TABLES).put("BACKEND", upstream.address()).file("jwt", OLD).start();
    let streams = || {
        let mut h2 = H2::connect(gateway.https());
        let settings = until("SETTINGS", || h2.frame().filter(|frame| frame.kind == 4 && frame.flags == 0));
        // RFC 9113, section 6.5.1: an identifier of two bytes and a value of four.
        let of = settings.payload.chunks(6).find(|setting| setting[..2] == [0, 3]);
        u32::from_be_bytes(of.expect("SETTINGS_MAX_CONCURRENT_STREAMS")[2..].try_into().unwrap())
    };
    assert_eq!(streams(), 100);
    reload(
        &gateway,
        &format!(
            "{}\n[limits]\nmax_streams = 7\n[upstreams.tls]\nservers = [\"localhost:1\"]\ntls = true\n\
             [[routes]]\nname = \"tls\"\npath = \"/tls\"\nupstream = \"tls\"\n",
            gateway.text()
        ),
    );
    assert_eq!(streams(), 7);
    assert_eq!(gateway.get("/open").status, 200);
    expect_problem(&gateway.get("/tls"), 502, "UPSTREAM_UNAVAILABLE");
}

#[test]
fn a_refused_reload_says_all_that_check_would() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let named = |text: &str, parts: &[&str]| {
        gateway.rewrite(text);
        let answer = gateway.reload();
        assert_eq!(answer.status, 422);
        for part in parts {
            assert!(answer.text().contains(part), "{part} is not in {}", answer.text());
        }
    };
    let unset = gateway.text().replace("file:@DIR@/jwt", "env:NO_SUCH_VARIABLE");
    named(
        &unset.replace("limit = 3", "limit = 0").replace("[\"three\"]", "[\"tree\"]"),
        &["limit", "tree", "NO_SUCH_VARIABLE"],
    );
    named(&unset.replace("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.2:0\""), &["server.admin", "NO_SUCH_VARIABLE"]);
}

#[test]
fn no_request_is_lost_while_the_gateway_reloads() {
    let (one, two) = (Upstream::ok(), Upstream::ok());
    let gateway = start(&one);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = gateway.http();
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (stop, served) = (stop.clone(), served.clone());
            thread::spawn(move || {
                let mut kept = Wire::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    if client == 0 {
                        // Each on a connection of its own, the others on one for all.
                        kept = Wire::connect(address);
                    }
                    kept.send(request_bytes("POST", "/open", &[], b"body"));
                    let answer = kept.answer("POST");
                    assert_eq!(answer.status, 200, "{}", answer.lossy());
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for round in 0..10 {
        let upstream = if round % 2 == 0 { &two } else { &one };
        let before = served.load(Ordering::SeqCst);
        reload(&gateway, &gateway.text().replace("@BACKEND@", &upstream.address().to_string()));
        until_true("requests go on", || {
            served.load(Ordering::SeqCst) >= before + 20 || clients.iter().any(|c| c.is_finished())
        });
    }
    stop.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().expect("a request was lost"));
    assert!(!one.requests().is_empty() && !two.requests().is_empty());
}

#[test]
fn a_running_request_ends_under_the_old_settings() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        held.wait();
        call.respond(200, &[], b"late");
        Flow::Close
    });
    let gateway = start(&upstream);
    let mut wire = gateway.connect();
    wire.send(request_bytes("GET", "/open", &[], b""));
    until_true("the request reaches the upstream", || upstream.requests().len() == 1);
    reload(&gateway, &gateway.text().replace("path = \"/open\"", "path = \"/new\""));
    expect_problem(&gateway.get("/open"), 404, "ROUTE_NOT_FOUND");
    gate.open();
    assert_eq!(wire.answer("GET").text(), "late");
}
