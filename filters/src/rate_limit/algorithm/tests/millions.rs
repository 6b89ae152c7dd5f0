//! A million decisions for each algorithm and each kind of arrivals, beside a plain log of what was admitted.

use super::*;

const DECISIONS: usize = 1_000_000;
const WINDOW: u64 = 60_000 * MS;

/// Of xorshift: the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Whether the instants at which charges stand are no more than was promised, in any window at all.
fn keep_the_promise(quota: &Quota, mut admitted: Vec<u64>) {
    // Within a slice they may come in any order.
    admitted.sort_unstable();
    let (limit, window) = (quota.limit, nanos(quota.window));
    if quota.algorithm == LimitAlgorithm::Gcra {
        // Charge number `k` at the instant `t` stands at `k · window − t · limit`. No more than the burst and what the rate has
        // replenished come in any time if none stands more than `(burst − 1) · window` above an earlier one.
        let height = |(k, &at): (usize, &u64)| k as i128 * i128::from(window) - i128::from(at) * i128::from(limit);
        let most = i128::from(quota.burst - 1) * i128::from(window);
        let mut lowest = i128::MAX;
        for height in admitted.iter().enumerate().map(height) {
            lowest = lowest.min(height);
            assert!(height - lowest <= most, "more than the burst and the rate");
        }
        return;
    }
    // The one so many later than another is in a later window.
    let pairs = admitted.iter().zip(&admitted[admitted.len().min(limit as usize)..]);
    for (first, later) in pairs {
        assert!(later - first >= window, "more than {limit} between {first} and {later}");
    }
}

/// `next` tells when the next request comes, from when the last one did. What is admitted has to be at least `least`.
fn never_too_many(least: usize, mut next: impl FnMut(&mut Dice, u64) -> u64) {
    for (algorithm, limit) in [
        (LimitAlgorithm::SlidingWindow, 100),
        (LimitAlgorithm::SlidingWindow, 3_000),
        (LimitAlgorithm::SlidingLog, 100),
        (LimitAlgorithm::Gcra, 100),
    ] {
        let quota = quota(algorithm, limit, WINDOW / MS, limit);
        let layout = Layout::new(&quota);
        let mut counter = vec![0; layout.words()];
        let mut admitted = Vec::new();
        let (mut now, mut dice) = (12_345_678_901, Dice(0x9E37_79B9_7F4A_7C15));
        for _ in 0..DECISIONS {
            now = next(&mut dice, now);
            let cost = if dice.roll(8) == 0 { 1 + dice.roll(3) } else { 1 };
            let decision = layout.decide(&mut counter, &quota, now, cost, true);
            if decision.verdict.allowed {
                admitted.extend((0..cost).map(|_| decision.at));
            }
        }
        assert!(admitted.len() >= least, "{algorithm:?} {limit}: {}", admitted.len());
        keep_the_promise(&quota, admitted);
    }
}

/// In bursts at one instant, then up to 20 times faster than the limit allows, now and then a long silence.
#[test]
fn at_random() {
    never_too_many(10_000, |dice, now| {
        now + match dice.roll(64) {
            0..32 => 0,
            63 if dice.roll(256) == 0 => WINDOW,
            _ => dice.roll(WINDOW / 1_000),
        }
    });
}

/// All that may come at the end of a bucket, then at the beginning of the next: what a counter in two buckets lets pass.
#[test]
fn at_the_end_of_a_window() {
    never_too_many(10_000, |dice, now| match dice.roll(400) {
        // Just before the next one, at it, and just behind.
        0 => (now / WINDOW + 1) * WINDOW - 1 - dice.roll(3),
        1 => now + 1 + dice.roll(5),
        // As the weight of the last one would decay.
        2..12 => now + dice.roll(WINDOW / 100),
        _ => now,
    });
}

/// Where one slice becomes the next, and where the oldest leaves; of the log, where a tick does.
#[test]
fn at_the_edges_of_slices() {
    let edges = [WINDOW / 60, 100, WINDOW + WINDOW / 60, WINDOW];
    never_too_many(10_000, |dice, now| match dice.roll(40) {
        0..3 => {
            let edge = edges[dice.roll(4) as usize];
            ((now / edge + 1) * edge + dice.roll(3)).saturating_sub(1).max(now)
        }
        3 => now + 1,
        _ => now,
    });
}

/// Threads that were overtaken come with earlier instants; a machine that slept, much later.
#[test]
fn with_clocks_that_jump() {
    never_too_many(10_000, |dice, now| match dice.roll(1_000) {
        0 => now + dice.roll(20) * WINDOW / 4,
        1 => now.saturating_sub(dice.roll(2 * WINDOW)),
        2..100 => now.saturating_sub(dice.roll(1_000)),
        100..400 => now + dice.roll(WINDOW / 500),
        _ => now,
    });
}
