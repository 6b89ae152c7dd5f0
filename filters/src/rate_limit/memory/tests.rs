use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use gapura_config::model::LimitAlgorithm;

use super::*;
use crate::rate_limit::algorithm::Verdict;

const SECOND: u64 = 1_000_000_000;

fn per_minute(limit: u64) -> Quota {
    Quota {
        algorithm: LimitAlgorithm::SlidingWindow,
        limit,
        window: Duration::from_secs(60),
        burst: limit,
        penalty: Duration::ZERO,
    }
}

/// One rule over a store, asked by number of client; client `n` is in network `n / 256`.
struct Asked {
    counters: MemoryCounters,
    bank: Arc<Bank>,
    quota: Quota,
}

impl Asked {
    fn new(max_keys: usize, quota: Quota) -> Self {
        let counters = MemoryCounters::new(max_keys);
        Self { bank: counters.bank("general", &quota), counters, quota }
    }

    fn key(&self, client: u64) -> Fingerprint {
        let mut hasher = self.counters.hasher(&self.bank);
        hasher.write_u64(client);
        key(&hasher)
    }

    fn charge(&self, client: u64, now: u64) -> Charged {
        self.ask(self.key(client), client / 256, now, true)
    }

    fn ask(&self, print: Fingerprint, subnet: u64, now: u64, commit: bool) -> Charged {
        let networks = || {
            let mut hasher = self.counters.hasher(&self.bank);
            let rest = fixed(&hasher);
            hasher.write_u64(subnet);
            [network(&hasher), rest]
        };
        self.bank.decide(&self.counters, (print, networks), &self.quota, (now, 1, commit))
    }

    fn verdict(&self, client: u64, now: u64) -> Verdict {
        self.charge(client, now).decision.verdict
    }
}

#[test]
fn a_flood_evicts_no_live_counter_and_shares_what_is_left() {
    let asked = Asked::new(1000, per_minute(3));
    for client in 0..1000 {
        asked.charge(client * 256, SECOND);
    }
    assert_eq!(asked.counters.keys(), 1000);
    // 20 000 new clients of one network get what one client gets, together.
    let flood = 1 << 40;
    let passed = (0..20_000).filter(|n| asked.verdict(flood + n % 256, SECOND).allowed).count();
    assert_eq!(passed, 3);
    assert!(asked.charge(flood, SECOND).overflowed());
    assert_eq!(asked.counters.keys(), 1000);
    // A neighbour network has its own, and who was there before keeps exactly what was left.
    assert!(asked.verdict(flood + 256, SECOND).allowed);
    for client in 0..1000 {
        assert_eq!(asked.verdict(client * 256, SECOND).remaining, 1);
    }
    // Networks are bounded too: all beyond that bound share one counter.
    let networks = 64;
    let passed = (2..networks + 500).filter(|n| asked.verdict(flood + n * 256, SECOND).allowed).count() as u64;
    assert_eq!(passed, networks - 2 + 3);
}

#[test]
fn expired_counters_make_room_first() {
    let asked = Asked::new(1000, per_minute(3));
    for client in 0..1000 {
        asked.charge(client, SECOND);
    }
    // Another rule of the same store finds the room that the first no longer needs.
    let other = Asked { bank: asked.counters.bank("other", &asked.quota), ..asked };
    let later = 100 * SECOND;
    let own = (0..4000).filter(|&client| !other.charge(client * 256, later).overflowed()).count();
    // As much as one of two rules may have.
    assert_eq!([other.counters.keys(), own], [750, 750]);
}

/// Whoever chooses the keys of one rule.
#[test]
fn a_flood_of_one_rule_leaves_room_to_the_others() {
    let flooded = Asked::new(1000, per_minute(3));
    let [second, third] = ["second", "third"].map(|name| flooded.counters.bank(name, &flooded.quota));
    let own = |bank: &Arc<Bank>, clients: std::ops::Range<u64>| {
        let one = |client: u64| {
            let mut hasher = flooded.counters.hasher(bank);
            hasher.write_u64(client);
            let print = key(&hasher);
            let charged = bank.decide(
                &flooded.counters,
                (print, || [network(&hasher), fixed(&hasher)]),
                &flooded.quota,
                (SECOND, 1, true),
            );
            charged.overflowed()
        };
        clients.filter(|&client| !one(client)).count()
    };
    assert_eq!(own(&flooded.bank, 0..5000), 750);
    // Its networks leave room to those of others, too.
    assert!(flooded.bank.counted().1 <= 48, "{:?}", flooded.bank.counted());
    // Another that is flooded does not take all that is left.
    assert_eq!(own(&second, 0..5000), 188);
    assert_eq!(own(&third, 0..40), 40);
    assert!(flooded.counters.keys() <= 1000);
    // Nobody who was there has lost anything.
    assert_eq!([own(&flooded.bank, 0..750), own(&second, 0..188), own(&third, 0..40)], [750, 188, 40]);
    assert!(flooded.counters.keys() <= 1000);
}

