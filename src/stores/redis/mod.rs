//! Limits, replays, downgrade locks, lock-outs and revocations shared between instances, in Redis 6 or newer: one server, one that Sentinels name, or a Cluster.
//!
//! * where it is (`address`), and whom a question goes to (`servers`, `cluster`);
//! * one connection per server and process (`link`), kept by a task of its own (`keeper`);
//! * one script call per request for all its rules, on Redis' clock (`counters`, `charge.lua`, `refund.lua`);
//! * decisions of this instance, far from a limit (`adaptive`, `loans`, `borrow.lua`), and of an outage (`ledger`);
//! * one `SET NX` per envelope (`replays`);
//! * how strong the envelopes of callers were: told once a day, asked about weaker ones (`downgrades`);
//! * one script call per failed authentication (`lockouts`, `lockout.lua`);
//! * revoked tokens: one script call for each, and a look for those of others every 200 ms (`revocations`, `revoke.lua`).
//!
//! `rediss://` trusts the authorities of the system, or those that the environment variable `SSL_CERT_FILE` names.
//!
//! What it writes begins with `gapura:`, holds no personal data in clear, and expires by itself. Let Redis evict none of it
//! (`maxmemory-policy noeviction`): an evicted counter is a fresh quota, an evicted envelope may come again. Its user needs
//! `~gapura:* +evalsha +eval +time +get +set +del +llen +lindex +ltrim +rpush +lrem +pexpire +zadd +zcard +zrange +zrangebyscore
//! +zrem +hget +hmget +hset +hdel`, in a Cluster also `+cluster|slots`; at Sentinels `+sentinel|get-master-addr-by-name`.

mod adaptive;
mod address;
mod cluster;
mod counters;
mod downgrades;
mod keeper;
mod ledger;
mod link;
mod loans;
mod lockouts;
mod meters;
mod replays;
mod revocations;
mod road;
mod servers;
mod terms;
mod together;

use std::{sync::Arc, time::Duration};

use gapura_config::model::{self, LimitAlgorithm, RedisMode};
use gapura_filters::{
    authentication::{
        Failed, LockoutKey, LockoutTerms, RevocationEntry, Revocations as Held, SharedLockouts, SharedRevocations,
        Unpublished,
    },
    contract::Now,
    encryption::{CallerId, Known, Mark, ReplayId, SharedDowngrades, SharedReplays},
    metrics::Metrics,
    rate_limit::{Counted, Demand, Pending, Quota, SharedCounters},
};
use tokio::task::AbortHandle;

use self::{
    adaptive::Adaptive,
    address::Address,
    cluster::Cluster,
    counters::Counters,
    downgrades::Downgrades,
    ledger::Ledger,
    link::{Link, Origin},
    lockouts::Lockouts,
    meters::Meters,
    replays::Replays,
    revocations::Revocations,
    servers::Servers,
};

/// All ports. Lives as long as the process.
pub struct RedisStore {
    servers: Servers,
    meters: Arc<Meters>,
    adaptive: Option<Arc<Adaptive>>,
    lockouts: Arc<Lockouts>,
    downgrades: Downgrades,
    revocations: Arc<Revocations>,
    duties: Arc<Duties>,
    tasks: Vec<AbortHandle>,
}

/// What is done when Redis can be asked again.
struct Duties {
    replays: Replays,
    ledger: Ledger,
    counters: Counters,
}

impl RedisStore {
    /// Begins to connect in the background, on the runtime it is called in: that one must live as long as the store.
    /// A Redis that is not there is an outage, not an error; an error is a URL that cannot be read or is none, and never holds it.
    /// `max_replays` bounds what this instance remembers while `on_outage = "local"`, `max_keys` the counters it knows something of.
    pub fn connect(
        redis: &model::Redis,
        (max_keys, max_replays): (usize, usize),
        metrics: &Metrics,
    ) -> Result<Arc<Self>, String> {
        let address = Address::read(redis)?;
        let meters = Arc::new(Meters::new(metrics));
        let replays = Replays::new(redis.on_outage, max_replays);
        let duties = Arc::new(Duties { replays, ledger: Ledger::new(max_keys), counters: Counters::new() });
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
        let revocations = Arc::new(Revocations::new(redis.on_outage));
        let lockouts = Arc::new(Lockouts::new());
        let mut tasks = vec![
            keeper,
            tokio::spawn(revocations.clone().follow(servers.clone())).abort_handle(),
            tokio::spawn(lockouts.clone().follow(servers.clone())).abort_handle(),
        ];
        let adaptive = (redis.mode == RedisMode::Adaptive).then(|| {
            let adaptive = Arc::new(Adaptive::new(redis.instances.unwrap_or(1), max_keys, budget));
            let (reporter, servers, duties) = (adaptive.clone(), servers.clone(), duties.clone());
            let report = async move { reporter.report(&servers, &duties.counters).await };
            tasks.push(tokio::spawn(report).abort_handle());
            adaptive
        });
        let downgrades = Downgrades::new(redis.on_outage);
        Ok(Arc::new(Self { servers, meters, adaptive, lockouts, downgrades, revocations, duties, tasks }))
    }

