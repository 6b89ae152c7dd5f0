//! Every algorithm against a plain log of what it admitted.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

mod millions;

const MS: u64 = 1_000_000;

fn quota(algorithm: LimitAlgorithm, limit: u64, window_ms: u64, burst: u64) -> Quota {
    Quota { algorithm, limit, window: Duration::from_millis(window_ms), burst, penalty: Duration::ZERO }
}

/// A counter and the instants it admitted and kept.
struct Watched {
    quota: Quota,
    layout: Layout,
    counter: Vec<u64>,
    admitted: VecDeque<u64>,
}

impl Watched {
    fn new(quota: Quota) -> Self {
        let layout = Layout::new(&quota);
        Self { counter: vec![0; layout.words()], layout, quota, admitted: VecDeque::new() }
    }

    fn ask(&mut self, now: u64) -> Decision {
        self.charge(now, 1)
    }

    fn charge(&mut self, now: u64, cost: u64) -> Decision {
        let decision = self.layout.decide(&mut self.counter, &self.quota, now, cost, true);
        if decision.verdict.allowed {
            self.admitted.extend((0..cost).map(|_| decision.at));
        }
        decision
    }

    fn would_pass(&self, now: u64, cost: u64) -> bool {
        let mut copy = self.counter.clone();
        self.layout.decide(&mut copy, &self.quota, now, cost, false).verdict.allowed
    }

    /// The heaviest request that can pass.
    fn heaviest(&self) -> u64 {
        if self.quota.algorithm == LimitAlgorithm::Gcra { self.quota.burst } else { self.quota.limit }
    }

    /// Admitted in the window of length `length` that ends at `now`: (now − length, now].
    fn counted(&self, now: u64, length: u64) -> u64 {
        self.admitted.iter().filter(|&&at| at <= now && at + length > now).count() as u64
    }

    /// What the rule promises, checked for the windows that end at the newest charge: those are the fullest.
    fn keeps_its_word(&self) {
        let Some(&newest) = self.admitted.iter().max() else { return };
        let (limit, window) = (self.quota.limit, nanos(self.quota.window));
        if self.quota.algorithm == LimitAlgorithm::Gcra {
            for (before, &since) in self.admitted.iter().enumerate() {
                let come = (self.admitted.len() - before) as u64;
                let earned = u128::from(newest - since) * u128::from(limit) / u128::from(window);
                assert!(u128::from(come) <= u128::from(self.quota.burst) + earned, "{come} in {} ns", newest - since);
            }
        } else {
            assert!(self.counted(newest, window) <= limit, "{} > {limit}", self.counted(newest, window));
        }
    }
}

/// Gaps an adversary would choose: none, one nanosecond, whole slices and windows, a little less, a little more.
fn gaps(window_ms: u64) -> impl Strategy<Value = u64> {
    let window = window_ms * MS;
    let slice = window / (window_ms / 50).clamp(1, 60);
    prop_oneof![
        6 => Just(0),
        2 => Just(1),
        4 => 0..slice,
        2 => Just(slice),
        1 => Just(slice - 1),
        1 => Just(slice + 1),
        2 => 0..window,
        1 => Just(window),
        1 => Just(window - 1),
        1 => Just(window + 1),
        1 => 0..window * 5,
    ]
}

