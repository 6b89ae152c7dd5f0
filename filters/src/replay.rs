//! Where what passes once is remembered, so that none passes twice: envelopes, proofs of possession, operation tokens.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::contract::Now;

/// A name: the first 128 bits of SHA-256 over what it is of (the encryption entry's name, say) and what passes once (the
/// ciphertext).
pub type ReplayId = [u8; 16];

/// What a store says to an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Never seen, and from now on remembered.
    New,
    /// Seen before.
    Seen,
    /// It cannot be remembered, so it cannot be accepted; why, for the log.
    Refused(&'static str),
}

/// Where accepted envelopes are remembered.
#[derive(Clone)]
pub enum ReplayStore {
    Memory(Arc<MemoryReplays>),
    Shared(Arc<dyn SharedReplays>),
}

/// A store shared between instances. Check and mark are one step: of two equal envelopes at once, one is new.
pub trait SharedReplays: Send + Sync {
    /// What an outage means is the implementation's to decide, as `state.redis.on_outage` says.
    fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now)
    -> Pin<Box<dyn Future<Output = Mark> + Send + '_>>;
}

impl ReplayStore {
    /// Remembers `id` for `keep` unless it is remembered already.
    pub async fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now) -> Mark {
        match self {
            Self::Memory(store) => store.check_and_mark(id, keep, now),
            Self::Shared(store) => store.check_and_mark(id, keep, now).await,
        }
    }
}

const SHARDS: usize = 16;

/// This instance's own memory. Bounded; it refuses when full, and never forgets an id before its time: whoever could push
/// ids out could then replay them.
pub struct MemoryReplays {
    max: usize,
    held: AtomicUsize,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    ids: HashSet<ReplayId>,
    /// The soonest to expire first; time on the monotonic clock.
    expiries: BinaryHeap<Reverse<(Duration, ReplayId)>>,
}

impl MemoryReplays {
    /// Allocates nothing yet. `max` ids take about 80 bytes each.
    pub fn new(max: usize) -> Self {
        Self { max, held: AtomicUsize::new(0), shards: Default::default() }
    }

    pub fn check_and_mark(&self, id: ReplayId, keep: Duration, now: Now) -> Mark {
        let shard = &self.shards[usize::from(id[0]) % SHARDS];
        {
            let mut shard = shard.lock();
            self.forget_expired(&mut shard, now);
            if shard.ids.contains(&id) {
                return Mark::Seen;
            }
            if self.take_room() {
                return shard.remember(id, keep, now);
            }
        }
        // Full, unless other shards hold expired ids: a shard is swept only when it is asked. Its lock was given up for
        // this, so the question is asked again.
        for shard in &self.shards {
            self.forget_expired(&mut shard.lock(), now);
        }
        let mut shard = shard.lock();
        if shard.ids.contains(&id) {
            Mark::Seen
        } else if self.take_room() {
            shard.remember(id, keep, now)
        } else {
            Mark::Refused("the memory of what passes once is full (state.max_replays)")
        }
    }

    /// Marks nothing. For a store that this one stands in for while it cannot be reached.
    pub fn holds(&self, id: ReplayId, now: Now) -> bool {
        let mut shard = self.shards[usize::from(id[0]) % SHARDS].lock();
        self.forget_expired(&mut shard, now);
        shard.ids.contains(&id)
    }

    /// How many ids are held, expired ones that no one asked about included.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The count is one over all shards, so that the bound is exact however ids fall.
    fn take_room(&self) -> bool {
        let one_more = |held| (held < self.max).then_some(held + 1);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn forget_expired(&self, shard: &mut Shard, now: Now) {
        let mut forgotten = 0;
        while let Some(Reverse((expiry, id))) = shard.expiries.peek()
            && *expiry < now.monotonic
        {
            shard.ids.remove(id);
            shard.expiries.pop();
            forgotten += 1;
        }
        if forgotten > 0 {
            self.held.fetch_sub(forgotten, Ordering::Relaxed);
        }
    }
}

impl Shard {
    fn remember(&mut self, id: ReplayId, keep: Duration, now: Now) -> Mark {
        self.ids.insert(id);
        self.expiries.push(Reverse((now.monotonic.saturating_add(keep), id)));
        Mark::New
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const KEEP: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Now {
        Now { monotonic: Duration::from_secs(seconds), unix_ms: 0 }
    }

    fn id(number: u64) -> ReplayId {
        // Spread over the shards as hashes are.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        id[8..].copy_from_slice(&number.to_be_bytes());
        id
    }

    #[test]
    fn an_id_is_new_once_until_its_time_is_over() {
        let store = MemoryReplays::new(1000);
        assert_eq!(store.check_and_mark(id(1), KEEP, at(0)), Mark::New);
        assert_eq!(store.check_and_mark(id(1), KEEP, at(0)), Mark::Seen);
        assert_eq!(store.check_and_mark(id(2), KEEP, at(0)), Mark::New);
        // To the last instant, at which its timestamp may still be good.
        assert_eq!(store.check_and_mark(id(1), KEEP, at(600)), Mark::Seen);
        assert!(store.holds(id(1), at(600)) && !store.holds(id(3), at(600)));
        assert!(!store.holds(id(1), at(601)), "and forgotten");
        assert_eq!(store.check_and_mark(id(1), KEEP, at(601)), Mark::New);
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing_early() {
        let store = MemoryReplays::new(1000);
        for number in 0..1000 {
            assert_eq!(store.check_and_mark(id(number), KEEP, at(number / 100)), Mark::New);
        }
        for number in 1000..3000 {
            assert!(matches!(store.check_and_mark(id(number), KEEP, at(600)), Mark::Refused(_)));
        }
        for number in 0..1000 {
            assert_eq!(store.check_and_mark(id(number), KEEP, at(600)), Mark::Seen);
        }
        // The first hundred are over, wherever they are kept: as many and no more find room.
        let new = (5000..6000).filter(|n| store.check_and_mark(id(*n), KEEP, at(601)) == Mark::New).count();
        assert_eq!((new, store.held()), (100, 1000));
    }

    #[test]
    fn periods_of_different_entries_end_each_at_its_time() {
        let store = MemoryReplays::new(1000);
        store.check_and_mark(id(1), KEEP, at(0));
        store.check_and_mark(id(17), Duration::from_secs(10), at(0));
        assert_eq!(store.check_and_mark(id(17), KEEP, at(11)), Mark::New);
        assert_eq!(store.check_and_mark(id(1), KEEP, at(11)), Mark::Seen);
    }

    #[test]
    fn of_equal_envelopes_at_once_exactly_one_is_new() {
        let store = MemoryReplays::new(100);
        for round in 0..200 {
            let new: usize = thread::scope(|scope| {
                let ask = || usize::from(store.check_and_mark(id(round), KEEP, at(round * 1000)) == Mark::New);
                let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
                asked.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(new, 1);
        }
    }

    #[test]
    fn the_bound_holds_under_contention() {
        let store = MemoryReplays::new(5000);
        let new: usize = thread::scope(|scope| {
            let ask = |start: u64| {
                (0..2000).filter(|n| store.check_and_mark(id(start + n), KEEP, at(0)) == Mark::New).count()
            };
            let asked: Vec<_> = (0..4).map(|t| scope.spawn(move || ask(t * 10_000))).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((new, store.held()), (5000, 5000));
    }
}
