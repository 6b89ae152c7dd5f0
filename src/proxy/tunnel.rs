//! A WebSocket (RFC 6455): bytes in both directions, after the upstream has agreed to switch.

use std::{
    io,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use gapura_filters::authentication::{BEARER_PROTOCOL, Ended};
use http::{HeaderValue, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    protocols::{Shutdown, Stream, http::ServerSession},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep_until, timeout},
};

use super::{
    answer,
    context::Context,
    frames::{self, Frames},
    listen::Connection,
    whole::Broken,
};
use crate::upstream::Answer;

/// As long as a tunnel may be silent both ways. Its ends tell the living from the dead by their own pings.
const IDLE: Duration = Duration::from_secs(3600);
/// For the last word to an end that takes nothing.
const GOODBYE: Duration = Duration::from_millis(500);
const READ: usize = 16 * 1024;

/// Both ends have agreed.
pub(super) struct Tunnel {
    upstream: Stream,
    /// Came behind the upstream's head.
    early: BytesMut,
    /// The longest that one end may take nothing of what the other sent.
    pause: Duration,
}

/// The gate lets no other upgrade through.
pub(super) fn ask(head: &mut RequestHeader) {
    let _ = head.insert_header(header::UPGRADE, HeaderValue::from_static("websocket"));
    let _ = head.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"));
}

/// Tells the client that the upstream has agreed. What follows is for [`Tunnel::run`].
pub(super) async fn agree(
    session: &mut ServerSession,
    context: &mut Context,
    mut answer: Answer,
) -> Result<Tunnel, Broken> {
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
    let (upstream, early) = answer.into_tunnel();
    Ok(Tunnel { upstream, early, pause: context.live.config.limits.body_timeout.get() })
}

impl Tunnel {
    /// Until the upstream is done, either end breaks off, neither has said anything for long, or the caller may not go on. The two directions do not wait
    /// for each other: an end that only reads once it has written would stop both. Returns the bytes that the client got, and why it was ended.
    pub(super) async fn run(self, client: Stream, ended: impl Future<Output = Ended>) -> (usize, Option<Ended>) {
        let Self { upstream, early, pause } = self;
        // As the gate made it.
        let Ok(mut client) = client.into_any().downcast::<Connection>() else { return (0, None) };
        client.open();
        let (mut from_client, mut to_client) = split(client);
        let (mut from_upstream, mut to_upstream) = split(upstream);
        let (begun, heard, sent) = (Instant::now(), AtomicU64::new(0), AtomicUsize::new(0));
        // In milliseconds since it began: the last word of either end.
        let hear = || heard.store(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
        let silence = async |most: Duration| {
            loop {
                let end = begun + Duration::from_millis(heard.load(Relaxed)) + most;
                if end <= Instant::now() {
                    break;
                }
                sleep_until(end).await;
            }
        };
        let (mut downwards, mut upwards) = (Frames::default(), Frames::default());
        let down = async {
            let mut piece = early;
            while put(&mut to_client, &mut downwards, &piece, pause).await.is_some() {
                hear();
                sent.fetch_add(piece.len(), Relaxed);
                if get(&mut from_upstream, &mut piece).await.is_none_or(|read| read == 0) {
                    break;
                }
            }
        };
        let up = async {
            let mut piece = BytesMut::new();
            while get(&mut from_client, &mut piece).await? > 0 {
                put(&mut to_upstream, &mut upwards, &piece, pause).await?;
                hear();
            }
            // The client has said all. The upstream may still answer; one that does not is not kept for a client that may be gone.
            timeout(pause, to_upstream.shutdown()).await.ok()?.ok()?;
            hear();
            silence(pause).await;
            Some(())
        };
        // First, and alone from then on: not a byte more passes for a caller that may not go on.
        let ended = tokio::select! {
            biased;
            ended = ended => Some(ended),
            () = down => None,
            _ = up => None,
            () = silence(IDLE) => None,
        };
        if let Some(ended) = ended {
            say_close(&mut to_client, &mut downwards, frames::close(ended.reason(), false)).await;
            say_close(&mut to_upstream, &mut upwards, frames::close(ended.reason(), true)).await;
        }
        let mut client = from_client.unsplit(to_client);
        Shutdown::shutdown(&mut *client).await;
        (sent.into_inner(), ended)
    }
}

/// The next piece and its length, which is 0 at the end; None where the connection broke.
async fn get(from: &mut (impl AsyncRead + Unpin), piece: &mut BytesMut) -> Option<usize> {
    piece.clear();
    piece.reserve(READ);
    from.read_buf(piece).await.ok()
}

/// An end that takes nothing must not hold what the other sends for ever.
async fn put(to: &mut (impl AsyncWrite + Unpin), frames: &mut Frames, mut piece: &[u8], pause: Duration) -> Option<()> {
    let write = async {
        // Piece by piece: whoever drops this in between still knows how far the frames have come.
        while !piece.is_empty() {
            let written = to.write(piece).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            frames.pass(&piece[..written]);
            piece = &piece[written..];
        }
        to.flush().await
    };
    timeout(pause, write).await.ok()?.ok()
}

/// Tells an end why, where that is possible: between two frames.
async fn say_close(to: &mut (impl AsyncWrite + Unpin), frames: &mut Frames, frame: Vec<u8>) {
    if frames.at_border() {
        let _ = put(to, frames, &frame, GOODBYE).await;
    }
}
