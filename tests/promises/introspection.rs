//! Keys that an endpoint of a backend knows: asked once, remembered, and what becomes of them on its bad days.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::support::{
    Answer, Gateway, Setup, Upstream, cert::Authority, expect_problem, tool::repository, wait::until_true, wire,
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1/32"]

[lockout]
exempt = ["192.0.2.0/24"]

[upstreams.backend]
servers = ["@BACKEND@"]

[api_keys.shop]
scheme = "ApiKey"
cache = { ttl = "1s", negative_ttl = "200ms", stale = "1h" }

[api_keys.shop.introspection]
url = "@URL@"
client_id = "gate:way"
client_secret = "env:INTROSPECTION_SECRET"
timeout = "@TIMEOUT@"
@MORE@

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
auth = ["api_keys.shop"]
"#;

/// `tests/node/introspection.js`
struct Endpoint {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    port: String,
}

impl Endpoint {
    #[track_caller]
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(repository("tests/node/introspection.js")).args(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("node: {error}; run `scripts/install.sh test` once"));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let port = line(&mut output);
        let pipes = Mutex::new((child.stdin.take().unwrap(), output));
        Self { child, pipes, port }
    }

    #[track_caller]
    fn becomes(&self, mode: &str) {
        let (input, output) = &mut *self.pipes.lock().unwrap();
        writeln!(input, "{mode}").unwrap();
        assert_eq!(line(output), mode);
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/introspect", self.port)
    }

    fn asked(&self) -> usize {
        let answer = wire::request(format!("127.0.0.1:{}", self.port).parse().unwrap(), "GET", "/asked", &[], b"");
        answer.text().parse().unwrap()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn setup(upstream: &Upstream, url: &str, more: &str) -> Setup {
    // What it says is the subject, not how soon.
    setup_within("20s", upstream, url, more)
}

fn setup_within(timeout: &str, upstream: &Upstream, url: &str, more: &str) -> Setup {
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address()).put("URL", url).put("MORE", more);
    let setup = setup.put("TIMEOUT", timeout);
    setup.env("INTROSPECTION_SECRET", "p%ss word")
}

fn gateway(upstream: &Upstream, endpoint: &Endpoint) -> Gateway {
    setup(upstream, &endpoint.url(), "").start()
}

fn call(gateway: &Gateway, key: &str, from: &str) -> Answer {
    gateway.request("GET", "/", &[("Authorization", &format!("ApiKey {key}")), ("X-Forwarded-For", from)], b"")
}

const HOME: &str = "192.0.2.1";

#[test]
fn an_endpoint_says_whose_a_key_is() {
    let (upstream, endpoint) = (Upstream::ok(), Endpoint::start(&[]));
    let gateway = gateway(&upstream, &endpoint);
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(call(&gateway, "key-of-ann", HOME).status, 200, "{}", gateway.log());
    }
    // In the last quarter of a second, and then each second.
    let asked = 2 + began.elapsed().as_millis() as usize / 750;
    assert!(endpoint.asked() <= asked, "what was said is remembered");
    let heard = upstream.last();
    assert_eq!((heard.header("x-user-id"), heard.header("x-user-email")), (Some("ann"), Some("ann@shop.test")));
    assert_eq!((heard.header("x-user-roles"), heard.header("x-user-permissions")), (Some("clerk"), Some("READ,WRITE")));
    assert_eq!(call(&gateway, "key of bö&b=1", HOME).status, 200, "a key of any signs arrives as it is");
    assert_eq!(upstream.last().header("x-user-id"), Some("7"));
    let heard = upstream.requests().len();
    for bad in ["key-that-ended", "key-of-nobody", "key-of-eve", "key-of-ann&active=true"] {
        expect_problem(&call(&gateway, bad, HOME), 401, "CREDENTIALS_INVALID");
    }
    assert_eq!(upstream.requests().len(), heard, "what was refused reached the upstream");
    // It may call a key malformed: that is no outage, whoever presents it.
    endpoint.becomes("refused");
    for n in 0..8 {
        expect_problem(&call(&gateway, &format!("malformed-{n}"), HOME), 401, "CREDENTIALS_INVALID");
    }
    endpoint.becomes("well");
    assert_eq!(call(&gateway, "key of bö&b=1", HOME).status, 200);
    let answers: Vec<u16> = (0..11).map(|n| call(&gateway, &format!("guess-{n}"), "203.0.113.9").status).collect();
    assert_eq!(answers[10], 429, "{answers:?}");
    for secret in ["key-of-ann", "p%ss", "p%25ss"] {
        assert!(!gateway.log().contains(secret), "a secret is in the log");
    }
}