#[test]
fn who_shared_a_counter_does_not_get_the_limit_twice() {
    let asked = Asked::new(1000, per_minute(3));
    for client in 0..1000 {
        asked.charge(client * 256, SECOND);
    }
    let late = 5 << 30;
    let overflowed = |now| asked.charge(late, now).overflowed();
    // Two of three with the network, half a minute on.
    assert!(overflowed(30 * SECOND) && overflowed(30 * SECOND));
    // The thousand have expired: there is room again, and the own counter begins where the network's was.
    let now = 70 * SECOND;
    for client in 1000..1500 {
        asked.charge(client * 256, now);
    }
    let charged = asked.charge(late, now);
    assert!(!charged.overflowed());
    assert_eq!(charged.decision.verdict, Verdict { allowed: true, remaining: 0, wait: Duration::from_secs(21) });
    assert!(!asked.verdict(late, now).allowed);
}

#[test]
fn a_global_counter_is_never_split_by_a_flood() {
    let asked = Asked::new(1000, per_minute(3));
    for client in 0..2000 {
        asked.charge(client * 256, SECOND);
    }
    let mut hasher = asked.counters.hasher(&asked.bank);
    hasher.write_u8(7);
    let global = fixed(&hasher);
    let passed = (0..100).filter(|&n| asked.ask(global, n, SECOND, true).decision.verdict.allowed).count();
    assert_eq!(passed, 3);
}

#[test]
fn a_question_makes_no_counter() {
    let asked = Asked::new(1000, per_minute(3));
    for client in 0..500 {
        assert_eq!(asked.ask(asked.key(client), 0, SECOND, false).decision.verdict.remaining, 3);
    }
    assert_eq!(asked.counters.keys(), 0);
}

#[test]
fn threads_together_get_exactly_the_limit() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let asked = Asked::new(1000, Quota { algorithm, ..per_minute(1000) });
        let passed: usize = thread::scope(|scope| {
            let ask = |_| scope.spawn(|| (0..2000).filter(|_| asked.verdict(1, SECOND).allowed).count());
            let threads: Vec<_> = (0..4).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1000, "{algorithm:?}");
    }
}

