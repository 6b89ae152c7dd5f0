//! The gateway itself, as a process, with an upstream that remembers what it was sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// How long an answer may take before the client says that it has nothing more to send.
const PATIENCE: Duration = Duration::from_secs(1);
const END: Duration = Duration::from_secs(10);

/// What the upstream was sent.
pub(crate) type Received = Arc<Mutex<Vec<Request>>>;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    /// Its body came to its end; else the gateway broke it off.
    pub(crate) whole: bool,
}

pub(crate) struct Gateway {
    process: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    pub(crate) received: Received,
    _folder: TempDir,
}

impl Gateway {
    /// Before an upstream that answers each request with what `answer` makes of it, and closes.
    pub(crate) fn before(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = listener.local_addr().expect("an address");
        let received = Received::default();
        let (answer, record) = (Arc::new(answer), Arc::clone(&received));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                thread::spawn(move || serve(stream, &*answer, &record));
            }
        });

        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("gapura.toml");
        let config = format!(
            "[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nthreads = 1\n\
             [upstreams.backend]\nservers = [\"{upstream}\"]\n\
             [[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"backend\"\ntimeout = \"5s\"\n"
        );
        std::fs::write(&path, config).expect("a temporary file");
        let mut process = Command::new(env!("CARGO_BIN_EXE_gapura"))
            .args(["run", "--config"])
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the gateway starts");
        let stderr = BufReader::new(process.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening on http://") {
                    let _ = found.send(address.trim().parse());
                }
                let mut log = lines.lock().expect("no holder panics");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = match address.recv_timeout(END) {
            Ok(Ok(address)) => address,
            _ => panic!("the gateway does not listen:\n{}", log.lock().expect("no holder panics")),
        };
        Self { process, address, log, received, _folder: folder }
    }

    /// Sends these bytes; what comes back until the gateway closes. The client's end is sent only once nothing comes any
    /// more: a client that closes at once is gone, and its request with it.
    pub(crate) fn converse(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the gateway accepts");
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        for (patience, last) in [(PATIENCE, false), (END, true)] {
            stream.set_read_timeout(Some(patience)).expect("a timeout");
            let mut piece = [0; 4096];
            loop {
                match stream.read(&mut piece) {
                    Ok(0) => return answer,
                    Ok(n) => answer.extend_from_slice(&piece[..n]),
                    Err(_) if last => panic!("the gateway leaves the connection open"),
                    Err(why) if matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                        break;
                    }
                    Err(_) => return answer,
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        }
        answer
    }

    /// It runs still, and nothing in it has panicked.
    pub(crate) fn is_sound(&mut self) {
        let ended = self.process.try_wait().expect("a child of ours");
        let log = self.log.lock().expect("no holder panics");
        assert!(ended.is_none() && !log.contains("panicked"), "{ended:?}\n{log}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One request, its answer, the end.
fn serve(mut stream: TcpStream, answer: &dyn Fn(&[u8]) -> Vec<u8>, record: &Received) {
    let _ = stream.set_read_timeout(Some(END));
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => request.extend_from_slice(&piece[..n]),
            _ => break,
        }
    }
    if request.is_empty() {
        return;
    }
    let whole = is_whole(&request);
    record.lock().expect("no holder panics").push(Request { bytes: request.clone(), whole });
    if !whole {
        return;
    }
    let _ = stream.write_all(&answer(&request));
    let _ = stream.shutdown(Shutdown::Write);
    // The gateway may still be writing: what it says is no business of this upstream.
    let _ = stream.read(&mut piece);
}

/// Enough for requests that the gateway itself has framed.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let body = &request[end + 4..];
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// An answer of the gateway or, through it, of the upstream.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The `code` of a problem.
    pub(crate) code: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The body has the length that was announced.
    pub(crate) complete: bool,
}

/// Every answer in what came back. Anything that is no answer fails: the gateway's own words must be HTTP.
pub(crate) fn answers(mut bytes: &[u8], head_only: bool) -> Vec<Answer> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut fields);
        let len = match head.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(bytes)),
        };
        let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let value = |name: &str| field(name).map(|field| String::from_utf8_lossy(field.value).into_owned());
        let (status, kind) = (head.code.expect("a status"), value("content-type").unwrap_or_default());
        let rest = &bytes[len..];
        let bodiless = status < 200 || status == 204 || status == 304;
        let (body, taken, complete) = if bodiless || (head_only && status < 400) {
            (Vec::new(), 0, true)
        } else if value("transfer-encoding").is_some() {
            chunked(rest)
        } else if let Some(length) = value("content-length") {
            let length: usize = length.parse().expect("a length");
            let taken = length.min(rest.len());
            (rest[..taken].to_vec(), taken, taken == length)
        } else {
            (rest.to_vec(), rest.len(), true)
        };
        let problem = (kind == "application/problem+json")
            .then(|| serde_json::from_slice::<serde_json::Value>(&body).ok()?["code"].as_str().map(str::to_owned))
            .flatten();
        bytes = &bytes[len + taken..];
        if status >= 200 {
            found.push(Answer { status, code: problem, body, complete });
        }
    }
    found
}

/// Data, length on the wire, and whether the last chunk came.
fn chunked(wire: &[u8]) -> (Vec<u8>, usize, bool) {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = wire[at..].windows(2).position(|two| two == b"\r\n") else { return (data, wire.len(), false) };
        let size = str::from_utf8(&wire[at..at + line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a size of a chunk");
        at += line + 2;
        if size == 0 {
            return (data, (at + 2).min(wire.len()), true);
        }
        let Some(chunk) = wire.get(at..at + size) else { return (data, wire.len(), false) };
        data.extend_from_slice(chunk);
        at = (at + size + 2).min(wire.len());
    }
}