#[test]
fn whatever_an_endpoint_answers_known_keys_stay_and_no_other_passes() {
    std::thread::scope(|scope| {
        for mode in ["garbage", "neither", "twice", "huge", "error", "redirect", "slow"] {
            scope.spawn(move || known_keys_stay_and_no_other_passes(mode));
        }
    });
}

fn known_keys_stay_and_no_other_passes(mode: &str) {
    let (upstream, endpoint) = (Upstream::ok(), Endpoint::start(&[]));
    let patience = if mode == "slow" { "500ms" } else { "20s" };
    let gateway = setup_within(patience, &upstream, &endpoint.url(), "").start();
    until_true("the key is known", || call(&gateway, "key-of-ann", HOME).status == 200);
    endpoint.becomes(mode);
    let heard = upstream.requests().len();
    for n in 0..6 {
        expect_problem(&call(&gateway, &format!("other-{n}"), "203.0.113.7"), 503, "OVERLOADED");
    }
    assert_eq!(upstream.requests().len(), heard, "{mode}: what was refused reached the upstream");
    let outage = ["error", "slow"].contains(&mode);
    let told = if outage { "the backend of the API keys cannot be asked" } else { "says of an API key cannot be used" };
    until_true(told, || gateway.log().contains(told));
    let asked = endpoint.asked();
    let began = Instant::now();
    // Past the second for which an answer counts.
    while began.elapsed() < Duration::from_millis(1100) {
        assert_eq!(call(&gateway, "key-of-ann", HOME).status, 200, "{mode}");
    }
    // In an outage seldom, whatever the key; else each key again after its `negative_ttl`.
    let more = if outage { 4 } else { 2 + began.elapsed().as_millis() as usize / 200 };
    assert!(endpoint.asked() <= asked + more, "{mode}: an outage is not asked about again and again");
    endpoint.becomes("well");
    until_true("it is asked again", || call(&gateway, "key-of-eve", HOME).status == 401);
}

/// Whoever finds a key that the backend stumbles over gets 503 for it; nobody else is refused.
#[test]
fn a_key_that_confuses_the_endpoint_shuts_nobody_out() {
    let (upstream, endpoint) = (Upstream::ok(), Endpoint::start(&[]));
    let gateway = gateway(&upstream, &endpoint);
    for n in 0..20 {
        for kind in ["deep", "huge", "filtered", "stumbled"] {
            expect_problem(&call(&gateway, &format!("{kind}-{n}"), "203.0.113.7"), 503, "OVERLOADED");
        }
    }
    upstream.expect_untouched();
    assert_eq!(call(&gateway, "key-of-ann", HOME).status, 200, "a key that was not known yet");
    let count = |result: &str| gateway.metric("gapura_api_key_lookups_total", &[&format!("result=\"{result}\"")]);
    assert_eq!((count("unreadable"), count("skipped"), count("found")), (80.0, 0.0, 1.0));
}

#[test]
fn an_endpoint_over_tls_is_held_to_its_authority() {
    let (upstream, authority) = (Upstream::ok(), Authority::new("backends"));
    let pem = authority.server(&["localhost"]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (cert, key) = (file("cert.pem", &pem.cert), file("key.pem", &pem.key));
    let endpoint = Endpoint::start(&[&cert, &key]);
    let url = format!("https://localhost:{}/introspect", endpoint.port);
    for (ca, status) in [(authority.cert(), 200), (Authority::new("others").cert(), 503)] {
        let ca = file("ca.pem", &ca);
        let gateway = setup(&upstream, &url, &format!("ca = \"{ca}\"")).start();
        assert_eq!(call(&gateway, "key-of-ann", HOME).status, status, "{}", gateway.log());
    }
}

#[test]
fn check_and_explain_know_it() {
    let url = "http://127.0.0.1:9/introspect";
    let upstream = Upstream::ok();
    let explained = setup(&upstream, url, "").command(&["explain", "GET", "/"]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    let told =
        format!("those that the backend knows at {url}: an answer counts for 1s, for 1h more while there is none");
    assert!(text.contains(&told), "{text}");
    for (url, why) in [
        ("http://backend.internal/introspect", "a key would travel in the clear to another host"),
        ("https://user:Pa55@backend.internal/", "an address carries no user and no password"),
    ] {
        let checked = setup(&upstream, url, "").command(&["check"]);
        let text = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.code() == Some(1) && text.contains(why) && !text.contains("Pa55"), "{text}");
    }
}
