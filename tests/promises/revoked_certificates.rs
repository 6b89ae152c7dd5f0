//! A certificate that its authority has revoked opens nothing: no new connection, none that is open, no session that is resumed.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::support::{Curl, Gateway, Setup, Upstream, credential::now_ms, tool};

const TABLES: &str = r#"
[server]
https = ["127.0.0.1:0"]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"

[tls]
self_signed = true
client_ca = "@DIR@/ca.pem"
client_auth = "optional"
client_crls = ["@DIR@/ca.crl"]
@MORE@

[upstreams.backend]
servers = ["@BACKEND@"]

[mtls.services]
user_id = "subject_cn"

[[routes]]
name = "services"
path = "/services/**"
upstream = "backend"
auth = ["mtls.services"]
"#;

/// As an operator keeps one: `openssl ca`, in a folder.
struct Authority {
    folder: tempfile::TempDir,
}

const CONFIG: &str = "[ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\ncrlnumber = crlnumber\nnew_certs_dir = .\n\
    certificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\ndefault_days = 30\npolicy = p\nunique_subject = no\nx509_extensions = client\n\
    [p]\ncommonName = supplied\n[req]\ndistinguished_name = n\nprompt = no\n[n]\nCN = clients\n\
    [client]\nbasicConstraints = CA:FALSE\nextendedKeyUsage = clientAuth\n\
    [authority]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n";

impl Authority {
    fn new() -> Self {
        Self::named("clients")
    }

