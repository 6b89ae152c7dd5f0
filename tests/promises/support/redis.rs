//! A Redis of the test's own: on a free port of the loopback, gone when dropped.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use super::wait::until;

pub struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Redis {
    #[track_caller]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port meanwhile: then Redis ends, and the next is tried.
        let (port, child) = until("redis-server starts", || {
            let port = free_port();
            launch(&folder, port).map(|child| (port, child))
        });
        Self { folder, port, child }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As a crash ends it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// After [`Self::kill`], on the same port, and empty.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child = until("redis-server comes back", || launch(&self.folder, self.port));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Below those that the kernel gives to whoever asks for any: so that none takes it while a killed Redis is away. Apart
/// from those of `tests/redis_store`, which may run at the same time.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 500) as u16 * 17;
    loop {
        let port = 11_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Until it answers; None if it ends.
#[track_caller]
fn launch(folder: &tempfile::TempDir, port: u16) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server: {error}; run `scripts/install.sh test` once"));
    let answers = || {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
        connection.write_all(b"PING\r\n").ok()?;
        connection.read_exact(&mut [0]).ok()
    };
    until("redis-server answers or ends", || match child.try_wait().unwrap() {
        Some(_) => Some(false),
        // Whoever answers on this port may be another, while this one still fails to take it.
        None => answers().filter(|()| child.try_wait().unwrap().is_none()).map(|()| true),
    })
    .then_some(child)
}
