//! One client connection as Pingora holds it: TLS or plain, and between two requests ours again.
//!
//! Three things that Pingora's own streams do not do. What is read beyond a request stays here for the next one
//! ([`Connection::frame`]), so that a pipelined head meets the same gate as the first. A response head waits for the first
//! bytes of its body, so that both leave in one TLS record. And closing lets the client read the refusal before it sees a reset.

use std::{
    fmt, io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora::{
    http::ResponseHeader,
    protocols::{
        ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
        UniqueID, raw_connect::ProxyDigest,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

use super::{
    facts::{Facts, facts},
    io::{Io, poll_read_at_most},
    trust::Trust,
};
use crate::http1::Chunks;

/// How far the session of one request may read.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes of body, and not one of the next request.
    Length(u64),
    Chunked(Chunks),
    /// A request to upgrade: nothing until the upstream has agreed ([`Connection::open`]). What the client says before belongs
    /// to the tunnel.
    Upgrade,
    /// Everything: HTTP/2, or a tunnel.
    Open,
}

pub(crate) struct Connection {
    io: Io,
    digest: Arc<ProxyDigest>,
    framing: Framing,
    /// Read from the client, not yet handed out.
    ahead: BytesMut,
    /// Written by the session, not yet sent.
    held: Vec<u8>,
    /// The next write is a response head: hold it.
    hold: bool,
    ended: bool,
    leaving: Option<Box<Leaving>>,
    /// Until the next look at whether a client has left that nothing more is read of.
    look: Option<Pin<Box<Sleep>>>,
}

/// A connection that closes.
struct Leaving {
    deadline: Pin<Box<Sleep>>,
    /// The client knows that it will hear no more.
    said: bool,
    read: usize,
}

impl Leaving {
    fn begin() -> Box<Self> {
        Box::new(Self { deadline: Box::pin(sleep(LINGER)), said: false, read: 0 })
    }
}

/// Read at once while a client is watched for its end: enough for a pipelined head.
const AHEAD: usize = 64 * 1024;
/// How often a client is looked at that has sent more: its end is behind what is not read, but the system may know of it.
const LOOK: Duration = Duration::from_secs(1);
/// What a refused client may still send before it is cut off: it is read so that the refusal is not lost to a reset. Many look at
/// what came only when their last write is done, or fails.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(5);
/// One TLS record.
const RECORD: usize = 16 * 1024;

impl Connection {
    pub(super) fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        Self::new(Io::Plain(stream), Facts::plain(peer))
    }

    /// None: the client showed a certificate of which we can make nothing.
    pub(super) fn tls(stream: TlsStream<TcpStream>, peer: SocketAddr, trust: (Option<&Trust>, u64)) -> Option<Self> {
        let facts = Facts::of_tls(stream.get_ref().1, peer, trust)?;
        Some(Self::new(Io::Tls(Box::new(stream)), facts))
    }

    fn new(io: Io, facts: Facts) -> Self {
        // Pingora's one place for what a connection carries is made for answers to CONNECT; the head is never read.
        let digest = ProxyDigest::new(
            Box::new(ResponseHeader::build_no_case(200, None).expect("200 is a status")),
            Some(Box::new(facts)),
        );
        Self {
            io,
            digest: Arc::new(digest),
            framing: Framing::Open,
            ahead: BytesMut::new(),
            held: Vec::new(),
            hold: false,
            ended: false,
            leaving: None,
            look: None,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        facts(&self.digest).expect("set with the connection")
    }

    pub(super) fn is_http2(&self) -> bool {
        match &self.io {
            Io::Plain(_) => false,
            Io::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The bytes of the next request that are here already.
    pub(super) fn ahead(&mut self) -> &mut BytesMut {
        &mut self.ahead
    }

    /// Waits for more of the next head. `Ok(0)` is the end. Nothing is allocated while a connection is idle.
    pub(super) async fn read_ahead(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_ahead(cx)).await
    }

    /// Through a buffer on the stack of one poll: in the future it would be every idle connection's.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = [MaybeUninit::uninit(); RECORD];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.ahead.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// What the session of the next request may read, now that its head is known.
    pub(super) fn frame(&mut self, framing: Framing) {
        self.framing = framing;
        self.hold = true;
    }

    /// The upgrade was agreed to: what was kept of the client and all that it sends is the tunnel's.
    pub(crate) fn open(&mut self) {
        self.framing = Framing::Open;
    }

    /// Back from the session: whether another request may follow.
    pub(super) fn next(&mut self) -> bool {
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        // What follows a request to upgrade that was refused may be meant for the tunnel.
        !self.ended && self.is_read() && !matches!(self.framing, Framing::Upgrade)
    }

    /// The whole request was read.
    fn is_read(&self) -> bool {
        match &self.framing {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.is_done(),
            Framing::Upgrade => true,
            Framing::Open => false,
        }
    }

    /// Sends what is held.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, &self.held))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the client's end behind a complete request. What it sends meanwhile is kept for the next.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended {
            if self.ahead.len() >= AHEAD {
                ready!(self.poll_left(cx));
                self.ended = true;
                break;
            }
            self.ended = ready!(self.poll_ahead(cx))? == 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the client's end without reading. Not by readiness alone: the socket is ready all the time, for bytes that stay
    /// where they are.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.io.is_closed(cx) {
                return Poll::Ready(());
            }
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
        }
    }

    /// Waits for the client's end without reading, where more has come than is wanted. Not at once: who has only said all that it will
    /// say may be read to its end before.
    pub(crate) async fn left(&self) {
        loop {
            sleep(LOOK).await;
            if std::future::poll_fn(|cx| Poll::Ready(self.io.is_closed(cx))).await {
                return;
            }
        }
    }

    /// Closes an idle connection: nothing was refused, so nothing can be lost.
    pub(super) async fn leave(&mut self) {
        let _ = tokio::time::timeout(LINGER, AsyncWriteExt::shutdown(&mut self.io)).await;
    }

    /// Closes so that the client can still read what was written.
    pub(super) async fn close(&mut self) {
        // A client that is gone needs no answer.
        let _ = AsyncWriteExt::shutdown(self).await;
    }

    /// The end first, then a bounded look at what comes: a connection that is dropped with bytes unread is reset, and the reset
    /// outruns what was written.
    fn poll_close(&mut self, cx: &mut Context<'_>, leaving: &mut Leaving) -> Poll<io::Result<()>> {
        if leaving.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !leaving.said {
            ready!(self.poll_send(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            leaving.said = true;
        }
        // A client that has said all it will say needs no patience.
        while !self.ended && leaving.read < LINGER_BYTES {
            self.ahead.clear();
            let read = ready!(self.poll_ahead(cx))?;
            leaving.read += read;
            self.ended = read == 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Who waits for the client lets it read first.
        if !this.held.is_empty() {
            ready!(this.poll_send(cx))?;
            ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        }
        if this.is_read() {
            return this.poll_end(cx);
        }
        let before = out.filled().len();
        let allowed = match &this.framing {
            Framing::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Framing::Chunked(_) | Framing::Upgrade | Framing::Open => usize::MAX,
        };
        if this.ahead.is_empty() {
            // Chunks end where their framing says, which is known only once they are read: they go through `ahead`.
            if matches!(this.framing, Framing::Chunked(_)) {
                ready!(this.poll_ahead(cx))?;
            } else {
                ready!(poll_read_at_most(allowed, &mut this.io, cx, out))?;
            }
        }
        if !this.ahead.is_empty() {
            let mut take = this.ahead.len().min(out.remaining()).min(allowed);
            if let Framing::Chunked(chunks) = &mut this.framing {
                take =
                    chunks.scan(&this.ahead[..take]).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            }
            out.put_slice(&this.ahead[..take]);
            this.ahead.advance(take);
        }
        let read = out.filled().len() - before;
        if let Framing::Length(left) = &mut this.framing {
            *left -= read as u64;
        }
        this.ended |= read == 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.hold {
            this.hold = false;
            this.held.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.held.is_empty() {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        }
        // The head, and as much of the body as shares a record with it.
        let room = RECORD.saturating_sub(this.held.len());
        if room > 0 {
            let taken = room.min(bytes.len());
            this.held.extend_from_slice(&bytes[..taken]);
            // An error shows at the next call; these bytes are ours now.
            let _ = this.poll_send(cx)?;
            return Poll::Ready(Ok(taken));
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// However a session ends that has something to say, it ends here.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut leaving = self.leaving.take().unwrap_or_else(Leaving::begin);
        let closed = self.poll_close(cx, &mut leaving);
        self.leaving = Some(leaving);
        closed
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        self.close().await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> i32 {
        match &self.io {
            Io::Plain(stream) => stream.as_raw_fd(),
            Io::Tls(stream) => stream.get_ref().0.as_raw_fd(),
        }
    }
}

impl Ssl for Connection {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.is_http2().then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
