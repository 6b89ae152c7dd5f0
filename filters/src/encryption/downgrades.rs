//! The strongest envelope that each caller has sent: what the downgrade lock remembers.
//!
//! In the memory of this instance, and where the configuration has a shared store, there too. An instance tells the store of a caller
//! once a day (and with each envelope while it gives no answer, which its breaker makes short), and asks it only about an envelope that
//! is weaker than others of its entry.

use std::{
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    mem,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{
    contract::{Now, Principal},
    crypto,
};

/// Who sent an envelope, and where. User ids are unique within the method that proved them.
#[derive(Clone, Copy, Hash)]
pub(super) struct Caller<'c> {
    entry: &'c str,
    method: &'c str,
    user_id: &'c str,
}

impl<'c> Caller<'c> {
    pub(super) fn new(entry: &'c str, principal: &'c Principal) -> Self {
        Self { entry, method: &principal.method, user_id: principal.user_id.as_str() }
    }

    /// The same in every instance, and no name in clear.
    fn id(self) -> CallerId {
        let fields = ["gapura downgrade v1", self.entry, self.method, self.user_id].map(str::as_bytes);
        let digest: [u8; 32] = Sha256::digest(crypto::fields(fields)).into();
        let mut id = CallerId::default();
        id.copy_from_slice(&digest[..16]);
        id
    }
}

/// The first 128 bits of SHA-256 over entry, method and user id.
pub type CallerId = [u8; 16];

type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A memory that instances share.
pub trait SharedDowngrades: Send + Sync {
    /// This caller has sent an envelope of this strength. False: there is no answer.
    fn tell(&self, id: CallerId, strength: u8, keep: Duration) -> Pending<'_, bool>;
    /// The strongest that it has sent, above one strength and up to another.
    fn strongest(&self, id: CallerId, above: u8, most: u8) -> Pending<'_, Known>;
}

/// What a shared memory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// 0: none.
    Strength(u8),
    /// It gives no answer: each instance decides by what it has seen itself.
    Unknown,
    /// It gives no answer, and without one nothing passes; why, for the log.
    Refused(&'static str),
}

/// How long a shared memory keeps a caller who sends nothing strong any more.
const KEEP: Duration = Duration::from_secs(30 * 86_400);
/// How often it is told of one who does.
const AGAIN: Duration = Duration::from_secs(86_400);

const SHARDS: usize = 16;
/// Callers of one shard that are remembered for certain; twice as many at most are held, about 4 MiB over all shards.
const GENERATION: usize = 4096;

/// The strongest envelope of each caller. Bounded: where there are more callers than it holds, it forgets those who sent
/// nothing for the longest time.
pub struct Downgrades {
    /// Random: nobody can choose an id that falls together with another's.
    hash: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
    shared: Option<Arc<dyn SharedDowngrades>>,
}

#[derive(Default)]
struct Shard {
    young: HashMap<u128, Seen>,
    old: HashMap<u128, Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    strength: u8,
    /// From when on the shared memory is to be told: hours of the monotonic clock.
    tell_from: u32,
}

impl Default for Downgrades {
    fn default() -> Self {
        Self { hash: [RandomState::new(), RandomState::new()], shards: Default::default(), shared: None }
    }
}

impl Downgrades {
    pub fn shared(store: Arc<dyn SharedDowngrades>) -> Self {
        Self { shared: Some(store), ..Self::default() }
    }

    /// Whether this caller has sent a stronger envelope than this, of those up to `most`. The error: nobody can say, and nothing
    /// passes without.
    pub(super) async fn is_weaker(&self, caller: Caller<'_>, strength: u8, most: u8) -> Result<bool, &'static str> {
        if strength < self.own(caller) {
            return Ok(true);
        }
        let Some(shared) = self.shared.as_ref().filter(|_| strength < most) else { return Ok(false) };
        match shared.strongest(caller.id(), strength, most).await {
            Known::Strength(found) if found > strength => {
                let key = self.key(caller);
                self.shard(key).lock().raise(key, found);
                Ok(true)
            }
            Known::Strength(_) | Known::Unknown => Ok(false),
            Known::Refused(why) => Err(why),
        }
    }

    /// An envelope was accepted.
    pub(super) async fn sent(&self, caller: Caller<'_>, strength: u8, now: Now) {
        let key = self.key(caller);
        let seen = self.shard(key).lock().raise(key, strength);
        let hour = hours(now.monotonic);
        let Some(shared) = self.shared.as_ref().filter(|_| seen.strength > 0 && seen.tell_from <= hour) else { return };
        if shared.tell(caller.id(), seen.strength, KEEP).await {
            self.shard(key).lock().told(key, hour + hours(AGAIN));
        }
    }

    /// What this instance knows.
    fn own(&self, caller: Caller<'_>) -> u8 {
        let key = self.key(caller);
        self.shard(key).lock().look(key).strength
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        &self.shards[(key as usize) % SHARDS]
    }

    fn key(&self, caller: Caller<'_>) -> u128 {
        let [high, low] = self.hash.each_ref().map(|hash| u128::from(hash.hash_one(caller)));
        high << 64 | low
    }
}

fn hours(time: Duration) -> u32 {
    u32::try_from(time.as_secs() / 3600).unwrap_or(u32::MAX / 2)
}

impl Shard {
    /// Looking keeps young: who is refused stays known.
    fn look(&mut self, key: u128) -> Seen {
        if let Some(seen) = self.young.get(&key) {
            return *seen;
        }
        let Some(seen) = self.old.remove(&key) else { return Seen::default() };
        self.keep(key, seen);
        seen
    }

