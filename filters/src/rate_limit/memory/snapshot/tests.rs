use std::cell::Cell;

use gapura_config::{
    model::{LimitBy, LimitKey},
    units::Period,
};
use proptest::prelude::*;

use super::{
    super::{fixed, key, network},
    *,
};
use crate::rate_limit::algorithm::Verdict;

const SECOND: u64 = 1_000_000_000;

fn rule(algorithm: LimitAlgorithm, limit: u64, window: u64) -> RateLimit {
    RateLimit { algorithm, ..RateLimit::new(limit, Period::secs(window), LimitBy::from(LimitKey::ClientIp)) }
}

type Rules = BTreeMap<String, RateLimit>;

fn rules(list: &[(&str, RateLimit)]) -> Rules {
    list.iter().map(|(name, rule)| ((*name).to_owned(), rule.clone())).collect()
}

/// Hourly rules of each algorithm.
fn hourly(limit: u64) -> Rules {
    let names = [("window", ALGORITHMS[0]), ("log", ALGORITHMS[1]), ("bucket", ALGORITHMS[2])];
    names.map(|(name, algorithm)| (name.to_owned(), rule(algorithm, limit, 3600))).into()
}

/// Asks for one rule of a store; client `n` is in network `n / 256`.
fn ask(counters: &MemoryCounters, name: &str, rule: &RateLimit, client: u64, now: u64) -> Verdict {
    let quota = Quota::new(rule).unwrap();
    let bank = counters.bank(name, &quota);
    let hashed = |number: u64| {
        let mut hasher = counters.hasher(&bank);
        std::hash::Hasher::write_u64(&mut hasher, number);
        hasher
    };
    let networks = || [network(&hashed(client / 256)), fixed(&counters.hasher(&bank))];
    bank.decide(counters, (key(&hashed(client)), networks), &quota, (now, 1, true)).decision.verdict
}

fn instant(at: u64, unix_ms: u64) -> Now {
    Now { monotonic: Duration::from_nanos(at), unix_ms }
}

fn saved(counters: &MemoryCounters, now: Now) -> Vec<u8> {
    let mut bytes = Vec::new();
    counters.save(now, &mut bytes).unwrap();
    bytes
}

fn restored(rules: &Rules, unix_ms: u64, bytes: &[u8]) -> Restored {
    MemoryCounters::restore(1000, rules, unix_ms, bytes).unwrap_or_else(|why| panic!("{why}"))
}

fn refusal(bytes: &[u8]) -> String {
    MemoryCounters::restore(1000, &hourly(10), 0, bytes).err().expect("it is not usable").to_string()
}

#[test]
fn what_was_used_up_stays_used_up_until_its_time() {
    let rules = hourly(10);
    let counters = MemoryCounters::new(1000);
    let at = 50 * SECOND;
    for (name, rule) in &rules {
        assert_eq!((0..20).filter(|_| ask(&counters, name, rule, 1, at).allowed).count(), 10);
        assert_eq!(ask(&counters, name, rule, 2, at).remaining, 9);
    }
    let bytes = saved(&counters, instant(at, 1_000_000));
    // Ten minutes later by the wall clock.
    let Restored { counters, monotonic, age, kept, dropped } = restored(&rules, 1_600_000, &bytes);
    assert_eq!((kept, dropped), (Amount { rules: 3, counters: 6 }, Amount::default()));
    assert_eq!((age, monotonic), (Duration::from_millis(599_999), Duration::from_millis(649_999)));
    assert_eq!(counters.keys(), 6);
    let now = nanos(monotonic);
    for name in ["window", "log"] {
        let Verdict { allowed, wait, .. } = ask(&counters, name, &rules[name], 1, now);
        assert!(!allowed && wait <= Duration::from_secs(3660 - 599), "{name}: {wait:?}");
        assert!(ask(&counters, name, &rules[name], 1, now + nanos(wait)).allowed, "{name}");
        assert_eq!(ask(&counters, name, &rules[name], 2, now).remaining, 8, "{name}");
    }
    // One each six minutes.
    assert_eq!((0..20).filter(|_| ask(&counters, "bucket", &rules["bucket"], 1, now).allowed).count(), 1);
}

