//! One request to a server and its response: HTTP/1.1 over a pooled connection (RFC 9112).
//!
//! Head and body of a request leave in one write, where it is small.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use pingora::{
    connectors::TransportConnector,
    http::{RequestHeader, ResponseHeader},
    protocols::{Stream, http::v1::client::http_req_header_to_wire},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::{error::Elapsed, timeout},
};

use super::{
    Server, Upstream,
    head::{Body, Part, framing, parse},
};

/// A request with its whole body.
pub(crate) struct Call<'a> {
    pub(crate) connector: &'a TransportConnector,
    pub(crate) upstream: &'a Upstream,
    pub(crate) head: &'a RequestHeader,
    pub(crate) body: &'a [u8],
    /// To the response head, and between two reads of its body.
    pub(crate) timeout: Duration,
}

/// Why there is no answer. The text is for the log.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No server could be connected to.
    Unreachable(String),
    Timeout(&'static str),
    /// The server closed, or said what is no HTTP.
    Broken(String),
}

/// A response head, and a body to be read.
pub(crate) struct Answer {
    pub(crate) head: ResponseHeader,
    pub(super) server: Arc<Server>,
    pub(super) stream: Stream,
    pub(super) buffer: BytesMut,
    pub(super) body: Body,
    /// The server keeps the connection after this response.
    pub(super) keep: bool,
    pub(super) timeout: Duration,
}

/// A response head: as Pingora bounds it for its own sessions, and far more than any backend sends.
pub(super) const MAX_HEAD: usize = 256 * 1024;
/// Interim responses before the final one.
pub(crate) const MAX_INTERIM: usize = 16;
const FIRST_READ: usize = 8 * 1024;
pub(super) const READ: usize = 64 * 1024;
/// What the length of an answer makes room for at once, so that the answer is not moved as it grows.
const ROOM: usize = 1 << 20;
/// A body up to this leaves with its head.
const ONE_WRITE: usize = 64 * 1024;
/// The most of an answer that is held while its request is still being sent.
const MAX_EARLY: usize = 16 * 1024 * 1024;

impl Call<'_> {
    /// The response head. A connection that went stale is replaced once, where the request cannot have been acted upon
    /// twice: by a new one, for a request that kills its server must not go through all that are idle.
    pub(crate) async fn send(&self) -> Result<Answer, Failure> {
        let mut unreachable = String::from("the upstream has no servers");
        let turn = self.upstream.take_turn();
        for server in (0..).map_while(|tried| self.upstream.server(turn, tried)) {
            if let Some(stream) = server.idle().await {
                match self.on(stream, server).await {
                    Ok(answer) => return Ok(answer),
                    Err(attempt) if attempt.may_repeat(&self.head.method) => {}
                    Err(attempt) => return Err(attempt.failure),
                }
            }
            // Boxed: seldom run, and five times as large as all the rest, which is moved for every request.
            match Box::pin(server.connect(self.connector)).await {
                Ok(stream) => return self.on(stream, server).await.map_err(|attempt| attempt.failure),
                // Nothing was sent: the next server can take it.
                Err(why) => unreachable = why,
            }
        }
        Err(Failure::Unreachable(unreachable))
    }

    async fn on(&self, stream: Stream, server: &Arc<Server>) -> Result<Answer, Attempt> {
        on(stream, server, self.head, self.body, self.timeout).await
    }
}

/// One request with its whole body on this connection, and the head of its response.
pub(super) async fn on(
    mut stream: Stream,
    server: &Arc<Server>,
    request: &RequestHeader,
    body: &[u8],
    within: Duration,
) -> Result<Answer, Attempt> {
    let mut wire = http_req_header_to_wire(request)
        .ok_or_else(|| Attempt::before(Failure::Broken("the request cannot be written as HTTP/1.1".into())))?;
    let mut buffer = BytesMut::with_capacity(FIRST_READ);
    let (mut head, sent) = if body.len() <= ONE_WRITE {
        wire.extend_from_slice(body);
        let write = async {
            stream.write_all(&wire).await?;
            stream.flush().await
        };
        taken(timeout(within, write).await, body)?;
        (answered(timeout(within, read_head(&mut stream, &mut buffer)).await)?, true)
    } else {
        // Boxed: seldom run.
        Box::pin(duplex(&mut stream, &mut buffer, (&wire, body), within)).await?
    };
    let (framed, keep) = framing(&head, &request.method).map_err(|why| Attempt::after(Failure::Broken(why.into())))?;
    let keep = keep && sent;
    // What comes is written anew as ours; its own version told how it was framed.
    head.set_version(Version::HTTP_11);
    Ok(Answer { head, server: Arc::clone(server), stream, buffer, body: framed, keep, timeout: within })
}

/// A large body, while the server may be answering already: one that refuses it reads no further, and one that answers as it reads
/// is done with the one only when somebody takes the other. Also whether all was sent.
async fn duplex(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    (head, body): (&[u8], &[u8]),
    within: Duration,
) -> Result<(ResponseHeader, bool), Attempt> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut write = pin!(timeout(within, async {
        writer.write_all(head).await?;
        writer.write_all(body).await?;
        writer.flush().await
    }));
    let answer = tokio::select! {
        biased;
        answer = read_head(&mut reader, buffer) => answer?,
        written = &mut write => {
            taken(written, body)?;
            return Ok((answered(timeout(within, read_head(&mut reader, buffer)).await)?, true));
        }
    };
    // It wants no more of it.
    if !answer.status.is_success() {
        return Ok((answer, false));
    }
    loop {
        tokio::select! {
            biased;
            written = &mut write => return Ok((answer, matches!(written, Ok(Ok(()))))),
            read = reader.read_buf(buffer), if buffer.len() < MAX_EARLY => {
                if !matches!(read, Ok(1..)) {
                    return Ok((answer, false));
                }
            }
        }
    }
}

