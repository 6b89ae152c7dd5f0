//! `[state]`: where counts, replays and lock-outs are kept, and by which clock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, Config},
};
use gapura_filters::{
    authentication::Lockouts,
    contract::{Clock, Now, Services},
    encryption::{Downgrades, ReplayStore},
    metrics::Metrics,
    rate_limit::{Amount, CounterStore},
};

use super::{CannotStart, Gateway};
use crate::stores::{RedisStore, snapshot};

/// The clocks of the machine.
pub(crate) struct SystemClock {
    since: Instant,
    /// What the monotonic clock had run up before this process, where counters go on from then.
    before: Duration,
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { monotonic: self.before + self.since.elapsed(), unix_ms: unix_ms() }
    }
}

pub(super) fn unix_ms() -> u64 {
    // A wall clock before 1970 is as wrong as one at 1970.
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// State as `[state]` says. Within the runtime that serves: a shared store connects in the background.
pub(super) fn services(config: &Config) -> Result<Services, CannotStart> {
    let metrics =
        Metrics::new().map_err(|why| CannotStart::Environment(format!("the metrics cannot be registered: {why}")))?;
    let state = &config.state;
    let mut services = Services::in_memory(state.max_keys, state.max_replays, Arc::new(metrics));
    if let (model::Store::Redis, Some(redis)) = (state.store, &state.redis) {
        let store = RedisStore::connect(redis, (state.max_keys, state.max_replays), &services.metrics);
        let store = store.map_err(|why| CannotStart::Faults(vec![redis_fault(why)]))?;
        let local = services.counters.memory().clone();
        let on_outage = redis.on_outage;
        services.counters = CounterStore::Shared { shared: store.clone(), local, on_outage };
        services.replays = ReplayStore::Shared(store.clone());
        services.revocations = store.revocations().clone();
        services.shared_revocations = Some(store.clone());
        services.downgrades = Arc::new(Downgrades::shared(store.clone()));
        services.lockouts = Arc::new(Lockouts::shared(store));
    }
    Ok(services)
}

/// Counters of the process before this one, where they are kept; and the clock by which they count.
pub(super) fn resume(config: &Config, services: &mut Services) -> Result<SystemClock, CannotStart> {
    let mut clock = SystemClock { since: Instant::now(), before: Duration::ZERO };
    let Some(path) = &config.state.snapshot else { return Ok(clock) };
    snapshot::check(path).map_err(|wrong| CannotStart::Faults(vec![snapshot_fault(wrong)]))?;
    if let Some(restored) = snapshot::restore(path, config, clock.now().unix_ms) {
        clock.before = restored.monotonic;
        services.counters = CounterStore::Memory(Arc::new(restored.counters));
    }
    Ok(clock)
}

/// What [`services`] would refuse, without connecting to anything.
pub(crate) fn store_faults(config: &Config) -> Vec<Fault> {
    let redis = config.state.redis.as_ref().filter(|_| config.state.store == model::Store::Redis);
    let checked = redis.map_or(Ok(()), RedisStore::check);
    let kept = config.state.snapshot.as_ref().map_or(Ok(()), |path| snapshot::check(path));
    let kept = kept.err().map(snapshot_fault);
    checked.err().map(redis_fault).into_iter().chain(kept).collect()
}

fn redis_fault(why: String) -> Fault {
    let place = Place::root().key("state").key("redis").key("url");
    Fault::at(place, why)
        .help("set the variable or name a readable file that holds `redis://HOST:PORT` or `rediss://HOST:PORT`")
}

fn snapshot_fault(wrong: snapshot::Wrong) -> Fault {
    Fault::at(Place::root().key("state").key("snapshot"), wrong.what).help(wrong.help)
}

/// How long the start waits for a store that it cannot do without.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

impl Gateway {
    /// Where everything that counts would be refused without Redis, there must be one to begin with. With any other
    /// `on_outage` its absence is an outage, as it is later; so it is in a Cluster, of which a part may be there.
    pub(crate) async fn await_store(&self) -> Result<(), String> {
        let live = self.live();
        let state = &live.config.state;
        let Some(redis) = state.redis.as_ref().filter(|_| state.store == model::Store::Redis) else { return Ok(()) };
        if redis.on_outage == model::OnOutage::Closed && !redis.cluster {
            let up = self.services.metrics.store_up.with_label_values(&["redis"]);
            if !within_patience(|| up.get() > 0).await {
                return Err(
                    "Redis cannot be reached, and `on_outage` is \"closed\": all that is limited would be refused"
                        .to_owned(),
                );
            }
        }
        // Else the first requests would bring tokens in that other instances have revoked.
        within_patience(|| !self.services.revocations.is_blind(self.clock.now().unix_ms)).await;
        Ok(())
    }

    /// Writes the counters for the next process, where they are to be kept. What fails is only the file: this process has ended well.
    pub(crate) fn save(&self) {
        let live = self.live();
        let Some(path) = &live.config.state.snapshot else { return };
        match snapshot::save(path, self.services.counters.memory(), self.clock.now()) {
            Ok(Amount { rules, counters }) => {
                log::info!("{counters} counters of {rules} rules written to {}", path.display());
            }
            Err(why) => log::error!("the counters cannot be written to {}: {why}", path.display()),
        }
    }
}

/// Whether it comes to be.
async fn within_patience(holds: impl Fn() -> bool) -> bool {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STORE_PATIENCE, waiting).await.is_ok()
}
