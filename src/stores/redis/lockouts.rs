//! Failed authentications of all instances, counted together: one script call for each failure.
//!
//! Who is locked out is looked up every [`POLL`], as revocations are: so a lock holds at every instance soon after it began at one. One small
//! question tells that nothing is new. At most [`MOST`] are told so; of more at once an instance learns with the first failure that it
//! sees itself.
//!
//! In an outage each instance counts for itself. What it has locked it holds, and what Redis has locked holds where it was told.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use gapura_filters::authentication::{Failed, LockoutKey, LockoutTerms};
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::{counters::Script, hex, revocations::POLL, road::Road, servers::Servers, terms::micros};

/// Failures are few, and one script decides about an address and an identity: in a Cluster all records stand in one slot.
const TAG: &str = "lockouts";
const LOCKED: &str = "gapura:{lockouts}:locked";
const CHANGED: &str = "gapura:{lockouts}:changed";
/// Of those that are told to other instances: some 100 KB, where all change between two looks.
const MOST: usize = 1024;
/// Each question of a look.
const STEP: Duration = Duration::from_secs(1);

pub(super) struct Lockouts {
    fail: Script,
    /// Until when, of all instances.
    locked: ArcSwap<HashMap<Mark, Instant>>,
}

/// Hashed, as keys of counters are: an address is personal data.
type Mark = [u8; 16];
/// Who is locked, and by when that ends: µs of Redis' clock.
type Told = (Vec<u8>, f64);

impl Lockouts {
    pub(super) fn new() -> Self {
        Self { fail: Script::new(include_str!("lockout.lua")), locked: ArcSwap::default() }
    }

    /// None: there is no answer.
    pub(super) async fn fail(
        &self,
        servers: &Servers,
        address: &LockoutKey,
        identity: Option<&LockoutKey>,
        terms: &LockoutTerms,
    ) -> Option<Failed> {
        let mark = mark("address", address);
        let mut keys = vec![key("address", &mark), LOCKED.to_owned(), CHANGED.to_owned()];
        keys.extend(identity.map(|identity| key("identity", &self::mark("identity", identity))));
        let LockoutTerms { failures, window, duration, max_duration } = *terms;
        let times = [window, duration, max_duration].map(micros);
        let numbers = [u64::from(failures)].into_iter().chain(times).map(|number| number.to_string().into_bytes());
        let arguments: Vec<Vec<u8>> = numbers.chain([mark.to_vec(), MOST.to_string().into_bytes()]).collect();
        let question = async |connection: Road| {
            let [locked, begins, watched]: [i64; 3] =
                self.fail.run::<Vec<i64>>(connection, &keys, &arguments).await?.try_into().map_err(|_| {
                    RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered with something else"))
                })?;
            Ok(Failed { locked: lasting(locked), begins: begins == 1, watched: lasting(watched) })
        };
        servers.ask(TAG, question).await.ok()
    }

    /// How long an address is locked out still, as far as this instance was told.
    pub(super) fn left(&self, address: &LockoutKey) -> Option<Duration> {
        let locked = self.locked.load();
        if locked.is_empty() {
            return None;
        }
        let left = locked.get(&mark("address", address))?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Looks again and again. Ends with the store: it is aborted.
    pub(super) async fn follow(self: Arc<Self>, servers: Servers) {
        let mut seen = None;
        loop {
            if let Some(link) = servers.link(TAG)
                && let Some(connection) = link.connection()
            {
                // The breaker hears of a Redis that is silent from those who wait for it.
                if let Ok(Err(fault)) = timeout(STEP, self.look(connection, &mut seen)).await {
                    link.heard(&fault);
                }
            }
            sleep(POLL).await;
        }
    }

    async fn look(&self, mut connection: MultiplexedConnection, seen: &mut Option<String>) -> RedisResult<()> {
        let changed: Option<String> = redis::cmd("GET").arg(CHANGED).query_async(&mut connection).await?;
        if changed == *seen {
            return Ok(());
        }
        let mut both = Pipeline::with_capacity(2);
        both.cmd("TIME").cmd("ZRANGEBYSCORE").arg(LOCKED).arg("-inf").arg("+inf").arg("WITHSCORES");
        both.arg("LIMIT").arg(0).arg(MOST);
        let (time, told): ((u64, u64), Vec<Told>) = both.query_async(&mut connection).await?;
        self.learn(time.0 * 1_000_000 + time.1, &told, Instant::now());
        *seen = changed;
        Ok(())
    }

    /// What Redis says when its clock shows `there`. A Redis that has forgotten unlocks nobody.
    fn learn(&self, there: u64, told: &[Told], now: Instant) {
        let mut locked: HashMap<Mark, Instant> = self.locked.load().iter().map(|(mark, end)| (*mark, *end)).collect();
        locked.retain(|_, end| *end > now);
        for (mark, end) in told {
            let left = Duration::from_micros((*end as u64).saturating_sub(there));
            if let (Ok(mark), Some(end)) = (Mark::try_from(&mark[..]), now.checked_add(left))
                && !left.is_zero()
                && (locked.len() < 2 * MOST || locked.contains_key(&mark))
            {
                locked.insert(mark, end);
            }
        }
        self.locked.store(Arc::new(locked));
    }
}

/// Some time, in µs.
fn lasting(time: i64) -> Option<Duration> {
    u64::try_from(time).ok().filter(|time| *time > 0).map(Duration::from_micros)
}

fn mark(kind: &str, key: &LockoutKey) -> Mark {
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(key).finalize();
    let mut mark = Mark::default();
    mark.copy_from_slice(&hash[..16]);
    mark
}

fn key(kind: &str, mark: &Mark) -> String {
    hex(&format!("gapura:{{{TAG}}}:{kind}:"), mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_holds_until_its_end_whatever_redis_forgets() {
        let (lockouts, now) = (Lockouts::new(), Instant::now());
        let address = |number: usize| {
            let mut address = LockoutKey::default();
            address[..8].copy_from_slice(&number.to_be_bytes());
            address
        };
        let told = |number: usize, end: f64| (mark("address", &address(number)).to_vec(), end);
        lockouts.learn(1_000_000, &[told(1, 61_000_000.0), told(2, 900_000.0), (b"short".to_vec(), 9e9)], now);
        assert!(lockouts.left(&address(1)).is_some_and(|left| left > Duration::from_secs(50)));
        assert_eq!([lockouts.left(&address(2)), lockouts.left(&address(3))], [None; 2]);
        lockouts.learn(1_000_000, &[], now);
        assert!(lockouts.left(&address(1)).is_some());
        // Bounded, whatever Redis says.
        let flood: Vec<_> = (10..10_000).map(|number| told(number, 61_000_000.0)).collect();
        lockouts.learn(1_000_000, &flood, now);
        assert_eq!(lockouts.locked.load().len(), 2 * MOST);
        lockouts.learn(1_000_000, &[], now + Duration::from_secs(61));
        assert!(lockouts.locked.load().is_empty());
    }
}
