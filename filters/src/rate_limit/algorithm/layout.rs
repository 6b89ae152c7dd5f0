//! A counter as stores in memory keep it: the words of its algorithm and, of rules with a penalty, the instant at which that ends.
//!
//! A penalty begins with a refusal and ends when it was said to: what is refused meanwhile does not make it longer, so who comes
//! back when it was told to passes. It stands beside the count, under the same lock, and takes no key of its own.

use std::time::Duration;

use super::{Decision, LATEST, Meter, Quota, Verdict, nanos};

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Layout {
    pub(super) meter: Meter,
    /// The last word is the end of a penalty.
    penal: bool,
}

impl Layout {
    pub(in super::super) fn new(quota: &Quota) -> Self {
        Self { meter: Meter::new(quota), penal: !quota.penalty.is_zero() }
    }

    pub(in super::super) fn words(&self) -> usize {
        self.meter.words() + usize::from(self.penal)
    }

    /// One that holds what this one does, and this quota; None where this one does.
    pub(in super::super) fn wider(&self, quota: &Quota) -> Option<Self> {
        let asked = Self::new(quota);
        let meter = if self.meter.holds(quota.limit) { self.meter } else { asked.meter };
        let narrow = !self.meter.holds(quota.limit) || asked.penal && !self.penal;
        narrow.then_some(Self { meter, penal: self.penal || asked.penal })
    }

    /// Whoever lays counters out for this limit, with a penalty or without, gets the same layout; algorithm and window given.
    pub(in super::super) fn describe(&self) -> (u64, bool) {
        (self.meter.most(), self.penal)
    }

    /// The counter can have come about by `now`.
    pub(in super::super) fn is_sound(&self, counter: &[u64], now: u64) -> bool {
        let (counted, penalty) = counter.split_at(self.meter.words());
        self.meter.is_sound(counted, now) && penalty.iter().all(|&ends| ends <= LATEST)
    }

    /// Asks, and charges where the answer is yes and `commit` is set. A refusal begins a penalty.
    pub(in super::super) fn decide(
        &self,
        counter: &mut [u64],
        quota: &Quota,
        now: u64,
        cost: u64,
        commit: bool,
    ) -> Decision {
        if !self.penal || quota.penalty.is_zero() {
            return self.count(counter, quota, now, cost, commit);
        }
        let now = now.min(LATEST);
        let ends = counter[self.meter.words()];
        if ends > now {
            let Decision { verdict, at } = self.count(counter, quota, now, cost, false);
            let limit = if verdict.allowed { Duration::ZERO } else { verdict.wait };
            return Decision { verdict: refused(limit.max(Duration::from_nanos(ends - now))), at };
        }
        let decision = self.count(counter, quota, now, cost, commit);
        if decision.verdict.allowed {
            return decision;
        }
        counter[self.meter.words()] = decision.at + nanos(quota.penalty);
        Decision { verdict: refused(decision.verdict.wait.max(quota.penalty)), ..decision }
    }

    /// [`Self::decide`] without penalties: for counters that several clients share.
    pub(in super::super) fn count(
        &self,
        counter: &mut [u64],
        quota: &Quota,
        now: u64,
        cost: u64,
        commit: bool,
    ) -> Decision {
        self.meter.decide(&mut counter[..self.meter.words()], quota, now, cost, commit)
    }

    pub(in super::super) fn refund(&self, counter: &mut [u64], quota: &Quota, at: u64, cost: u64) {
        self.meter.refund(&mut counter[..self.meter.words()], quota, at, cost);
    }

    /// The counter says nothing any more: a fresh one would decide the same.
    pub(in super::super) fn expired(&self, counter: &[u64], now: u64) -> bool {
        let (counted, penalty) = counter.split_at(self.meter.words());
        self.meter.expired(counted, now) && penalty.iter().all(|&ends| ends <= now)
    }

    /// Writes a counter of this layout into a fresh one of a wider layout.
    pub(in super::super) fn widen(&self, counter: &[u64], wider: &Self, fresh: &mut [u64]) {
        let (counted, penalty) = counter.split_at(self.meter.words());
        let (to, ends) = fresh.split_at_mut(wider.meter.words());
        self.meter.widen(counted, &wider.meter, to);
        if let ([from], [to]) = (penalty, ends) {
            *to = *from;
        }
    }
}

/// Nothing may come before a penalty ends.
fn refused(wait: Duration) -> Verdict {
    Verdict { allowed: false, remaining: 0, wait }
}
