//! A gateway of the test's own: on free ports of the loopback, in a directory of its own, gone when dropped.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use tempfile::TempDir;

use crate::PATIENCE;

pub(crate) struct Gateway {
    child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    _dir: TempDir,
    _log: Receiver<String>,
}

/// One response, read to the end of its connection.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

impl Gateway {
    /// `rest`: everything but `[server]`.
    pub(crate) fn start(rest: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("gapura.toml");
        let server = "[server]\nhttp = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nplaintext = true\nthreads = 1\n";
        std::fs::write(&path, format!("{server}{rest}")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_gapura"))
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        // Read to the end: a full pipe would stop the gateway.
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let (mut public, mut admin, mut seen) = (None, None, String::new());
        while public.is_none() || admin.is_none() {
            let line = log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the gateway does not start:\n{seen}"));
            let address = |scheme: &str| line.split_once(scheme).and_then(|(_, at)| at.trim().parse().ok());
            match address("listening on admin http://") {
                Some(at) => admin = Some(at),
                None => public = public.or_else(|| address("listening on http://")),
            }
            seen += &line;
            seen.push('\n');
        }
        Self { child, public: public.unwrap(), admin: admin.unwrap(), _dir: dir, _log: log }
    }

    pub(crate) fn get(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        send(self.public, path, fields)
    }

    pub(crate) fn admin(&self, path: &str) -> Response {
        send(self.admin, path, &[])
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(at: SocketAddr, path: &str, fields: &[(&str, &str)]) -> Response {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n");
    if !fields.iter().any(|(name, _)| *name == "Connection") {
        request += "Connection: close\r\n";
    }
    fields.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
    stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Response { status, head: head.into(), body: body.into() }
}
