//! Public listeners: our own accept loop in front of Pingora's sessions.

mod certificate;
mod connection;
mod facts;
mod gate;
mod head;
mod io;
mod revocations;
mod target;
mod tls;
mod trust;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use gapura_config::units::Address;
use pingora::{
    apps::{HttpServerApp, ReusedHttpStream},
    protocols::http::ServerSession,
    server::ShutdownWatch,
};
use prometheus::IntGauge;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub(super) use self::connection::Connection;
pub(crate) use self::{
    facts::{Facts, facts},
    gate::{GateLimits, Tally},
    head::PASSABLE,
    target::is_authority,
    tls::{SelfSigned, build as build_tls},
    trust::Trust,
};
use super::admit::SMALL;

/// What a listener serves.
pub(crate) trait App: HttpServerApp + Send + Sync + 'static {
    /// A request of HTTP/1 without a body, or with one of at most [`SMALL`] bytes.
    fn serve_small(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> impl Future<Output = Option<ReusedHttpStream>> + Send {
        async move { self.process_new_http(session, shutdown).await }
    }
}

/// What a listener asks anew for each connection, so that a reload reaches the next one.
pub(crate) trait Settings: Send + Sync + 'static {
    type App: App;

    fn app(&self) -> Arc<Self::App>;
    /// None: a plain listener.
    fn tls(&self) -> Option<Arc<rustls::ServerConfig>>;
    /// Whom that asks to vouch for clients, and the time. Asked before it: after a reload in between they are asked once more.
    fn trust(&self) -> (Option<Arc<Trust>>, u64);
    fn handshake_timeout(&self) -> Duration;
    fn max_connections(&self) -> usize;
    fn gate(&self) -> GateLimits;
    fn tally(&self) -> &Tally;
}

/// Connections open over all listeners that share it.
#[derive(Debug, Default)]
pub(crate) struct Open(AtomicUsize);

impl Open {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

/// One connection's place among those that may be open.
struct Seat {
    open: Arc<Open>,
    gauge: IntGauge,
}

impl Seat {
    fn take(open: &Arc<Open>, gauge: &IntGauge, max: usize) -> Option<Self> {
        // Taken first and given back where it was one too many: two at once can both be refused, never both too many.
        let seat = Self { open: Arc::clone(open), gauge: gauge.clone() };
        seat.gauge.inc();
        (open.0.fetch_add(1, Ordering::AcqRel) < max).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.gauge.dec();
        self.open.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Accepted by the kernel and waiting for us. Linux cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// After an accept that failed for want of descriptors: time for some to be closed.
const BREATH: Duration = Duration::from_millis(50);

/// Binds a public or admin address. Port 0 takes a free one; the listener knows which.
pub(crate) fn bind(address: &Address) -> Result<TcpListener, String> {
    let Address::Tcp { host, port } = address else {
        return Err(format!("`{address}` is no address to listen on"));
    };
    let failed = |why: std::io::Error| format!("cannot listen on {address}: {why}");
    let resolved = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port)).map_err(failed)?.next();
    let resolved = resolved.ok_or_else(|| format!("cannot listen on {address}: the name has no address"))?;
    let socket = Socket::new(Domain::for_address(resolved), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    let listen = || {
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&resolved.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(failed)
}

/// Accepts until the gateway stops. Each connection is a task of its own.
pub(crate) async fn accept<S: Settings>(
    listener: TcpListener,
    settings: Arc<S>,
    open: Arc<Open>,
    gauge: IntGauge,
    shutdown: ShutdownWatch,
) {
    let mut stop = shutdown.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stops| *stops) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                // One too many is closed at once: a queue would only make all of them slow.
                let Some(seat) = Seat::take(&open, &gauge, settings.max_connections()) else { continue };
                let (settings, shutdown) = (Arc::clone(&settings), shutdown.clone());
                tokio::spawn(async move {
                    serve(stream, peer, &*settings, &shutdown).await;
                    drop(seat);
                });
            }
            Err(why) => {
                log::warn!("a connection cannot be accepted: {why}");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn serve<S: Settings>(stream: TcpStream, peer: SocketAddr, settings: &S, shutdown: &ShutdownWatch) {
    // Answers are written whole; waiting for more of them would only delay them.
    let _ = stream.set_nodelay(true);
    let (trust, now_ms) = settings.trust();
    let connection = match settings.tls() {
        None => Connection::plain(stream, peer),
        Some(config) => {
            let handshake = TlsAcceptor::from(config).accept(stream);
            match tokio::time::timeout(settings.handshake_timeout(), handshake).await {
                Ok(Ok(stream)) => match Connection::tls(stream, peer, (trust.as_deref(), now_ms)) {
                    Some(connection) => connection,
                    None => return log::warn!("a client certificate cannot be read: its connection is closed"),
                },
                Ok(Err(why)) => return log::debug!("TLS handshake failed: {why}"),
                Err(_) => return log::debug!("TLS handshake took too long"),
            }
        }
    };
    gate::serve(&settings.app(), connection, settings.gate(), settings.tally(), shutdown).await;
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use gapura_filters::contract::{ClientCertificate, Refusal};

    use super::{connection::Framing, head};

    pub fn certificate(der: &[u8]) -> Option<ClientCertificate> {
        super::certificate::read(der)
    }

    /// How far a request reaches beyond its head.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Framed {
        Length(u64),
        Chunked,
        Open,
    }

    /// The length of a head, and its framing. None: more bytes are needed.
    pub fn head(bytes: &[u8], known: usize) -> Result<Option<(usize, Framed)>, Refusal> {
        let limits = head::HeadLimits { bytes: 32 * 1024, fields: 100 };
        let found = head::read(bytes, known, limits)?;
        Ok(found.map(|head| match head.framing {
            Framing::Length(length) => (head.len, Framed::Length(length)),
            Framing::Chunked(_) => (head.len, Framed::Chunked),
            Framing::Upgrade | Framing::Open => (head.len, Framed::Open),
        }))
    }
}
