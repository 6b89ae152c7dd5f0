//! `sliding_window`: k slices and the current one, the oldest counted whole.
//!
//! The usual two weighted buckets admit 199 requests into one window at N = 100 (all at the end of a bucket, then N more as
//! its weight decays), and so do slices with a weighted oldest one. Counted whole, the ring always covers more than the window
//! that ends now, so its sum is a hard bound; the price is a sustained rate of N / (W (1 + 1/k)).

use std::{ops::Range, time::Duration};

use super::{Decision, Verdict};

const MAX_SLICES: u64 = 60;
const MIN_WIDTH: u64 = 50_000_000;

/// Words of a counter: the number of the newest slice; the sum of all, above it the age of the oldest that is not empty; then
/// the ring, as many slices to a word as fit. The age spares most decisions the walk through the ring: over a million keys that
/// is a cache line and 80 ns.
const NEWEST: usize = 0;
const SUM: usize = 1;
const RING: usize = 2;

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Slices {
    /// Nanoseconds in a slice.
    width: u64,
    /// k + 1: slice `n` stands at `n % ring`, and leaves when slice `n + ring` begins.
    ring: u32,
    /// Of one slice's count: few for small limits, which is most of the memory.
    bits: u32,
}

impl Slices {
    pub(super) fn new(window: u64, limit: u64) -> Self {
        let slices = (window / MIN_WIDTH).clamp(1, MAX_SLICES);
        let bits = match limit {
            0..0x100 => 8,
            0x100..0x1_0000 => 16,
            0x1_0000..0x20_0000 => 21,
            _ => 32,
        };
        Self { width: window.div_ceil(slices).max(1), ring: slices as u32 + 1, bits }
    }

    pub(super) fn words(&self) -> usize {
        RING + self.ring.div_ceil(self.lanes()) as usize
    }

    pub(super) fn most(&self) -> u64 {
        (1 << self.bits) - 1
    }

    /// k, and the length of a slice.
    pub(in super::super) fn division(&self) -> (u32, Duration) {
        (self.ring - 1, Duration::from_nanos(self.width))
    }

    pub(super) fn decide(&self, counter: &mut [u64], limit: u64, now: u64, cost: u64, commit: bool) -> Decision {
        self.advance(counter, now / self.width);
        let (used, _) = sum(counter);
        // An instant before the newest slice comes from a thread that was overtaken: it counts as the newest slice's beginning.
        let now = now.max(counter[NEWEST] * self.width);
        let limit = limit.min(self.most());
        let free = limit.saturating_sub(used);
        let allowed = cost <= free;
        if allowed && commit {
            self.add(counter, counter[NEWEST], cost);
        }
        let (remaining, leaving) = match (allowed, commit) {
            (true, true) => (free - cost, 1),
            (true, false) => (free, 1),
            (false, _) => (free, (used + cost).saturating_sub(limit)),
        };
        let wait = Duration::from_nanos(self.leaves(counter, leaving).saturating_sub(now));
        Decision { verdict: Verdict { allowed, remaining, wait }, at: now }
    }

    pub(super) fn refund(&self, counter: &mut [u64], at: u64, cost: u64) {
        let slice = at / self.width;
        let newest = counter[NEWEST];
        if slice <= newest && slice + u64::from(self.ring) > newest {
            self.take(counter, slice, cost.min(self.count(counter, slice)));
            self.settle(counter);
        }
    }

    pub(super) fn expired(&self, counter: &[u64], now: u64) -> bool {
        sum(counter).0 == 0 || now / self.width >= counter[NEWEST] + u64::from(self.ring)
    }

    /// The sum is that of the slices, and all of them lie between the oldest and the newest.
    pub(super) fn is_sound(&self, counter: &[u64], now: u64) -> bool {
        let newest = counter[NEWEST];
        let (used, age) = sum(counter);
        let inside = newest <= now / self.width && age < u64::from(self.ring) && age <= newest;
        let within = |slices: Range<u64>| slices.map(|slice| self.count(counter, slice)).sum::<u64>();
        inside && used == within(0..u64::from(self.ring)) && used == within(newest - age..newest + 1)
    }