/// Rules, a first instant, and arrivals: gap, a dice, and what of the heaviest possible cost is asked, in 256ths.
fn cases() -> impl Strategy<Value = (Quota, u64, Vec<(u64, u8, u64)>)> {
    let algorithm =
        prop_oneof![Just(LimitAlgorithm::SlidingWindow), Just(LimitAlgorithm::SlidingLog), Just(LimitAlgorithm::Gcra)];
    (algorithm, 1..40_u64, prop_oneof![Just(1_u64), Just(40), Just(250), Just(1000), Just(60_000)], 1..40_u64)
        .prop_flat_map(|(algorithm, limit, window, burst)| {
            let start = prop_oneof![Just(0), 0..1_u64 << 45, Just(LATEST - (1 << 50))];
            // Most requests cost one, as most rules say.
            let weight = prop_oneof![3 => Just(0_u64), 1 => 0..40_u64, 1 => 0..=255_u64];
            let arrivals = prop::collection::vec((gaps(window), 0..10_u8, weight), 1..300);
            (Just(quota(algorithm, limit, window, burst)), start, arrivals)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// The bound holds, nothing is refused that need not be, and the wait is exact to the nanosecond.
    #[test]
    fn the_bound_holds_and_the_wait_is_exact((quota, start, arrivals) in cases()) {
        let window = nanos(quota.window);
        let mut watched = Watched::new(quota.clone());
        let mut now = start;
        for (gap, dice, weight) in arrivals {
            now += gap;
            let cost = 1 + weight * (watched.heaviest() - 1) / 255;
            let asked = if dice == 0 { now.saturating_sub(7) } else { now };
            let before = watched.counted(asked, window);
            let decision = watched.charge(asked, cost);
            watched.keeps_its_word();
            let Verdict { allowed, remaining, wait } = decision.verdict;
            if !allowed {
                prop_assert!(!wait.is_zero());
                let passes = decision.at + nanos(wait);
                prop_assert!(watched.would_pass(passes, cost), "at its instant it passes");
                prop_assert!(!watched.would_pass(passes - 1, cost), "before it does not");
            }
            match (&watched.layout.meter, dice) {
                (Meter::Slices(slices), _) if !allowed => {
                    let (_, width) = slices.division();
                    prop_assert!(watched.counted(now, window + 2 * nanos(width)) + cost > quota.limit);
                }
                // Exact; where all instants are whole ticks, to the nanosecond.
                (Meter::Log(_), 1..) if quota.window < Duration::from_secs(1) => {
                    prop_assert_eq!(allowed, before + cost <= quota.limit);
                    prop_assert_eq!(remaining, quota.limit - before - if allowed { cost } else { 0 });
                }
                _ => {}
            }
        }
    }

    /// What is given back can be had again, but never more than that.
    #[test]
    fn a_refund_never_grants_more((quota, start, arrivals) in cases()) {
        let mut watched = Watched::new(quota.clone());
        let mut now = start;
        let mut held: Vec<(u64, u64)> = Vec::new();
        for (gap, dice, weight) in arrivals {
            now += gap;
            if dice < 3 && !held.is_empty() {
                let (at, cost) = held.remove(dice as usize % held.len());
                // All of it, or what a response did not use.
                let cost = if dice == 0 { 1 + weight % cost } else { cost };
                watched.layout.refund(&mut watched.counter, &quota, at, cost);
                for _ in 0..cost {
                    let place = watched.admitted.iter().position(|&kept| kept == at);
                    watched.admitted.remove(place.unwrap());
                }
            } else {
                let cost = 1 + weight * (watched.heaviest() - 1) / 255;
                let decision = watched.charge(now, cost);
                if decision.verdict.allowed && dice < 8 {
                    held.push((decision.at, cost));
                }
            }
            watched.keeps_its_word();
        }
    }

    /// A counter in a wider layout decides as before.
    #[test]
    fn a_wider_counter_decides_alike((quota, start, arrivals) in cases()) {
        let wider = Layout::new(&Quota { limit: quota.limit * 50, ..quota.clone() });
        let mut narrow = Watched::new(quota.clone());
        let mut wide = vec![0; wider.words()];
        let (mut now, half) = (start, arrivals.len() / 2);
        for (turn, (gap, _, weight)) in arrivals.into_iter().enumerate() {
            now += gap;
            let cost = 1 + weight * (narrow.heaviest() - 1) / 255;
            let decision = narrow.charge(now, cost);
            if turn == half {
                narrow.layout.widen(&narrow.counter, &wider, &mut wide);
            } else if turn > half {
                let same = wider.decide(&mut wide, &quota, now, cost, true);
                prop_assert_eq!(same.verdict, decision.verdict);
            }
        }
    }

    /// An expired counter and a fresh one decide the same.
    #[test]
    fn what_has_expired_says_nothing((quota, start, arrivals) in cases()) {
        let mut watched = Watched::new(quota.clone());
        let mut now = start;
        for (gap, _, weight) in arrivals {
            now += gap;
            if watched.layout.expired(&watched.counter, now) {
                let fresh = Watched::new(quota.clone()).ask(now);
                prop_assert_eq!(fresh.verdict, Watched { counter: watched.counter.clone(), ..Watched::new(quota.clone()) }.ask(now).verdict);
            }
            watched.charge(now, 1 + weight * (watched.heaviest() - 1) / 255);
        }
    }
}

/// What a rule with a penalty does, beside one without that is charged the same.
struct Penal {
    with: Watched,
    without: Watched,
    ends: u64,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Refused as long as it was said, and not longer than the limit and the penalty ask; who comes when told passes.
    #[test]
    fn a_penalty_lasts_as_long_as_it_says((quota, start, arrivals) in cases(), tenths in 1..30_u64) {
        let penalty = Duration::from_nanos(nanos(quota.window) * tenths / 10);
        let with = Watched::new(Quota { penalty, ..quota.clone() });
        let mut penal = Penal { with, without: Watched::new(quota), ends: 0 };
        let (mut now, mut told) = (start, None);
        for (gap, dice, weight) in arrivals {
            now += match told.take() {
                // It waits as it was told.
                Some(wait) if dice < 4 => wait,
                _ => gap,
            };
            let cost = 1 + weight * (penal.with.heaviest() - 1) / 255;
            let limit = penal.without.layout.decide(&mut penal.without.counter, &penal.without.quota, now, cost, now >= penal.ends);
            let Decision { verdict, at } = penal.with.charge(now, cost);
            penal.with.keeps_its_word();
            prop_assert_eq!(at, limit.at);
            let left = penal.ends.saturating_sub(now);
            if left == 0 && limit.verdict.allowed {
                prop_assert_eq!(verdict, limit.verdict);
                continue;
            }
            let wait = if limit.verdict.allowed { 0 } else { nanos(limit.verdict.wait) };
            if left == 0 {
                penal.ends = at + nanos(penalty);
            }
            let expected = wait.max(if left == 0 { nanos(penalty) } else { left });
            prop_assert_eq!(verdict, Verdict { allowed: false, remaining: 0, wait: Duration::from_nanos(expected) });
            prop_assert!(penal.with.would_pass(at + expected, cost), "when it was told");
            prop_assert!(!penal.with.would_pass(at + expected - 1, cost), "not before");
            prop_assert!(!penal.with.layout.expired(&penal.with.counter, now));
            told = Some(at + expected - now);
        }
    }
}

#[test]
fn the_two_bucket_attack_gets_nothing() {
    let mut watched = Watched::new(quota(LimitAlgorithm::SlidingWindow, 100, 60_000, 100));
    // All at the end of a window, then as fast as a weighted counter would let them.
    for ms in (59_900..60_000).chain((60_000..120_000).step_by(3)) {
        watched.ask(ms * MS);
        watched.keeps_its_word();
    }
    assert_eq!(watched.admitted.iter().filter(|&&at| at < 119_900 * MS).count(), 100);
}

#[test]
fn slices_leave_whole() {
    let mut watched = Watched::new(quota(LimitAlgorithm::SlidingWindow, 2, 60_000, 2));
    assert_eq!(
        watched.ask(500 * MS).verdict,
        Verdict { allowed: true, remaining: 1, wait: Duration::from_millis(60_500) }
    );
    assert_eq!(watched.ask(1_500 * MS).verdict.remaining, 0);
    // The first slice leaves when second 61 begins: k = 60 slices of a second, and the current one.
    let refused = watched.ask(2_000 * MS).verdict;
    assert_eq!(refused, Verdict { allowed: false, remaining: 0, wait: Duration::from_secs(59) });
    assert!(!watched.would_pass(61_000 * MS - 1, 1));
    assert!(watched.would_pass(61_000 * MS, 1));
}

#[test]
fn a_slice_is_at_least_50_ms() {
    let division = |ms| match Meter::new(&quota(LimitAlgorithm::SlidingWindow, 5, ms, 5)) {
        Meter::Slices(slices) => slices.division(),
        _ => unreachable!(),
    };
    assert_eq!(division(60_000), (60, Duration::from_secs(1)));
    assert_eq!(division(1_000), (20, Duration::from_millis(50)));
    assert_eq!(division(250), (5, Duration::from_millis(50)));
    assert_eq!(division(10), (1, Duration::from_millis(10)));
}

#[test]
fn a_lowered_limit_counts_what_was_admitted_before() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog] {
        let mut watched = Watched::new(quota(algorithm, 200, 60_000, 200));
        for ms in 0..150 {
            watched.ask(ms * MS);
        }
        watched.quota.limit = 100;
        let refused = watched.ask(200 * MS);
        assert!(!refused.verdict.allowed);
        assert!(watched.would_pass(refused.at + nanos(refused.verdict.wait), 1));
        assert!(!watched.would_pass(refused.at + nanos(refused.verdict.wait) - 1, 1));
    }
}