#[test]
fn no_clock_makes_a_count_leave_early() {
    let rules = hourly(10);
    let counters = MemoryCounters::new(1000);
    ask(&counters, "log", &rules["log"], 1, 50 * SECOND);
    let bytes = saved(&counters, instant(50 * SECOND, 1_000_000));
    // The wall clock was set back, or is the same.
    for unix_ms in [0, 999_999, 1_000_000, 1_000_001] {
        let again = restored(&rules, unix_ms, &bytes);
        assert_eq!((again.monotonic, again.age), (Duration::from_secs(50), Duration::ZERO));
        assert_eq!(ask(&again.counters, "log", &rules["log"], 1, 50 * SECOND).remaining, 8);
    }
    // A century of absence is of no use to anybody.
    let far = MemoryCounters::restore(1000, &rules, u64::MAX, &bytes[..]).err().expect("of another age");
    assert_eq!(far.to_string(), "it is of another age");
}

#[test]
fn a_rule_that_has_changed_begins_anew_and_short_windows_are_not_written() {
    let minute = rule(LimitAlgorithm::SlidingWindow, 10, 299);
    let mut rules = hourly(10);
    let counters = MemoryCounters::new(1000);
    ask(&counters, "minute", &minute, 1, SECOND);
    for (name, rule) in &rules {
        ask(&counters, name, rule, 1, SECOND);
    }
    let bytes = saved(&counters, instant(SECOND, 0));
    rules.insert("minute".into(), minute.clone());
    // As in a reload: another limit counts on, another window or algorithm does not.
    rules.insert("window".into(), rule(LimitAlgorithm::SlidingWindow, 1000, 3600));
    rules.insert("log".into(), rule(LimitAlgorithm::SlidingLog, 10, 3601));
    rules.remove("bucket");
    let again = restored(&rules, 0, &bytes);
    assert_eq!(again.kept, Amount { rules: 1, counters: 1 });
    assert_eq!(again.dropped, Amount { rules: 2, counters: 2 });
    assert_eq!(again.counters.keys(), 1);
    for (name, remaining) in [("window", 998), ("log", 9), ("minute", 9)] {
        assert_eq!(ask(&again.counters, name, &rules[name], 1, SECOND).remaining, remaining, "{name}");
    }
}

/// Less room than there was, and clients that shared a counter with their network.
#[test]
fn what_found_no_room_counts_on() {
    let rules = rules(&[("window", rule(LimitAlgorithm::SlidingWindow, 3, 3600))]);
    let rule = &rules["window"];
    let counters = MemoryCounters::new(1000);
    for client in 0..1000 {
        ask(&counters, "window", rule, client * 256, SECOND);
    }
    let late = 5 << 30;
    assert_eq!((0..5).filter(|client| ask(&counters, "window", rule, late + client, SECOND).allowed).count(), 3);
    let bytes = saved(&counters, instant(SECOND, 0));
    let again = MemoryCounters::restore(100, &rules, 0, &bytes[..]).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(again.kept.counters, 1001);
    let counters = again.counters;
    assert_eq!(counters.keys(), 1000);
    assert!((0..1000).all(|client| ask(&counters, "window", rule, client * 256, SECOND).remaining == 1));
    assert!((0..256).all(|client| !ask(&counters, "window", rule, late + client, SECOND).allowed));
    // Once they have expired, the bound is the new one.
    let later = 4000 * SECOND;
    for client in 2000..22_000 {
        ask(&counters, "window", rule, client * 256, later);
    }
    assert_eq!(counters.keys(), 100);
}

#[test]
fn no_key_stands_in_it() {
    let counters = MemoryCounters::new(1000);
    let hourly = hourly(10);
    let number = 0x7EAD_BEEF_0BAD_CAFE;
    ask(&counters, "window", &hourly["window"], number, SECOND);
    let bytes = saved(&counters, instant(SECOND, 0));
    assert!(bytes.windows(8).all(|word| word != number.to_le_bytes()));
}

