//! A WebSocket (RFC 6455): bytes in both directions, after the upstream has agreed to switch.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gapura_filters::authentication::BEARER_PROTOCOL;
use http::{HeaderValue, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    protocols::Stream,
    protocols::http::ServerSession,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};

use super::{answer, context::Context, whole::Broken};
use crate::upstream::Answer;

/// As long as a tunnel may be silent both ways. Its ends tell the living from the dead by their own pings.
const IDLE: Duration = Duration::from_secs(3600);
const READ: usize = 16 * 1024;

/// The gate lets no other upgrade through.
pub(super) fn ask(head: &mut RequestHeader) {
    let _ = head.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"));
    let _ = head.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"));
}

/// Until both ends are done, one breaks off, or neither has said anything for long.
pub(super) async fn run(session: &mut ServerSession, context: &mut Context, mut answer: Answer) -> Result<(), Broken> {
    let mut head = std::mem::replace(&mut answer.head, ResponseHeader::build_no_case(101, None)?);
    answer::drop_hop_by_hop(&mut head);
    head.insert_header(header::UPGRADE, "websocket")?;
    head.insert_header(header::CONNECTION, "Upgrade")?;
    let bearer = context.route().is_some_and(|route| route.withheld.offers_bearer(&session.req_header().headers));
    if bearer && !head.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        head.insert_header(header::SEC_WEBSOCKET_PROTOCOL, BEARER_PROTOCOL)?;
    }
    answer::finish(session, &mut head, context);
    answer::write_head(session, head, false).await?;
    let (mut stream, early) = answer.into_tunnel();
    if !early.is_empty() {
        session.write_response_body(early.freeze(), false).await?;
    }
    let pause = context.live.config.limits.body_timeout.get();
    let (mut buffer, mut client_done) = (BytesMut::with_capacity(READ), false);
    let mut deadline = Instant::now() + IDLE;
    loop {
        buffer.reserve(READ);
        tokio::select! {
            read = stream.read_buf(&mut buffer) => match read {
                Ok(n) if n > 0 => session.write_response_body(buffer.split().freeze(), false).await?,
                _ => return Ok(()),
            },
            piece = session.read_request_body(), if !client_done => match piece {
                Ok(Some(bytes)) => send(&mut stream, bytes, pause).await?,
                Ok(None) => {
                    client_done = true;
                    stream.shutdown().await.map_err(|_| Broken::Cut)?;
                }
                Err(_) => return Err(Broken::Cut),
            },
            () = sleep_until(deadline) => return Ok(()),
        }
        deadline = Instant::now() + IDLE;
    }
}

/// An upstream that takes nothing must not hold what its client sends for ever.
async fn send(stream: &mut Stream, bytes: Bytes, pause: Duration) -> Result<(), Broken> {
    let write = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    match timeout(pause, write).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Broken::Cut),
    }
}
