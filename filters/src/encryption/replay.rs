//! Where accepted envelopes are remembered, so that none is accepted twice.

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

/// An envelope's name: the first 128 bits of SHA-256 over the encryption entry's name and the ciphertext.
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
            Mark::Refused("the memory of accepted envelopes is full (state.max_replays)")
        }
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