/// A million decisions from four threads, on a clock that they push on, with charges given back among them: what stays admitted is
/// never more than the limit in any window.
#[test]
fn threads_together_never_exceed_the_limit_in_any_window() {
    const EACH: usize = 250_000;
    let limit = 500;
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog] {
        let asked = Asked::new(1000, Quota { algorithm, ..per_minute(limit) });
        let clock = AtomicU64::new(SECOND);
        let mut kept: Vec<u64> = thread::scope(|scope| {
            let ask = |thread: u64| {
                let (asked, clock) = (&asked, &clock);
                scope.spawn(move || {
                    let (mut kept, mut dice) = (Vec::new(), 0x9E37_79B9_7F4A_7C15 + thread);
                    for _ in 0..EACH {
                        dice ^= dice << 13;
                        dice ^= dice >> 7;
                        dice ^= dice << 17;
                        // Twelve times as fast as the limit: a second passes in a hundred decisions.
                        let now = clock.fetch_add(dice % (SECOND / 50), Ordering::Relaxed);
                        let charged = asked.charge(1, now);
                        if !charged.decision.verdict.allowed {
                            continue;
                        }
                        match dice >> 61 {
                            0 => asked.bank.refund(charged.counter, &asked.quota, (charged.decision.at, 1)),
                            _ => kept.push(charged.decision.at),
                        }
                    }
                    kept
                })
            };
            let threads: Vec<_> = (0..4).map(ask).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        kept.sort_unstable();
        let window = 60 * SECOND;
        // The one so many later than another is in a later window.
        let limit = limit as usize;
        assert!(kept.iter().zip(&kept[limit..]).all(|(first, later)| later - first >= window), "{algorithm:?}");
        assert!(kept.len() > 20 * limit, "{algorithm:?}: {}", kept.len());
    }
}

/// New clients from all threads at once, with room for few: nobody gets more than the limit, whatever counter he ends in.
#[test]
fn threads_in_a_flood_get_no_more_than_the_limit() {
    let asked = Asked::new(1000, per_minute(3));
    let passed: Vec<u64> = thread::scope(|scope| {
        let ask = |_| {
            scope.spawn(|| {
                let asked = &asked;
                (0..6000_u64)
                    .flat_map(|n| [n % 1500, n])
                    .filter(|client| asked.verdict(client * 256, SECOND + client % 7 * SECOND / 3).allowed)
                    .collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..4).map(ask).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let clients: HashSet<_> = passed.iter().collect();
    for client in clients {
        assert!(passed.iter().filter(|&passed| passed == client).count() <= 3);
    }
}

#[test]
fn a_reload_keeps_counts_and_a_changed_limit_goes_on_counting() {
    let mut asked = Asked::new(1000, per_minute(100));
    for _ in 0..90 {
        asked.charge(1, SECOND);
    }
    // The same again, then from 8 to 16 to 21 to 32 bits a slice.
    for (limit, remaining) in [(100, 9), (1_000, 908), (1_000_000, 999_907), (1_000_000_000, 999_999_906)] {
        asked.quota = per_minute(limit);
        asked.bank = asked.counters.bank("general", &asked.quota);
        assert_eq!(asked.verdict(1, SECOND).remaining, remaining);
    }
    // Below what was admitted.
    asked.quota = per_minute(50);
    asked.bank = asked.counters.bank("general", &asked.quota);
    assert_eq!(asked.verdict(1, SECOND), Verdict { allowed: false, remaining: 0, wait: Duration::from_secs(61) });
    // Another window is another count.
    asked.quota.window = Duration::from_secs(30);
    asked.bank = asked.counters.bank("general", &asked.quota);
    assert_eq!(asked.verdict(1, SECOND).remaining, 49);
}

#[test]
fn a_rule_that_is_gone_is_dropped_when_nothing_in_it_counts() {
    let asked = Asked::new(1000, per_minute(3));
    let bank = asked.counters.bank("other", &asked.quota);
    drop(bank);
    asked.counters.bank("third", &asked.quota);
    assert_eq!(asked.counters.banks.read().len(), 2);
    // With counts it waits for its rule to come back.
    asked.charge(1, SECOND);
    let Asked { counters, bank, quota } = asked;
    drop(bank);
    let again = Asked { bank: counters.bank("general", &quota), counters, quota };
    assert_eq!(again.verdict(1, SECOND).remaining, 1);
}

#[test]
fn a_refund_finds_its_counter() {
    let asked = Asked::new(1000, per_minute(3));
    let refund = |charged: Charged| asked.bank.refund(charged.counter, &asked.quota, (charged.decision.at, 1));
    for _ in 0..10 {
        let charged = asked.charge(1, SECOND);
        assert!(charged.decision.verdict.allowed);
        refund(charged);
    }
    for client in 0..1000 {
        asked.charge(client * 256, SECOND);
    }
    for _ in 0..10 {
        let charged = asked.charge(7 << 30, SECOND);
        assert!(charged.decision.verdict.allowed && charged.overflowed());
        refund(charged);
    }
}

#[test]
fn a_flood_that_is_over_leaves_nothing_behind() {
    let asked = Asked::new(100_000, per_minute(3));
    for client in 0..50_000 {
        asked.charge(client, SECOND);
    }
    assert_eq!(asked.counters.keys(), 50_000);
    // New clients at a later time, fewer of them: two slots are looked at for each.
    for client in 50_000..90_000 {
        asked.charge(client, 100 * SECOND);
    }
    assert!(asked.counters.keys() < 50_000, "{}", asked.counters.keys());
    for client in 100_000..140_000 {
        asked.charge(client, 200 * SECOND);
    }
    assert!(asked.counters.keys() < 45_000, "{}", asked.counters.keys());
}
