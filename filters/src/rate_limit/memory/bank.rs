//! The counters of one rule, and what becomes of a key that finds no room.
//!
//! A check and its charge happen under one lock, so no two requests pass on the same last unit. The lock of a key's shard is
//! also held while a key without a counter is charged to its network: whatever one key does is one after the other.
//!
//! When room comes back, the key's own counter begins with what its network's counter holds. It may have been used up by
//! others; but to begin at zero would give a client 2N in one window, N with its network and N alone.

use std::io;

use super::{
    Fingerprint, MemoryCounters, Room,
    slab::{Class, Slab},
    sync::{AtomicUsize, Mutex, Ordering},
};
use crate::rate_limit::algorithm::{Decision, Layout, Quota, Verdict};

/// Enough that 2 to 32 threads rarely meet, and that growing one index stays under a millisecond at ten million keys.
pub(super) const SHARDS: usize = if cfg!(model) { 2 } else { 128 };
/// Slots looked at for each new key: expired counters go twice as fast as new ones come.
const SWEPT: usize = 2;

pub(in super::super) struct Bank {
    name: Box<str>,
    terms: Quota,
    identity: u64,
    shards: Box<[Shard]>,
    /// Counters of networks. Locked after a shard, never before.
    networks: Mutex<Slab>,
    /// How many of them there are: while there are none, new keys need not look.
    sharing: AtomicUsize,
    /// Counters of keys, of those in the room.
    keys: AtomicUsize,
}

/// On cache lines of its own.
#[repr(align(128))]
struct Shard(Mutex<Slab>);

/// A decision, and the counter that was asked.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Charged {
    pub(in super::super) decision: Decision,
    pub(in super::super) counter: Fingerprint,
    shared: bool,
}

impl Charged {
    /// The key has no counter of its own: it shares that of its network, or of the rest.
    pub(in super::super) fn overflowed(&self) -> bool {
        self.shared
    }
}

impl Bank {
    pub(super) fn new(name: &str, quota: &Quota, identity: u64) -> Self {
        let layout = Layout::new(quota);
        Self {
            name: name.into(),
            terms: quota.clone(),
            identity,
            shards: (0..SHARDS).map(|_| Shard(Mutex::new(Slab::new(layout)))).collect(),
            networks: Mutex::new(Slab::new(layout)),
            sharing: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
        }
    }

    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Those of the policy that made it: the limit may be another now.
    pub(super) fn terms(&self) -> &Quota {
        &self.terms
    }

    /// All its slabs, each under its lock, those of networks last.
    pub(super) fn each_slab(&self, mut look: impl FnMut(&Slab) -> io::Result<()>) -> io::Result<()> {
        self.slabs().try_for_each(|slab| look(&slab.lock()))
    }

    /// As many as [`Self::each_slab`] shows.
    pub(super) const SLABS: usize = SHARDS + 1;

    /// Which of them holds a counter.
    pub(super) fn place(print: Fingerprint) -> usize {
        if print.class() == Class::Network { SHARDS } else { print.shard(SHARDS) }
    }

    /// Takes a slab over.
    pub(super) fn put(&self, place: usize, slab: Slab) {
        match self.shards.get(place) {
            Some(shard) => {
                let keys = slab.iter().filter(|(print, _)| print.class() == Class::Key).count();
                self.keys.fetch_add(keys, Ordering::Relaxed);
                *shard.0.lock() = slab;
            }
            None => {
                self.sharing.store(slab.len(), Ordering::Relaxed);
                *self.networks.lock() = slab;
            }
        }
    }

    fn slabs(&self) -> impl Iterator<Item = &Mutex<Slab>> {
        self.shards.iter().map(|shard| &shard.0).chain([&self.networks])
    }

