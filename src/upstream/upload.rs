//! One request whose body comes as it goes, on a connection of its own.
//!
//! What is sent can neither be sent again nor taken back, so no idle connection is used that may have gone stale. The body is
//! chunked: dropped before [`Upload::end`], it lacks its end, and no server can take it for whole. The server may answer while it
//! reads, and is read while it is written to: else both sides could wait for each other.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, StatusCode, Version};
use pingora::{
    connectors::TransportConnector,
    http::{RequestHeader, ResponseHeader},
    protocols::{Stream, http::v1::client::http_req_header_to_wire},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    time::timeout,
};

use super::{
    Server, Upstream,
    exchange::{Answer, Failure, MAX_HEAD, MAX_INTERIM, READ},
    head::{Body, Part, framing, parse},
};

pub(crate) struct Upload {
    server: Arc<Server>,
    stream: Stream,
    method: Method,
    /// For the server to take something, and once it has all, to say something.
    within: Duration,
    /// Not taken yet: a frame is its length, its content and its end. Bounded by whoever waits for [`Upload::wants`].
    frames: VecDeque<Bytes>,
    /// Taken by the connection, not yet on its way.
    unflushed: bool,
    sending: Sending,
    received: BytesMut,
    interim: usize,
    /// None: the head has not come.
    body: Option<Body>,
    /// The answer is complete, and was told to be.
    told: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// More of the body is to come.
    Open,
    /// All of it is given.
    Ended,
    /// The server takes no more; what it answers is still to be heard.
    Refused,
}

/// What happened.
pub(crate) enum Event {
    /// The server has taken all that it was given.
    Taken,
    /// The head of its answer, and the length of what follows where it said that.
    Head(Box<ResponseHeader>, Option<u64>),
    Piece(Bytes),
    /// Its answer is complete.
    End,
}

/// What one look at the connection came to.
enum Progress {
    /// Some was sent, not all.
    Sent,
    Taken,
    Read(usize),
}

impl Upload {
    /// Connects, to the first server that can be; the head goes with the first of the body. `head` must say that it is chunked.
    pub(crate) async fn begin(
        connector: &TransportConnector,
        upstream: &Upstream,
        head: &RequestHeader,
        within: Duration,
    ) -> Result<Self, Failure> {
        let wire = http_req_header_to_wire(head);
        let wire = wire.ok_or_else(|| Failure::Broken("the request cannot be written as HTTP/1.1".into()))?;
        let mut unreachable = String::from("the upstream has no servers");
        let turn = upstream.take_turn();
        for server in (0..).map_while(|tried| upstream.server(turn, tried)) {
            match server.connect(connector).await {
                Ok(stream) => {
                    return Ok(Self {
                        server: Arc::clone(server),
                        stream,
                        method: head.method.clone(),
                        within,
                        frames: VecDeque::from([wire.freeze()]),
                        unflushed: false,
                        sending: Sending::Open,
                        received: BytesMut::new(),
                        interim: 0,
                        body: None,
                        told: false,
                    });
                }
                Err(why) => unreachable = why,
            }
        }
        Err(Failure::Unreachable(unreachable))
    }

    /// All was taken, and more is to come.
    pub(crate) fn wants(&self) -> bool {
        self.sending == Sending::Open && self.is_taken()
    }

    /// There is nothing left to send.
    pub(crate) fn is_over(&self) -> bool {
        self.sending != Sending::Open && self.is_taken()
    }

    fn is_taken(&self) -> bool {
        self.frames.is_empty() && !self.unflushed
    }

    /// The next of the body.
    pub(crate) fn send(&mut self, content: Bytes) {
        // An empty chunk would be the end.
        if self.sending == Sending::Open && !content.is_empty() {
            self.frames.push_back(format!("{:x}\r\n", content.len()).into());
            self.frames.push_back(content);
            self.frames.push_back(Bytes::from_static(b"\r\n"));
        }
    }

    /// The body is whole.
    pub(crate) fn end(&mut self) {
        if self.sending == Sending::Open {
            self.frames.push_back(Bytes::from_static(b"0\r\n\r\n"));
            self.sending = Sending::Ended;
        }
    }