#[test]
fn gcra_admits_its_burst_then_its_rate() {
    let mut watched = Watched::new(quota(LimitAlgorithm::Gcra, 10, 1_000, 3));
    for remaining in [2, 1, 0] {
        assert_eq!(watched.ask(5_000 * MS).verdict.remaining, remaining);
    }
    assert_eq!(
        watched.ask(5_000 * MS).verdict,
        Verdict { allowed: false, remaining: 0, wait: Duration::from_millis(100) }
    );
    assert_eq!(
        watched.ask(5_100 * MS).verdict,
        Verdict { allowed: true, remaining: 0, wait: Duration::from_millis(100) }
    );
}

#[test]
fn memory_is_what_the_rule_needs() {
    let words = |algorithm, limit| 8 * Meter::new(&quota(algorithm, limit, 60_000, limit)).words();
    assert_eq!(words(LimitAlgorithm::SlidingWindow, 100), 80);
    assert_eq!(words(LimitAlgorithm::SlidingWindow, 1_000), 144);
    assert_eq!(words(LimitAlgorithm::SlidingWindow, 1_000_000), 184);
    assert_eq!(words(LimitAlgorithm::SlidingWindow, 1_000_000_000), 264);
    assert_eq!(words(LimitAlgorithm::SlidingLog, 100), 416);
    assert_eq!(words(LimitAlgorithm::Gcra, 1_000_000_000), 16);
}