    /// Same name, window and algorithm: the counts mean the same, whatever the limit.
    pub(super) fn serves(&self, name: &str, quota: &Quota) -> bool {
        *self.name == *name && self.terms.algorithm == quota.algorithm && self.terms.window == quota.window
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.0.lock().len() == 0) && self.networks.lock().len() == 0
    }

    /// Lays the counters out so that they can hold what the quota asks, shard by shard. Counters are never narrowed: the policy
    /// before a reload still counts with the larger limit, and a reload that fails later on must have changed nothing.
    pub(in super::super) fn widen(&self, quota: &Quota) {
        for slab in self.slabs() {
            let mut slab = slab.lock();
            if let Some(layout) = slab.layout().wider(quota) {
                *slab = slab.widened(layout);
            }
        }
    }

    /// Asks the key's counter, and charges it where it agrees and `commit` is set. `network` names the counter the key shares
    /// where it cannot have its own; it is asked for new keys only.
    pub(in super::super) fn decide(
        &self,
        counters: &MemoryCounters,
        (key, network): (Fingerprint, impl FnOnce() -> [Fingerprint; 2]),
        quota: &Quota,
        (now, cost, commit): (u64, u64, bool),
    ) -> Charged {
        let mut slab = self.shard(key).lock();
        let layout = slab.layout();
        if let Some(counter) = slab.find(key) {
            return Charged { decision: layout.decide(counter, quota, now, cost, commit), counter: key, shared: false };
        }
        let shared = network();
        // Under this key's lock: what this key charged to its network before is seen, the rest does not matter.
        let inherits = key.class() == Class::Key && self.sharing.load(Ordering::Relaxed) > 0;
        if !commit {
            // What the counter would begin with, were it made.
            let mut fresh = vec![0; layout.words()];
            if inherits {
                self.inherit(shared, layout, &mut fresh);
            }
            return Charged {
                decision: layout.decide(&mut fresh, quota, now, cost, false),
                counter: key,
                shared: false,
            };
        }
        let room = &counters.room;
        slab.sweep(SWEPT, now, |class| self.give(room, class));
        if self.take(room, key.class()) || {
            slab.sweep(super::SEARCHED, now, |class| self.give(room, class));
            counters.reclaim(now);
            self.take(room, key.class())
        } {
            if let Some(counter) = slab.insert(key) {
                if inherits {
                    self.inherit(shared, layout, counter);
                }
                return Charged {
                    decision: layout.decide(counter, quota, now, cost, true),
                    counter: key,
                    shared: false,
                };
            }
            self.give(room, key.class());
        }
        self.share(shared, room, quota, (now, cost))
    }

    /// Room for one counter more, in a shard.
    fn take(&self, room: &Room, class: Class) -> bool {
        let taken = room.take(class, self.keys.load(Ordering::Relaxed));
        if taken && class == Class::Key {
            self.keys.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    fn give(&self, room: &Room, class: Class) {
        if class == Class::Key {
            self.keys.fetch_sub(1, Ordering::Relaxed);
        }
        room.give(class);
    }

    /// Begins a counter with what the key may have charged to its network's.
    fn inherit(&self, shared: [Fingerprint; 2], layout: Layout, fresh: &mut [u64]) {
        let mut networks = self.networks.lock();
        let from = networks.layout();
        for print in shared {
            if let Some(counter) = networks.find(print) {
                from.widen(counter, &layout, fresh);
                return;
            }
        }
    }

    /// Charges the counter of the key's network; beyond the bound on networks, the one that all the rest share.
    fn share(&self, shared: [Fingerprint; 2], room: &Room, quota: &Quota, (now, cost): (u64, u64)) -> Charged {
        let mut networks = self.networks.lock();
        let layout = networks.layout();
        networks.sweep(SWEPT, now, |class| room.give(class));
        for print in shared {
            if networks.find(print).is_none() && room.take(print.class(), networks.len()) {
                // A network that had no counter may have been charged to the one of the rest.
                let before = networks.find(shared[1]).map(|counter| counter.to_vec());
                match (networks.insert(print), before) {
                    (Some(fresh), Some(before)) => fresh.copy_from_slice(&before),
                    (Some(_), None) => {}
                    (None, _) => room.give(print.class()),
                }
            }
            self.sharing.store(networks.len(), Ordering::Relaxed);
            if let Some(counter) = networks.find(print) {
                // Not for one client's refusal is a network to be punished.
                return Charged {
                    decision: layout.count(counter, quota, now, cost, true),
                    counter: print,
                    shared: true,
                };
            }
        }
        // Only with four million counters in one shard: there is nothing to count in.
        let verdict = Verdict { allowed: false, remaining: 0, wait: quota.window };
        Charged { decision: Decision { verdict, at: now }, counter: shared[1], shared: true }
    }

    /// Gives back a charge, where it is still counted.
    pub(in super::super) fn refund(&self, counter: Fingerprint, quota: &Quota, (at, cost): (u64, u64)) {
        let mut slab = self.shard(counter).lock();
        let layout = slab.layout();
        if let Some(words) = slab.find(counter) {
            layout.refund(words, quota, at, cost);
            return;
        }
        let mut networks = self.networks.lock();
        if let Some(words) = networks.find(counter) {
            layout.refund(words, quota, at, cost);
        }
    }

    /// Looks at a few slots of one shard, if nobody else does.
    pub(super) fn reclaim(&self, shard: usize, slots: usize, now: u64, room: &Room) {
        if let Some(mut slab) = self.shards[shard % SHARDS].0.try_lock() {
            slab.sweep(slots, now, |class| self.give(room, class));
        }
        if let Some(mut networks) = self.networks.try_lock() {
            networks.sweep(SWEPT, now, |class| room.give(class));
            self.sharing.store(networks.len(), Ordering::Relaxed);
        }
    }

    fn shard(&self, print: Fingerprint) -> &Mutex<Slab> {
        &self.shards[print.shard(SHARDS)].0
    }
}
