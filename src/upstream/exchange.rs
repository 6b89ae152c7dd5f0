//! One request to a server and its response: HTTP/1.1 over a pooled connection (RFC 9112).
//!
//! Head and body of a request leave in one write. A response is framed strictly: where its length could be read in two ways
//! it is no response, for what followed it would be taken for the answer to somebody else.

use std::{mem::MaybeUninit, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, Version, header};
use pingora::{
    connectors::TransportConnector,
    http::{RequestHeader, ResponseHeader},
    protocols::{Stream, http::v1::client::http_req_header_to_wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{Server, Upstream};
use crate::http1::Chunks;

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
    server: Arc<Server>,
    stream: Stream,
    buffer: BytesMut,
    body: Body,
    /// The server keeps the connection after this response.
    keep: bool,
    timeout: Duration,
}

enum Body {
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Done,
}

/// A response head: as Pingora bounds it for its own sessions, and far more than any backend sends.
const MAX_HEAD: usize = 256 * 1024;
const MAX_FIELDS: usize = 256;
/// Interim responses before the final one.
const MAX_INTERIM: usize = 16;
const FIRST_READ: usize = 8 * 1024;
const READ: usize = 64 * 1024;
/// A body up to this leaves with its head.
const ONE_WRITE: usize = 64 * 1024;

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
    let together = body.len() <= ONE_WRITE;
    if together {
        wire.extend_from_slice(body);
    }
    let write = async {
        stream.write_all(&wire).await?;
        if !together {
            stream.write_all(body).await?;
        }
        stream.flush().await
    };
    match timeout(within, write).await {
        Ok(Ok(())) => {}
        // A server may answer and close before it has read all: its answer is then here, and is the better news.
        Ok(Err(_)) if !body.is_empty() => {}
        Ok(Err(why)) => return Err(Attempt::silent(Failure::Broken(format!("while sending: {why}")))),
        Err(_) => return Err(Attempt::after(Failure::Timeout("the server does not take the request"))),
    }
    let mut buffer = BytesMut::with_capacity(FIRST_READ);
    let head = match timeout(within, read_head(&mut stream, &mut buffer)).await {
        Ok(head) => head?,
        Err(_) => return Err(Attempt::after(Failure::Timeout("the server does not answer"))),
    };
    let (framed, keep) = framing(&head, &request.method).map_err(|why| Attempt::after(Failure::Broken(why.into())))?;
    Ok(Answer { head, server: Arc::clone(server), stream, buffer, body: framed, keep, timeout: within })
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
async fn read_head(stream: &mut Stream, buffer: &mut BytesMut) -> Result<ResponseHeader, Attempt> {
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

/// A complete head and its length. None: more bytes are needed.
fn parse(buffer: &[u8]) -> Result<Option<(ResponseHeader, usize)>, String> {
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let len = match parser.parse_response_with_uninit_headers(&mut response, buffer, &mut fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        // The bytes may hold a secret; the error does not.
        Err(why) => return Err(format!("the answer is no HTTP/1: {why}")),
    };
    let unfit = |_| "the answer has a field that is none".to_owned();
    let mut head =
        ResponseHeader::build(response.code.unwrap_or_default(), Some(response.headers.len())).map_err(unfit)?;
    head.set_version(if response.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 });
    for field in response.headers.iter() {
        head.append_header(field.name.to_owned(), field.value).map_err(unfit)?;
    }
    Ok(Some((head, len)))
}

/// RFC 9112, section 6.3, without its leniences. Whether the connection lives on stands beside.
fn framing(head: &ResponseHeader, method: &Method) -> Result<(Body, bool), &'static str> {
    let says = |word: &str| {
        let values = head.headers.get_all(header::CONNECTION).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    let keep = if head.version == Version::HTTP_10 { says("keep-alive") } else { !says("close") };
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let (length, coding) = (lengths.next(), codings.next());
    if lengths.next().is_some() || codings.next().is_some() {
        return Err("the answer has two lengths");
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok((Body::UntilClose, false));
    }
    if *method == Method::HEAD || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok((Body::Done, keep));
    }
    match (length, coding) {
        (Some(_), Some(_)) => Err("the answer has both Content-Length and Transfer-Encoding"),
        (None, Some(coding)) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok((Body::Chunked(Chunks::default()), keep))
        }
        (None, Some(_)) => Err("the answer has a Transfer-Encoding other than chunked"),
        (Some(length), None) => {
            let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            match digits.and_then(|digits| digits.parse().ok()) {
                Some(0) => Ok((Body::Done, keep)),
                Some(length) => Ok((Body::Length(length), keep)),
                None => Err("the answer has a Content-Length that is no number"),
            }
        }
        (None, None) => Ok((Body::UntilClose, false)),
    }
}

