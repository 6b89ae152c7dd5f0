//! The gateway's own binary, started with a file and stopped with the test.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::Mutex,
    thread,
};

use super::{
    wait::{until, until_true},
    wire::{self, Answer},
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_gapura");

/// What the tests' configurations refer to. Distinct, so that a leak of any of them is found in any output.
pub const JWT_SECRET: &str = "jwt-secret-7f1c0b5f6d2e4a9c8b3d-not-for-any-log";
pub const API_KEY_SALT: &str = "api-key-salt-51c2e8d09a7b4f36-not-for-any-log";
pub const MASTER_KEY: &str = "master-key-0d9e3b7a62c84f15-not-for-any-log";

/// A configuration and its surroundings, not yet started.
pub struct Setup {
    text: String,
    environment: Vec<(String, String)>,
    folder: tempfile::TempDir,
    puts: Vec<(String, String)>,
}

impl Setup {
    /// `@NAME@` in the text is filled in by [`Setup::put`]; `@DIR@` is a folder of this gateway's own.
    pub fn new(text: &str) -> Self {
        let environment = [("JWT_SECRET", JWT_SECRET), ("API_KEY_SALT", API_KEY_SALT), ("MASTER_KEY", MASTER_KEY)];
        let folder = tempfile::Builder::new().prefix("gapura-test-").tempdir().unwrap();
        let directory = folder.path().display().to_string();
        Self {
            text: text.to_owned(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            folder,
            puts: vec![("DIR".to_owned(), directory)],
        }
    }

    /// A plain listener that serves, an admin listener, and these tables.
    pub fn plain(tables: &str) -> Self {
        Self::new(&format!("[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\n{tables}"))
    }

    /// A plain and a TLS listener, an admin listener, and these tables.
    pub fn tls(tables: &str) -> Self {
        Self::new(&format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\n\
             [tls]\nself_signed = true\n\n{tables}"
        ))
    }

    #[must_use]
    pub fn put(mut self, name: &str, value: impl ToString) -> Self {
        self.puts.push((name.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file beside the configuration, reached as `@DIR@/name`.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.puts {
            text = text.replace(&format!("@{name}@"), value);
        }
        text
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("gapura.toml");
        std::fs::write(&path, self.fill(text)).unwrap();
        path
    }

    /// Any command of the binary that takes a configuration, with `--config` added.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let path = self.write(&self.text);
        let (first, rest) = arguments.split_first().expect("a command");
        let mut command = Command::new(BINARY);
        command.arg(first).arg("--config").arg(path).args(rest).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts the gateway, and waits until it is ready where there is an admin listener, else until it listens.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let gateway = self.spawn();
        gateway.wait_until_ready();
        gateway
    }

    /// Starts the gateway, and waits for nothing.
    #[track_caller]
    pub fn spawn(self) -> Gateway {
        let path = self.write(&self.text);
        let (log, output) = (Written::new(), Written::new());
        let child = Command::new(BINARY)
            .arg("run")
            .arg("--config")
            .arg(&path)
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.stdio())
            .stderr(log.stdio())
            .spawn()
            .unwrap_or_else(|error| panic!("{BINARY}: {error}"));
        Gateway { setup: self, child: Mutex::new(child), log, output }
    }
}

/// What a process writes, in a file without a name: whatever it has written is there to be read, without a thread between, on
/// which a busy machine would make the test wait.
struct Written(File);

impl Written {
    fn new() -> Self {
        Self(tempfile::tempfile().unwrap())
    }

    fn stdio(&self) -> Stdio {
        self.0.try_clone().unwrap().into()
    }

    /// At a place of its own: where the process writes does not move.
    fn text(&self) -> String {
        let mut bytes = vec![0; usize::try_from(self.0.metadata().unwrap().len()).unwrap()];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A running gateway, killed when it is dropped. A failing test prints what it logged.
pub struct Gateway {
    setup: Setup,
    child: Mutex<Child>,
    log: Written,
    output: Written,
}

impl Gateway {
    #[track_caller]
    fn wait_until_ready(&self) {
        let has_admin = self.setup.text.lines().any(|line| line.trim_start().starts_with("admin"));
        until_true("the gateway is ready", || {
            if let Some(status) = self.exited() {
                panic!("the gateway ended with {status} instead of serving");
            }
            if has_admin {
                self.try_listener("admin http")
                    .is_some_and(|address| wire::request(address, "GET", "/readyz", &[], b"").status == 200)
            } else {
                self.try_listener("http").or_else(|| self.try_listener("https")).is_some()
            }
        });
    }

    /// Everything on standard error so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Everything on standard output so far.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The addresses of a kind of listener (`http`, `https`, `admin http`), in the order of their log lines.
    pub fn listeners(&self, kind: &str) -> Vec<SocketAddr> {
        let marker = format!("listening on {kind}://");
        let log = self.log();
        // The last line may not have come whole.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        whole
            .split(&marker)
            .skip(1)
            .filter_map(|rest| {
                rest.split(|end: char| end.is_whitespace() || ",;\"'".contains(end)).next()?.parse().ok()
            })
            .collect()
    }

    fn try_listener(&self, kind: &str) -> Option<SocketAddr> {
        self.listeners(kind).first().copied()
    }

    #[track_caller]
    fn listener(&self, kind: &str) -> SocketAddr {
        until(&format!("a log line of the {kind} listener"), || self.try_listener(kind))
    }

    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    #[track_caller]
    pub fn https(&self) -> SocketAddr {
        self.listener("https")
    }

    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.listener("admin http")
    }

    /// One request to the plain listener, on a connection of its own.
    #[track_caller]
    pub fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        wire::request(self.http(), method, target, headers, body.as_ref())
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.request("GET", target, &[], b"")
    }

    /// Every way in which a request can go through: without a body, with one that the gateway may hold whole, and with
    /// one of unknown length, which it can only pass on. Each promise about a head must hold for all of them.
    #[track_caller]
    pub fn every_way(&self, target: &str, headers: &[(&str, &str)], mut check: impl FnMut(Answer)) {
        check(self.request("GET", target, headers, b""));
        check(self.request("POST", target, headers, b"body"));
        let chunked = [headers, &[("Transfer-Encoding", "chunked")]].concat();
        check(self.request("POST", target, &chunked, b"4\r\nbody\r\n0\r\n\r\n"));
    }

    /// A new connection to the plain listener.
    #[track_caller]
    pub fn connect(&self) -> wire::Wire {
        wire::Wire::connect(self.http())
    }

    /// The samples of `/metrics`: `name{labels}` as written, and the value.
    #[track_caller]
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = wire::request(self.admin(), "GET", "/metrics", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let samples = answer.text().lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
                (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no value: {line:?}")))
            })
            .collect()
    }

    /// The sum of the samples of a metric whose labels contain all of these, each written `label="value"`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let mine = |sample: &str| {
            let (known, rest) = sample.split_once('{').unwrap_or((sample, ""));
            known == name && labels.iter().all(|label| rest.contains(label))
        };
        self.metrics().iter().filter(|(sample, _)| mine(sample)).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// Writes another configuration over the file. Nothing is reloaded yet.
    pub fn rewrite(&self, text: &str) {
        self.setup.write(text);
    }

    /// The configuration's text before its places were filled in.
    pub fn text(&self) -> &str {
        &self.setup.text
    }

    /// `POST /reload`.
    #[track_caller]
    pub fn reload(&self) -> Answer {
        wire::request(self.admin(), "POST", "/reload", &[("Content-Length", "0")], b"")
    }

    pub fn directory(&self) -> &Path {
        self.setup.directory()
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        let id = self.child.lock().unwrap().id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success(), "kill -s {name} {id}");
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn exit(&self) -> ExitStatus {
        until("the gateway ends", || self.exited())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let ended = self.exited();
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        if thread::panicking() {
            eprintln!(
                "--- the gateway {}",
                ended.map_or("was running".into(), |status| format!("had ended: {status}"))
            );
            eprintln!("--- its standard error:\n{}", self.log());
            let _ = std::io::stderr().flush();
        }
    }
}

/// A command of the binary: arguments, environment, standard input.
pub fn command(arguments: &[&str], environment: &[(&str, &str)], input: impl AsRef<[u8]>) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).envs(environment.iter().copied());
    super::tool::output(command, input.as_ref())
}
