//! Idle connections to one server.
//!
//! Pingora's own pool watches each idle connection with a task. Here a connection is looked at when it is taken, which costs
//! a look at tokio's readiness and no task, and once a second all are swept.

use std::{
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead as _, ReadBuf};

/// The newest last: it is the likeliest to be alive, and the oldest may then grow old and close.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Instant,
}

/// Idle connections kept per server: enough for a burst, and a small part of its backlog.
const MAX_IDLE: usize = 128;

impl Pool {
    /// A connection that is still open and silent.
    pub(super) async fn take(&self, idle_timeout: Duration) -> Option<Stream> {
        loop {
            let Idle { mut stream, since } = self.0.lock().pop()?;
            if since.elapsed() < idle_timeout && is_silent(&mut stream).await {
                return Some(stream);
            }
        }
    }

    pub(super) fn put(&self, stream: Stream) {
        let mut idle = self.0.lock();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { stream, since: Instant::now() });
        }
    }

    /// Closes what is too old or was closed by the server.
    pub(super) async fn sweep(&self, idle_timeout: Duration) {
        let all = std::mem::take(&mut *self.0.lock());
        let mut alive = Vec::with_capacity(all.len());
        for mut idle in all {
            if idle.since.elapsed() < idle_timeout && is_silent(&mut idle.stream).await {
                alive.push(idle);
            }
        }
        let mut idle = self.0.lock();
        alive.append(&mut idle);
        *idle = alive;
    }
}

/// A server that speaks or closes between two requests is not to be trusted with a third.
async fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let look = poll_fn(|cx| {
        let read = Pin::new(&mut *stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
        Poll::Ready(read.is_pending())
    });
    // Beyond a task's budget tokio says `Pending` without looking, which here would mean silence.
    tokio::task::unconstrained(look).await
}
