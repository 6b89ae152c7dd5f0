//! Messages that are opened and sealed record by record (`stream = true`), each end driven by the adapter.
//!
//! Whole messages are judged once, before anything goes on. Here the first record vouches for key, caller and request, and so age and
//! replay are judged after it; from then on what goes on is authentic, yet whether it is all shows at the end alone. So whatever fails
//! later must break the exchange off, on both sides, in a way that nobody takes for an end.

use std::{fmt, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::model::Profile;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};

use super::{
    Encryption, Sealing, caller,
    context::Bound,
    fields, outer,
    profiles::{Opened, aes128gcm},
    response::{Due, How, lost},
    strong::{Failure, Message},
};
use crate::{
    contract::{Code, Exchange, Now, Principal, Refusal},
    crypto::aes128gcm::{Header, Opener, Writer},
};

/// Of responses. A pause ends a record early, which costs what is left of it in padding.
const RECORD: u32 = 16 * 1024;
/// Of event streams, which pause after every event.
const EVENT_RECORD: u32 = 1024;
/// How long content waits for more, so that a slow upstream does not make each of its bytes a record.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why a message was broken off after its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aborted {
    /// A record did not open, or bytes stood behind the last.
    Record,
    /// The request ended without a last record that opens.
    Truncated,
    /// More than `max_body`.
    TooLarge,
    /// The client stopped sending.
    Late,
    /// The framing of the request broke.
    Malformed,
    /// The client left.
    Client,
    /// The upstream broke off its response.
    Upstream,
}

impl Aborted {
    pub const ALL: [Self; 7] =
        [Self::Record, Self::Truncated, Self::TooLarge, Self::Late, Self::Malformed, Self::Client, Self::Upstream];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Late => "late",
            Self::Malformed => "malformed",
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

impl Encryption {
    /// Bodies are not read whole.
    pub fn streams(&self) -> bool {
        self.stream
    }

    /// A message was accepted, and did not come to its end.
    pub fn aborted(&self, why: Aborted) {
        self.results.aborted(why);
    }

    /// The head of a request with a body.
    pub(super) fn refuse_uncoded(&self, head: &request::Parts) -> Result<(), Refusal> {
        if fields::is_coded_as(&head.headers, &outer::AES128GCM) {
            return Ok(());
        }
        self.results.not_envelope.inc();
        let detail = "A body on this route must have the content encoding aes128gcm, and no other.";
        Err(Refusal::new(Code::ContentTypeUnsupported, detail).header(header::ACCEPT_ENCODING, outer::AES128GCM))
    }

    /// A request that turned out to have no body: its message stands in the head.
    pub async fn without_body(&self, head: &mut request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        let header = outer::header(&head.headers).map_err(|why| self.not_envelope(why))?;
        let (name, message) =
            header.ok_or_else(|| self.not_envelope("a request without a body has no X-Gapura-Envelope"))?;
        let profile = self.accepted.of_header(name, message.as_bytes());
        let why = "X-Gapura-Envelope names a profile that has no such message here";
        let profile = profile.ok_or_else(|| self.not_envelope(why))?;
        let message = Message::of_header(message);
        let bound = Bound::new(head, exchange, caller(exchange)?);
        let opened = self.open_strong(profile, message, bound, exchange.now).await?;
        self.unwrap_into(opened, head, &mut Bytes::new(), exchange)
    }

    /// A request that has a body, of which nothing has been read yet.
    pub fn incoming(self: &Arc<Self>, head: &request::Parts, exchange: &Exchange) -> Result<Incoming, Refusal> {
        if outer::header(&head.headers).map_err(|why| self.not_envelope(why))?.is_some() {
            return Err(self.not_envelope("a request with both a body and X-Gapura-Envelope"));
        }
        self.refuse_uncoded(head)?;
        let principal = caller(exchange)?;
        Ok(Incoming {
            entry: Arc::clone(self),
            content_type: fields::content_type(&head.headers).to_owned(),
            state: State::Header(Vec::new(), Bound::new(head, exchange, Arc::clone(&principal)).into()),
            principal,
            left: u64::MAX,
            accepted: false,
        })
    }
}

/// The message of a request, as it comes.
pub struct Incoming {
    entry: Arc<Encryption>,
    principal: Arc<Principal>,
    content_type: String,
    state: State,
    /// Of the body, what may come at most.
    left: u64,
    accepted: bool,
}

enum State {
    /// Bytes of a header that is not complete: a few hundred at most.
    Header(Vec<u8>, Box<Bound>),
    Records(Box<Reading>),
    /// It has failed.
    Over,
}

struct Reading {
    opener: Opener,
    iat: u64,
    /// Until the message is accepted.
    reply: Option<aes128gcm::Reply>,
}

impl Incoming {
    /// How long the body is, or may be.
    pub fn at_most(mut self, bytes: u64) -> Self {
        self.left = bytes;
        self
    }

    /// Takes any piece of the body. What this refuses must go no further, nor anything that came before.
    pub fn push(&mut self, piece: &[u8], now: Now) -> Result<(), Refusal> {
        self.take_in(piece, now).map_err(|why| self.refuse(why, Aborted::Record))
    }