#[test]
fn rules_without_a_meaning_are_refused() {
    let rule = |algorithm, limit, burst| model::RateLimit {
        algorithm,
        burst,
        ..model::RateLimit::new(limit, gapura_config::units::Period::secs(60), model::LimitKey::Global)
    };
    let faulty = |rule: &model::RateLimit| Quota::new(rule).map_err(|(key, _)| key);
    assert_eq!(faulty(&rule(LimitAlgorithm::SlidingLog, 4097, None)), Err("limit"));
    let costs = |cost, rule| model::RateLimit { cost: model::LimitCost::Fixed(cost), ..rule };
    assert_eq!(faulty(&costs(11, rule(LimitAlgorithm::SlidingWindow, 10, None))), Err("cost"));
    assert_eq!(faulty(&costs(6, rule(LimitAlgorithm::Gcra, 10, Some(5)))), Err("cost"));
    assert!(faulty(&costs(10, rule(LimitAlgorithm::SlidingLog, 10, None))).is_ok());
    assert!(faulty(&costs(20, rule(LimitAlgorithm::Gcra, 10, Some(20)))).is_ok());
    assert_eq!(faulty(&rule(LimitAlgorithm::SlidingWindow, 10, Some(5))), Err("burst"));
    assert_eq!(faulty(&rule(LimitAlgorithm::Gcra, 1, Some(1_000_000_000))), Err("burst"));
    assert!(faulty(&rule(LimitAlgorithm::Gcra, 1_000_000_000, None)).is_ok());
    let gcra = Quota::new(&rule(LimitAlgorithm::Gcra, 100, Some(20))).unwrap();
    assert_eq!(gcra.guarantee(), "at most 20 + floor(100 / 60 s * T) in any T");
    let window = Quota::new(&rule(LimitAlgorithm::SlidingWindow, 100, None)).unwrap();
    assert_eq!(window.guarantee(), "never more than 100 in any 60 s");
    assert_eq!(window.method(), "sliding_window (60 slices of 1 s)");
}
