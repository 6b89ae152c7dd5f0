//! *Whole*: the request is complete before any upstream is contacted, and the gateway itself talks to it.
//!
//! Where a filter sees bodies the response is complete, too, before the client gets its first byte, so that every failure is
//! a clean problem and every length exact. Elsewhere the response streams.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use gapura_filters::{
    authentication::Tenures,
    contract::{Clock, Code, Refusal},
    policy::Route,
};
use http::{
    HeaderValue, Method, StatusCode, Version,
    header::{self, CONTENT_LENGTH},
};
use pingora::{
    ErrorType,
    http::{RequestHeader, ResponseHeader},
    protocols::http::ServerSession,
};

use super::{
    admit, answer, coding,
    context::Context,
    lasting,
    tunnel::{self, Tunnel},
};
use crate::{
    upstream::{Answer, Call, Failure},
    wiring::Gateway,
};

/// What could be asked for is `identity`; a coding that comes all the same is removed.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// Why an exchange did not end with a whole response.
pub(super) enum Broken {
    /// Tell the client.
    Refused(Refusal),
    /// The client is gone, or its response has begun: only the connection can still say so.
    Cut,
}

impl From<Refusal> for Broken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A write to the client failed.
impl From<Box<pingora::Error>> for Broken {
    fn from(_: Box<pingora::Error>) -> Self {
        Self::Cut
    }
}

/// The request body, empty where there is none. `pause` is the longest between two pieces.
pub(super) async fn read_body(session: &mut ServerSession, max: u64, pause: Duration) -> Result<Bytes, Broken> {
    // Of HTTP/2 the end itself is waited for: a declared length of 0 may be a lie that only what follows shows.
    if !session.is_http2() && session.is_body_done() {
        return Ok(Bytes::new());
    }
    invite(session).await?;
    let Some(first) = read_piece(session, pause).await? else { return Ok(Bytes::new()) };
    let Some(second) = read_piece(session, pause).await? else {
        return if first.len() as u64 > max { Err(admit::too_large(max).into()) } else { Ok(first) };
    };
    // Never more than `max` is held, whatever was declared; and a declaration alone makes room for no more than a megabyte.
    let declared = declared_length(session).unwrap_or(0).min(max).min(ROOM) as usize;
    let mut body = BytesMut::with_capacity(declared.max(first.len() + second.len()));
    body.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        if (body.len() + bytes.len()) as u64 > max {
            return Err(admit::too_large(max).into());
        }
        body.extend_from_slice(&bytes);
        piece = read_piece(session, pause).await?;
    }
    Ok(body.freeze())
}

/// What a declared length makes room for at once, so that a body is not moved as it grows.
const ROOM: u64 = 1 << 20;

pub(super) fn declared_length(session: &ServerSession) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Tells a client that waits for leave to send its body.
pub(super) async fn invite(session: &mut ServerSession) -> Result<(), Broken> {
    if admit::expects_continue(session.req_header()) {
        // Else Pingora takes the answer for one to a request that was not read, and closes after it.
        session.set_close_on_response_before_downstream_finish(false);
        session.write_continue_response().await?;
        session.set_close_on_response_before_downstream_finish(true);
    }
    Ok(())
}

/// Safe to drop while it waits.
pub(super) async fn read_piece(session: &mut ServerSession, pause: Duration) -> Result<Option<Bytes>, Broken> {
    // Pingora's own read timeout does not hold for HTTP/2.
    match tokio::time::timeout(pause, session.read_request_body()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(why)) => Err(unread(&why, session.is_http2()).map_or(Broken::Cut, Broken::Refused)),
        Err(_) => Err(late().into()),
    }
}

fn late() -> Refusal {
    Refusal::new(Code::RequestTimeout, "The request body took too long to arrive.")
}

/// The refusal for a request body that could not be read; None where the client is gone. The h2 library answers what breaks
/// the rules of HTTP/2 itself, so that what reaches us is a stream which is over.
pub(super) fn unread(why: &pingora::Error, http2: bool) -> Option<Refusal> {
    match why.etype() {
        ErrorType::ReadTimedout => Some(late()),
        ErrorType::ConnectionClosed => None,
        _ if http2 => None,
        _ => Some(Refusal::new(Code::RequestMalformed, "The request body does not follow HTTP.")),
    }
}