/// What writing a request came to.
fn taken(written: Result<io::Result<()>, Elapsed>, body: &[u8]) -> Result<(), Attempt> {
    match written {
        Ok(Ok(())) => Ok(()),
        // A server may answer and close before it has read all: its answer is then here, and is the better news.
        Ok(Err(_)) if !body.is_empty() => Ok(()),
        Ok(Err(why)) => Err(Attempt::silent(Failure::Broken(format!("while sending: {why}")))),
        Err(_) => Err(Attempt::after(Failure::Timeout("the server does not take the request"))),
    }
}

fn answered(head: Result<Result<ResponseHeader, Attempt>, Elapsed>) -> Result<ResponseHeader, Attempt> {
    head.unwrap_or_else(|_| Err(Attempt::after(Failure::Timeout("the server does not answer"))))
}

/// A failed attempt on a pooled connection.
pub(super) struct Attempt {
    failure: Failure,
    /// Not a byte came back.
    silent: bool,
    /// Not a byte went out.
    unsent: bool,
}

impl Attempt {
    fn before(failure: Failure) -> Self {
        Self { failure, silent: true, unsent: true }
    }
    fn silent(failure: Failure) -> Self {
        Self { failure, silent: true, unsent: false }
    }
    fn after(failure: Failure) -> Self {
        Self { failure, silent: false, unsent: false }
    }

    /// RFC 9110, section 9.2.2: a proxy must not repeat what is not idempotent once a server may have seen it. A payment
    /// that might be made twice is worse than a 502.
    fn may_repeat(&self, method: &Method) -> bool {
        self.unsent || (self.silent && method.is_idempotent())
    }
}

/// The final response head; interim ones are read away, since the client's own were answered by the gateway.
async fn read_head(stream: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Result<ResponseHeader, Attempt> {
    let broken = |why: String| Attempt::after(Failure::Broken(why));
    let mut interim = 0;
    loop {
        if let Some((head, len)) = parse(buffer).map_err(broken)? {
            let _ = buffer.split_to(len);
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(head);
            }
            interim += 1;
            if interim > MAX_INTERIM {
                return Err(broken("too many interim responses".into()));
            }
            continue;
        }
        if buffer.len() > MAX_HEAD {
            return Err(broken(format!("a response head longer than {MAX_HEAD} bytes")));
        }
        buffer.reserve(FIRST_READ);
        let failure = match stream.read_buf(buffer).await {
            Ok(0) => Failure::Broken("the server closed without an answer".into()),
            Ok(_) => continue,
            Err(why) => Failure::Broken(format!("while waiting for an answer: {why}")),
        };
        return Err(if buffer.is_empty() && interim == 0 { Attempt::silent(failure) } else { Attempt::after(failure) });
    }
}

impl Answer {
    /// The length of the body, where the server said it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.left()
    }

    /// The next piece of the body; None at its end. Safe to drop while it waits.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        let broken = |why: &str| Failure::Broken(why.into());
        loop {
            match self.body.next(&mut self.buffer).map_err(broken)? {
                Part::Piece(piece) => return Ok(Some(piece)),
                Part::End => return Ok(None),
                Part::Wanting => {}
            }
            if self.fill().await? == 0 {
                self.body.close().map_err(broken)?;
                return Ok(None);
            }
        }
    }

    async fn fill(&mut self) -> Result<usize, Failure> {
        let want = match self.body {
            // Small answers need no large buffer.
            Body::Length(left) => usize::try_from(left).unwrap_or(READ).clamp(1, READ),
            _ => READ,
        };
        self.buffer.reserve(want);
        match timeout(self.timeout, self.stream.read_buf(&mut self.buffer)).await {
            Ok(Ok(read)) => Ok(read),
            Ok(Err(why)) => Err(Failure::Broken(format!("within the answer: {why}"))),
            Err(_) => Err(Failure::Timeout("the server stopped within its answer")),
        }
    }

    /// The whole body, at most `max` bytes of it.
    pub(crate) async fn read_whole(&mut self, max: u64) -> Result<Bytes, Failure> {
        let whole = self.read_up_to(max).await?;
        whole.ok_or_else(|| Failure::Broken(format!("the answer is larger than {max} bytes")))
    }

    /// None: it is larger.
    pub(crate) async fn read_up_to(&mut self, max: u64) -> Result<Option<Bytes>, Failure> {
        if self.length().is_some_and(|length| length > max) {
            return Ok(None);
        }
        let Some(first) = self.read().await? else { return Ok(Some(Bytes::new())) };
        let Some(second) = self.read().await? else { return Ok((first.len() as u64 <= max).then_some(first)) };
        let left = self.length().and_then(|left| usize::try_from(left).ok()).unwrap_or(0).min(ROOM);
        let mut whole = BytesMut::with_capacity(first.len() + second.len() + left);
        whole.extend_from_slice(&first);
        let mut piece = Some(second);
        while let Some(bytes) = piece {
            if (whole.len() + bytes.len()) as u64 > max {
                return Ok(None);
            }
            whole.extend_from_slice(&bytes);
            piece = self.read().await?;
        }
        Ok(Some(whole.freeze()))
    }

    /// The connection itself, and what was read from it behind the head: a tunnel.
    pub(crate) fn into_tunnel(self) -> (Stream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Gives the connection back where another request may follow.
    pub(crate) fn finish(self) {
        if self.keep && matches!(self.body, Body::Done) && self.buffer.is_empty() {
            self.server.put(self.stream);
        }
    }
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        attempt.failure
    }
}
