//! `gcra`: rate N/W with a burst, decided by crate `governor`.
//!
//! `governor` would keep its keys in a map of its own, without bound and with its own clock. What is used of it is the
//! decision: a limiter is put together on the stack around one counter of our store and the exchange's instant, which costs
//! two multiplications.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    RateLimiter,
    clock::Clock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use super::{Decision, LATEST, Quota, Verdict, nanos};

/// Words of a counter: the instant at which the bucket is empty again (GCRA's "theoretical arrival time"), and the latest
/// charge.
const EMPTY: usize = 0;
const LATEST_CHARGE: usize = 1;
pub(super) const WORDS: usize = 2;

/// The numbers that `governor` takes.
pub(super) struct Gcra {
    /// Nanoseconds until one charge is replenished, rounded up: so the guarantee holds, and the rate is short by less than 1 ns.
    interval: u64,
    burst: NonZeroU32,
}

impl Gcra {
    /// None where a full bucket would take more than 146 years to drain: instants would leave 64 bits.
    pub(super) fn new(quota: &Quota) -> Option<Self> {
        let interval = nanos(quota.window).div_ceil(quota.limit.max(1)).max(1);
        let burst = u32::try_from(quota.burst).ok().and_then(NonZeroU32::new)?;
        (interval.checked_mul(quota.burst)? <= LATEST).then_some(Self { interval, burst })
    }
}

pub(super) fn decide(counter: &mut [u64], quota: &Quota, now: u64, cost: u64, commit: bool) -> Decision {
    // A thread that was overtaken counts as the one that overtook it.
    let now = now.max(counter[LATEST_CHARGE]);
    let refused = |wait| Decision { verdict: Verdict { allowed: false, remaining: 0, wait }, at: now };
    let (Some(gcra), Some(weight)) = (Gcra::new(quota), u32::try_from(cost).ok().and_then(NonZeroU32::new)) else {
        // Checked when the rule was built.
        return refused(quota.window);
    };
    let Some(terms) = governor::Quota::with_period(Duration::from_nanos(gcra.interval)) else {
        return refused(quota.window);
    };
    let before = counter[EMPTY];
    let bucket = Cell::new(before);
    // Built at instant 0, `governor`'s epoch; then the exchange's instant is set.
    let limiter: RateLimiter<_, _, _, StateInformationMiddleware> =
        RateLimiter::new(terms.allow_burst(gcra.burst), Bucket(&bucket), Instant(Cell::new(0)));
    limiter.clock().0.set(now);
    let full = gcra.interval * quota.burst;
    match limiter.check_n(weight) {
        Ok(Ok(state)) => {
            if commit {
                counter[EMPTY] = bucket.get();
                counter[LATEST_CHARGE] = now;
            }
            let spare = u64::from(state.remaining_burst_capacity());
            let remaining = if commit { spare } else { spare + cost };
            // One more is free when the bucket has drained to the next whole interval.
            let grows =
                (counter[EMPTY] + remaining.saturating_add(1).saturating_mul(gcra.interval)).saturating_sub(full);
            let wait = if counter[EMPTY] <= now { 0 } else { grows.saturating_sub(now) };
            Decision { verdict: Verdict { allowed: true, remaining, wait: Duration::from_nanos(wait) }, at: now }
        }
        Ok(Err(until)) => {
            let free = full.saturating_sub(before.saturating_sub(now)) / gcra.interval;
            let wait = until.wait_time_from(Nanos::new(now));
            Decision { verdict: Verdict { allowed: false, remaining: free, wait }, at: now }
        }
        Err(_heavier_than_the_burst) => refused(quota.window),
    }
}

/// Had the charge not been made, the bucket might have run empty meanwhile: then part of it has drained where nothing else would
/// have, and to take back all of it would take away what others were charged since. That part is no more than the time from
/// this charge to the latest; so much of it stays. The charge that is the latest is taken back whole.
pub(super) fn refund(counter: &mut [u64], quota: &Quota, at: u64, cost: u64) {
    let Some(gcra) = Gcra::new(quota) else { return };
    let drained = counter[LATEST_CHARGE].saturating_sub(at);
    let given = gcra.interval.saturating_mul(cost).saturating_sub(drained);
    counter[EMPTY] = counter[EMPTY].saturating_sub(given);
}

pub(super) fn is_sound(counter: &[u64], now: u64) -> bool {
    counter[EMPTY] <= LATEST && counter[LATEST_CHARGE] <= now
}

pub(super) fn expired(counter: &[u64], now: u64) -> bool {
    counter[EMPTY] <= now
}

/// The exchange's instant, in `governor`'s terms.
#[derive(Debug)]
struct Instant(Cell<u64>);

impl Clock for Instant {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.get())
    }
}

/// One counter of our store, held under its lock.
#[derive(Debug)]
struct Bucket<'a>(&'a Cell<u64>);

impl StateStore for Bucket<'_> {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let before = self.0.get();
        let (outcome, after) = decide((before != 0).then(|| Nanos::new(before)))?;
        self.0.set(after.as_u64());
        Ok(outcome)
    }
}