/// The whole exchange with the upstream, for a request that filters agreed to. What is left to do is a tunnel.
pub(super) async fn exchange(
    gateway: &Gateway,
    session: &mut ServerSession,
    context: &mut Context,
    mut body: Bytes,
    seen: bool,
) -> Result<Option<Tunnel>, Broken> {
    let live = Arc::clone(&context.live);
    let Some(route) = context.route.map(|index| live.policy.route(index)) else { return Err(Broken::Cut) };
    let mut head = session.req_header().clone();
    let tunnel = !seen && session.is_upgrade_req();
    let had_body = head.headers.contains_key(CONTENT_LENGTH) || head.headers.contains_key(header::TRANSFER_ENCODING);
    if seen {
        let mut parts = head.as_owned_parts();
        route.chain.on_request_body(&gateway.clock, &mut parts, &mut body, &mut context.exchange).await?;
        head = RequestHeader::from(parts);
    }
    route.chain.on_forward(&gateway.clock, &head, &mut context.exchange).await?;
    let sealed = context.exchange.sealing.as_ref().is_some_and(|sealing| sealing.is_due());
    let looked_at = sealed || context.exchange.reads_response;
    // HTTP/2 may send a body of any length without saying so.
    let length = (had_body || !body.is_empty()).then_some(body.len());
    prepare(&mut head, context, length, looked_at);
    if tunnel {
        tunnel::ask(&mut head);
    }
    let Some(upstream) = live.upstreams.get(&route.upstream) else {
        return Err(Refusal::new(Code::Internal, "The request cannot be served.").reason("no such upstream").into());
    };
    let pingora = gateway.pingora();
    let call = Call { connector: &pingora.connector, upstream, head: &head, body: &body, timeout: route.timeout };
    let sent = gateway.clock.now();
    // A filter that noted that it will leave the response alone need not see it.
    let whole = seen && (looked_at || context.exchange.sealing.is_none());
    if whole {
        let answered = tokio::time::timeout(route.timeout, async {
            let mut answer = call.send().await?;
            upstream.seconds.observe((gateway.clock.now().monotonic - sent.monotonic).as_secs_f64());
            refuse_unsealable(&answer, looked_at)?;
            let body = answer.read_whole(route.max_response).await?;
            Ok::<_, Failure>((answer, body))
        });
        let late = Failure::Timeout("the exchange takes too long");
        let (answer, body) = unless_left(session, async { answered.await.unwrap_or(Err(late)) }).await?;
        let head = answer.head.clone();
        answer.finish();
        return seal(gateway, session, context, route, (head, body)).await.map(|()| None);
    }
    let mut answer = unless_left(session, call.send()).await?;
    upstream.seconds.observe((gateway.clock.now().monotonic - sent.monotonic).as_secs_f64());
    if tunnel {
        session.set_keepalive(None);
    }
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        if tunnel {
            return tunnel::agree(session, context, answer).await.map(Some);
        }
        return Err(refusal(Failure::Broken("the server switches protocols, which nobody asked for".into())).into());
    }
    stream(session, context, &mut answer).await?;
    answer.finish();
    Ok(None)
}

/// The request head as the upstream gets it, framed for a body that is complete.
pub(super) fn prepare(head: &mut RequestHeader, context: &Context, length: Option<usize>, looked_at: bool) {
    context.edit(head);
    head.remove_header(&header::TRANSFER_ENCODING);
    head.remove_header(&header::EXPECT);
    head.remove_header(&header::UPGRADE);
    if let Some(length) = length {
        let _ = head.insert_header(CONTENT_LENGTH, length);
    }
    if looked_at {
        let _ = head.insert_header(header::ACCEPT_ENCODING, IDENTITY);
    }
    head.set_version(Version::HTTP_11);
}

/// What has no end, or is no body, cannot be sealed whole.
fn refuse_unsealable(answer: &Answer, sealed: bool) -> Result<(), Failure> {
    if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Broken("the server switches protocols on a route whose bodies are read".into()));
    }
    if sealed && is_events(&answer.head) {
        return Err(Failure::Broken("a stream of events cannot be sealed whole".into()));
    }
    Ok(())
}

pub(super) fn is_events(head: &ResponseHeader) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A response that filters see: decoded, sealed, of exact length.
async fn seal(
    gateway: &Gateway,
    session: &mut ServerSession,
    context: &mut Context,
    route: &Route,
    (mut head, mut body): (ResponseHeader, Bytes),
) -> Result<(), Broken> {
    answer::drop_hop_by_hop(&mut head);
    let sealed = context.exchange.sealing.as_ref().is_some_and(|sealing| sealing.is_due());
    if sealed && !body.is_empty() {
        body = coding::decode(&head.headers, body, route.max_response).map_err(|why| refusal(Failure::Broken(why)))?;
    }
    let mut parts = head.as_owned_parts();
    let described = parts.headers.get(CONTENT_LENGTH).cloned();
    route.chain.on_response_body(&gateway.clock, &mut parts, &mut body, &mut context.exchange).await?;
    let mut head = ResponseHeader::from(parts);
    // Of HEAD and 304 the length that stands is that of a body which is not sent.
    let bodiless = context.method == Method::HEAD || is_bodiless(head.status);
    if is_bodiless(head.status) {
        answer::drop_length(&mut head);
    } else if !bodiless {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    } else if !sealed && let Some(length) = described {
        head.insert_header(CONTENT_LENGTH, length)?;
    }
    answer::finish(session, &mut head, context);
    let ends = bodiless || body.is_empty();
    answer::write_head(session, head, ends).await?;
    // In pieces: the time that a client has to take one is the time that it has for a write.
    while !ends && !body.is_empty() {
        let piece = body.split_to(body.len().min(PIECE));
        session.write_response_body(piece, body.is_empty()).await?;
    }
    Ok(())
}