    fn take_in(&mut self, piece: &[u8], now: Now) -> Result<(), Failure> {
        const SPOILED: Failure = Failure("a record is not for this key and place");
        let start = match &mut self.state {
            State::Records(reading) => return reading.opener.push(piece).map_err(|_| SPOILED),
            State::Over => return Err(Failure("the message has failed before")),
            State::Header(start, _) => start,
        };
        start.extend_from_slice(piece);
        let header = Header::read(start).map_err(|_| Failure("the header of the message cannot be read"))?;
        if header.is_none() {
            return Ok(());
        }
        let State::Header(start, bound) = mem::replace(&mut self.state, State::Over) else { return Err(SPOILED) };
        let header = Header::read(&start).ok().flatten().ok_or(SPOILED)?;
        let (input_key, iat, reply) = self.entry.keyed(&header, &self.content_type, *bound, now)?;
        let left = self.left.saturating_sub(header.end() as u64);
        let mut opener = Opener::new(&header, &input_key[..]).at_most(left);
        opener.push(&start[header.end()..]).map_err(|_| SPOILED)?;
        self.state = State::Records(Box::new(Reading { opener, iat, reply: Some(reply) }));
        Ok(())
    }

    /// A record has opened: the message is its caller's, and for this request.
    pub fn is_authentic(&self) -> bool {
        matches!(&self.state, State::Records(reading) if reading.opener.is_authentic())
    }

    /// Its last record has opened: nothing may follow.
    pub fn is_last(&self) -> bool {
        matches!(&self.state, State::Records(reading) if reading.opener.is_last())
    }

    /// The content of the records that have opened since the last call.
    pub fn take(&mut self) -> Bytes {
        match &mut self.state {
            State::Records(reading) => reading.opener.take(),
            _ => Bytes::new(),
        }
    }

    /// The body has ended.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        let finished = match &mut self.state {
            State::Records(reading) => reading.opener.finish().is_ok(),
            _ => false,
        };
        if finished { Ok(()) } else { Err(self.refuse(Failure("the message has no last record"), Aborted::Truncated)) }
    }

    /// One text, whatever it was and whenever it happened.
    fn refuse(&mut self, Failure(why): Failure, aborted: Aborted) -> Refusal {
        self.state = State::Over;
        if !self.accepted {
            return self.entry.failed(why);
        }
        self.entry.aborted(aborted);
        Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened.").reason(why)
    }

    /// Once a record has opened: what is left to ask of the message, and the head of its content. `content` is what opened so far;
    /// where the message has ended and has none, there is no type of it either. `exchange.now` is the present.
    pub async fn accept(
        &mut self,
        content: &[u8],
        head: &mut request::Parts,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        let empty = self.is_last() && content.is_empty();
        let (iat, reply) = match &mut self.state {
            State::Records(reading) if reading.opener.is_authentic() => {
                (reading.iat, reading.reply.take().ok_or_else(lost)?)
            }
            _ => return Err(lost()),
        };
        if !empty && self.content_type.is_empty() {
            return Err(self.refuse(Failure("the message does not say what its content is"), Aborted::Record));
        }
        if !empty {
            self.entry.check_type(&self.content_type)?;
        }
        let opened = Opened {
            plaintext: Bytes::new(),
            content_type: if empty { String::new() } else { self.content_type.clone() },
            iat: Some(iat),
            unique: reply.request_id().0.to_vec(),
            sealing: How::Aes128Gcm(reply),
        };
        self.entry.accept(Profile::Aes128Gcm, &self.principal, &opened, exchange.now).await?;
        self.accepted = true;
        self.entry.unwrap_into(opened, head, &mut Bytes::new(), exchange)
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming(…)")
    }
}

/// The message of a response, as it goes.
pub struct Outgoing {
    writer: Writer,
    patience: Duration,
}

impl Encryption {
    /// The response to a request that was accepted. `length` is that of its body, where the upstream said it. None: it goes without a
    /// body, and the head says so.
    pub fn outgoing(
        &self,
        head: &mut response::Parts,
        length: Option<u64>,
        exchange: &Exchange,
    ) -> Result<Option<Outgoing>, Refusal> {
        let Some(Sealing(Some(Due { how: How::Aes128Gcm(reply), length_only }))) = &exchange.sealing else {
            return Err(lost());
        };
        let coded = fields::is_coded(&head.headers);
        fields::clean_response(&mut head.headers);
        if *length_only || is_bodiless(head.status) {
            return Ok(None);
        }
        if length == Some(0) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            return Ok(None);
        }
        if coded {
            let detail = "The service behind the gateway gave no usable answer.";
            return Err(
                Refusal::new(Code::UpstreamUnavailable, detail).reason("a streamed answer has a content coding")
            );
        }
        let events = is_events(&head.headers);
        let content_type = fields::content_type(&head.headers);
        let record = if events { EVENT_RECORD } else { RECORD };
        let writer = reply.writer(record, content_type, head.status, exchange.now);
        head.headers.insert(CONTENT_ENCODING, outer::AES128GCM);
        Ok(Some(Outgoing { writer, patience: if events { Duration::ZERO } else { PATIENCE } }))
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn is_events(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_TYPE) && fields::is_media_type(headers, "text/event-stream")
}

impl Outgoing {
    /// What is sealed and to be sent; empty where the content fills no record yet.
    pub fn push(&mut self, content: &[u8]) -> Bytes {
        self.writer.push(content);
        self.writer.take()
    }

    /// Content waits for more.
    pub fn waits(&self) -> bool {
        self.writer.is_open()
    }

    /// How long it may.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// It has waited long enough.
    pub fn flush(&mut self) -> Bytes {
        self.writer.flush();
        self.writer.take()
    }

    /// The response is complete. One that is not must never get this: without it its client knows.
    pub fn finish(self) -> Bytes {
        self.writer.finish()
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing(…)")
    }
}
