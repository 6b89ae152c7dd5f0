//! An upstream that records every connection and every byte, and answers as a test scripts it.
//!
//! It trusts nothing to an HTTP library: what a library would tidy up on the way in is what tests here ask for.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{
    wait::{until, until_true},
    wire::find,
};

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Which connection, counted from 0.
    pub connection: usize,
    /// Which request of this upstream, counted from 0.
    pub number: usize,
    pub method: String,
    pub target: String,
    /// In their order, names as written.
    pub raw_headers: Vec<(String, String)>,
    /// Chunks joined.
    pub body: Vec<u8>,
    /// The body came to its end.
    pub complete: bool,
}

impl Heard {
    /// All values of a field, however its name is written.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let mine = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
        self.raw_headers.iter().filter(mine).map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that must stand there at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} reached the upstream {} times: {all:?}", all.len());
        all.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Keep,
    Close,
}

#[derive(Default)]
struct Record {
    /// The bytes of each connection, in the order of their acceptance.
    connections: Vec<Vec<u8>>,
    peers: Vec<SocketAddr>,
    ended: Vec<bool>,
    requests: Vec<Heard>,
    /// Connections of [`Upstream::expect_untouched`].
    probes: Vec<SocketAddr>,
}

type Shared = Arc<Mutex<Record>>;

/// Stops accepting when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    record: Shared,
    stopped: Arc<AtomicBool>,
}

impl Upstream {
    /// `script` is called with the head of every request and answers it. A body that it does not ask for is read after it.
    pub fn start(script: impl Fn(&mut Call<'_>) -> Flow + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a socket that is bound already.
    pub fn on(listener: TcpListener, script: impl Fn(&mut Call<'_>) -> Flow + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let (record, stopped) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let script: Arc<dyn Fn(&mut Call<'_>) -> Flow + Send + Sync> = Arc::new(script);
        let upstream = Self { address, record: record.clone(), stopped: stopped.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // A client that reset at once has no address any more.
                let peer = stream.peer_addr().unwrap_or(address);
                let index = {
                    let mut record = record.lock().unwrap();
                    record.peers.push(peer);
                    record.connections.push(Vec::new());
                    record.ended.push(false);
                    record.connections.len() - 1
                };
                let (record, script) = (record.clone(), script.clone());
                thread::spawn(move || {
                    let mut connection = Connection { stream, index, record, buffer: Vec::new() };
                    while connection.serve(&*script) == Flow::Keep {}
                    let _ = connection.stream.shutdown(Shutdown::Both);
                    connection.record.lock().unwrap().ended[index] = true;
                });
            }
        });
        upstream
    }

