//! `sliding_log`: a ring of the last N instants, exact.
//!
//! An instant is a tick of 32 bits, halving the memory. A tick is the finest power of ten of nanoseconds of which 2³⁰ cover
//! the window (100 ns at 60 s, 10 µs at 1 h), so windows written in milliseconds are whole ticks. A charge is dated to the end
//! of its tick: the rounding can only refuse, by less than a billionth of the window.

use std::time::Duration;

use super::{Decision, Verdict};

/// Words of a counter: the instant of the last touch, the oldest entry's place and the number of entries, then the ring.
const TOUCHED: usize = 0;
const ENDS: usize = 1;
const RING: usize = 2;

#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Log {
    /// Nanoseconds in a tick.
    tick: u64,
    /// Ticks in the window.
    window: u32,
    /// Instants in the ring.
    most: u32,
}

/// The ring of one counter.
struct Ring<'a> {
    words: &'a mut [u64],
    most: usize,
    oldest: usize,
    len: usize,
}

impl Log {
    pub(super) fn new(window: u64, limit: u64) -> Self {
        let mut tick = 1;
        // Ages up to two windows must stay below 2³¹, see `prune`.
        while window.div_ceil(tick) > (1 << 30) - 4 {
            tick *= 10;
        }
        Self { tick, window: window.div_ceil(tick) as u32, most: u32::try_from(limit).unwrap_or(u32::MAX) }
    }

    pub(super) fn words(&self) -> usize {
        RING + self.most.div_ceil(2) as usize
    }

    pub(super) fn most(&self) -> u64 {
        u64::from(self.most)
    }

    pub(super) fn decide(&self, counter: &mut [u64], limit: u64, now: u64, cost: u64, commit: bool) -> Decision {
        // A thread that was overtaken counts as the one that overtook it, which keeps the ring in order.
        let now = now.max(counter[TOUCHED]);
        self.prune(counter, now);
        let mut ring = Ring::open(counter, self.most);
        let used = ring.len as u64;
        let limit = limit.min(u64::from(self.most));
        let free = limit.saturating_sub(used);
        let allowed = cost <= free;
        if allowed && commit {
            let instant = self.dated(now);
            for _ in 0..cost {
                ring.push(instant as u32);
            }
        }
        let (remaining, leaving) = match (allowed, commit) {
            (true, true) => (free - cost, 1),
            (true, false) => (free, 1),
            (false, _) => (free, (used + cost).saturating_sub(limit)),
        };
        // A charge heavier than the whole limit never passes; it is told the whole window.
        let index = usize::try_from(leaving).unwrap_or(usize::MAX).min(ring.len).saturating_sub(1);
        let leaves = match ring.len {
            0 => now,
            _ => {
                let tick = now / self.tick;
                let age = age(tick, ring.get(index));
                tick.saturating_add_signed(-age).saturating_add(self.window.into()).saturating_mul(self.tick)
            }
        };
        ring.close();
        let wait = Duration::from_nanos(leaves.saturating_sub(now));
        Decision { verdict: Verdict { allowed, remaining, wait }, at: now }
    }

    pub(super) fn refund(&self, counter: &mut [u64], at: u64, cost: u64) {
        let instant = self.dated(at) as u32;
        let mut ring = Ring::open(counter, self.most);
        // The charge is among the newest: requests of the same key that came since are few.
        let last = (0..ring.len).rev().find(|&index| ring.get(index) == instant);
        if let Some(last) = last {
            // Instants stand in order, so those of one charge stand side by side.
            let alike = (0..=last).rev().take_while(|&index| ring.get(index) == instant).count();
            let gone = alike.min(usize::try_from(cost).unwrap_or(usize::MAX));
            for later in last + 1..ring.len {
                let moved = ring.get(later);
                ring.set(later - gone, moved);
            }
            ring.len -= gone;
        }
        ring.close();
    }

    pub(super) fn expired(&self, counter: &[u64], now: u64) -> bool {
        counter[ENDS] >> 32 == 0 || now.saturating_sub(counter[TOUCHED]) > self.lasting()
    }

    /// Its ends are in the ring. Instants are only ever compared, so that any will do.
    pub(super) fn is_sound(&self, counter: &[u64], now: u64) -> bool {
        let (oldest, len) = (counter[ENDS] & u64::from(u32::MAX), counter[ENDS] >> 32);
        counter[TOUCHED] <= now && oldest < u64::from(self.most.max(1)) && len <= self.most()
    }

    pub(super) fn widen(&self, counter: &[u64], wider: &Self, fresh: &mut [u64]) {
        let mut copy = counter.to_vec();
        let from = Ring::open(&mut copy, self.most);
        let mut to = Ring::open(fresh, wider.most);
        for index in 0..from.len {
            to.push(from.get(index));
        }
        to.close();
        fresh[TOUCHED] = counter[TOUCHED];
    }

    /// The tick at whose beginning the charge counts as made: not before it was.
    fn dated(&self, at: u64) -> u64 {
        at.div_ceil(self.tick)
    }

    /// Nanoseconds after which even the newest entry has left.
    fn lasting(&self) -> u64 {
        (u64::from(self.window) + 1) * self.tick
    }

    /// Drops what has left the window. An entry was younger than a window at the last touch, and the last touch is younger than
    /// a window or everything goes: so no age exceeds two windows, and the difference of two 32-bit ticks is never ambiguous.
    fn prune(&self, counter: &mut [u64], now: u64) {
        if self.expired(counter, now) {
            counter[ENDS] = 0;
        }
        counter[TOUCHED] = now;
        let tick = now / self.tick;
        let mut ring = Ring::open(counter, self.most);
        while ring.len > 0 && age(tick, ring.get(0)) >= self.window.into() {
            ring.oldest = if ring.oldest + 1 == ring.most { 0 } else { ring.oldest + 1 };
            ring.len -= 1;
        }
        ring.close();
    }
}

/// In ticks; −1 for an entry dated to the end of the present tick.
fn age(tick: u64, instant: u32) -> i64 {
    i64::from((tick as u32).wrapping_sub(instant) as i32)
}

impl<'a> Ring<'a> {
    fn open(words: &'a mut [u64], most: u32) -> Self {
        let most = most as usize;
        let (oldest, len) = (words[ENDS] as u32 as usize, (words[ENDS] >> 32) as usize);
        Self { words, most, oldest, len }
    }
    fn close(self) {
        self.words[ENDS] = (self.len as u64) << 32 | self.oldest as u64;
    }
    fn place(&self, index: usize) -> (usize, usize) {
        let position = self.oldest + index;
        let position = if position >= self.most { position - self.most } else { position };
        (RING + position / 2, position % 2 * 32)
    }
    fn get(&self, index: usize) -> u32 {
        let (word, shift) = self.place(index);
        (self.words[word] >> shift) as u32
    }
    fn set(&mut self, index: usize, instant: u32) {
        let (word, shift) = self.place(index);
        self.words[word] = self.words[word] & !(u64::from(u32::MAX) << shift) | u64::from(instant) << shift;
    }
    /// The caller has seen to it that there is room.
    fn push(&mut self, instant: u32) {
        self.set(self.len, instant);
        self.len += 1;
    }
}
