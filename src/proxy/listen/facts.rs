//! What filters may know of a connection.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use gapura_filters::contract::ClientCertificate;
use pingora::protocols::raw_connect::ProxyDigest;

/// Known since its handshake.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) peer: SocketAddr,
    pub(crate) secure: bool,
    /// Verified in the handshake; None also where it has a name that cannot be read.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    /// Those that it was verified by.
    pub(crate) authorities: Option<[u8; 32]>,
}

impl Facts {
    pub(crate) fn peer_ip(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }
}

/// The facts of the connection that a session came over.
pub(crate) fn facts(digest: &ProxyDigest) -> Option<&Facts> {
    let data: &(dyn Any + Send + Sync) = digest.user_data.as_deref()?;
    data.downcast_ref()
}
