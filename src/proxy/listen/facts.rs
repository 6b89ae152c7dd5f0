//! What filters may know of a connection.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gapura_filters::contract::ClientCertificate;
use pingora::protocols::raw_connect::ProxyDigest;

use rustls::{HandshakeKind, ServerConnection};

use super::{
    certificate,
    trust::{Shown, Trust},
};

/// Known since its handshake.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) peer: SocketAddr,
    pub(crate) secure: bool,
    /// Verified in the handshake; None also where it has a name that cannot be read.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// The chain that it stands in.
    pub(crate) shown: Option<Arc<Shown>>,
}

impl Facts {
    pub(crate) fn plain(peer: SocketAddr) -> Self {
        Self { peer, secure: false, certificate: None, shown: None }
    }

    /// None: the client showed a certificate of which we can make nothing.
    pub(super) fn of_tls(
        session: &ServerConnection,
        peer: SocketAddr,
        (trust, now_ms): (Option<&Trust>, u64),
    ) -> Option<Self> {
        let chain = session.peer_certificates().unwrap_or_default();
        let Some(leaf) = chain.first() else { return Some(Self { secure: true, ..Self::plain(peer) }) };
        let certificate = Some(Arc::new(certificate::read(leaf)?));
        // A session that is resumed was verified when it began.
        let fresh = trust.filter(|_| session.handshake_kind() != Some(HandshakeKind::Resumed));
        Some(Self { peer, secure: true, certificate, shown: Some(Arc::new(Shown::new(chain, fresh, now_ms))) })
    }

    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }
}

/// The facts of the connection that a session came over.
pub(crate) fn facts(digest: &ProxyDigest) -> Option<&Facts> {
    let data: &(dyn Any + Send + Sync) = digest.user_data.as_deref()?;
    data.downcast_ref()
}