impl Answer {
    /// The length of the body, where the server said it.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.body {
            Body::Length(left) => Some(left),
            Body::Done => Some(0),
            Body::Chunked(_) | Body::UntilClose => None,
        }
    }

    /// The next piece of the body; None at its end. Safe to drop while it waits.
    pub(crate) async fn read(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match &mut self.body {
                Body::Done => return Ok(None),
                Body::Length(left) if !self.buffer.is_empty() => {
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                    *left -= take as u64;
                    if *left == 0 {
                        self.body = Body::Done;
                    }
                    return Ok(Some(self.buffer.split_to(take).freeze()));
                }
                Body::UntilClose if !self.buffer.is_empty() => return Ok(Some(self.buffer.split().freeze())),
                Body::Chunked(chunks) if !self.buffer.is_empty() => {
                    match chunks.decode(&mut self.buffer).map_err(|why| Failure::Broken(why.into()))? {
                        Some(data) => return Ok(Some(data)),
                        None if chunks.is_done() => {
                            self.body = Body::Done;
                            return Ok(None);
                        }
                        None => {}
                    }
                }
                Body::Length(_) | Body::UntilClose | Body::Chunked(_) => {}
            }
            if self.fill().await? == 0 {
                return match self.body {
                    Body::UntilClose => {
                        self.body = Body::Done;
                        Ok(None)
                    }
                    _ => Err(Failure::Broken("the server closed within its answer".into())),
                };
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
        let too_large = || Failure::Broken(format!("the answer is larger than {max} bytes"));
        if self.length().is_some_and(|length| length > max) {
            return Err(too_large());
        }
        let Some(first) = self.read().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.read().await? else {
            return if first.len() as u64 > max { Err(too_large()) } else { Ok(first) };
        };
        let mut whole = BytesMut::from(first);
        let mut piece = Some(second);
        while let Some(bytes) = piece {
            if (whole.len() + bytes.len()) as u64 > max {
                return Err(too_large());
            }
            whole.extend_from_slice(&bytes);
            piece = self.read().await?;
        }
        Ok(whole.freeze())
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

/// Whether the length of a response can be read in one way only.
pub(crate) fn check_framing(head: &ResponseHeader, method: &Method) -> Result<(), &'static str> {
    framing(head, method).map(drop)
}

impl From<Attempt> for Failure {
    fn from(attempt: Attempt) -> Self {
        attempt.failure
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use http::{HeaderMap, Method};

    /// How long a response is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Body {
        Length(u64),
        Chunked,
        UntilClose,
        Done,
    }

    /// The length, status and fields of a response head, and its framing where that is clear. None: more bytes are needed.
    #[allow(clippy::type_complexity)]
    pub fn response_head(
        bytes: &[u8],
        method: &Method,
    ) -> Result<Option<(usize, u16, HeaderMap, Result<(Body, bool), &'static str>)>, String> {
        let Some((head, len)) = super::parse(bytes)? else { return Ok(None) };
        let framed = super::framing(&head, method).map(|(body, keep)| {
            let body = match body {
                super::Body::Length(length) => Body::Length(length),
                super::Body::Chunked(_) => Body::Chunked,
                super::Body::UntilClose => Body::UntilClose,
                super::Body::Done => Body::Done,
            };
            (body, keep)
        });
        Ok(Some((len, head.status.as_u16(), head.headers.clone(), framed)))
    }
}
