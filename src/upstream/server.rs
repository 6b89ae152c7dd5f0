//! One server behind the gateway: where it is, how it is connected to.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use gapura_config::{model, units::Address};
use parking_lot::Mutex;
use pingora::{
    connectors::TransportConnector,
    protocols::{Stream, tls::CaType},
    upstreams::peer::{HttpPeer, PeerOptions},
    utils::tls::{WrappedX509, parse_x509},
};
use rustls::RootCertStore;

use super::pool::Pool;
use crate::pem;

/// How a server is connected to. Two equal ones share their connections through a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) tls: bool,
    pub(super) server_name: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
}

pub(crate) struct Server {
    pub(super) target: Target,
    ca: Option<Arc<CaType>>,
    pool: Pool,
    /// Addresses of a named server, and when they were looked up.
    resolved: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// How long a name's addresses are used before it is looked up again: as long as a container takes to move.
const NAME_TTL: Duration = Duration::from_secs(10);

impl Server {
    pub(super) fn build(address: &Address, upstream: &model::Upstream) -> Result<Self, String> {
        let target = Target {
            address: address.clone(),
            tls: upstream.tls,
            server_name: upstream.server_name.clone(),
            ca: upstream.ca.clone(),
            connect_timeout: upstream.connect_timeout.get(),
            idle_timeout: upstream.idle_timeout.get(),
        };
        Ok(Self {
            ca: target.ca.as_deref().map(read_ca).transpose()?,
            target,
            pool: Pool::default(),
            resolved: Mutex::new(None),
        })
    }

    /// An idle connection, if there is one.
    pub(super) async fn idle(&self) -> Option<Stream> {
        self.pool.take(self.target.idle_timeout).await
    }

    pub(super) fn put(&self, stream: Stream) {
        self.pool.put(stream);
    }

    pub(super) async fn sweep(&self) {
        self.pool.sweep(self.target.idle_timeout).await;
    }

    /// A new connection, TLS included. The error is for the log.
    pub(super) async fn connect(&self, connector: &TransportConnector) -> Result<Stream, String> {
        let peers = self.peers().await?;
        let mut failure = String::new();
        for peer in peers {
            match connector.new_stream(&peer).await {
                Ok(stream) => return Ok(stream),
                Err(why) => failure = format!("{}: {}", self.target.address, why.etype().as_str()),
            }
        }
        Err(failure)
    }

    /// What Pingora connects to, one for each address of the name.
    pub(crate) async fn peers(&self) -> Result<Vec<HttpPeer>, String> {
        let peers = match &self.target.address {
            Address::Unix(path) => {
                let path = path.to_str().ok_or("the path of the socket is not UTF-8")?;
                let peer = HttpPeer::new_uds(path, self.target.tls, self.server_name());
                vec![peer.map_err(|why| format!("{path}: {}", why.etype().as_str()))?]
            }
            Address::Tcp { host, port } => {
                let addresses = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                    Ok(ip) => vec![SocketAddr::new(ip, *port)],
                    Err(_) => self.resolve(host, *port).await?,
                };
                addresses.into_iter().map(|at| HttpPeer::new(at, self.target.tls, self.server_name())).collect()
            }
        };
        Ok(peers.into_iter().map(|peer| self.with_options(peer)).collect())
    }

    fn with_options(&self, mut peer: HttpPeer) -> HttpPeer {
        let mut options = PeerOptions::new();
        options.connection_timeout = Some(self.target.connect_timeout);
        options.total_connection_timeout = Some(self.target.connect_timeout);
        options.idle_timeout = Some(self.target.idle_timeout);
        options.ca = self.ca.clone();
        peer.options = options;
        peer
    }

    /// The configuration refuses TLS without a name: with an empty one Pingora would verify nothing.
    fn server_name(&self) -> String {
        match (&self.target.server_name, &self.target.address) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp { host, .. }) => host.clone(),
            (None, Address::Unix(_)) => String::new(),
        }
    }

    /// A name that cannot be looked up at the moment keeps the addresses that it had.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let known = self.resolved.lock().clone();
        if let Some((at, addresses)) = &known
            && at.elapsed() < NAME_TTL
        {
            return Ok(addresses.clone());
        }
        let lookup = tokio::time::timeout(self.target.connect_timeout, tokio::net::lookup_host((host, port))).await;
        match lookup {
            Ok(Ok(found)) => {
                let addresses: Vec<SocketAddr> = found.collect();
                *self.resolved.lock() = Some((Instant::now(), addresses.clone()));
                Ok(addresses)
            }
            Ok(Err(why)) => known.map(|(_, addresses)| addresses).ok_or_else(|| format!("`{host}`: {why}")),
            Err(_) => {
                known.map(|(_, addresses)| addresses).ok_or_else(|| format!("`{host}`: the look-up takes too long"))
            }
        }
    }
}

/// The authorities of a PEM bundle, at least one, and each one fit to be trusted.
pub(crate) fn read_ca(path: &Path) -> Result<Arc<CaType>, String> {
    let unreadable = |why: &dyn std::fmt::Display| format!("no authority can be read from `{}`: {why}", path.display());
    let mut authorities = Vec::new();
    for certificate in pem::certificates(path).map_err(|unfit| unfit.message)? {
        RootCertStore::empty().add(certificate.clone()).map_err(|why| unreadable(&why))?;
        authorities.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    Ok(authorities.into())
}
