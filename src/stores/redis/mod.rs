//! Limits and replays shared between instances, in Redis 6 or newer: one server, one that Sentinels name, or a Cluster.
//!
//! * where it is (`address`), and whom a question goes to (`servers`, `cluster`);
//! * one connection per server and process (`link`), kept by a task of its own (`keeper`);
//! * one script call per request for all its rules, on Redis' clock (`counters`, `charge.lua`, `refund.lua`);
//! * one `SET NX` per envelope (`replays`).
//!
//! `rediss://` trusts the authorities of the system, or those that the environment variable `SSL_CERT_FILE` names.
//!
//! What it writes begins with `gapura:`, holds no personal data in clear, and expires by itself. Let Redis evict none of it
//! (`maxmemory-policy noeviction`): an evicted counter is a fresh quota, an evicted envelope may come again. Its user needs
//! `~gapura:* +evalsha +eval +time +get +set +del +llen +lindex +ltrim +rpush +lrem +pexpire`, in a Cluster also
//! `+cluster|slots`; at Sentinels `+sentinel|get-master-addr-by-name`.

mod address;
mod cluster;
mod counters;
mod keeper;
mod link;
mod meters;
mod replays;
mod servers;
mod together;

use std::{sync::Arc, time::Duration};

use gapura_config::model;
use gapura_filters::{
    contract::Now,
    encryption::{Mark, ReplayId, SharedReplays},
    metrics::Metrics,
    rate_limit::{Counted, Demand, Pending, SharedCounters},
};
use tokio::task::AbortHandle;

use self::{
    address::Address,
    cluster::Cluster,
    counters::Counters,
    link::{Link, Origin},
    meters::Meters,
    replays::Replays,
    servers::Servers,
};

/// Both ports. Lives as long as the process.
pub struct RedisStore {
    servers: Servers,
    meters: Arc<Meters>,
    counters: Counters,
    duties: Arc<Duties>,
    keeper: AbortHandle,
}

/// What is done when Redis can be asked again.
struct Duties {
    replays: Arc<Replays>,
}

impl RedisStore {
    /// Begins to connect in the background, on the runtime it is called in: that one must live as long as the store.
    /// A Redis that is not there is an outage, not an error; an error is a URL that cannot be read or is none, and never holds it.
    /// `max_replays` bounds what this instance remembers while `on_outage = "local"`.
    pub fn connect(redis: &model::Redis, max_replays: usize, metrics: &Metrics) -> Result<Arc<Self>, String> {
        let address = Address::read(redis)?;
        let meters = Arc::new(Meters::new(metrics));
        let replays = Arc::new(Replays::new(redis.on_outage, max_replays));
        let duties = Arc::new(Duties { replays });
        let (secrets, budget, server) = (Arc::from(address.secrets()), redis.timeout.get(), address.spelled());
        let one = |origin| {
            let link = Arc::new(Link::new(origin, server, (Arc::clone(&secrets), budget), None, meters.clone()));
            let keeper = tokio::spawn(keeper::keep(link.clone(), duties.clone(), |_| true));
            (Servers::One(link), keeper.abort_handle())
        };
        let (servers, keeper) = match address {
            Address::Server(server) => one(Origin::Server(server)),
            Address::Sentinel { sentinels, master, login, tls } => {
                one(Origin::Sentinel { sentinels, master, login, tls })
            }
            Address::Cluster(seeds) => {
                let cluster = Arc::new(Cluster::new(seeds, secrets.clone(), budget, meters.clone()));
                let keeper = tokio::spawn(cluster.clone().follow(duties.clone())).abort_handle();
                (Servers::Cluster(cluster), keeper)
            }
        };
        Ok(Arc::new(Self { servers, meters, counters: Counters::new(), duties, keeper }))
    }

    /// What [`Self::connect`] would refuse, without connecting.
    pub fn check(redis: &model::Redis) -> Result<(), String> {
        Address::read(redis).map(drop)
    }

    /// Redis answered last time; in a Cluster every primary did.
    pub fn is_up(&self) -> bool {
        self.meters.all_up()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
        if let Servers::Cluster(cluster) = &self.servers {
            cluster.leave();
        }
    }
}

impl SharedCounters for RedisStore {
    fn charge<'a>(&'a self, _: Now, demands: &'a [Demand<'a>]) -> Pending<'a, Vec<Option<Counted>>> {
        Box::pin(self.counters.charge(&self.servers, demands))
    }

    fn refund<'a>(&'a self, _: Now, charged: &'a [(Demand<'a>, u64)]) -> Pending<'a, ()> {
        Box::pin(self.counters.refund(&self.servers, charged))
    }

    fn missed(&self, _: &Demand<'_>, _: u64) {}
}

impl SharedReplays for RedisStore {
    fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now) -> Pending<'_, Mark> {
        Box::pin(self.duties.replays.check_and_mark(&self.servers, id, keep, now))
    }
}

/// `prefix`, then the bytes in lowercase hexadecimal.
fn hex(prefix: &str, bytes: &[u8]) -> String {
    let mut text = String::with_capacity(prefix.len() + bytes.len() * 2);
    text.push_str(prefix);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    text
}
