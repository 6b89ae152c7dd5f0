//! Limits and replays shared between instances, in Redis 6 or newer, one server or what stands for it at one address.
//!
//! * one connection per process (`link`), kept by a task of its own (`keeper`);
//! * one script call per request for all its rules, on Redis' clock (`counters`, `charge.lua`, `refund.lua`);
//! * one `SET NX` per envelope (`replays`).
//!
//! `rediss://` trusts the authorities of the system, or those that the environment variable `SSL_CERT_FILE` names.
//!
//! What it writes begins with `gapura:`, holds no personal data in clear, and expires by itself. Let Redis evict none of it
//! (`maxmemory-policy noeviction`): an evicted counter is a fresh quota, an evicted envelope may come again. Its user needs
//! `~gapura:* +evalsha +eval +time +get +set +del +llen +lindex +ltrim +rpush +lrem +pexpire`.

mod counters;
mod keeper;
mod link;
mod replays;

use std::{sync::Arc, time::Duration};

use gapura_config::model::{self, OnOutage};
use gapura_filters::{
    contract::Now,
    encryption::{Mark, ReplayId, SharedReplays},
    metrics::Metrics,
    rate_limit::{Counted, Demand, Outage, Pending, SharedCounters},
};
use tokio::task::AbortHandle;

use self::{counters::Counters, link::Link, replays::Replays};

/// Both ports over one connection. Lives as long as the process.
pub struct RedisStore {
    link: Arc<Link>,
    counters: Counters,
    replays: Arc<Replays>,
    outage: Outage,
    keeper: AbortHandle,
}

impl RedisStore {
    /// Begins to connect in the background, on the runtime it is called in: that one must live as long as the store.
    /// A Redis that is not there is an outage, not an error; an error is a URL that cannot be read or is none, and never holds it.
    /// `max_replays` bounds what this instance remembers while `on_outage = "local"`.
    pub fn connect(redis: &model::Redis, max_replays: usize, metrics: &Metrics) -> Result<Arc<Self>, String> {
        let link = link(redis, metrics)?;
        let link = Arc::new(link);
        let replays = Arc::new(Replays::new(redis.on_outage, max_replays));
        let keeper = tokio::spawn(keeper::keep(link.clone(), replays.clone())).abort_handle();
        let outage = match redis.on_outage {
            OnOutage::Local => Outage::Local,
            OnOutage::Open => Outage::Open,
            OnOutage::Closed => Outage::Closed,
        };
        Ok(Arc::new(Self { link, counters: Counters::new(), replays, outage, keeper }))
    }

    /// What [`Self::connect`] would refuse, without connecting.
    pub fn check(redis: &model::Redis, metrics: &Metrics) -> Result<(), String> {
        link(redis, metrics).map(drop)
    }

    /// Redis answered last time.
    pub fn is_up(&self) -> bool {
        self.link.is_up()
    }
}

fn link(redis: &model::Redis, metrics: &Metrics) -> Result<Link, String> {
    let secret = redis.url.read()?;
    let url = std::str::from_utf8(secret.bytes()).map_err(|_| format!("`{}` is no text", redis.url))?;
    Link::new(url, redis.timeout.get(), metrics).map_err(|fault| format!("`{}`: {fault}", redis.url))
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl SharedCounters for RedisStore {
    fn charge<'a>(&'a self, _: Now, demands: &'a [Demand<'a>]) -> Pending<'a, Result<Vec<Counted>, Outage>> {
        Box::pin(async move { self.counters.charge(&self.link, demands).await.map_err(|_| self.outage) })
    }

    fn refund<'a>(&'a self, _: Now, charged: &'a [(Demand<'a>, u64)]) -> Pending<'a, ()> {
        Box::pin(self.counters.refund(&self.link, charged))
    }
}

impl SharedReplays for RedisStore {
    fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now) -> Pending<'_, Mark> {
        Box::pin(self.replays.check_and_mark(&self.link, id, keep, now))
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
