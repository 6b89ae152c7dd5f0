//! The life of one connection: each request head is read here, whole, strictly and in time, before Pingora sees it.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use gapura_filters::{
    contract::{Code, Refusal},
    metrics::{Metrics, RouteMetrics},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use pingora::{apps::ServerApp, protocols::http::ServerSession, server::ShutdownWatch};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout, timeout_at},
};

use super::{
    App, SMALL,
    connection::{Connection, Framing},
    head::{self, Head, HeadLimits},
};
use crate::proxy::{
    access,
    problem::{self, X_REQUEST_ID},
};

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateLimits {
    pub(super) head: HeadLimits,
    pub(super) head_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// Refusals that no application sees leave a line, too.
    pub(super) access_log: bool,
}

impl GateLimits {
    pub(crate) fn new(limits: &gapura_config::model::Limits, access_log: bool) -> Self {
        Self {
            head: HeadLimits {
                bytes: usize::try_from(limits.max_head.bytes()).unwrap_or(usize::MAX),
                fields: limits.max_headers,
            },
            head_timeout: limits.head_timeout.get(),
            idle_timeout: limits.idle_timeout.get(),
            access_log,
        }
    }
}

/// Where refusals are counted that no application sees.
pub(crate) struct Tally {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) unrouted: RouteMetrics,
}

/// What reading a head came to.
enum Next {
    Head(Head),
    /// The client left, or idled, or the gateway stops.
    Over,
}

/// `PRI * HTTP/2.0` and so on (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// The longest that an unread request body is read away so that the connection can go on.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves a connection until its end.
pub(crate) async fn serve<A>(
    app: &Arc<A>,
    mut connection: Connection,
    limits: GateLimits,
    tally: &Tally,
    shutdown: &ShutdownWatch,
) where
    A: App,
{
    if connection.is_http2() {
        // The preface in time: what follows has its own deadlines.
        let preface =
            async { while connection.ahead().len() < PREFACE && connection.read_ahead().await.unwrap_or(0) > 0 {} };
        if timeout(limits.head_timeout, preface).await.is_err() {
            return connection.leave().await;
        }
        app.process_new(Box::new(connection), shutdown).await;
        return;
    }
    loop {
        let head = match next_head(&mut connection, limits, shutdown.clone()).await {
            Ok(Next::Head(head)) => head,
            Ok(Next::Over) => return connection.leave().await,
            Err(refusal) => return refuse(&mut connection, refusal, tally, limits.access_log).await,
        };
        let mut bytes: BytesMut = connection.ahead().split_to(head.len);
        if let Some(instead) = &head.instead {
            bytes = BytesMut::from(&instead[..]);
        }
        let small = matches!(head.framing, Framing::Upgrade | Framing::Length(..=SMALL));
        connection.frame(head.framing);
        let mut session = ServerSession::new_http1(Box::new(connection));
        session.set_pipelined_prefix(bytes);
        session.set_total_drain_timeout(Some(DRAIN));
        // Boxed either way: an idle connection must not be as large as a busy one.
        let reused = match small {
            true => Box::pin(app.serve_small(session, shutdown)).await,
            false => app.process_new_http(session, shutdown).await,
        };
        let Some(reused) = reused else { return };
        let Ok(back) = reused.consume().0.into_any().downcast::<Connection>() else { return };
        connection = *back;
        if !connection.next() {
            return connection.close().await;
        }
    }
}

/// The next head: within `idle_timeout` its first byte, and within `head_timeout` of that its last.
async fn next_head(
    connection: &mut Connection,
    limits: GateLimits,
    mut shutdown: ShutdownWatch,
) -> Result<Next, Refusal> {
    let begun = Instant::now();
    let mut known = 0;
    let mut started = !connection.ahead().is_empty();
    let mut deadline = begun + if started { limits.head_timeout } else { limits.idle_timeout };
    loop {
        if started {
            skip_empty_line(connection.ahead(), known);
            if let Some(head) = head::read(connection.ahead(), known, limits.head)? {
                return Ok(Next::Head(head));
            }
            known = connection.ahead().len();
        }
        // A head that has begun is still served while the gateway stops; an idle connection is not kept.
        let read = tokio::select! {
            biased;
            read = timeout_at(deadline, connection.read_ahead()) => read,
            _ = shutdown.wait_for(|stops| *stops), if !started => return Ok(Next::Over),
        };
        match read {
            Ok(Ok(n)) if n > 0 => {
                if !started {
                    started = true;
                    deadline = Instant::now() + limits.head_timeout;
                }
            }
            Err(_) if started => {
                return Err(Refusal::new(Code::RequestTimeout, "The request head took too long to arrive."));
            }
            // An end within a head is refused by nobody being there to read it.
            _ => return Ok(Next::Over),
        }
    }
}

/// RFC 9112, section 2.2: one empty line before a request is forgiven, as old clients send one behind a body.
fn skip_empty_line(ahead: &mut BytesMut, known: usize) {
    if known == 0 && ahead.starts_with(b"\r\n") {
        ahead.advance(2);
    }
}

/// Answers a request that no session was made for, and closes.
async fn refuse(connection: &mut Connection, refusal: Refusal, tally: &Tally, access_log: bool) {
    tally.metrics.refused(refusal.code);
    // The method is not to be trusted: it may be what is malformed.
    tally.unrouted.count(&Method::from_bytes(b"-").unwrap_or_default(), refusal.code.status());
    log::debug!("refused before routing: {} ({})", refusal.code.name(), refusal.reason);
    let request_id = problem::request_id();
    let body = refusal.body(request_id.as_str());
    let mut fields = HeaderMap::new();
    problem::describe(&mut fields, &refusal, &request_id, body.len());
    let mut answer = Vec::with_capacity(512 + body.len());
    let status = refusal.code.status();
    answer.extend_from_slice(b"HTTP/1.1 ");
    answer.extend_from_slice(status.as_str().as_bytes());
    answer.push(b' ');
    answer.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    answer.extend_from_slice(b"\r\nconnection: close\r\n");
    for (name, value) in &fields {
        write_field(&mut answer, name, value);
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&body);
    debug_assert!(fields.contains_key(X_REQUEST_ID) && fields.contains_key(header::CONTENT_LENGTH));
    if access_log {
        let line = access::Line {
            id: request_id.as_str(),
            client: connection.facts().peer_ip(),
            method: "-",
            path: "-",
            route: "-",
            status: status.as_u16(),
            taken: Duration::ZERO,
            bytes: body.len(),
            user: "-",
            code: refusal.code.name(),
            reason: &refusal.reason,
        };
        line.write();
    }
    connection.frame(Framing::Open);
    if connection.write_all(&answer).await.is_ok() {
        connection.close().await;
    }
}

fn write_field(answer: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    answer.extend_from_slice(name.as_str().as_bytes());
    answer.extend_from_slice(b": ");
    answer.extend_from_slice(value.as_bytes());
    answer.extend_from_slice(b"\r\n");
}
