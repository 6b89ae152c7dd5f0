//! Accepted envelopes: `SET key NX PX keep`, which is check and mark in one step.
//!
//! With `on_outage = "local"` this instance remembers for itself while Redis does not answer. What it remembered is owed to Redis,
//! and paid before Redis is asked again: an envelope accepted during an outage is not accepted once more after it, by no instance.
//! (During it, each of the others could; who cannot live with that writes `closed`.)

use std::time::{Duration, Instant};

use gapura_config::model::OnOutage;
use gapura_filters::{
    contract::Now,
    encryption::{Mark, MemoryReplays, ReplayId},
};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::timeout};

use super::{cluster, hex, road::Road, servers::Servers};

const PREFIX: &str = "gapura:replay:";
/// Paid in one round trip.
const BATCH: usize = 500;
const SETTLING: Duration = Duration::from_secs(2);

pub(super) struct Replays {
    on_outage: OnOutage,
    local: MemoryReplays,
    /// Accepted without Redis, and until when they are remembered. No more than `local` holds, and those that expired since.
    owed: Mutex<Vec<Owed>>,
    owing: Notify,
    max: usize,
}

/// With its slot.
type Owed = (ReplayId, Instant, u16);

/// Taken to be paid. What is not is owed again, also where the one who pays is stopped: its server is no primary any more.
struct Held<'a> {
    due: Vec<Owed>,
    owed: &'a Mutex<Vec<Owed>>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.owed.lock().append(&mut self.due);
    }
}

impl Replays {
    pub(super) fn new(on_outage: OnOutage, max: usize) -> Self {
        let local = MemoryReplays::new(max);
        Self { on_outage, local, owed: Mutex::default(), owing: Notify::new(), max }
    }

    pub(super) async fn check_and_mark(&self, servers: &Servers, id: ReplayId, keep: Duration, now: Now) -> Mark {
        // Also before it is paid.
        if self.local.held() > 0 && self.local.holds(id, now) {
            return Mark::Seen;
        }
        let key = key(id);
        let question = async |mut connection: Road| set(id, keep).query_async::<Value>(&mut connection).await;
        let asked = servers.ask(&key, question);
        match (asked.await, self.on_outage) {
            (Ok(Value::Okay), _) => Mark::New,
            (Ok(_), _) => Mark::Seen,
            (Err(_), OnOutage::Open) => Mark::New,
            (Err(_), OnOutage::Closed) => Mark::Refused("Redis does not answer, and on_outage is \"closed\""),
            (Err(_), OnOutage::Local) => {
                let mark = self.local.check_and_mark(id, keep, now);
                if mark == Mark::New {
                    self.owe(id, keep);
                    // While there is no connection nobody waits for it: what is owed is paid before the next one is used.
                    if servers.link(&key).is_some_and(|link| link.is_up()) {
                        self.owing.notify_waiters();
                    }
                }
                mark
            }
        }
    }

    /// Until something is owed for one of these slots.
    pub(super) async fn owing(&self, mine: &impl Fn(u16) -> bool) {
        loop {
            let owing = self.owing.notified();
            if self.owed.lock().iter().any(|(_, _, slot)| mine(*slot)) {
                return;
            }
            owing.await;
        }
    }

    /// Pays what is owed for these slots; or what is wrong, for the log.
    pub(super) async fn settle(
        &self,
        mut connection: MultiplexedConnection,
        mine: &impl Fn(u16) -> bool,
    ) -> Result<(), String> {
        let mut held = {
            let mut owed = self.owed.lock();
            let (due, others) = owed.drain(..).partition(|(_, _, slot)| mine(*slot));
            *owed = others;
            Held { due, owed: &self.owed }
        };
        while !held.due.is_empty() {
            let rest = held.due.len().saturating_sub(BATCH);
            let batch = &held.due[rest..];
            let mut pipeline = Pipeline::with_capacity(batch.len());
            let now = Instant::now();
            for (id, until, _) in batch.iter().filter(|(_, until, _)| *until > now) {
                pipeline.add_command(set(*id, *until - now)).ignore();
            }
            let paid = pipeline.is_empty()
                || matches!(timeout(SETTLING, pipeline.query_async::<()>(&mut connection)).await, Ok(Ok(())));
            if !paid {
                return Err("the envelopes of the outage cannot be written".to_owned());
            }
            held.due.truncate(rest);
        }
        Ok(())
    }

    /// The servers have changed: what is owed may be another's to pay.
    pub(super) fn wake(&self) {
        self.owing.notify_waiters();
    }

    fn owe(&self, id: ReplayId, keep: Duration) {
        let now = Instant::now();
        let mut owed = self.owed.lock();
        // In a long outage most have expired: at twice the bound at least half have.
        if owed.len() >= self.max.saturating_mul(2) {
            owed.retain(|(_, until, _)| *until > now);
        }
        owed.push((id, now + keep, slot(id)));
    }
}

fn key(id: ReplayId) -> String {
    hex(PREFIX, &id)
}

fn slot(id: ReplayId) -> u16 {
    cluster::slot(&key(id))
}

/// `id` is a hash already. A millisecond more than asked: memory remembers to the last instant too.
fn set(id: ReplayId, keep: Duration) -> Cmd {
    let millis = u64::try_from(keep.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).saturating_add(1);
    let mut set = redis::cmd("SET");
    // Redis refuses periods that end after the year 292 million.
    set.arg(key(id)).arg(1).arg("NX").arg("PX").arg(millis.min(1 << 50));
    set
}
