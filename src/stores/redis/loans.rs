//! What this instance knows of counters in Redis, and what it may admit by that: `mode = "adaptive"`.
//!
//! Of a counter that is far from its limit, by a fifth of it or more, an instance admits its *share* without asking, and then tells
//! Redis, which counts it whole. The share is a tenth of the limit, divided by the number of instances. Nearer to the limit Redis
//! decides; with its answer the instance borrows some more, charged in Redis before they are spent, and spends them within the
//! same slice or gives them back. A refusal is remembered until the next slice begins.
//!
//! **The bound.** Count in a window what Redis counts and what is not told yet. Whoever makes it more than `limit` by a decision of
//! Redis has told everything of its own; and from when Redis has counted more than four fifths, each of the others learns so with
//! its first question, so it admits at most one share more. So never more than `limit + share × (instances − 1)` are admitted in
//! any window. All shares together are a tenth: while the last fifth is used up they have been told, and nothing is admitted above the
//! limit, unless all of that comes at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gapura_filters::rate_limit::{Counted, Verdict};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::terms::{Name, Terms};

/// What is decided here is at most one of so many of a limit, over all instances.
const PART: u64 = 10;
/// A counter of whose limit one of so many is left is far from it. Twice the shares together: what all have told in one slice leaves in
/// one slice, and must not make a counter that is full look far from full.
const FAR: u64 = 5;
/// A share of at least two: with less, nearly everything would be asked.
pub(super) const LEAST: u64 = 20;
/// What was admitted is told after so long.
pub(super) const TELL: Duration = Duration::from_secs(1);

const SHARDS: usize = 16;

pub(super) struct Loans {
    instances: u64,
    /// In each shard.
    most: usize,
    shards: [Mutex<HashMap<Name, Loan>>; SHARDS],
}

struct Loan {
    terms: Terms,
    /// Admitted, and not told.
    owed: u64,
    /// On its way to Redis, and perhaps not counted yet.
    telling: u64,
    since: Instant,
    /// Far from the limit, when Redis answered last.
    far: bool,
    remaining: u64,
    /// When there is more.
    grows: Instant,
    /// Charged in Redis and not spent, under this instant, until its slice ends.
    lent: u64,
    lent_at: u64,
    ends: Instant,
    /// So much and more is refused till then; it passes later still.
    refused: Option<(u64, Instant, Instant)>,
    /// Requests of this slice, for how much is borrowed.
    seen: u64,
    slice: Instant,
    touched: Instant,
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// What a request is told without Redis.
pub(super) enum Known {
    Verdict(Counted),
    /// Redis must be asked, by one request of this key at a time.
    Nothing(Arc<tokio::sync::Mutex<()>>),
    /// There is no room to know anything: ask as in `sync`.
    Full,
}

/// What is on its way to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Luggage {
    pub(super) owed: u64,
    pub(super) extra: u64,
    /// Borrowed before and not spent: amount and instant.
    pub(super) left: (u64, u64),
}

/// A counter of which something is to be told, and who asks about it.
pub(super) type Due = (Name, Terms, Arc<tokio::sync::Mutex<()>>);

/// Put back where no answer comes, be it that who asked has gone: what was admitted must be told.
pub(super) struct Packed<'a> {
    loans: &'a Loans,
    name: &'a Name,
    luggage: Option<Luggage>,
}

/// What Redis says, see `borrow.lua`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) counted: Counted,
    pub(super) lent: u64,
}

/// Of a limit, what one of so many instances may admit before it tells.
pub(crate) fn share(limit: u64, instances: u64) -> u64 {
    if limit < LEAST * instances { 0 } else { limit / (PART * instances) }
}

impl Loans {
    pub(super) fn new(instances: u64, max_keys: usize) -> Self {
        let most = (max_keys / SHARDS).max(1);
        Self { instances: instances.max(1), most, shards: std::array::from_fn(|_| Mutex::default()) }
    }

    pub(super) fn share(&self, limit: u64) -> u64 {
        share(limit, self.instances)
    }

    /// Decides a request where it can, and charges it then. `again`: it was asked before.
    pub(super) fn decide(&self, name: &Name, terms: &Terms, cost: u64, now: Instant, again: bool) -> Known {
        let share = self.share(terms.limit);
        let mut shard = self.shard(name).lock();
        if !shard.contains_key(name) {
            if shard.len() >= self.most {
                shard.retain(|_, loan| !loan.idle(now));
            }
            if shard.len() >= self.most {
                return Known::Full;
            }
        }
        let loan = shard.entry(name.clone()).or_insert_with(|| Loan::new(terms, now));
        // A reload may have changed the limit.
        loan.terms.limit = terms.limit;
        loan.touched = now;
        if !again {
            loan.see(now);
        }
        if let Some((least, until, passes)) = loan.refused
            && cost >= least
            && now < until
        {
            let verdict =
                Verdict { allowed: false, remaining: loan.remaining, wait: passes.saturating_duration_since(now) };
            return Known::Verdict(Counted { verdict, at: 0 });
        }
        let at = if loan.lent >= cost && now < loan.ends {
            loan.lent -= cost;
            loan.lent_at
        } else if loan.far && loan.owed + loan.telling + cost <= share {
            if loan.owed == 0 {
                loan.since = now;
            }
            loan.owed += cost;
            loan.remaining = loan.remaining.saturating_sub(cost);
            0
        } else {
            return Known::Nothing(loan.asking.clone());
        };
        let verdict = Verdict {
            allowed: true,
            remaining: loan.remaining + loan.lent,
            wait: loan.grows.saturating_duration_since(now),
        };
        Known::Verdict(Counted { verdict, at })
    }

