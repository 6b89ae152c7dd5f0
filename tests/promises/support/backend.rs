//! The example applications, unchanged, as upstreams.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use super::tool::{installed, repository};

/// A running example application, killed when it is dropped.
pub struct Backend {
    pub name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Backend {
    #[track_caller]
    pub fn fastapi() -> Self {
        let python = installed(".venv/bin/python");
        let mut command = Command::new(python);
        command.arg(repository("examples/fastapi/app.py"));
        Self::start("FastAPI", command)
    }

    #[track_caller]
    pub fn express() -> Self {
        installed("examples/express/node_modules/express");
        let mut command = Command::new("node");
        command.arg(repository("examples/express/app.js"));
        Self::start("Express", command)
    }

    /// Both, for promises that hold for any backend.
    #[track_caller]
    pub fn both() -> [Self; 2] {
        [Self::fastapi(), Self::express()]
    }

    #[track_caller]
    fn start(name: &'static str, mut command: Command) -> Self {
        let mut child = command
            .args(["--port", "0"])
            .env_remove("PORT")
            .env_remove("HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; run `scripts/install.sh test` once"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{name} did not say where it listens: {line:?}"));
        Self { name, child, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
