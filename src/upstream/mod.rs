//! The servers behind the gateway: where they are, connections to them, one exchange with one of them.

mod exchange;
mod fetch;
mod head;
mod pool;
mod server;
mod upload;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use gapura_config::{
    fault::{Fault, Place},
    model::Config,
    units::Address,
};
use gapura_filters::metrics::Metrics;
use http::HeaderValue;
use prometheus::Histogram;

#[cfg(feature = "fuzzing")]
pub(crate) use self::head::fuzzing;
pub(crate) use self::{
    exchange::{Answer, Call, Failure, MAX_INTERIM},
    fetch::{get, post},
    head::check_framing,
    server::{Server, read_ca},
    upload::{Event, Upload},
};

/// All upstreams of one configuration.
pub(crate) struct Upstreams(BTreeMap<String, Arc<Upstream>>);

/// Servers that take turns.
pub(crate) struct Upstream {
    servers: Box<[Arc<Server>]>,
    turn: AtomicUsize,
    /// The `Host` of requests that came without one.
    pub(crate) host: HeaderValue,
    /// `gapura_upstream_duration_seconds`.
    pub(crate) seconds: Histogram,
}

impl Upstreams {
    /// Servers that are the same as before keep their idle connections.
    pub(crate) fn build(config: &Config, before: Option<&Self>, metrics: &Metrics) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in &config.upstreams {
            let mut servers = Vec::new();
            for address in &upstream.servers {
                match Server::build(address, upstream) {
                    Ok(server) => servers.push(before.and_then(|all| all.same(&server)).unwrap_or(Arc::new(server))),
                    Err(why) => {
                        let fault = Fault::at(Place::root().key("upstreams").key(name).key("ca"), why);
                        faults.push(
                            fault.help(
                                "name a readable PEM file with the authority that signs the servers' certificates",
                            ),
                        );
                    }
                }
            }
            let seconds = metrics.upstream_duration.with_label_values(&[name]);
            let host = upstream.servers.first().and_then(|address| match address {
                Address::Tcp { .. } => HeaderValue::try_from(address.to_string()).ok(),
                Address::Unix(_) => None,
            });
            let host = host.unwrap_or(HeaderValue::from_static("localhost"));
            let upstream = Upstream { servers: servers.into(), turn: AtomicUsize::new(0), host, seconds };
            upstreams.insert(name.clone(), Arc::new(upstream));
        }
        faults.dedup();
        if faults.is_empty() { Ok(Self(upstreams)) } else { Err(faults) }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.get(name)
    }

    /// Closes idle connections that are too old or dead.
    pub(crate) async fn sweep(&self) {
        for server in self.0.values().flat_map(|upstream| &upstream.servers) {
            server.sweep().await;
        }
    }

    fn same(&self, server: &Server) -> Option<Arc<Server>> {
        let mut all = self.0.values().flat_map(|upstream| &upstream.servers);
        all.find(|other| other.target == server.target && other.target.ca.is_none()).cloned()
    }
}

impl Upstream {
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Where the next request starts: each one server further.
    pub(crate) fn take_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The server that a request with this turn tries after so many others.
    pub(crate) fn server(&self, turn: usize, tried: usize) -> Option<&Arc<Server>> {
        if tried >= self.servers.len() {
            return None;
        }
        self.servers.get(turn.wrapping_add(tried) % self.servers.len())
    }
}