    /// What a question about this counter takes along.
    pub(super) fn pack<'a>(&'a self, name: &'a Name, cost: u64) -> Packed<'a> {
        let mut shard = self.shard(name).lock();
        let luggage = shard.get_mut(name).map(|loan| {
            let share = share(loan.terms.limit, self.instances);
            // For whole requests, as many as came in this slice. Who only tells something borrows nothing.
            let extra = share.checked_div(cost).map_or(0, |requests| requests.min(loan.seen) * cost);
            loan.telling += loan.owed;
            Luggage {
                owed: std::mem::take(&mut loan.owed),
                extra,
                left: (std::mem::take(&mut loan.lent), loan.lent_at),
            }
        });
        Packed { loans: self, name, luggage }
    }

    /// There was no answer.
    fn keep(&self, name: &Name, luggage: Luggage) {
        if let Some(loan) = self.shard(name).lock().get_mut(name) {
            loan.telling = loan.telling.saturating_sub(luggage.owed);
            loan.owed += luggage.owed;
            (loan.lent, loan.lent_at) = luggage.left;
        }
    }

    fn learn(&self, name: &Name, luggage: Luggage, cost: u64, sent: Instant, said: Said) -> (u64, u64) {
        let mut shard = self.shard(name).lock();
        let Some(loan) = shard.get_mut(name) else { return (said.lent, said.counted.at) };
        let Counted { verdict, at } = said.counted;
        let [width, _] = loan.terms.numbers;
        // Redis' clock has gone no further since than ours since before it was asked.
        let ends = sent + Duration::from_micros((at / width + 1) * width - at);
        loan.telling = loan.telling.saturating_sub(luggage.owed);
        loan.remaining = verdict.remaining;
        loan.far = verdict.remaining.saturating_mul(FAR) >= loan.terms.limit;
        loan.grows = sent + verdict.wait;
        // Who only told something has been refused nothing.
        if cost > 0 {
            loan.refused = (!verdict.allowed).then(|| (cost, ends.min(loan.grows), loan.grows));
        }
        let (left, left_at) = luggage.left;
        let same = left_at / width == at / width;
        loan.lent = said.lent + if same { left } else { 0 };
        (loan.lent_at, loan.ends) = (at, ends);
        if same { (0, 0) } else { luggage.left }
    }

    /// A request that was charged here passes nothing on, for another rule has refused it. False: it must be given back in Redis.
    pub(super) fn undo(&self, name: &Name, cost: u64, at: u64, now: Instant) -> bool {
        let mut shard = self.shard(name).lock();
        let loan = shard.get_mut(name);
        match loan {
            // What has been told since stays counted.
            Some(loan) if at == 0 => {
                let given = loan.owed.min(cost);
                loan.owed -= given;
                loan.remaining += given;
                true
            }
            Some(loan) if loan.lent_at == at && now < loan.ends => {
                loan.lent += cost;
                true
            }
            _ => at == 0,
        }
    }

    /// Counters of which something is to be told or given back; what says nothing any more is forgotten.
    pub(super) fn due(&self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, loan| !loan.idle(now));
            let ready = shard.iter().filter(|(_, loan)| {
                loan.owed > 0 && now.saturating_duration_since(loan.since) >= TELL || loan.lent > 0 && now >= loan.ends
            });
            due.extend(ready.map(|(name, loan)| (name.clone(), loan.terms.clone(), loan.asking.clone())));
        }
        due
    }

    fn shard(&self, name: &Name) -> &Mutex<HashMap<Name, Loan>> {
        &self.shards[usize::from(name.first()) % SHARDS]
    }
}

impl Packed<'_> {
    pub(super) fn luggage(&self) -> Luggage {
        self.luggage.unwrap_or(Luggage { owed: 0, extra: 0, left: (0, 0) })
    }

    /// Redis has answered a question that was put at `sent`. What is to be given back, and under which instant.
    pub(super) fn learn(mut self, cost: u64, sent: Instant, said: Said) -> (u64, u64) {
        match self.luggage.take() {
            Some(luggage) => self.loans.learn(self.name, luggage, cost, sent, said),
            None => (said.lent, said.counted.at),
        }
    }
}

impl Drop for Packed<'_> {
    fn drop(&mut self) {
        if let Some(luggage) = self.luggage.take() {
            self.loans.keep(self.name, luggage);
        }
    }
}

impl Loan {
    fn new(terms: &Terms, now: Instant) -> Self {
        Self {
            terms: terms.clone(),
            owed: 0,
            telling: 0,
            since: now,
            // Nothing is known yet: its share is within the bound whatever Redis has counted.
            far: true,
            remaining: terms.limit,
            grows: now + terms.window(),
            lent: 0,
            lent_at: 0,
            ends: now,
            refused: None,
            seen: 0,
            slice: now,
            touched: now,
            asking: Arc::default(),
        }
    }

    fn see(&mut self, now: Instant) {
        let width = Duration::from_micros(self.terms.numbers[0]);
        if now.saturating_duration_since(self.slice) >= width {
            (self.seen, self.slice) = (0, now);
        }
        self.seen += 1;
    }

    fn idle(&self, now: Instant) -> bool {
        self.owed + self.telling + self.lent == 0 && now.saturating_duration_since(self.touched) > self.terms.window()
    }
}

#[cfg(test)]
mod tests;
