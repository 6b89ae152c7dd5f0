//! Records in this process's memory: bounded, and a lock is never pushed out.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use super::record::{Record, Terms};

/// An address or an identity: see [`address_key`] and `Claimed`.
pub type Key = [u8; 16];

/// Records of each kind; some 80 bytes each, 5 MiB when full.
const MAX_RECORDS: usize = 65_536;
const SHARDS: usize = 16;
/// Looked at for one that may be forgotten.
const SEARCHED: usize = 32;
/// Between two passes over a full shard.
const SWEEP: Duration = Duration::from_secs(1);

/// Records of one kind: whoever can make up identities without end must not crowd out addresses.
#[derive(Default)]
pub(super) struct Ledger {
    hash: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    /// While there are none, which is nearly always, a request costs one load.
    held: AtomicUsize,
}

#[derive(Default)]
struct Shard {
    records: HashMap<Key, Record>,
    swept: Duration,
}

impl Ledger {
    pub(super) fn left(&self, key: &Key, now: Duration) -> Option<Duration> {
        if self.held.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.shard(key).lock().records.get(key)?.left(now)
    }

    /// Changes the record of a key, made for this if need be. None: there is no room for it, and no record that may be forgotten.
    pub(super) fn note<T>(
        &self,
        key: &Key,
        now: Duration,
        terms: &Terms,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Option<T> {
        let mut shard = self.shard(key).lock();
        let before = shard.records.len();
        let room = shard.records.contains_key(key) || shard.has_room(now, terms);
        let changed = room.then(|| change(shard.records.entry(*key).or_default()));
        let after = shard.records.len();
        // Under the lock of the shard, so the sum over all shards is exact.
        if after > before {
            self.held.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.held.fetch_sub(before - after, Ordering::Relaxed);
        }
        changed
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        // Keyed: nobody can choose addresses that all meet in one.
        &self.shards[usize::try_from(self.hash.hash_one(key) % SHARDS as u64).unwrap_or(0)]
    }
}

impl Shard {
    fn has_room(&mut self, now: Duration, terms: &Terms) -> bool {
        const MOST: usize = MAX_RECORDS / SHARDS;
        if self.records.len() < MOST {
            return true;
        }
        if now >= self.swept + SWEEP {
            self.swept = now;
            self.records.retain(|_, record| !record.is_over(now, terms));
        }
        if self.records.len() >= MOST {
            let light = self.records.iter().take(SEARCHED).find(|(_, record)| record.is_light());
            let light = light.map(|(key, _)| *key);
            light.and_then(|key| self.records.remove(&key));
        }
        self.records.len() < MOST
    }
}

/// A subscriber has a /64 as a rule, and every address in it.
pub(super) fn address_key(address: IpAddr) -> Key {
    let mut key = Key::default();
    match address.to_canonical() {
        IpAddr::V4(address) => {
            key[0] = 4;
            key[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            key[0] = 6;
            key[1..9].copy_from_slice(&address.octets()[..8]);
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        failures: 2,
        window: Duration::from_secs(60),
        duration: Duration::from_secs(30),
        max_duration: Duration::from_secs(3600),
    };

    fn key(number: usize) -> Key {
        address_key(IpAddr::from((number as u32).to_be_bytes()))
    }

    fn fail(ledger: &Ledger, number: usize, now: Duration) -> Option<Option<Duration>> {
        ledger.note(&key(number), now, &TERMS, |record| record.fail(now, &TERMS))
    }

    #[test]
    fn it_is_bounded_and_no_flood_pushes_a_lock_out() {
        let ledger = Ledger::default();
        let now = Duration::from_secs(100);
        fail(&ledger, 0, now);
        assert_eq!(fail(&ledger, 0, now), Some(Some(TERMS.duration)));
        for number in 1..3 * MAX_RECORDS {
            fail(&ledger, number, now);
        }
        let held: usize = ledger.shards.iter().map(|shard| shard.lock().records.len()).sum();
        assert_eq!(held, ledger.held.load(Ordering::Relaxed));
        assert!((MAX_RECORDS / 2..=MAX_RECORDS).contains(&held), "{held}");
        assert!(ledger.left(&key(0), now).is_some());
        // What is over makes room by itself.
        let later = now + TERMS.max_duration * 2;
        for number in 0..2 * MAX_RECORDS {
            assert!(fail(&ledger, 10_000_000 + number, later).is_some());
        }
    }

    #[test]
    fn a_ledger_full_of_locks_takes_no_more() {
        let ledger = Ledger::default();
        let now = Duration::from_secs(100);
        for number in 0..2 * MAX_RECORDS {
            ledger.note(&key(number), now, &TERMS, |record| record.lock(now, &TERMS));
        }
        assert_eq!(ledger.held.load(Ordering::Relaxed), MAX_RECORDS);
        assert_eq!(fail(&ledger, 10_000_000, now), None);
    }

    #[test]
    fn an_ipv6_subscriber_is_one() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
    }
}