    pub(super) fn widen(&self, counter: &[u64], wider: &Self, fresh: &mut [u64]) {
        let (_, age) = sum(counter);
        // Oldest first, each the newest in its turn.
        for slice in counter[NEWEST] - age..=counter[NEWEST] {
            wider.advance(fresh, slice);
            wider.add(fresh, slice, self.count(counter, slice));
        }
    }

    /// Slices to a word; 21 bits go three times into 64.
    fn lanes(&self) -> u32 {
        64 / self.bits
    }

    /// The word, and the bit at which the slice's count begins.
    fn place(&self, slice: u64) -> (usize, u32) {
        let position = (slice % u64::from(self.ring)) as u32;
        (RING + (position / self.lanes()) as usize, position % self.lanes() * self.bits)
    }

    fn count(&self, counter: &[u64], slice: u64) -> u64 {
        let (word, shift) = self.place(slice);
        counter[word] >> shift & self.most()
    }

    /// To the newest slice. The caller has seen to it that the count stays within `most`.
    fn add(&self, counter: &mut [u64], slice: u64, cost: u64) {
        let (word, shift) = self.place(slice);
        counter[word] += cost << shift;
        let (used, age) = sum(counter);
        set_sum(counter, used + cost, if used == 0 { 0 } else { age });
    }

    fn take(&self, counter: &mut [u64], slice: u64, cost: u64) {
        let (word, shift) = self.place(slice);
        counter[word] -= cost << shift;
        counter[SUM] -= cost;
    }

    /// What has left goes: slices of an age of `ring` and more, whose places the newest need.
    fn advance(&self, counter: &mut [u64], to: u64) {
        let gone = to.saturating_sub(counter[NEWEST]);
        if gone == 0 {
            return;
        }
        let (used, age) = sum(counter);
        counter[NEWEST] = to;
        if used == 0 {
            return;
        }
        let ring = u64::from(self.ring);
        if gone >= ring {
            counter[SUM..].fill(0);
            return;
        }
        set_sum(counter, used, age + gone);
        while let (1.., oldest) = sum(counter)
            && oldest >= ring
        {
            let slice = to - oldest;
            self.take(counter, slice, self.count(counter, slice));
            self.settle(counter);
        }
    }

    /// Finds the oldest slice that is not empty, from where it was. It comes by each slice once.
    fn settle(&self, counter: &mut [u64]) {
        let (used, mut age) = sum(counter);
        while used > 0 && age > 0 && self.count(counter, counter[NEWEST] - age) == 0 {
            age -= 1;
        }
        set_sum(counter, used, if used == 0 { 0 } else { age });
    }

    /// The instant at which `need` of what is counted has left: slices leave whole, oldest first.
    fn leaves(&self, counter: &[u64], need: u64) -> u64 {
        let newest = counter[NEWEST];
        let (used, oldest) = sum(counter);
        let mut age = oldest;
        // The oldest is not empty: one leaves with it.
        let mut need = if need == 1 && used > 0 { 0 } else { need };
        while need > 0 && age > 0 {
            need = need.saturating_sub(self.count(counter, newest - age));
            if need > 0 {
                age -= 1;
            }
        }
        (newest - age + u64::from(self.ring)) * self.width
    }
}

/// The sum, and the age of the oldest slice that is not empty. A sum is at most a billion, a limit's largest.
fn sum(counter: &[u64]) -> (u64, u64) {
    (counter[SUM] & u64::from(u32::MAX), counter[SUM] >> 32)
}

fn set_sum(counter: &mut [u64], sum: u64, age: u64) {
    counter[SUM] = sum | age << 32;
}
