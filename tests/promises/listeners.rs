//! TLS as configured: the right certificate, the right versions, client certificates where they are asked for.

use crate::support::{Curl, Gateway, Setup, Upstream, cert::Authority, expect_problem, until};

const ROUTES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
"#;

const SERVER: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\n[tls]\n";

fn setup(tls: &str, upstream: &Upstream) -> Setup {
    Setup::new(&format!("{SERVER}{tls}\n{ROUTES}")).put("BACKEND", upstream.address())
}

/// A gateway with one certificate for `a.test`, and the authority that signed it.
fn start(tls: &str, upstream: &Upstream) -> (Gateway, Authority) {
    let authority = Authority::new("servers");
    let a = authority.server(&["a.test"]);
    let certificates = "certificates = [{ cert = \"@DIR@/a.pem\", key = \"@DIR@/a.key\" }]\n";
    let setup = setup(&format!("{certificates}{tls}"), upstream);
    let gateway = setup.file("a.pem", a.cert).file("a.key", a.key).file("ca.pem", authority.cert()).start();
    (gateway, authority)
}

/// A verifying curl that takes `name` for this gateway.
fn curl(gateway: &Gateway, name: &str) -> Curl {
    let address = gateway.https();
    let resolve = format!("{name}:{}:127.0.0.1", address.port());
    let ca = gateway.directory().join("ca.pem").display().to_string();
    Curl::to(&format!("https://{name}:{}/", address.port()))
        .verify()
        .options(["--resolve", &resolve])
        .options(["--cacert", &ca])
}

#[test]
fn the_name_chooses_the_certificate() {
    let upstream = Upstream::ok();
    let authority = Authority::new("servers");
    let (a, b, c) = (authority.server(&["a.test"]), authority.server(&["b.test"]), authority.server(&["*.c.test"]));
    let tls = "certificates = [{ cert = \"@DIR@/a.pem\", key = \"@DIR@/a.key\" }, { cert = \"@DIR@/b.pem\", key = \
               \"@DIR@/b.key\" }, { cert = \"@DIR@/c.pem\", key = \"@DIR@/c.key\" }]";
    let mut setup = setup(tls, &upstream).file("ca.pem", authority.cert());
    for (name, pem) in [("a", a), ("b", b), ("c", c)] {
        setup = setup.file(&format!("{name}.pem"), pem.cert).file(&format!("{name}.key"), pem.key);
    }
    let gateway = setup.start();
    for name in ["a.test", "b.test", "shop.c.test", "B.TEST"] {
        assert_eq!(curl(&gateway, name).answer().status, 200, "{name}");
    }
    // An unknown name, or none at all, gets the first.
    for name in ["unknown.test", "deep.shop.c.test"] {
        let fetched = curl(&gateway, name).run();
        assert_eq!(fetched.exit, 60, "{name} must not verify: {}", fetched.log);
        assert!(curl(&gateway, name).options(["--insecure", "-v"]).run().log.contains("CN=a.test"), "{name}");
    }
    let nameless = Curl::h1(gateway.https(), "/").option("-v").run();
    assert!(nameless.log.contains("CN=a.test"), "{}", nameless.log);
}

#[test]
fn both_versions_of_tls_and_of_http() {
    let upstream = Upstream::ok();
    let (gateway, _) = start("", &upstream);
    for tls in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]] {
        for (http, version) in [("--http1.1", "1.1"), ("--http2", "2"), ("--no-alpn", "1.1")] {
            let fetched = curl(&gateway, "a.test").options(tls).option(http).run();
            assert_eq!((fetched.exit, fetched.version.as_str()), (0, version), "{tls:?} {http}: {}", fetched.log);
        }
    }
    let old =
        curl(&gateway, "a.test").options(["--tlsv1.0", "--tls-max", "1.1"]).options(["--ciphers", "ALL@SECLEVEL=0"]);
    assert_ne!(old.run().exit, 0, "TLS 1.1 was spoken");
}

#[test]
fn a_minimum_of_tls_1_3() {
    let upstream = Upstream::ok();
    let (gateway, _) = start("min_version = \"1.3\"\n", &upstream);
    assert_ne!(curl(&gateway, "a.test").options(["--tlsv1.2", "--tls-max", "1.2"]).run().exit, 0);
    upstream.expect_untouched();
    assert_eq!(curl(&gateway, "a.test").answer().status, 200);
}