#[test]
fn whatever_is_broken_is_refused() {
    let rules = hourly(10);
    let counters = MemoryCounters::new(1000);
    for (name, rule) in &rules {
        ask(&counters, name, rule, 1, SECOND);
    }
    let bytes = saved(&counters, instant(SECOND, 0));
    assert_eq!(refusal(b"[server]\nhttp = []\n"), "it is no snapshot of counters");
    assert_eq!(refusal(b""), "it ends too early");
    let with = |at: usize, bits: u8| {
        let mut other = bytes.clone();
        other[at] ^= bits;
        other
    };
    assert_eq!(refusal(&with(16, 2)), "it was written by another version of the gateway");
    assert_eq!(refusal(&with(bytes.len() - 1, 1)), "it does not have the checksum that it says");
    assert_eq!(refusal(&[&bytes[..], b"\n"].concat()), "it goes on behind its end");
    for length in 0..bytes.len() {
        assert_eq!(refusal(&bytes[..length]), "it ends too early");
    }
    for at in 0..bytes.len() {
        refusal(&with(at, 1 << (at % 8)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside the store that was never stopped: what that refuses, its copy refuses, too.
    #[test]
    fn a_restart_grants_nothing(
        (which, limit, penalty) in (0..3_usize, 1..30_u64, any::<bool>()),
        arrivals in prop::collection::vec((0..400_u64, 0..4_u64), 1..120),
        (off, unix, rest) in (0..7_200_000_u64, 0..1_u64 << 41, 0..1_000_000_u64),
    ) {
        let mut rule = rule(ALGORITHMS[which], limit, 3600);
        rule.penalty = penalty.then_some(Period::secs(600));
        let rules = rules(&[("rule", rule.clone())]);
        let running = MemoryCounters::new(1000);
        let now = Cell::new(SECOND);
        let (before, after) = arrivals.split_at(arrivals.len() / 2);
        let step = |gap: u64| now.set(now.get() + gap * SECOND / 3 * u64::from(!gap.is_multiple_of(5)));
        for &(gap, client) in before {
            step(gap);
            ask(&running, "rule", &rule, client, now.get());
        }
        let bytes = saved(&running, instant(now.get(), unix));
        // Of a millisecond both clocks show only the whole.
        now.set(now.get() + off * 1_000_000 + rest);
        let again = restored(&rules, unix + off, &bytes);
        let behind = now.get() - nanos(again.monotonic);
        prop_assert!(behind <= 2_000_000 + SECOND / 1000);
        for &(gap, client) in after {
            let verdict = ask(&again.counters, "rule", &rule, client, now.get() - behind);
            let other = ask(&running, "rule", &rule, client, now.get());
            if penalty {
                // A penalty that has just ended in one, and not in the other, makes two histories.
                prop_assert!(other.allowed || !verdict.allowed || other.wait <= Duration::from_secs(600));
            } else {
                prop_assert!(other.allowed || !verdict.allowed);
                prop_assert!(verdict.remaining <= other.remaining);
            }
            if verdict.allowed != other.allowed {
                break;
            }
            step(gap);
        }
    }

    /// With a checksum that fits: refused, or counters that can be asked anything.
    #[test]
    fn whatever_is_made_up_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0..3_u8), 1..6),
        then in 0..10_000_u64,
    ) {
        let rules = hourly(200);
        let counters = MemoryCounters::new(1000);
        for (name, rule) in &rules {
            for n in 0..180 {
                ask(&counters, name, rule, n % 3, n / 3 * 90 * SECOND);
            }
        }
        let mut bytes = saved(&counters, instant(60 * 90 * SECOND, 0));
        let end = bytes.len() - 32;
        for (at, value, kind) in changes {
            let at = at.index(end - 8);
            match kind {
                0 => bytes[at] = value as u8,
                1 => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
                _ => bytes[at..at + 8].copy_from_slice(&(value % 300).to_le_bytes()),
            }
        }
        let digest = Sha256::digest(&bytes[..end]);
        bytes[end..].copy_from_slice(&digest);
        if let Ok(again) = MemoryCounters::restore(1000, &rules, 1000, &bytes[..]) {
            let now = nanos(again.monotonic);
            for (name, rule) in &rules {
                let quota = Quota::new(rule).unwrap();
                let bank = again.counters.bank(name, &quota);
                let mut prints = Vec::new();
                bank.each_slab(|slab| { prints.extend(slab.iter().map(|(print, _)| print)); Ok(()) }).unwrap();
                for print in prints {
                    for step in 0..30 {
                        let now = now + step * then * SECOND / 10;
                        let charged = bank.decide(&again.counters, (print, || [print; 2]), &quota, (now, 1, step % 2 == 0));
                        bank.refund(print, &quota, (charged.decision.at, 1));
                    }
                }
            }
        }
    }
}
