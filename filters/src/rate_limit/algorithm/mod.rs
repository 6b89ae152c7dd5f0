//! What a rule allows, and the three ways to count it.
//!
//! A counter is a run of 64-bit words that its [`Meter`] reads and writes; all zero is a counter nobody has charged. So the
//! memory store keeps every algorithm in the same slabs, and a counter takes exactly the words it needs.

mod gcra;
mod layout;
mod log;
mod slices;

use std::time::Duration;

use gapura_config::model::{self, LimitAlgorithm, LimitCost};

pub(super) use self::layout::Layout;
use self::{gcra::Gcra, log::Log, slices::Slices};

/// A rule's numbers, checked: what every algorithm and every store decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    pub algorithm: LimitAlgorithm,
    /// Charges in any one window (`gcra`: replenished within one window).
    pub limit: u64,
    pub window: Duration,
    /// `gcra`: how many may come at once.
    pub burst: u64,
    /// After a refusal the key stays refused for so long. Zero: it does not.
    pub penalty: Duration,
}

/// What a counter says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// What may still come at once.
    pub remaining: u64,
    /// Refused: until this request would pass. Allowed: until `remaining` next grows.
    pub wait: Duration,
}

/// A verdict, and the instant under which the charge stands in the counter: the later of the request's and the counter's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) at: u64,
}

/// How the counters of one rule are laid out and read. Limits are not part of it: a reload may change them under live counters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meter {
    Slices(Slices),
    Log(Log),
    Gcra,
}

/// Nanoseconds. Windows are up to a century and instants are cut at 146 years, so that no sum of them leaves 64 bits.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(LATEST, |n| n.min(LATEST))
}
const LATEST: u64 = 1 << 62;

impl Quota {
    /// Or the key of the rule's table that is at fault, and what to write instead.
    pub fn new(rule: &model::RateLimit) -> Result<Self, (&'static str, String)> {
        let limit = rule.limit.max(1);
        let quota = Self {
            algorithm: rule.algorithm,
            limit,
            window: rule.window.get().max(Duration::from_nanos(1)),
            burst: rule.burst.unwrap_or(limit).max(1),
            penalty: rule.penalty.map_or(Duration::ZERO, |penalty| penalty.get()),
        };
        match quota.algorithm {
            _ if rule.cost.most() > rule.at_once().max(1) => Err((
                "cost",
                format!("a request that costs {} never passes; write at most {}", rule.cost.most(), rule.at_once()),
            )),
            _ if matches!(&rule.cost, LimitCost::Told(told) if told.default > told.max) => {
                Err(("cost", "a response that says nothing costs more than the most; raise `max`".to_owned()))
            }
            LimitAlgorithm::SlidingLog if limit > model::RateLimit::MAX_LOG => Err((
                "limit",
                format!(
                    "`sliding_log` remembers every request, at most {} of them; write `algorithm = \"sliding_window\"`",
                    model::RateLimit::MAX_LOG
                ),
            )),
            LimitAlgorithm::Gcra if Gcra::new(&quota).is_none() => Err((
                "burst",
                format!("a burst of {} takes more than a century to replenish; write a smaller one", quota.burst),
            )),
            LimitAlgorithm::SlidingWindow | LimitAlgorithm::SlidingLog if rule.burst.is_some() => {
                Err(("burst", "only `algorithm = \"gcra\"` knows a burst".to_owned()))
            }
            _ => Ok(quota),
        }
    }

    /// What an operator may rely on, in one sentence.
    pub fn guarantee(&self) -> String {
        let window = spelled(self.window);
        match self.algorithm {
            LimitAlgorithm::SlidingWindow | LimitAlgorithm::SlidingLog => {
                format!("never more than {} in any {window}", self.limit)
            }
            LimitAlgorithm::Gcra => {
                format!("at most {} + floor({} / {window} * T) in any T", self.burst, self.limit)
            }
        }
    }

    /// How it counts, with the sizes that follow from the window.
    pub(super) fn method(&self) -> String {
        match Meter::new(self) {
            Meter::Slices(slices) => {
                let (slices, width) = slices.division();
                format!("sliding_window ({slices} slices of {})", spelled(width))
            }
            Meter::Log(_) => "sliding_log".to_owned(),
            Meter::Gcra => format!("gcra (burst {})", self.burst),
        }
    }
}

impl Meter {
    pub(super) fn new(quota: &Quota) -> Self {
        match quota.algorithm {
            LimitAlgorithm::SlidingWindow => Self::Slices(Slices::new(nanos(quota.window), quota.limit)),
            LimitAlgorithm::SlidingLog => Self::Log(Log::new(nanos(quota.window), quota.limit)),
            LimitAlgorithm::Gcra => Self::Gcra,
        }
    }

    /// Counters laid out like this can count up to `limit`.
    pub(super) fn holds(&self, limit: u64) -> bool {
        limit <= self.most()
    }

    /// The largest limit that counters laid out like this can count up to.
    fn most(&self) -> u64 {
        match self {
            Self::Slices(slices) => slices.most(),
            Self::Log(log) => log.most(),
            Self::Gcra => u64::MAX,
        }
    }

    /// The counter can have come about by `now`. What else it may hold no method here is ready for.
    fn is_sound(&self, counter: &[u64], now: u64) -> bool {
        match self {
            Self::Slices(slices) => slices.is_sound(counter, now),
            Self::Log(log) => log.is_sound(counter, now),
            Self::Gcra => gcra::is_sound(counter, now),
        }
    }

    pub(super) fn words(&self) -> usize {
        match self {
            Self::Slices(slices) => slices.words(),
            Self::Log(log) => log.words(),
            Self::Gcra => gcra::WORDS,
        }
    }

    /// Asks, and charges where the answer is yes and `commit` is set.
    pub(super) fn decide(&self, counter: &mut [u64], quota: &Quota, now: u64, cost: u64, commit: bool) -> Decision {
        let now = now.min(LATEST);
        match self {
            Self::Slices(slices) => slices.decide(counter, quota.limit, now, cost, commit),
            Self::Log(log) => log.decide(counter, quota.limit, now, cost, commit),
            Self::Gcra => gcra::decide(counter, quota, now, cost, commit),
        }
    }

    /// Gives back what was charged at the instant `at`. Where it is no longer counted there is nothing to give.
    pub(super) fn refund(&self, counter: &mut [u64], quota: &Quota, at: u64, cost: u64) {
        match self {
            Self::Slices(slices) => slices.refund(counter, at, cost),
            Self::Log(log) => log.refund(counter, at, cost),
            Self::Gcra => gcra::refund(counter, quota, at, cost),
        }
    }

    /// The counter says nothing any more: a fresh one would decide the same.
    pub(super) fn expired(&self, counter: &[u64], now: u64) -> bool {
        match self {
            Self::Slices(slices) => slices.expired(counter, now),
            Self::Log(log) => log.expired(counter, now),
            Self::Gcra => gcra::expired(counter, now),
        }
    }

    /// Writes a counter of this layout into a fresh one of a wider layout.
    pub(super) fn widen(&self, counter: &[u64], wider: &Self, fresh: &mut [u64]) {
        match (self, wider) {
            (Self::Slices(from), Self::Slices(to)) => from.widen(counter, to, fresh),
            (Self::Log(from), Self::Log(to)) => from.widen(counter, to, fresh),
            (Self::Gcra, Self::Gcra) => fresh.copy_from_slice(counter),
            // One store of counters has one algorithm.
            _ => {}
        }
    }
}

/// `60 s`, `250 ms`, `1.5 s`.
pub(super) fn spelled(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_nanos() as f64 / 1e6)
    } else {
        format!("{} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
