//! A real OpenID Connect provider, found by discovery over TLS: its access tokens, its new keys, its bad days.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{PATIENCE, gateway::Gateway, upstream::Upstream};

/// `tests/node/oidc.js`
struct Provider {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    issuer: String,
    dir: TempDir,
}

impl Provider {
    #[track_caller]
    fn start(algorithm: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &authority).unwrap();
        for (name, pem) in
            [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), pem).unwrap();
        }
        let mut child = Command::new("node")
            .arg(format!("{}/tests/node/oidc.js", env!("CARGO_MANIFEST_DIR")))
            .args([dir.path().join("cert.pem"), dir.path().join("key.pem")])
            .arg(algorithm)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}; run `scripts/install.sh test` once"));
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let issuer = line(&mut output);
        assert!(issuer.starts_with("https://"), "no provider; run `scripts/install.sh test` once");
        let pipes = Mutex::new((child.stdin.take().unwrap(), output));
        Self { child, pipes, issuer, dir }
    }

    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let (input, output) = &mut *self.pipes.lock().unwrap();
        writeln!(input, "{command}").unwrap();
        line(output)
    }

    /// Its tokens are for `urn:gapura:payments`.
    fn table(&self, algorithm: &str, audience: &str) -> String {
        let ca = self.dir.path().join("ca.pem").display().to_string();
        format!(
            "algorithms = [\"{algorithm}\"]\ndiscovery = true\nissuer = \"{}\"\nca = \"{ca}\"\naudience = [\"{audience}\"]\n\
             typ = \"at+jwt\"\nclaims = {{ permissions = \"scope\" }}\n",
            self.issuer
        )
    }
}

impl Drop for Provider {
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

fn gateway(upstream: &Upstream, provider: &Provider, algorithm: &str) -> Gateway {
    let mut config = format!("[upstreams.app]\nservers = [\"{}\"]\n", upstream.address);
    for (name, audience) in [("shop", "urn:gapura:payments"), ("other", "urn:gapura:other")] {
        config += &format!("[jwt.{name}]\n{}", provider.table(algorithm, audience));
    }
    for name in ["shop", "other"] {
        config += &format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"app\"\nauth = [\"jwt.{name}\"]\npermissions = [\"READ\"]\n"
        );
    }
    Gateway::start(&config)
}

fn ask(gateway: &Gateway, path: &str, token: &str) -> u16 {
    gateway.get(path, &[("Authorization", &format!("Bearer {token}"))]).status
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// All at once: each of them waits for the ten seconds between two fetches out of turn.
#[test]
fn its_tokens_are_taken_its_keys_followed_and_its_bad_days_change_nothing() {
    thread::scope(|scope| {
        for (algorithm, mode) in
            [("RS256", "error"), ("PS384", "garbage"), ("ES256", "slow"), ("ES384", "error"), ("EdDSA", "garbage")]
        {
            scope.spawn(move || follows(algorithm, mode));
        }
    });
}

fn follows(algorithm: &str, mode: &str) {
    let (upstream, provider) = (Upstream::start(None), Provider::start(algorithm));
    let gateway = gateway(&upstream, &provider, algorithm);
    until("the provider's keys", || gateway.admin("/readyz").status == 200);
    let first = provider.tell("token");
    assert_eq!(ask(&gateway, "/shop", &first), 200, "{algorithm}: {first}");
    let head = upstream.last();
    for identity in ["x-user-id: shop\n", "x-user-roles: clerk\n", "x-user-permissions: read,write\n"] {
        assert!(head.contains(identity), "{algorithm}: {head}");
    }
    assert_eq!(ask(&gateway, "/other", &first), 401, "{algorithm}: a token for another resource");
    let forged = format!("{}A", &first[..first.len() - 1]);
    let forged = if forged == first { format!("{}Q", &first[..first.len() - 1]) } else { forged };
    assert_eq!(ask(&gateway, "/shop", &forged), 401, "{algorithm}: {forged}");

    // A new key on a bad day: tokens that were good stay so, the new ones have to wait.
    assert_eq!(provider.tell(mode), mode);
    assert!(!provider.tell("rotate").is_empty());
    let second = provider.tell("token");
    assert_eq!((ask(&gateway, "/shop", &second), ask(&gateway, "/shop", &first)), (401, 200), "{algorithm} {mode}");
    let failed = "gapura_key_set_fetches_total{jwt=\"jwt.shop\",result=\"failure\"}";
    until("a fetch that fails", || gateway.admin("/metrics").body.contains(failed));
    assert_eq!((ask(&gateway, "/shop", &first), gateway.admin("/readyz").status), (200, 200), "{algorithm} {mode}");
    assert_eq!(provider.tell("well"), "well");
    until("the new key", || ask(&gateway, "/shop", &second) == 200);
    assert_eq!(ask(&gateway, "/shop", &first), 401, "{algorithm}: the key is not published any more");
}
