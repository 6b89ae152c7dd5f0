//! Counters as Redis knows them: their names, and a rule's numbers as the scripts take them.

use std::{sync::Arc, time::Duration};

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Demand, Quota};
use sha2::{Digest, Sha256};

use super::{hex, servers::Servers};

/// Where one server has all keys, one script decides all rules of a request.
const ONE_TAG: &str = "limits";

/// A rule's numbers as the scripts take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) algorithm: &'static str,
    pub(super) limit: u64,
    pub(super) numbers: [u64; 2],
}

/// A counter in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Of all counters that one script may decide together: in a Cluster they stand in one slot, which the braces choose.
    pub(super) tag: Arc<str>,
    hash: [u8; 16],
}

/// The counter of a demand, and its numbers.
pub(super) fn named(servers: &Servers, demand: &Demand<'_>) -> (Name, Terms) {
    let terms = Terms::of(demand.quota);
    let tag = if servers.are_several() { tag(demand.key) } else { ONE_TAG.into() };
    let hash = hash(demand, &terms);
    (Name { tag, hash }, terms)
}

/// The counter of a probe, which nothing fills.
pub(super) fn probe(tag: Arc<str>) -> (Name, Terms) {
    let terms = Terms { algorithm: "sliding_window", limit: 1_000_000_000, numbers: [50_000, 21] };
    (Name { tag, hash: [0; 16] }, terms)
}

/// In a Cluster: rules that count by the same key stand together.
fn tag(key: &[u8]) -> Arc<str> {
    hex("", &Sha256::digest(key)[..4]).into()
}

/// Rule, algorithm, window and key name the counter, as in memory. They are hashed, 128 bits of SHA-256: a key is an address or
/// a user id, which is nobody's business who may list keys in Redis, and may be 1 KiB long.
fn hash(demand: &Demand<'_>, terms: &Terms) -> [u8; 16] {
    let mut hash = Sha256::new();
    // The layout depends on these; ticks of `gcra` are long where its numbers are absurd.
    let unit = if demand.quota.algorithm == LimitAlgorithm::Gcra { terms.numbers[1] } else { 0 };
    for part in [demand.rule.as_bytes(), terms.algorithm.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(demand.quota.window.as_nanos().to_le_bytes());
    hash.update(unit.to_le_bytes());
    hash.update(demand.key);
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    first
}

impl Name {
    pub(super) fn spelled(&self) -> String {
        hex(&format!("gapura:{{{}}}:", self.tag), &self.hash)
    }

    /// Evenly spread.
    pub(super) fn first(&self) -> u8 {
        self.hash[0]
    }
}

impl Terms {
    /// All slices of a `sliding_window`, the current one too.
    pub(super) fn window(&self) -> Duration {
        let [width, ring] = self.numbers;
        Duration::from_micros(width.saturating_mul(ring))
    }

    /// Durations in whole µs, the unit of Redis' clock.
    fn of(quota: &Quota) -> Self {
        let window = micros(quota.window);
        match quota.algorithm {
            LimitAlgorithm::SlidingWindow => {
                // As in memory: 60 slices, fewer so that a slice is at least 50 ms; and the current one.
                let slices = (window / 50_000).clamp(1, 60);
                let width = window.div_ceil(slices);
                Self { algorithm: "sliding_window", limit: quota.limit, numbers: [width, slices + 1] }
            }
            LimitAlgorithm::SlidingLog => Self { algorithm: "sliding_log", limit: quota.limit, numbers: [window, 0] },
            LimitAlgorithm::Gcra => {
                // A tick is 1 ns, as in memory, unless a full bucket would not fit into a double then (after 26 days).
                let (mut unit, mut interval) = (1, interval(quota, 1));
                while u128::from(interval) * u128::from(quota.burst) > 1 << 51 {
                    unit *= 10;
                    interval = self::interval(quota, unit);
                }
                Self { algorithm: "gcra", limit: quota.burst, numbers: [interval, unit] }
            }
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// Ticks until one charge has drained, rounded up: so the guarantee holds.
fn interval(quota: &Quota, unit: u64) -> u64 {
    let ticks = quota.window.as_nanos().div_ceil(u128::from(quota.limit.max(1)) * u128::from(unit));
    u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
}

/// A counter of `sliding_window`: width and number of its slices.
#[cfg(test)]
pub(super) fn example(limit: u64, numbers: [u64; 2]) -> (Name, Terms) {
    (Name { tag: ONE_TAG.into(), hash: [7; 16] }, Terms { algorithm: "sliding_window", limit, numbers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(algorithm: LimitAlgorithm, limit: u64, window: Duration, burst: u64) -> Quota {
        Quota { algorithm, limit, window, burst, penalty: Duration::ZERO }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn slices_are_those_of_the_memory() {
        let numbers = |ms| Terms::of(&quota(LimitAlgorithm::SlidingWindow, 9, Duration::from_millis(ms), 9)).numbers;
        assert_eq!(numbers(60_000), [1_000_000, 61]);
        assert_eq!(numbers(1_000), [50_000, 21]);
        assert_eq!(numbers(250), [50_000, 6]);
        assert_eq!(numbers(10), [10_000, 2]);
    }

    #[test]
    fn what_gcra_counts_fits_into_a_double() {
        let year = MINUTE * 60 * 24 * 365;
        for (limit, window, burst) in [
            (100, MINUTE, 20),
            (1_000_000_000, MINUTE, 1_000_000_000),
            (1_000_000_000, year * 100, 1_000_000_000),
            (1, year, 100),
            (7, Duration::from_nanos(1), 1),
        ] {
            let Terms { numbers: [interval, unit], .. } = Terms::of(&quota(LimitAlgorithm::Gcra, limit, window, burst));
            assert!(u128::from(interval) * u128::from(burst) <= 1 << 51);
            // Never faster than the rate, and slower by a tick at most.
            let exact = window.as_nanos() as f64 / limit as f64;
            let ticked = (interval * unit) as f64;
            assert!(ticked >= exact * (1.0 - 1e-12) && ticked <= exact + unit as f64, "{ticked} {exact}");
        }
    }

    #[test]
    fn a_counter_is_named_by_rule_algorithm_window_and_key() {
        let base = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE, 5);
        let name = |rule: &str, quota: &Quota, bytes: &[u8]| {
            hash(&Demand { rule, quota, key: bytes, cost: 1, binding: true }, &Terms::of(quota))
        };
        let general = name("general", &base, b"v\x01\x02\x03\x04");
        let spelled = Name { tag: ONE_TAG.into(), hash: general }.spelled();
        assert!(spelled.starts_with("gapura:{limits}:") && spelled.len() == 16 + 32, "{spelled}");
        assert_eq!(general, name("general", &Quota { limit: 9, ..base.clone() }, b"v\x01\x02\x03\x04"));
        let others = [
            name("other", &base, b"v\x01\x02\x03\x04"),
            name("general", &base, b"v\x01\x02\x03\x05"),
            name("general", &Quota { window: MINUTE * 2, ..base.clone() }, b"v\x01\x02\x03\x04"),
            name("general", &Quota { algorithm: LimitAlgorithm::Gcra, ..base.clone() }, b"v\x01\x02\x03\x04"),
        ];
        assert!(!others.contains(&general));
    }
}