/// With certificates of its own authority, of another one, and none.
fn client_statuses(gateway: &Gateway, authority: &Authority) -> [Option<u16>; 3] {
    let write = |name: &str, content: String| {
        let path = gateway.directory().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let ask = |curl: Curl| {
        let fetched = curl.run();
        (fetched.exit == 0).then_some(fetched.answer.status)
    };
    let with = |authority: &Authority, name: &str| {
        let pem = authority.client(name);
        let (cert, key) = (write(&format!("{name}.pem"), pem.cert), write(&format!("{name}.key"), pem.key));
        ask(curl(gateway, "a.test").options(["--cert", &cert]).options(["--key", &key]))
    };
    [with(authority, "ours"), with(&Authority::new("strangers"), "theirs"), ask(curl(gateway, "a.test"))]
}

#[test]
fn client_certificates_that_are_required() {
    let upstream = Upstream::ok();
    for tls in ["client_ca = \"@DIR@/ca.pem\"\n", "client_ca = \"@DIR@/ca.pem\"\nclient_auth = \"required\"\n"] {
        let (gateway, authority) = start(tls, &upstream);
        assert_eq!(client_statuses(&gateway, &authority), [Some(200), None, None], "{tls}");
    }
    assert_eq!(upstream.requests().len(), 2, "a stranger reached the upstream");
}

#[test]
fn client_certificates_that_are_optional() {
    let upstream = Upstream::ok();
    let (gateway, authority) = start("client_ca = \"@DIR@/ca.pem\"\nclient_auth = \"optional\"\n", &upstream);
    assert_eq!(client_statuses(&gateway, &authority), [Some(200), None, Some(200)]);
}

#[test]
fn the_fingerprint_of_a_certificate_made_at_start_is_logged() {
    let upstream = Upstream::ok();
    let gateway = setup("self_signed = true\n", &upstream).start();
    assert_eq!(Curl::h2(gateway.https(), "/").answer().status, 200);
    let shown = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &gateway.https().to_string()])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl; run `scripts/install.sh test` once");
    let mut x509 = std::process::Command::new("openssl");
    x509.args(["x509", "-noout", "-fingerprint", "-sha256"]);
    let printed = crate::support::tool::output(x509, &shown.stdout).stdout;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let hex = |text: &str| text.replace(':', "").to_ascii_lowercase();
    let fingerprint = hex(printed.trim().split_once('=').expect("a fingerprint").1);
    assert_eq!(fingerprint.len(), 64, "{printed}");
    until("the fingerprint in the log", || hex(&gateway.log()).contains(&fingerprint).then_some(()));
}

#[test]
fn a_plain_listener_sends_to_https() {
    let upstream = Upstream::ok();
    let server = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
                  access_log = true\n\n[tls]\nself_signed = true\n";
    let gateway = Setup::new(&format!("{server}{ROUTES}")).put("BACKEND", upstream.address()).start();
    for (method, body) in [("GET", ""), ("POST", "{}"), ("DELETE", "")] {
        let answer = gateway.request(method, "/a/b?c=d", &[("Host", "shop.test:8080")], body);
        assert_eq!(answer.status, 308, "{method}");
        let location = answer.header("location").expect("Location");
        let rest = location.strip_prefix("https://shop.test").unwrap_or_else(|| panic!("{location}"));
        let path = rest.find('/').map(|at| &rest[at..]);
        assert_eq!(path, Some("/a/b?c=d"), "{location}");
        assert!(!rest.starts_with(":8080"), "to the plain port: {location}");
    }
    // `*` is the server itself, and no path.
    let star = gateway.connect().send("OPTIONS * HTTP/1.1\r\nHost: shop.test\r\n\r\n").answer("OPTIONS");
    assert_eq!(star.status, 308);
    let location = star.header("location").expect("Location");
    assert!(location.starts_with("https://shop.test") && location.ends_with('/'), "{location}");
    assert_eq!(location.matches('/').count(), 3, "{location}");
    let unreadable = gateway.connect().send("GET / HTTP/1.1\r\nHost: a b\r\n\r\n").answer("GET");
    assert_eq!(unreadable.status, 400);
    let mut nameless = gateway.connect();
    nameless.send("GET /nameless HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    expect_problem(&nameless.answer("GET"), 400, "REQUEST_MALFORMED");
    nameless.expect_closed();
    assert_eq!(gateway.metric("gapura_requests_total", &["method=\"DELETE\"", "status=\"3xx\""]), 1.0);
    for line in [
        "method=DELETE path=\"/a/b\" route=- status=308 ",
        "method=- path=\"-\" route=- status=400 ",
        "method=GET path=\"/nameless\" route=- status=400 ",
    ] {
        until("its line in the access log", || gateway.log().contains(line).then_some(()));
    }
    for target in ["/a<b", "/a>b", "/a\"b", "/a`b", "/a\\b"] {
        let answer = gateway.get(target);
        // What can stand in a Location may pass: https will judge it.
        assert!(answer.status == 400 || answer.status == 308 && !target.contains(['<', '>', '"', '`']), "{target}");
        if answer.status == 400 {
            expect_problem(&answer, 400, "REQUEST_MALFORMED");
        }
    }
    upstream.expect_untouched();
}
