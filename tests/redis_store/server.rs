//! A Redis of the test's own: on a free port of the loopback, in a directory of its own, gone when dropped.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use redis::FromRedisValue;
use tempfile::TempDir;

use crate::PATIENCE;

pub(crate) struct Server {
    dir: TempDir,
    pub(crate) port: u16,
    options: Vec<String>,
    child: Child,
    /// `user:password@`, for the URL.
    pub(crate) login: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// `redis-server --sentinel`: it writes into its configuration, so it has a file of its own.
    pub(crate) fn sentinel(configuration: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("sentinel.conf");
        fs::write(&file, configuration).unwrap();
        let options = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        Self::on_a_free_port(dir, options)
    }

    pub(crate) fn with(options: &[&str]) -> Self {
        let plain = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let options = plain.iter().chain(options).map(ToString::to_string).collect();
        Self::on_a_free_port(TempDir::new().unwrap(), options)
    }

    fn on_a_free_port(dir: TempDir, options: Vec<String>) -> Self {
        for _ in 0..20 {
            let port = free_port();
            // Another process may have taken the port meanwhile: then Redis ends, and the next is tried.
            if let Some(child) = launch(&dir, port, &options) {
                return Self { dir, port, options, child, login: String::new() };
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login, self.port)
    }

    /// As a crash ends it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// After [`Self::kill`], on the same port, and empty.
    pub(crate) fn restart(&mut self) {
        let start = Instant::now();
        self.child = loop {
            if let Some(child) = launch(&self.dir, self.port, &self.options) {
                break child;
            }
            assert!(start.elapsed() < PATIENCE, "redis-server does not come back");
        };
    }

    /// It accepts connections from now on, by the kernel, but answers nothing.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Several, as `--cluster-enabled` or `--replicaof` need them: started at once.
    pub(crate) fn several(options: &[Vec<String>]) -> Vec<Self> {
        thread::scope(|scope| {
            let starting: Vec<_> = options
                .iter()
                .map(|options| scope.spawn(|| Self::with(&options.iter().map(String::as_str).collect::<Vec<_>>())))
                .collect();
            starting.into_iter().map(|server| server.join().unwrap()).collect()
        })
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// What the operator could ask at the same time.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_ask(command).unwrap()
    }

    /// As [`Self::ask`], of a server that changes its role: it closes every connection at that moment, whatever was asked.
    pub(crate) fn try_ask<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    /// Returns when every replica has what was written here until now. `WAIT` speaks only of its own connection's writes.
    pub(crate) fn replicate(&self) {
        let offsets = || {
            let text: String = self.ask(&["INFO", "replication"]);
            let number = |value: &str| value.parse::<u64>().unwrap();
            let own = text.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).map(number).unwrap();
            let replicas = text.lines().filter(|line| line.starts_with("slave"));
            let known = replicas.filter_map(|line| line.split(',').find_map(|part| part.strip_prefix("offset=")));
            (own, known.map(number).collect::<Vec<_>>())
        };
        let (written, start) = (offsets().0, Instant::now());
        while !offsets().1.iter().all(|&known| known >= written) {
            assert!(start.elapsed() < crate::PATIENCE, "the replicas do not follow");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!offsets().1.is_empty(), "there are no replicas");
    }

    /// Microseconds, by its clock.
    pub(crate) fn clock(&self) -> u64 {
        let (seconds, micros): (u64, u64) = self.ask(&["TIME"]);
        seconds * 1_000_000 + micros
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Below those that the kernel gives to whoever asks for any, as is the port of a Cluster's bus, 10 000 above: so that none takes it
/// while a killed Redis is away, or before one has started.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(37);
    loop {
        let port = 12_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Until it answers; None if it ends.
fn launch(dir: &TempDir, port: u16, options: &[String]) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(options)
        .args(["--port", &port.to_string()])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server cannot be run: install Debian's package `redis-server` (scripts/install.sh test)");
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        // With a password the answer is an error, and an answer.
        let answers = TcpStream::connect(("127.0.0.1", port)).and_then(|mut connection| {
            connection.set_read_timeout(Some(Duration::from_secs(1)))?;
            connection.write_all(b"PING\r\n")?;
            connection.read_exact(&mut [0])
        });
        if answers.is_ok() && child.try_wait().unwrap().is_none() {
            return Some(child);
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
