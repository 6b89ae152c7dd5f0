//! A client of plain sockets: exactly the bytes that a test writes, and every byte that comes back.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{tls, wait::DEADLINE};

/// One connection. Bytes beyond an answer stay for the next.
pub struct Wire {
    stream: Box<dyn Stream>,
    /// The same connection below TLS.
    socket: TcpStream,
    buffer: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// A response as it came over the wire, its chunks joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// In their order; names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The fields behind the last chunk.
    pub trailers: Vec<(String, String)>,
    /// The body ended as its framing said.
    pub complete: bool,
}

impl Answer {
    /// The value of a field that must stand there at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is not UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {}: {:?}", self.status, self.lossy()))
    }

    pub fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let socket = Self::socket(address);
        Self { stream: Box::new(socket.try_clone().unwrap()), socket, buffer: Vec::new() }
    }

    /// HTTP/1.1 by ALPN unless a protocol is given.
    #[track_caller]
    pub fn tls(address: SocketAddr, protocols: &[&str]) -> Self {
        let socket = Self::socket(address);
        let stream = tls::handshake(socket.try_clone().unwrap(), protocols);
        Self { stream: Box::new(stream), socket, buffer: Vec::new() }
    }

    fn socket(address: SocketAddr) -> TcpStream {
        let socket = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// Bytes as they are. A peer that has closed in the meantime is no fault here: what it answered is yet to be read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes);
        self
    }

    /// Whether these bytes were taken: a refusing peer closes at some point.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_ok()
    }

    /// No more is sent; what comes back can still be read.
    pub fn finish_sending(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Sends a byte now and then (not on TLS), until the answer is here. The pauses decide nothing; they only keep the
    /// connection from ever being silent.
    #[track_caller]
    pub fn dribble(&mut self, byte: u8, method: &str) -> Answer {
        let mut socket = self.socket.try_clone().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let dribbler = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) && socket.write_all(&[byte]).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
        });
        let answer = self.try_answer(method);
        done.store(true, Ordering::SeqCst);
        dribbler.join().unwrap();
        answer.expect("the connection closed without an answer")
    }

    /// The next final answer; interim ones (1xx but 101) are skipped.
    #[track_caller]
    pub fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).expect("the connection closed without an answer")
    }

    /// None where the connection ends before a head is complete.
    #[track_caller]
    pub fn try_answer(&mut self, method: &str) -> Option<Answer> {
        loop {
            let mut answer = self.head()?;
            if answer.status >= 200 || answer.status == 101 {
                self.body(method, &mut answer);
                return Some(answer);
            }
        }
    }

    /// The next head, interim ones too. Its body stays unread.
    #[track_caller]
    pub fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "a head was cut short: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        Some(Answer { status, headers: parse_fields(fields), body: Vec::new(), trailers: Vec::new(), complete: false })
    }

    /// Reads the body that belongs to `answer`.
    #[track_caller]
    pub fn body(&mut self, method: &str, answer: &mut Answer) {
        if method == "HEAD" || answer.status < 200 || matches!(answer.status, 204 | 304) {
            answer.complete = true;
        } else if answer.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.chunk() {
                if chunk.is_empty() {
                    answer.complete = true;
                    break;
                }
                answer.body.extend(chunk);
            }
            while answer.complete {
                let Some(line) = self.line() else { break };
                if line.is_empty() {
                    break;
                }
                answer.trailers.extend(parse_fields(&line));
            }
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().expect("Content-Length");
            while self.buffer.len() < length && self.fill() {}
            let taken = length.min(self.buffer.len());
            answer.complete = taken == length;
            answer.body = self.buffer.drain(..taken).collect();
        } else {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.buffer);
            answer.complete = true;
        }
    }

    /// The next chunk of a chunked body, empty for the last. None where the connection ends.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size == 0 {
            return Some(Vec::new());
        }
        let bytes = self.take(size + 2)?;
        Some(bytes[..size].to_vec())
    }

    /// A line without its end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..at + 2).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// Waits for the end of the connection and gives what still came. A reset is an end, too: it is what a peer sends that
    /// closes before it has read everything.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// The peer closes, and sends nothing more before.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "more came before the end: {:?}", String::from_utf8_lossy(&rest));
    }

    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        match self.stream.read(&mut block) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&block[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!(
                    "nothing came for {DEADLINE:?}, and the connection is still open; before it: {:?}",
                    String::from_utf8_lossy(&self.buffer)
                )
            }
            Err(_) => false,
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(address: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut wire = Wire::connect(address);
    wire.send(request_bytes(method, target, headers, body));
    wire.answer(method)
}

/// `Host: gateway.test` unless given; a `Content-Length` where there is a body and no other framing is given.
pub fn request_bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let given = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !given("host") {
        bytes.extend(b"Host: gateway.test\r\n");
    }
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() && !given("content-length") && !given("transfer-encoding") {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

/// A body in chunks of the given size.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + body.len() / size * 8 + 16);
    for chunk in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// Lines of `name: value`; names in lower case.
pub fn parse_fields(text: &str) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    fields
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