    /// What [`Self::connect`] would refuse, without connecting.
    pub fn check(redis: &model::Redis) -> Result<(), String> {
        Address::read(redis).map(drop)
    }

    /// What this instance and others have revoked.
    pub fn revocations(&self) -> &Arc<Held> {
        self.revocations.held()
    }

    /// Redis answered last time; in a Cluster every primary did.
    pub fn is_up(&self) -> bool {
        self.meters.all_up()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if let Servers::Cluster(cluster) = &self.servers {
            cluster.leave();
        }
    }
}

impl SharedCounters for RedisStore {
    fn charge<'a>(&'a self, _: Now, demands: &'a [Demand<'a>]) -> Pending<'a, Vec<Option<Counted>>> {
        let Self { servers, meters, adaptive, duties, .. } = self;
        Box::pin(async move {
            match adaptive {
                Some(adaptive) => adaptive.charge((servers, &duties.counters, meters), demands).await,
                None => duties.counters.charge((servers, meters), demands).await,
            }
        })
    }

    fn refund<'a>(&'a self, _: Now, charged: &'a [(Demand<'a>, u64)]) -> Pending<'a, ()> {
        let Self { servers, adaptive, duties, .. } = self;
        Box::pin(async move {
            match adaptive {
                Some(adaptive) => adaptive.refund(servers, &duties.counters, charged).await,
                None => duties.counters.refund(servers, charged).await,
            }
        })
    }

    fn missed(&self, demand: &Demand<'_>, held: u64) {
        let (name, terms) = terms::named(&self.servers, demand);
        let Quota { algorithm, limit, window, burst, .. } = *demand.quota;
        // A bucket that is full drains for longer than one window, or not as long.
        let windows = if algorithm == LimitAlgorithm::Gcra { burst as f64 / limit.max(1) as f64 } else { 1.0 };
        self.duties.ledger.note(name, terms, (demand.cost, held), window.mul_f64(windows.min(1000.0)));
    }
}

impl SharedReplays for RedisStore {
    fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now) -> Pending<'_, Mark> {
        Box::pin(self.duties.replays.check_and_mark(&self.servers, id, keep, now))
    }
}

impl SharedDowngrades for RedisStore {
    fn tell(&self, id: CallerId, strength: u8, keep: Duration) -> Pending<'_, bool> {
        Box::pin(self.downgrades.tell(&self.servers, id, strength, keep))
    }

    fn strongest(&self, id: CallerId, above: u8, most: u8) -> Pending<'_, Known> {
        Box::pin(self.downgrades.strongest(&self.servers, id, above, most))
    }
}

impl SharedLockouts for RedisStore {
    fn fail<'a>(
        &'a self,
        address: &'a LockoutKey,
        identity: Option<&'a LockoutKey>,
        terms: &'a LockoutTerms,
    ) -> Pending<'a, Option<Failed>> {
        Box::pin(self.lockouts.fail(&self.servers, address, identity, terms))
    }

    fn left(&self, address: &LockoutKey) -> Option<Duration> {
        self.lockouts.left(address)
    }
}

impl SharedRevocations for RedisStore {
    fn publish<'a>(&'a self, entry: &'a RevocationEntry) -> Pending<'a, Result<(), Unpublished>> {
        Box::pin(self.revocations.publish(&self.servers, entry))
    }
}

/// Of a rule with this limit, how many more than it `mode = "adaptive"` may admit in a window; None where it decides as `sync`.
pub fn adaptive_excess(limit: u64, instances: u64) -> Option<u64> {
    let share = loans::share(limit, instances.max(1));
    (share > 0).then(|| share * (instances.max(1) - 1))
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