    fn raise(&mut self, key: u128, strength: u8) -> Seen {
        let seen = self.look(key);
        if strength <= seen.strength {
            return seen;
        }
        let seen = Seen { strength, tell_from: 0 };
        self.keep(key, seen);
        seen
    }

    fn told(&mut self, key: u128, tell_from: u32) {
        let seen = self.look(key);
        if seen.strength > 0 {
            self.keep(key, Seen { tell_from, ..seen });
        }
    }

    fn keep(&mut self, key: u128, seen: Seen) {
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, seen);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::{Context, Poll, Waker},
    };

    use super::*;

    impl Downgrades {
        fn note(&self, caller: Caller<'_>, strength: u8) {
            ready(self.sent(caller, strength, at(0)));
        }

        fn strongest(&self, caller: Caller<'_>) -> u8 {
            self.own(caller)
        }
    }

    fn at(hours: u64) -> Now {
        Now { monotonic: Duration::from_secs(hours * 3600), unix_ms: 0 }
    }

    fn caller<'c>(entry: &'c str, user_id: &'c str) -> Caller<'c> {
        Caller { entry, method: "jwt.users", user_id }
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// What instances share; `None` while it cannot be asked.
    #[derive(Default)]
    struct Store(Mutex<Option<HashMap<CallerId, u8>>>, AtomicUsize);

    impl SharedDowngrades for Store {
        fn tell(&self, id: CallerId, strength: u8, _: Duration) -> Pending<'_, bool> {
            self.1.fetch_add(1, Relaxed);
            let told = self.0.lock().as_mut().map(|held| held.insert(id, strength)).is_some();
            Box::pin(async move { told })
        }

        fn strongest(&self, id: CallerId, above: u8, _: u8) -> Pending<'_, Known> {
            self.1.fetch_add(1, Relaxed);
            let known = match &*self.0.lock() {
                None => Known::Refused("away"),
                Some(held) => Known::Strength(held.get(&id).copied().filter(|held| *held > above).unwrap_or(0)),
            };
            Box::pin(async move { known })
        }
    }

    #[test]
    fn instances_tell_each_other_and_ask_only_of_weaker_ones() {
        let store = Arc::new(Store::default());
        *store.0.lock() = Some(HashMap::new());
        let [one, other] = [(), ()].map(|()| Downgrades::shared(store.clone()));
        let u1 = caller("a", "u1");
        assert_eq!(ready(one.is_weaker(u1, 3, 3)), Ok(false));
        for hours in [0, 1, 23] {
            ready(one.sent(u1, 3, at(hours)));
        }
        assert_eq!(store.1.load(Relaxed), 1, "told once, and nobody was asked");
        assert_eq!(ready(other.is_weaker(u1, 0, 3)), Ok(true));
        assert_eq!(ready(other.is_weaker(caller("b", "u1"), 0, 3)), Ok(false));
        let asked = store.1.load(Relaxed);
        assert_eq!(ready(other.is_weaker(u1, 1, 3)), Ok(true), "known by now");
        assert_eq!(store.1.load(Relaxed), asked);
        // So that it does not end with the time for which it was told.
        ready(one.sent(u1, 3, at(24)));
        assert_eq!(store.1.load(Relaxed), asked + 1);
    }

    #[test]
    fn what_could_not_be_told_is_told_with_the_next_envelope() {
        let store = Arc::new(Store::default());
        let one = Downgrades::shared(store.clone());
        let u1 = caller("a", "u1");
        ready(one.sent(u1, 3, at(0)));
        assert_eq!(ready(one.is_weaker(u1, 0, 3)), Ok(true), "its own memory is enough");
        assert_eq!(ready(one.is_weaker(caller("a", "u2"), 0, 3)), Err("away"));
        *store.0.lock() = Some(HashMap::new());
        ready(one.sent(u1, 3, at(0)));
        assert_eq!(ready(Downgrades::shared(store).is_weaker(u1, 0, 3)), Ok(true));
    }

    #[test]
    fn the_strongest_is_remembered_of_each_caller_and_entry() {
        let seen = Downgrades::default();
        seen.note(caller("a", "u1"), 3);
        seen.note(caller("a", "u1"), 1);
        assert_eq!(seen.strongest(caller("a", "u1")), 3);
        assert_eq!(seen.strongest(caller("a", "u2")), 0);
        assert_eq!(seen.strongest(caller("b", "u1")), 0);
        assert_eq!(seen.strongest(Caller { method: "jwt.others", ..caller("a", "u1") }), 0);
    }

    #[test]
    fn memory_is_bounded_and_whoever_is_asked_for_stays() {
        let seen = Downgrades::default();
        seen.note(caller("a", "asked"), 3);
        for at in 0..SHARDS * GENERATION * 4 {
            seen.note(caller("a", &at.to_string()), 2);
            if at % 1000 == 0 {
                assert_eq!(seen.strongest(caller("a", "asked")), 3, "after {at}");
            }
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let held: usize = seen.shards.iter().map(held).sum();
        assert!(held <= 2 * SHARDS * GENERATION, "{held}");
    }
}
