//! Every interleaving of two requests, with weak memory: `make test-model`.
//!
//! The number of counters, and whether there are any of networks, stand in atomics beside the locks. What must hold whatever one
//! thread sees of another's: no more counters than there may be, and no more for a client than the limit, whichever counter it
//! is that its requests end in.

use std::{hash::Hasher as _, sync::Arc, time::Duration};

use gapura_config::model::LimitAlgorithm;
use loom::thread;

use super::{bank::SHARDS, *};

const SECOND: u64 = 1_000_000_000;
/// Within the window of second 1, and behind it.
const LATE: u64 = 40 * SECOND;
const AFTER: u64 = 70 * SECOND;

fn explore(test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // More switches than any fault between a few locks has been known to need.
    builder.preemption_bound = Some(3);
    builder.check(test);
}

/// A store with room for so many keys and one network, and one rule over it. Nothing in it is random: each run has to go as the last.
struct Store {
    counters: MemoryCounters,
    bank: Arc<Bank>,
    quota: Quota,
}

impl Store {
    fn new(max_keys: usize, limit: u64) -> Arc<Self> {
        let quota = Quota {
            algorithm: LimitAlgorithm::SlidingWindow,
            limit,
            window: Duration::from_secs(60),
            burst: limit,
            penalty: Duration::ZERO,
        };
        let [keys, networks, rules] = [0, 0, 1].map(AtomicUsize::new);
        let room = Room { max_keys, max_networks: 1, keys, networks, rules };
        let bank = Arc::new(Bank::new("general", &quota, 7));
        let banks = RwLock::new(vec![Arc::clone(&bank)]);
        let counters = MemoryCounters { secret: (1, 2), room, banks, search: AtomicUsize::new(0) };
        Arc::new(Self { counters, bank, quota })
    }

    fn hashed(&self, number: u64) -> SipHasher13 {
        let mut hasher = self.counters.hasher(&self.bank);
        hasher.write_u64(number);
        hasher
    }

    fn key(&self, client: u64) -> Fingerprint {
        key(&self.hashed(client))
    }

    fn charge(&self, client: u64, now: u64) -> Charged {
        // Of one network.
        let networks = || [network(&self.hashed(u64::MAX)), fixed(&self.counters.hasher(&self.bank))];
        self.bank.decide(&self.counters, (self.key(client), networks), &self.quota, (now, 1, true))
    }

    fn passes(&self, client: u64, now: u64) -> u64 {
        u64::from(self.charge(client, now).decision.verdict.allowed)
    }
}

/// Two threads, each asking for the clients in its list; what each client got of all.
fn both(store: &Arc<Store>, asked: [Vec<(u64, u64)>; 2]) -> Vec<(u64, u64)> {
    let [mine, other] = asked;
    let there = Arc::clone(store);
    let run = |store: &Store, list: &[(u64, u64)]| -> Vec<_> {
        list.iter().map(|&(client, now)| (client, store.passes(client, now))).collect()
    };
    let spawned = thread::spawn(move || run(&there, &other));
    let mut all = run(store, &mine);
    all.extend(spawned.join().unwrap());
    all
}

fn got(all: &[(u64, u64)], client: u64) -> u64 {
    all.iter().filter(|(one, _)| *one == client).map(|(_, passed)| passed).sum()
}

#[test]
fn two_never_pass_on_the_same_last_unit() {
    explore(|| {
        let store = Store::new(1, 1);
        let all = both(&store, [vec![(1, SECOND)], vec![(1, SECOND)]]);
        assert_eq!(got(&all, 1), 1);
        assert_eq!(store.counters.keys(), 1);
    });
}

/// Room for one: the other shares a counter with its network, whoever comes first.
#[test]
fn there_are_never_more_counters_than_room() {
    explore(|| {
        let store = Store::new(1, 1);
        // Under another lock: only the atomic stands between the two.
        let other = (2..).find(|&client| Bank::place(store.key(client)) != Bank::place(store.key(1))).unwrap();
        let all = both(&store, [vec![(1, SECOND); 2], vec![(other, SECOND); 2]]);
        assert_eq!([got(&all, 1), got(&all, other)], [1, 1]);
        assert_eq!(store.counters.keys(), 1);
    });
}

/// The first counter has expired; room comes back while a client that shared its network's counter asks again: it does not get the
/// limit a second time, though the thread that finds the room may know nothing of the other.
#[test]
fn who_shared_a_counter_never_gets_the_limit_twice() {
    explore(|| {
        let store = Store::new(1, 1);
        assert_eq!(store.passes(1, SECOND), 1);
        let all = both(&store, [vec![(2, LATE), (2, AFTER)], vec![(3, AFTER)]]);
        assert!(got(&all, 2) <= 1, "{all:?}");
        assert!(store.counters.keys() <= 1);
    });
}

/// A refund finds the counter that was charged, and gives one unit back to one who asks.
#[test]
fn a_refund_is_had_once() {
    explore(|| {
        let store = Store::new(1, 1);
        let charged = store.charge(1, SECOND);
        let there = Arc::clone(&store);
        let refund = thread::spawn(move || {
            there.bank.refund(charged.counter, &there.quota, (charged.decision.at, 1));
        });
        let passed = store.passes(1, SECOND) + store.passes(1, SECOND);
        refund.join().unwrap();
        assert_eq!(passed + store.passes(1, SECOND), 1);
    });
}

const _: () = assert!(SHARDS <= 4, "each lock is one more thing that every step of a model looks at");
