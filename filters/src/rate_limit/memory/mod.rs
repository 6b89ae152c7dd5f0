//! Counters in this process's memory: sharded, bounded, and never emptied by a flood.
//!
//! A [`Bank`] holds the counters of one rule. What is shared between banks is the room: at most `max_keys` counters of clients'
//! keys over all rules, and of several rules none takes all of it ([`Room::take`]). When it is used up and nothing has expired, a new key is charged to a bucket that it shares with its
//! network (`bank`); to evict a live counter instead would hand out fresh quota to whoever can send from many addresses.

mod bank;
mod index;
mod slab;
mod snapshot;
mod sync;

use std::{hash::Hasher, sync::Arc};

use siphasher::sip128::{Hasher128, SipHasher13};

pub use self::snapshot::{Amount, MAGIC as SNAPSHOT_MAGIC, Restored, Unusable};
pub(super) use self::{
    bank::{Bank, Charged},
    slab::Fingerprint,
};
use self::{
    slab::Class,
    sync::{AtomicUsize, Ordering, RwLock},
};
use super::algorithm::{Layout, Quota};

/// The counters of all rules; it outlives every policy, so that a reload keeps every count.
pub struct MemoryCounters {
    /// Of this process, or of the one whose counts it goes on with: who cannot know it cannot choose keys that meet in one counter or one shard (SipHash-1-3).
    secret: (u64, u64),
    room: Room,
    banks: RwLock<Vec<Arc<Bank>>>,
    /// Where the search for expired counters goes on: bank and shard.
    search: AtomicUsize,
}

/// How many counters there are, and may be. Those whose number the configuration bounds (`global`, `route`, the anonymous
/// ones) are not counted and always find room: a flood by address must not split a global limit.
#[derive(Debug)]
struct Room {
    max_keys: usize,
    max_networks: usize,
    keys: AtomicUsize,
    networks: AtomicUsize,
    /// Banks.
    rules: AtomicUsize,
}

/// Of several rules none holds more than this many times the room that is left. One whose keys a client chooses, by a header,
/// would otherwise leave none to the others: it stops at three quarters, two of them at three sevenths each, and of what is
/// left a rule that begins gets three quarters in its turn. No rule has to be given anything back for that, whichever come and go.
const GREED: usize = 3;

/// Slots looked at in its own shard and in another for each new key that finds no room: a pass over 200 000 in some 3000 requests.
const SEARCHED: usize = 32;

impl MemoryCounters {
    /// `max_keys` counters of keys, and a sixteenth more for the networks of those that find no room.
    pub fn new(max_keys: usize) -> Self {
        Self {
            secret: (rand::random(), rand::random()),
            room: Room {
                max_keys,
                max_networks: (max_keys / 16).max(64),
                keys: AtomicUsize::new(0),
                networks: AtomicUsize::new(0),
                rules: AtomicUsize::new(0),
            },
            banks: RwLock::new(Vec::new()),
            search: AtomicUsize::new(0),
        }
    }

    /// Counters of clients' keys that are held now, the expired and not yet reclaimed among them.
    pub fn keys(&self) -> usize {
        self.room.keys.load(Ordering::Relaxed)
    }

    /// The counters of the rule `name`: those that exist, where algorithm and window are the same. The limit may differ.
    pub(super) fn bank(&self, name: &str, quota: &Quota) -> Arc<Bank> {
        let mut banks = self.banks.write();
        // Of rules that are gone: as soon as nothing in them counts. A rule that comes back before finds its counts.
        banks.retain(|bank| Arc::strong_count(bank) > 1 || !bank.is_empty());
        let bank = match banks.iter().find(|bank| bank.serves(name, quota)) {
            Some(bank) => Arc::clone(bank),
            None => {
                let bank = Arc::new(Bank::new(name, quota, rand::random()));
                banks.push(Arc::clone(&bank));
                bank
            }
        };
        self.room.rules.store(banks.len(), Ordering::Relaxed);
        drop(banks);
        bank.widen(quota);
        bank
    }

    /// Starts the fingerprint of a key of one bank.
    pub(super) fn hasher(&self, bank: &Bank) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write_u64(bank.identity());
        hasher
    }

    /// Looks for expired counters anywhere, a few at a time. Only tries locks: the caller holds one.
    fn reclaim(&self, now: u64) {
        let Some(banks) = self.banks.try_read() else { return };
        if banks.is_empty() {
            return;
        }
        let at = self.search.fetch_add(1, Ordering::Relaxed);
        // Consecutive searches visit all banks, then the next shard.
        if let Some(bank) = banks.get(at % banks.len()) {
            bank.reclaim(at / banks.len(), SEARCHED, now, &self.room);
        }
    }
}

impl Room {
    /// For one that holds so many of this class already. Never more than there may be, whatever a thread sees of `held`.
    fn take(&self, class: Class, held: usize) -> bool {
        let (used, most) = match class {
            Class::Key => (&self.keys, self.max_keys),
            Class::Network => (&self.networks, self.max_networks),
            Class::Fixed => return true,
        };
        let left = if self.rules.load(Ordering::Relaxed) > 1 { held / GREED } else { 0 };
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n + left < most).then_some(n + 1)).is_ok()
    }

    fn give(&self, class: Class) {
        match class {
            Class::Key => self.keys.fetch_sub(1, Ordering::Relaxed),
            Class::Network => self.networks.fetch_sub(1, Ordering::Relaxed),
            Class::Fixed => 0,
        };
    }
}

/// At most: a counter, and its place in the index.
pub(super) fn bytes_per_key(quota: &Quota) -> usize {
    slab::bytes(Layout::new(quota)) + index::BYTES
}

/// A counter that its owner's key names.
pub(super) fn key(hasher: &SipHasher13) -> Fingerprint {
    fingerprint(hasher, Class::Key)
}
/// A counter that the configuration names.
pub(super) fn fixed(hasher: &SipHasher13) -> Fingerprint {
    fingerprint(hasher, Class::Fixed)
}
/// A counter for those of one network who found no room.
pub(super) fn network(hasher: &SipHasher13) -> Fingerprint {
    fingerprint(hasher, Class::Network)
}

fn fingerprint(hasher: &SipHasher13, class: Class) -> Fingerprint {
    let hash = hasher.finish128();
    Fingerprint::new(hash.h1, hash.h2, class)
}

#[cfg(all(test, model))]
mod model;
#[cfg(all(test, not(model)))]
mod tests;
