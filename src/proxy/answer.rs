//! A response head on its way out, of an upstream or our own.

use std::time::Duration;

use gapura_filters::contract::{Code, HeaderEdit as _, Refusal};
use http::{HeaderMap, HeaderName, StatusCode, header};
use pingora::{http::ResponseHeader, protocols::http::ServerSession};
use tokio::time::timeout;

use super::{
    admit,
    context::Context,
    problem::{self, Head},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields of the connection to the upstream, not of the one to the client.
const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TRAILER];

/// What an upstream said of its connection is not passed on (RFC 9110, section 7.6.1).
pub(super) fn drop_hop_by_hop(head: &mut ResponseHeader) {
    let values = head.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let nominated = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let nominated: Vec<HeaderName> = nominated.filter(|name| *name != header::CONTENT_LENGTH).collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        head.remove_header(name);
    }
}

/// RFC 9110, section 8.6: a 204 has no length. That of a 304 is of what would have been sent, and may stay.
pub(super) fn drop_length(head: &mut ResponseHeader) {
    if head.status == StatusCode::NO_CONTENT {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::TRANSFER_ENCODING);
    }
}

/// What every response carries: its id, and what the route's filters add.
pub(super) fn finish(session: &mut ServerSession, head: &mut ResponseHeader, context: &mut Context) {
    // A client learns that its connection ends before it does.
    if context.gateway.is_draining() {
        session.set_keepalive(None);
    }
    Head(head).set(&problem::X_REQUEST_ID, context.request_id.value().clone());
    // RFC 9110, section 6.6.1: of whoever has a clock.
    if !head.headers.contains_key(header::DATE) {
        Head(head).set(&header::DATE, problem::date());
    }
    if let Some(route) = context.route.map(|index| context.live.policy.route(index)) {
        route.chain.on_response_headers(&mut Head(head), &mut context.exchange);
    }
}

/// The most of an unread request body that is read away so that its connection can go on.
const READ_AWAY: u64 = 64 * 1024;

/// Counts and logs a refusal.
pub(super) fn note(context: &mut Context, refusal: Refusal) {
    context.live.metrics.refused(refusal.code);
    if refusal.code.status().is_server_error() {
        log::warn!("{} {}: {} ({})", context.request_id, context.target.path(), refusal.code.name(), refusal.reason);
    }
    context.exchange.refused = true;
    context.refused = Some((refusal.code, refusal.reason.into_owned()));
}

/// Writes a refusal. Where the response has begun already there is nothing left to say: the connection breaks.
pub(super) async fn refuse(
    session: &mut ServerSession,
    context: &mut Context,
    refusal: Refusal,
) -> pingora::Result<()> {
    let body = refusal.body(context.request_id.as_str());
    let mut fields = HeaderMap::new();
    problem::describe(&mut fields, &refusal, &context.request_id, body.len());
    let code = refusal.code;
    note(context, refusal);
    let begun =
        |head: &ResponseHeader| !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS;
    if session.response_written().is_some_and(begun) {
        session.set_keepalive(None);
        return Ok(());
    }
    let mut head = ResponseHeader::build(code.status(), Some(fields.len() + 12))?;
    for (name, value) in &fields {
        head.append_header(name.clone(), value.clone())?;
    }
    finish(session, &mut head, context);
    if !may_go_on(session, code) {
        session.set_keepalive(None);
    }
    let bodiless = context.method == http::Method::HEAD;
    write_head(session, head, bodiless).await?;
    if !bodiless {
        session.write_response_body(body.into(), true).await?;
    }
    Ok(())
}

/// The longest that a client may take to leave, or to end its request, after a refusal.
const LINGER: Duration = Duration::from_secs(5);

/// Of HTTP/2, after a refusal that came before the end of its request. A stream that is dropped is reset at once, which is
/// legal (RFC 9113, section 8.1), and yet there are clients that then show no response at all. So what is little is read away, and
/// what is more waits until the client has seen its answer and stops.
pub(super) async fn linger(session: &mut ServerSession, context: &Context) {
    if context.refused.is_none() || !session.is_http2() {
        return;
    }
    let reading = async {
        let mut read = 0;
        while read < READ_AWAY {
            match session.read_request_body().await {
                Ok(Some(piece)) => read += piece.len() as u64,
                _ => return,
            }
        }
        let _ = session.read_body_or_idle(true).await;
    };
    let _ = timeout(LINGER, reading).await;
}

/// A response head; `ends`: no body follows.
pub(super) async fn write_head(session: &mut ServerSession, head: ResponseHeader, ends: bool) -> pingora::Result<()> {
    match session {
        // In one frame with the end of the stream.
        ServerSession::H2(session) => session.write_response_header(Box::new(head), ends),
        session => session.write_response_header(Box::new(head)).await,
    }
}

/// Whether another request may follow a refused one: what the client still sends of it must be known to be little.
fn may_go_on(session: &mut ServerSession, code: Code) -> bool {
    if matches!(code, Code::RequestMalformed | Code::RequestTimeout) {
        return false;
    }
    if session.is_body_done() {
        return true;
    }
    let head = session.req_header();
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // A client that waits for leave may send the body all the same, or never.
    !admit::expects_continue(head) && length.is_some_and(|length| length <= READ_AWAY)
}