    /// Answers everything with 200 and `ok`.
    pub fn ok() -> Self {
        Self::start(|call| {
            call.body();
            call.respond(200, &[("Content-Type", "text/plain")], b"ok")
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Heard> {
        self.record.lock().unwrap().requests.clone()
    }

    /// The one request there was, once its body is complete.
    #[track_caller]
    pub fn only(&self) -> Heard {
        let heard = until("a whole request at the upstream", || {
            self.requests().into_iter().next().filter(|heard| heard.complete)
        });
        assert_eq!(self.requests().len(), 1, "more than one request reached the upstream");
        heard
    }

    /// The last request, once its body is complete.
    #[track_caller]
    pub fn last(&self) -> Heard {
        until("a whole request at the upstream", || self.requests().pop().filter(|heard| heard.complete))
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        let record = self.record.lock().unwrap();
        record.peers.iter().filter(|peer| !record.probes.contains(peer)).count()
    }

    /// Connections that have ended, by either side.
    pub fn ended(&self) -> usize {
        self.record.lock().unwrap().ended.iter().filter(|ended| **ended).count()
    }

    /// Everything that was received, of all connections.
    pub fn bytes(&self) -> Vec<u8> {
        self.record.lock().unwrap().connections.concat()
    }

    /// No connection, and so not a byte. A connection of our own comes behind all that the gateway opened (the kernel
    /// keeps their order): once it was accepted, so were they.
    #[track_caller]
    pub fn expect_untouched(&self) {
        let probe = TcpStream::connect(self.address).unwrap();
        let mine = probe.local_addr().unwrap();
        self.record.lock().unwrap().probes.push(mine);
        until_true("the upstream accepts", || self.record.lock().unwrap().peers.contains(&mine));
        let bytes = self.bytes();
        assert_eq!(
            (self.connections(), bytes.len()),
            (0, 0),
            "a refused request reached the upstream: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }

    /// Starts the record anew, for the next case of a table. Connections keep their numbers.
    pub fn forget(&self) {
        let mut record = self.record.lock().unwrap();
        record.requests.clear();
        record.connections.iter_mut().for_each(Vec::clear);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

/// One request, and the connection to answer it on.
pub struct Call<'a> {
    pub heard: Heard,
    at: usize,
    connection: &'a mut Connection,
    read: bool,
}

impl Call<'_> {
    /// The whole body. None of it where the connection ended before it did: see `heard.complete`.
    pub fn body(&mut self) -> Vec<u8> {
        if !self.read {
            self.read = true;
            let coded = self.heard.all("transfer-encoding").iter().any(|value| value.eq_ignore_ascii_case("chunked"));
            let length = self.heard.all("content-length").first().and_then(|value| value.parse::<usize>().ok());
            let body = match length {
                _ if coded => self.connection.chunked_body(),
                Some(length) => self.connection.take(length),
                None => Some(Vec::new()),
            };
            self.heard.complete = body.is_some();
            self.heard.body = body.unwrap_or_default();
            let mut record = self.connection.record.lock().unwrap();
            if let Some(heard) = record.requests.get_mut(self.at).filter(|heard| heard.number == self.heard.number) {
                *heard = self.heard.clone();
            }
        }
        self.heard.body.clone()
    }

    /// Bytes as they are. False once the gateway has gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.connection.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next bytes behind the head, undecoded, for what is no HTTP body. Empty at the end.
    pub fn receive(&mut self) -> Vec<u8> {
        self.read = true;
        if self.connection.buffer.is_empty() {
            self.connection.fill();
        }
        std::mem::take(&mut self.connection.buffer)
    }

    /// The connection itself, for a script that reads and writes at once.
    pub fn stream(&self) -> TcpStream {
        self.connection.stream.try_clone().unwrap()
    }

    /// A whole answer with its length.
    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> Flow {
        let mut bytes = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: {value}\r\n").as_bytes());
        }
        if status >= 200 && status != 204 && status != 304 {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend(b"\r\n");
        if self.heard.method != "HEAD" {
            bytes.extend(body);
        }
        if self.send(bytes) { Flow::Keep } else { Flow::Close }
    }
}

struct Connection {
    stream: TcpStream,
    index: usize,
    record: Shared,
    /// Received and not yet part of a request.
    buffer: Vec<u8>,
}

impl Connection {
    fn serve(&mut self, script: &(dyn Fn(&mut Call<'_>) -> Flow + Send + Sync)) -> Flow {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.fill() {
                return Flow::Close;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let (line, fields) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let mut heard = Heard {
            connection: self.index,
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            raw_headers: fields
                .split("\r\n")
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            ..Heard::default()
        };
        let at = {
            let mut record = self.record.lock().unwrap();
            heard.number = record.requests.len();
            record.requests.push(heard.clone());
            heard.number
        };
        let mut call = Call { heard, at, connection: self, read: false };
        let flow = script(&mut call);
        if flow == Flow::Keep {
            call.body();
            if !call.heard.complete && !call.read {
                return Flow::Close;
            }
        }
        flow
    }

    fn fill(&mut self) -> bool {
        let mut block = [0; 64 * 1024];
        let Ok(read @ 1..) = self.stream.read(&mut block) else { return false };
        self.buffer.extend_from_slice(&block[..read]);
        if let Some(bytes) = self.record.lock().unwrap().connections.get_mut(self.index) {
            bytes.extend_from_slice(&block[..read]);
        }
        true
    }

    fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    fn chunked_body(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                // Trailers, up to the empty line.
                while !self.line()?.is_empty() {}
                return Some(body);
            }
            let chunk = self.take(size + 2)?;
            body.extend_from_slice(&chunk[..size]);
        }
    }
}

/// A port on which nobody listens. It stays bound, so that nobody else gets it.
pub struct Closed(TcpListener, TcpStream);

impl Closed {
    /// A bound socket without `listen` cannot be made with std; a local port of an open connection refuses as well.
    pub fn port() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Self(listener, stream)
    }

    pub fn address(&self) -> SocketAddr {
        let _open = &self.0;
        self.1.local_addr().unwrap()
    }
}
