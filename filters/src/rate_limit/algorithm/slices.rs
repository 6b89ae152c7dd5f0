//! `sliding_window`: k slices and the current one, the oldest counted whole.
//!
//! The usual two weighted buckets admit 199 requests into one window at N = 100 (all at the end of a bucket, then N more as
//! its weight decays), and so do slices with a weighted oldest one. Counted whole, the ring always covers more than the window
//! that ends now, so its sum is a hard bound; the price is a sustained rate of N / (W (1 + 1/k)).

use std::time::Duration;

use super::{Decision, Verdict};

const MAX_SLICES: u64 = 60;
const MIN_WIDTH: u64 = 50_000_000;

/// Words of a counter: the number of the newest slice, the sum of all, then the ring, as many slices to a word as fit.
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
    pub(super) fn division(&self) -> (u32, Duration) {
        (self.ring - 1, Duration::from_nanos(self.width))
    }

    pub(super) fn decide(&self, counter: &mut [u64], limit: u64, now: u64, cost: u64, commit: bool) -> Decision {
        self.advance(counter, now / self.width);
        let used = counter[SUM];
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
        if slice <= counter[NEWEST] && slice + u64::from(self.ring) > counter[NEWEST] {
            let given = cost.min(self.count(counter, slice));
            let (word, shift) = self.place(slice);
            counter[word] -= given << shift;
            counter[SUM] -= given;
        }
    }

    pub(super) fn expired(&self, counter: &[u64], now: u64) -> bool {
        counter[SUM] == 0 || now / self.width >= counter[NEWEST] + u64::from(self.ring)
    }

    pub(super) fn widen(&self, counter: &[u64], wider: &Self, fresh: &mut [u64]) {
        let newest = counter[NEWEST];
        fresh[NEWEST] = newest;
        for slice in (newest + 1).saturating_sub(u64::from(self.ring))..=newest {
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

    /// The caller has seen to it that the count stays within `most`.
    fn add(&self, counter: &mut [u64], slice: u64, cost: u64) {
        let (word, shift) = self.place(slice);
        counter[word] += cost << shift;
        counter[SUM] += cost;
    }

    fn advance(&self, counter: &mut [u64], to: u64) {
        let newest = counter[NEWEST];
        if to <= newest {
            return;
        }
        if to - newest >= u64::from(self.ring) || counter[SUM] == 0 {
            counter[SUM..].fill(0);
        } else {
            for slice in newest + 1..=to {
                let (word, shift) = self.place(slice);
                let left = counter[word] >> shift & self.most();
                counter[word] -= left << shift;
                counter[SUM] -= left;
            }
        }
        counter[NEWEST] = to;
    }

    /// The instant at which `need` of what is counted has left: slices leave whole, oldest first.
    fn leaves(&self, counter: &[u64], need: u64) -> u64 {
        let newest = counter[NEWEST];
        let (lanes, mask) = (self.lanes(), self.most());
        let mut need = need;
        let mut age = 0;
        let mut position = ((newest + 1) % u64::from(self.ring)) as u32;
        while age < self.ring {
            let lane = position % lanes;
            let here = (lanes - lane).min(self.ring - position).min(self.ring - age);
            let mut word = counter[RING + (position / lanes) as usize] >> (lane * self.bits);
            // Most slices of most counters are empty: they are skipped by words, and to the first that is not.
            let empty = word.trailing_zeros() / self.bits;
            word = word.unbounded_shr(empty * self.bits);
            for lane in empty..here {
                if word == 0 {
                    break;
                }
                let count = word & mask;
                if need <= count {
                    return (newest + 1 + u64::from(age + lane)) * self.width;
                }
                need -= count;
                word >>= self.bits;
            }
            age += here;
            position = if position + here == self.ring { 0 } else { position + here };
        }
        (newest + 1 + u64::from(self.ring)) * self.width
    }
}
