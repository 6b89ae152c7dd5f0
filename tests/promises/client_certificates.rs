//! A client certificate is a caller, over both versions of HTTP: the one that the operator says, and nobody where that is in doubt.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

use rcgen::{DnType, SanType};

use crate::support::{
    Curl, Gateway, Setup, Token, Upstream,
    cert::{Authority, Pem},
    expect_problem,
};

const TABLES: &str = r#"
[server]
https = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
access_log = true

[tls]
self_signed = true
client_ca = "@DIR@/ca.pem"
client_auth = "optional"

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[mtls.services]
user_id = "san_uri"
email = "san_email"
roles = ["service"]

[mtls.partners]
permissions = ["PARTNER"]
principals = [
  { subject = 'CN=Acme\, Ltd.,O=Acme', user_id = "acme", email = "pay@acme.example", roles = ["payer"] },
  { spki_sha256 = "@SPKI@", user_id = "pinned" },
]

[[routes]]
name = "services"
path = "/services/**"
upstream = "backend"
auth = ["mtls.services", "jwt.users"]

[[routes]]
name = "partners"
path = "/partners"
upstream = "backend"
auth = ["mtls.partners"]
permissions = ["PARTNER"]

[[routes]]
name = "users"
path = "/users"
upstream = "backend"
auth = ["jwt.users"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

struct Site {
    gateway: Gateway,
    upstream: Upstream,
    authority: Authority,
    pinned: Pem,
}

/// What OpenSSL says of the public key of a certificate.
fn spki_sha256(pem: &Pem) -> String {
    let script = "openssl x509 -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum";
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let output = crate::support::tool::output(command, pem.cert.as_bytes());
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn start() -> Site {
    let (upstream, authority) = (Upstream::ok(), Authority::new("clients"));
    let pinned = authority.client_as(Vec::new(), &[(DnType::CommonName, "anything")]);
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address()).put("SPKI", spki_sha256(&pinned));
    let gateway = setup.file("ca.pem", authority.cert()).start();
    Site { gateway, upstream, authority, pinned }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

impl Site {
    /// Over HTTP/1.1 and HTTP/2, each with a body that is read and with one that streams.
    fn every_way(
        &self,
        target: &str,
        pem: Option<&Pem>,
        headers: &[(&str, &str)],
        mut check: impl FnMut(crate::support::Answer),
    ) {
        for (h2, streamed) in [(false, false), (false, true), (true, false), (true, true)] {
            let to = if h2 { Curl::h2 } else { Curl::h1 };
            let mut curl = to(self.gateway.https(), target).headers(headers);
            if let Some(pem) = pem {
                for option in pem.curl_options(self.gateway.directory(), "client") {
                    curl = curl.option(&option);
                }
            }
            check(if streamed { curl.streamed(b"body") } else { curl }.answer());
        }
    }
}

#[test]
fn a_certificate_becomes_identity_headers() {
    let site = start();
    let names = vec![uri("spiffe://example.com/billing"), SanType::Rfc822Name("b@example.com".try_into().unwrap())];
    let billing = site.authority.client_as(names, &[(DnType::CommonName, "ignored")]);
    site.every_way("/services/a", Some(&billing), &[("X-User-Id", "root"), ("X-User-Roles", "admin")], |answer| {
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let heard = site.upstream.last();
        let fields = ["x-user-id", "x-user-email", "x-user-roles", "x-auth-method"].map(|name| heard.header(name));
        let expected = ["spiffe://example.com/billing", "b@example.com", "service", "mtls.services"];
        assert_eq!(fields, expected.map(Some));
    });
    // Routes that do not name the method do not look at it.
    site.every_way("/open", Some(&billing), &[], |answer| {
        assert_eq!((answer.status, site.upstream.last().header("x-user-id")), (200, None));
    });
    let seen = site.upstream.requests().len();
    site.every_way("/users", Some(&billing), &[], |answer| drop(expect_problem(&answer, 401, "CREDENTIALS_MISSING")));
    site.every_way("/services/a", None, &[], |answer| {
        expect_problem(&answer, 401, "CREDENTIALS_MISSING");
        let challenges = answer.all("www-authenticate");
        assert_eq!(challenges, ["Certificate realm=\"gapura\"", "Bearer realm=\"gapura\""]);
    });
    let plain = site.gateway.get("/partners");
    expect_problem(&plain, 401, "CREDENTIALS_MISSING");
    assert_eq!(site.upstream.requests().len(), seen, "who was refused reached the upstream");
}

#[test]
fn a_certificate_that_leaves_a_doubt_is_nobodys() {
    let site = start();
    let cn = [(DnType::CommonName, "a")];
    let email = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    for (names, what) in [
        (vec![], "none"),
        (vec![uri("spiffe://a"), uri("spiffe://b")], "two"),
        (vec![uri("spiffe://a"), uri("spiffe://a")], "the same twice"),
        (vec![uri("spiffe://a"), email("a@b.test"), email("c@d.test")], "two e-mail addresses"),
        (vec![uri("spiffe://a\r\nX-User-Roles: admin")], "a line end"),
        (vec![uri("spiffe://a\0b")], "NUL"),
        (vec![uri(" spiffe://a")], "a blank"),
        (vec![uri("")], "an empty one"),
    ] {
        let pem = site.authority.client_as(names, &cn);
        // A good token beside it changes nothing.
        let bearer = Token::alice().bearer();
        for headers in [&[][..], &[("Authorization", bearer.as_str())]] {
            site.every_way("/services/a", Some(&pem), headers, |answer| {
                assert_eq!(answer.status, 401, "{what}");
                expect_problem(&answer, 401, "CREDENTIALS_INVALID");
            });
        }
    }
    site.upstream.expect_untouched();
}

#[test]
fn only_listed_certificates_are_partners() {
    let site = start();
    let subject = |name: &'static str, organisation: &'static str| {
        [(DnType::OrganizationName, organisation), (DnType::CommonName, name)]
    };
    let acme = site.authority.client_as(Vec::new(), &subject("Acme, Ltd.", "Acme"));
    site.every_way("/partners", Some(&acme), &[], |answer| {
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let heard = site.upstream.last();
        assert_eq!((heard.header("x-user-id"), heard.header("x-user-roles")), (Some("acme"), Some("payer")));
    });
    site.every_way("/partners", Some(&site.pinned), &[], |answer| {
        assert_eq!((answer.status, site.upstream.last().header("x-user-id")), (200, Some("pinned")));
    });
    let seen = site.upstream.requests().len();
    for stranger in [
        site.authority.client_as(Vec::new(), &subject("Acme", "Ltd.,O=Acme")),
        site.authority.client_as(Vec::new(), &[(DnType::CommonName, "Acme, Ltd.,O=Acme")]),
        site.authority.client_as(Vec::new(), &subject("acme, ltd.", "acme")),
        site.authority.client_as(Vec::new(), &[(DnType::CommonName, "anything")]),
        site.authority.client("partners"),
    ] {
        site.every_way("/partners", Some(&stranger), &[], |answer| {
            drop(expect_problem(&answer, 401, "CREDENTIALS_INVALID"))
        });
    }
    assert_eq!(site.upstream.requests().len(), seen);
    assert!(site.gateway.log().contains("none of the listed ones"), "the log says why");
}

/// What an operator copies from OpenSSL into the file is what the gateway compares with.
#[test]
fn a_subject_is_written_as_openssl_writes_it() {
    let site = start();
    let odd = "a+b;c \"d\" <e> #f\\ Zo\u{eb}";
    let pem = site.authority.client_as(
        Vec::new(),
        &[
            (DnType::CountryName, "ID"),
            (DnType::OrganizationName, " Acme "),
            (DnType::OrganizationalUnitName, "#1"),
            (DnType::CommonName, odd),
        ],
    );
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb,utf8"]);
    let printed = String::from_utf8(crate::support::tool::output(openssl, pem.cert.as_bytes()).stdout).unwrap();
    let subject = printed.trim_end_matches('\n').strip_prefix("subject=").unwrap();
    let text = site.gateway.text().replace("CN=Acme\\, Ltd.,O=Acme", subject);
    assert!(text.contains(subject) && subject.contains("O=\\ Acme\\ "), "{subject}");
    site.gateway.rewrite(&text);
    assert_eq!(site.gateway.reload().status, 200);
    site.every_way("/partners", Some(&pem), &[], |answer| {
        assert_eq!((answer.status, site.upstream.last().header("x-user-id")), (200, Some("acme")), "{subject}");
    });
}

/// A connection may outlast the authority that vouched for its client.
#[test]
fn an_authority_that_is_taken_away_vouches_for_nobody() {
    let site = start();
    let pem = site.authority.client_as(vec![uri("spiffe://a")], &[]);
    let [_, cert, _, key] = pem.curl_options(site.gateway.directory(), "client");
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-connect", &site.gateway.https().to_string(), "-cert", &cert, "-key", &key])
        .args(["-quiet", "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (openssl.stdin.take().unwrap(), BufReader::new(openssl.stdout.take().unwrap()));
    let mut ask = || {
        input.write_all(b"HEAD /services/a HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let lines = output.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>()[0].clone()
    };
    assert_eq!([ask(), ask()], ["HTTP/1.1 200 OK", "HTTP/1.1 200 OK"]);
    let ca = site.gateway.directory().join("ca.pem");
    // A reload that changes nothing about it changes nothing.
    assert_eq!(site.gateway.reload().status, 200);
    assert_eq!(ask(), "HTTP/1.1 200 OK");
    std::fs::write(&ca, Authority::new("others").cert()).unwrap();
    assert_eq!(site.gateway.reload().status, 200);
    assert_eq!(ask(), "HTTP/1.1 401 Unauthorized");
    openssl.kill().unwrap();
    openssl.wait().unwrap();
    assert_eq!(site.upstream.requests().len(), 3);
}

#[test]
fn check_and_explain_say_what_is_taken() {
    let authority = Authority::new("clients");
    let with = |tables: &str| {
        let setup = Setup::new(tables).put("BACKEND", "127.0.0.1:1").put("SPKI", "a".repeat(64));
        setup.file("ca.pem", authority.cert())
    };
    let output = with(TABLES).command(&["explain", "GET", "/services/x"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains(
            "mtls.services: any client certificate, user id from san_uri, email from san_email, roles service"
        ),
        "{text}"
    );
    let output = with(TABLES).command(&["explain", "GET", "/partners"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("mtls.partners: 2 client certificates by subject, spki_sha256, permissions PARTNER"),
        "{text}"
    );
    let without = TABLES.replace("client_ca = \"@DIR@/ca.pem\"\nclient_auth = \"optional\"\n", "");
    let output = with(&without).command(&["check"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text.matches("there is no `tls.client_ca` to verify them by").count(), 2, "{text}");
}