    fn named(name: &str) -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        let config = CONFIG.replace("CN = clients", &format!("CN = {name}"));
        for (name, text) in [("ca.cnf", &*config), ("index.txt", ""), ("serial", "01\n"), ("crlnumber", "01\n")] {
            fs::write(authority.path(name), text).unwrap();
        }
        authority.openssl("req -config ca.cnf -new -x509 -extensions authority -days 30 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        openssl.args(arguments.split(' ')).current_dir(self.folder.path());
        let output = tool::output(openssl, b"");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The options by which curl and `openssl s_client` show its certificate.
    fn client(&self, name: &str) -> [String; 4] {
        self.openssl(&format!("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        self.openssl(&format!("ca -config ca.cnf -batch -notext -in {name}.csr -out {name}.pem"));
        let file = |extension: &str| self.path(&format!("{name}.{extension}")).display().to_string();
        ["--cert".into(), file("pem"), "--key".into(), file("key")]
    }

    fn revoke(&self, name: &str) {
        self.openssl(&format!("ca -config ca.cnf -revoke {name}.pem"));
    }

    /// Into this file.
    fn publish(&self, into: &Path, validity: &str) {
        self.openssl(&format!("ca -config ca.cnf -gencrl {validity} -out {}", into.display()));
    }
}

const MONTH: &str = "-crldays 30";
/// It has ended long ago.
const PAST: &str = "-crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z";

struct Site {
    authority: Authority,
    gateway: Gateway,
    upstream: Upstream,
}

fn setup(authority: &Authority, upstream: &Upstream, validity: &str, more: &str) -> Setup {
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address()).put("MORE", more);
    authority.publish(&setup.directory().join("ca.crl"), validity);
    setup.file("ca.pem", fs::read(authority.path("ca.pem")).unwrap())
}

fn start(validity: &str, more: &str) -> Site {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let gateway = setup(&authority, &upstream, validity, more).start();
    Site { authority, gateway, upstream }
}

impl Site {
    /// None: there was no connection.
    fn call(&self, client: &[String; 4]) -> Option<u16> {
        let curl = Curl::h1(self.gateway.https(), "/services/a");
        let fetched = client.iter().fold(curl, |curl, option| curl.option(option)).run();
        (fetched.exit == 0).then_some(fetched.answer.status)
    }

    fn publish(&self, validity: &str) {
        self.authority.publish(&self.gateway.directory().join("ca.crl"), validity);
        assert_eq!(self.gateway.reload().status, 200, "{}", self.gateway.log());
    }
}

/// A connection that stays.
struct Open {
    openssl: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Open {
    fn new(site: &Site, client: &[String; 4]) -> Self {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-connect", &site.gateway.https().to_string(), "-cert", &client[1], "-key", &client[3]])
            .args(["-quiet", "-alpn", "http/1.1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (openssl.stdin.take().unwrap(), BufReader::new(openssl.stdout.take().unwrap()));
        Self { openssl, input, output }
    }

    fn ask(&mut self) -> String {
        self.input.write_all(b"HEAD /services/a HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        let lines = self.output.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        lines.collect::<Vec<_>>()[0].clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.openssl.kill();
        let _ = self.openssl.wait();
    }
}

const OK: &str = "HTTP/1.1 200 OK";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized";

#[test]
fn what_a_list_names_is_refused_from_the_reload_on() {
    let site = start(MONTH, "");
    let (good, bad) = (site.authority.client("good"), site.authority.client("bad"));
    assert_eq!([site.call(&good), site.call(&bad)], [Some(200); 2]);
    let (mut stays, mut goes) = (Open::new(&site, &good), Open::new(&site, &bad));
    assert_eq!([stays.ask(), goes.ask()], [OK, OK]);
    site.authority.revoke("bad");
    site.publish(MONTH);
    let seen = site.upstream.requests().len();
    // Its handshake fails.
    assert_eq!([site.call(&good), site.call(&bad)], [Some(200), None]);
    // Those that are open are asked about once more, and only the one that was revoked is refused.
    assert_eq!([stays.ask(), goes.ask()], [OK, REFUSED]);
    assert_eq!([stays.ask(), goes.ask()], [OK, REFUSED]);
    assert_eq!(site.upstream.requests().len(), seen + 3, "a revoked certificate reached the upstream");
    // A list that names nobody any more lets them in again: it is the authority's word that counts.
    site.authority.openssl("ca -config ca.cnf -gencrl -crldays 30 -out again.crl");
    fs::write(site.authority.path("index.txt"), "").unwrap();
    site.publish(MONTH);
    assert_eq!(goes.ask(), OK);
}

#[test]
fn an_authority_whose_list_has_ended_lets_nobody_in() {
    let site = start(PAST, "");
    assert!(site.gateway.log().contains("has ended: no client of this authority is let in"), "{}", site.gateway.log());
    let good = site.authority.client("good");
    assert_eq!(site.call(&good), None);
    site.upstream.expect_untouched();
    let end = || site.gateway.metric("gapura_client_crls_end_timestamp_seconds", &[]);
    // 2020-02-01, and 30 days from now.
    assert_eq!(end(), 1_580_515_200.0);
    site.publish(MONTH);
    assert!(end() > now_ms() as f64 / 1000.0 + 29.0 * 86_400.0);
    assert_eq!(site.call(&good), Some(200));
    let mut open = Open::new(&site, &good);
    assert_eq!(open.ask(), OK);
    site.publish(PAST);
    assert_eq!(open.ask(), REFUSED);

    let site = start(PAST, "client_crls_expired = \"open\"");
    let (good, bad) = (site.authority.client("good"), site.authority.client("bad"));
    site.authority.revoke("bad");
    site.publish(PAST);
    assert_eq!([site.call(&good), site.call(&bad)], [Some(200), None], "the list holds as it is");
}

/// Who has no list could have revoked anybody.
#[test]
fn an_authority_without_a_list_lets_nobody_in() {
    let (authority, other, upstream) = (Authority::new(), Authority::new(), Upstream::ok());
    let gateway = setup(&authority, &upstream, MONTH, "");
    let both = [fs::read(authority.path("ca.pem")).unwrap(), fs::read(other.path("ca.pem")).unwrap()].concat();
    // Two authorities of one name: the list of one says nothing of the other's clients.
    let site = Site { gateway: gateway.file("ca.pem", both).start(), authority, upstream };
    let log = site.gateway.log();
    assert!(log.contains("no list is of `CN=clients` in `client_ca`: what it has signed is refused"), "{log}");
    assert_eq!([site.call(&site.authority.client("a")), site.call(&other.client("b"))], [Some(200), None]);
}

/// Of two the first alone would be asked: who is revoked by the second would get in.
#[test]
fn no_authority_has_two_lists() {
    let site = start(MONTH, "");
    let (bad, stale) = (site.authority.client("bad"), site.gateway.directory().join("ca.crl"));
    site.authority.revoke("bad");
    let fresh = site.gateway.directory().join("fresh.crl");
    site.authority.publish(&fresh, MONTH);
    let refused = |first: &str| {
        let answer = site.gateway.reload();
        let (body, log) = (answer.text(), site.gateway.log());
        assert!(answer.status != 200 && body.contains(first) && body.contains("another list of"), "{body} {log}");
    };
    let both = [fs::read(&stale).unwrap(), fs::read(&fresh).unwrap()].concat();
    let only = fs::read(&stale).unwrap();
    fs::write(&stale, both).unwrap();
    refused("client_crls[0]");
    fs::write(&stale, only).unwrap();
    let configuration = site.gateway.text().to_owned();
    site.gateway.rewrite(&configuration.replace("/ca.crl\"]", "/ca.crl\", \"@DIR@/fresh.crl\"]"));
    refused("fresh.crl");
    site.gateway.rewrite(&configuration);
    fs::rename(fresh, stale).unwrap();
    assert_eq!(site.gateway.reload().status, 200, "{}", site.gateway.log());
    assert_eq!(site.call(&bad), None);
}

#[test]
fn check_says_what_is_wrong_with_a_list() {
    let (authority, upstream) = (Authority::new(), Upstream::ok());
    let check = |content: &[u8], tables: &str| {
        let setup = Setup::new(tables).put("BACKEND", upstream.address()).put("MORE", "");
        let setup = setup.file("ca.pem", fs::read(authority.path("ca.pem")).unwrap()).file("ca.crl", content);
        let output = setup.command(&["check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    authority.publish(&authority.path("good.crl"), MONTH);
    let good = fs::read(authority.path("good.crl")).unwrap();
    authority.openssl("crl -in good.crl -outform DER -out good.der");
    let der = fs::read(authority.path("good.der")).unwrap();
    assert_eq!(check(&good, TABLES).0, Some(0));
    assert_eq!(check(&der, TABLES).0, Some(0), "in DER, as authorities publish it");
    let certificate = fs::read(authority.path("ca.pem")).unwrap();
    for (content, part) in [
        (&b"nothing"[..], "it holds none in PEM"),
        (&certificate, "it holds none in PEM"),
        (&good[..good.len() / 2], "breaks off"),
        (&der[..der.len() / 2], "is no list of revoked certificates: it is malformed or cut off"),
        (&[&der[..], b"x"].concat(), "is no list of revoked certificates: other bytes follow its end"),
    ] {
        let (code, text) = check(content, TABLES);
        assert!(code == Some(1) && text.contains(part) && text.contains("client_crls"), "{part}: {text}");
    }
    for (name, part) in [
        ("clients", "is not signed by `CN=clients` of `client_ca`: no client of this authority would be let in"),
        ("others", "no list is of an authority in `client_ca`: no client would be let in"),
    ] {
        let other = Authority::named(name);
        other.publish(&other.path("other.crl"), MONTH);
        let list = fs::read(other.path("other.crl")).unwrap();
        let (code, text) = check(&list, TABLES);
        assert!(code == Some(1) && text.contains(part), "{name}: {text}");
        // An authority between it and a client has another name, and is not known before the client shows it.
        let (code, text) = check(&[&good[..], &list].concat(), TABLES);
        assert_eq!(code, Some(i32::from(name == "clients")), "{text}");
    }
    let without = TABLES.replace("client_ca = \"@DIR@/ca.pem\"\nclient_auth = \"optional\"\n", "");
    let (code, text) = check(&good, &without);
    assert!(code == Some(1) && text.contains("no client is asked for a certificate that could be in a list"), "{text}");
    let without = TABLES.replace("client_crls = [\"@DIR@/ca.crl\"]", "client_crls_expired = \"open\"");
    let (code, text) = check(&good, &without);
    assert!(code == Some(1) && text.contains("there are no lists that could end"), "{text}");
}
