//! The example applications, unchanged, as upstreams.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use super::tool::{installed, repository};

/// A running example application, killed when it is dropped.
pub struct Backend {
    pub name: &'static str,
    child: Child,
    address: SocketAddr,
    output: BufReader<ChildStdout>,
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

    /// Those that record how bodies end, in Node and in uvicorn.
    #[track_caller]
    pub fn recorders() -> [Self; 2] {
        installed("tests/node/node_modules/http_ece");
        let mut node = Command::new("node");
        node.arg(repository("tests/node/bodies.js"));
        let mut uvicorn = Command::new(installed(".venv/bin/python"));
        uvicorn.arg(repository("tests/asgi/bodies.py"));
        [Self::start("Node", node), Self::start("uvicorn", uvicorn)]
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
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; run `scripts/install.sh test` once"));
        let (mut line, mut output) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
        output.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{name} did not say where it listens: {line:?}"));
        Self { name, child, address, output }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks for something, a line each way.
    pub fn ask(&mut self, line: &str) -> String {
        let (input, mut answer) = (self.child.stdin.as_mut().unwrap(), String::new());
        writeln!(input, "{line}").unwrap();
        self.output.read_line(&mut answer).unwrap();
        answer
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