const PIECE: usize = 64 * 1024;

/// A response that no filter sees passes piece by piece.
async fn stream(session: &mut ServerSession, context: &mut Context, answer: &mut Answer) -> Result<(), Broken> {
    let mut head = std::mem::replace(&mut answer.head, ResponseHeader::build_no_case(200, None)?);
    answer::drop_hop_by_hop(&mut head);
    answer::drop_length(&mut head);
    answer::finish(session, &mut head, context);
    let ends = answer.length() == Some(0);
    let early = if ends { None } else { poll_once(answer).await.transpose().map_err(refusal)? };
    if !ends && answer.length().is_none() {
        match session.req_header().version {
            Version::HTTP_11 => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
            // HTTP/1.0 knows no end but that of the connection.
            Version::HTTP_10 => session.set_keepalive(None),
            _ => {}
        }
    }
    // A download that has begun may end; events without an end are a socket.
    let events = is_events(&head);
    let tenures = if events { std::mem::take(&mut context.exchange.tenures) } else { Tenures::default() };
    let mut ended = pin!(lasting::until_ended(Arc::clone(&context.gateway), tenures));
    answer::write_head(session, head, ends).await?;
    let mut next = match early {
        Some(piece) => piece,
        None => next_piece(session, answer).await?,
    };
    while let Some(piece) = next {
        // Of HTTP/2 the end goes with the last piece, not in a frame of its own.
        let last = answer.length() == Some(0);
        session.write_response_body(piece, last).await?;
        if last {
            return Ok(());
        }
        next = tokio::select! {
            biased;
            why = &mut ended => {
                context.end("events", why);
                // Of a length that is known the rest is missing; else what was said is whole, and its reader comes again.
                if answer.length().is_some() {
                    return Err(Broken::Cut);
                }
                None
            }
            piece = next_piece(session, answer) => piece?,
        };
    }
    if !ends {
        session.write_response_body(Bytes::new(), true).await?;
    }
    Ok(())
}

/// An answer, unless the client leaves before it comes: then nobody waits for the upstream, and its connection is closed.
/// A client that opens streams only to reset them would otherwise hold a connection for each.
pub(super) async fn unless_left<T>(
    session: &mut ServerSession,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Broken> {
    while_there(session, work).await?.map_err(|failure| Broken::Refused(refusal(failure)))
}

/// The request has been read whole: what comes now is the end of the connection, or the next request, or what is meant for the
/// tunnel that was asked for. The connection keeps it.
pub(super) async fn while_there<T>(session: &mut ServerSession, work: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = session.read_body_or_idle(true) => Err(Broken::Cut),
    }
}

/// What of the body came with the head, if it did. A body that is broken off by then still makes a clean 502.
async fn poll_once(answer: &mut Answer) -> Option<Result<Option<Bytes>, Failure>> {
    let mut read = std::pin::pin!(answer.read());
    std::future::poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Ready(piece) => Poll::Ready(Some(piece)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The upstream's next piece, unless the client leaves before it comes.
async fn next_piece(session: &mut ServerSession, answer: &mut Answer) -> Result<Option<Bytes>, Broken> {
    tokio::select! {
        biased;
        piece = answer.read() => piece.map_err(|failure| {
            log::warn!("a response broke off: {}", describe(&failure));
            Broken::Cut
        }),
        // Also sends the head, which waits for company.
        _ = session.read_body_or_idle(true) => Err(Broken::Cut),
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn describe(failure: &Failure) -> &str {
    match failure {
        Failure::Unreachable(why) | Failure::Broken(why) => why,
        Failure::Timeout(why) => why,
    }
}

/// The client learns that something is wrong behind the gateway; what, only the log.
pub(super) fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::Timeout(why) => {
            Refusal::new(Code::UpstreamTimeout, "The service behind the gateway did not answer in time.").reason(why)
        }
        Failure::Unreachable(why) => {
            Refusal::new(Code::UpstreamUnavailable, "The service behind the gateway cannot be reached.").reason(why)
        }
        Failure::Broken(why) => {
            Refusal::new(Code::UpstreamUnavailable, "The service behind the gateway gave no usable answer.").reason(why)
        }
    }
}