    /// Sends and reads. While more of the body is to come and the server has nothing to take, it may be silent as long as it likes.
    /// Safe to drop while it waits.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        loop {
            if let Some(event) = self.heard()? {
                return Ok(event);
            }
            let waits = self.wants();
            let late = Failure::Timeout(if self.is_taken() {
                "the server does not answer"
            } else {
                "the server does not take the request"
            });
            let within = self.within;
            let progress = poll_fn(|cx| self.poll(cx));
            let progress = if waits { progress.await } else { timeout(within, progress).await.map_err(|_| late)? };
            match progress {
                Ok(Progress::Taken) => return Ok(Event::Taken),
                Ok(Progress::Sent) => {}
                Ok(Progress::Read(0)) => self.close()?,
                Ok(Progress::Read(_)) => {}
                Err(why) => return Err(Failure::Broken(format!("while the request is sent: {why}"))),
            }
        }
    }

    /// What stands in the received bytes.
    fn heard(&mut self) -> Result<Option<Event>, Failure> {
        let broken = |why: &str| Failure::Broken(why.to_owned());
        if self.told {
            return Ok(None);
        }
        if let Some(body) = &mut self.body {
            return Ok(match body.next(&mut self.received).map_err(broken)? {
                Part::Piece(piece) => Some(Event::Piece(piece)),
                Part::End => {
                    self.told = true;
                    Some(Event::End)
                }
                Part::Wanting => None,
            });
        }
        while let Some((mut head, len)) = parse(&self.received).map_err(Failure::Broken)? {
            let _ = self.received.split_to(len);
            if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Err(broken("too many interim responses"));
                }
                continue;
            }
            let (body, _) = framing(&head, &self.method).map_err(broken)?;
            let length = body.left();
            self.body = Some(body);
            head.set_version(Version::HTTP_11);
            if !head.status.is_success() {
                self.refused();
            }
            return Ok(Some(Event::Head(Box::new(head), length)));
        }
        if self.received.len() > MAX_HEAD {
            return Err(Failure::Broken(format!("a response head longer than {MAX_HEAD} bytes")));
        }
        Ok(None)
    }

    fn refused(&mut self) {
        if !(self.sending == Sending::Ended && self.is_taken()) {
            self.sending = Sending::Refused;
            self.frames.clear();
            self.unflushed = false;
        }
    }

    fn close(&mut self) -> Result<(), Failure> {
        match &mut self.body {
            Some(body) => body.close().map_err(|why| Failure::Broken(why.into())),
            None => Err(Failure::Broken("the server closed without an answer".into())),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Progress>> {
        if !self.is_taken() {
            let before = self.unsent();
            match self.poll_send(cx) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Progress::Taken)),
                // A server may answer and close before it has read all: its answer is the better news.
                Poll::Ready(Err(_)) => {
                    self.refused();
                    return Poll::Ready(Ok(Progress::Taken));
                }
                // The time that it has begins anew.
                Poll::Pending if self.unsent() < before => return Poll::Ready(Ok(Progress::Sent)),
                Poll::Pending => {}
            }
        }
        if self.told {
            return Poll::Pending;
        }
        self.received.reserve(READ);
        let read = pin!(self.stream.read_buf(&mut self.received)).poll(cx);
        read.map_ok(Progress::Read)
    }

    fn unsent(&self) -> usize {
        self.frames.iter().map(Bytes::len).sum()
    }

    /// Ready once all is on its way.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(frame) = self.frames.front_mut() {
            match Pin::new(&mut self.stream).poll_write(cx, frame) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => {
                    frame.advance(sent);
                    self.unflushed = true;
                }
                Poll::Ready(Err(why)) => return Poll::Ready(Err(why)),
                Poll::Pending => return Poll::Pending,
            }
            if frame.is_empty() {
                self.frames.pop_front();
            }
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.unflushed = false;
        }
        flushed
    }

    /// None of its answer is left.
    pub(crate) fn is_answered(&self) -> bool {
        self.told
    }

    /// What is left of an answer whose head has come. Its connection is not used again: it was opened for this request.
    pub(crate) fn into_answer(self) -> Option<Answer> {
        Some(Answer {
            head: ResponseHeader::build_no_case(StatusCode::OK, None).ok()?,
            server: self.server,
            stream: self.stream,
            buffer: self.received,
            body: self.body?,
            keep: false,
            timeout: self.within,
        })
    }
}
