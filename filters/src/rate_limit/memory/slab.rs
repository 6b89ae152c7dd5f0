//! Counters of one shard: an index of 32-bit numbers over slabs of words.
//!
//! A map that held counters by value would copy them all when it grows, and pay its empty places with the size of a counter.
//! Here only the index grows; slabs are added one by one and never move. They double up to 64 KiB, so that few keys take little,
//! and with a million keys the list of slabs still stays in the cache: that one load less is 15 % of a decision.

use super::{super::algorithm::Layout, index::Index};

/// 126 bits of a key's hash, and its class. A counter is known by it; the key itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Fingerprint(u64, u64);

/// Whose the counter is, for the bound on their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Key,
    Network,
    Fixed,
}

/// Words before a counter: its fingerprint. A vacant slot has no class, and the next vacant slot (plus one) in word 0.
const HEAD: usize = 2;
const CLASS: u64 = 0b11;

/// The first slab holds about this many words, the sixth and all further ones 32 times as many.
const FIRST_WORDS: usize = 256;
const DOUBLINGS: u32 = 5;

pub(super) struct Slab {
    layout: Layout,
    index: Index,
    slabs: Vec<Box<[u64]>>,
    plan: Plan,
    /// One more than the slot that heads the list of vacant ones; 0 for none.
    vacant: u32,
    /// Slots that have never been used are from here on; until then the pages they are on need not exist.
    fresh: u32,
    /// Where the search for expired counters goes on.
    cursor: u32,
}

/// Which slab a slot is in, and where.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Words of a slot.
    stride: u32,
    /// Slots of the first slab, as a power of two.
    shift: u32,
}

/// What a counter takes.
pub(super) fn bytes(layout: Layout) -> usize {
    (HEAD + layout.words()) * size_of::<u64>()
}

impl Fingerprint {
    pub(super) fn new(low: u64, high: u64, class: Class) -> Self {
        let class = match class {
            Class::Key => 1,
            Class::Network => 2,
            Class::Fixed => 3,
        };
        Self(low, high & !CLASS | class)
    }

    /// None: no class is like this.
    pub(super) fn of(low: u64, high: u64) -> Option<Self> {
        (high & CLASS != 0).then_some(Self(low, high))
    }

    pub(super) fn words(self) -> [u64; 2] {
        [self.0, self.1]
    }

    pub(super) fn class(self) -> Class {
        match self.1 & CLASS {
            1 => Class::Key,
            2 => Class::Network,
            _ => Class::Fixed,
        }
    }

    /// From bits that the index does not look at.
    pub(super) fn shard(self, shards: usize) -> usize {
        (self.1 >> 32) as usize % shards
    }
}

impl Slab {
    pub(super) fn new(layout: Layout) -> Self {
        let plan = Plan::new(HEAD + layout.words());
        Self { layout, index: Index::default(), slabs: Vec::new(), plan, vacant: 0, fresh: 0, cursor: 0 }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Fingerprint, &[u64])> {
        let slots = (0..self.fresh).map(|slot| self.plan.slot(&self.slabs, slot));
        slots.filter_map(|words| Some((Fingerprint::of(words[0], words[1])?, &words[HEAD..])))
    }

    pub(super) fn find(&mut self, print: Fingerprint) -> Option<&mut [u64]> {
        let (plan, slabs) = (self.plan, &self.slabs);
        let slot = self.index.find(print.0, |slot| plan.slot(slabs, slot)[..HEAD] == [print.0, print.1])?;
        Some(&mut self.slot(slot)[HEAD..])
    }

    /// A counter nobody has charged, for a fingerprint that is not there yet. None when as many counters stand in this shard as
    /// its index can number.
    pub(super) fn insert(&mut self, print: Fingerprint) -> Option<&mut [u64]> {
        let slot = match self.vacant.checked_sub(1) {
            Some(slot) => {
                self.vacant = self.slot(slot)[0] as u32;
                slot
            }
            None => self.unused()?,
        };
        if self.index.is_full() {
            self.reindex();
        }
        self.index.insert(print.0, slot);
        let words = self.slot(slot);
        words.fill(0);
        (words[0], words[1]) = (print.0, print.1);
        Some(&mut words[HEAD..])
    }

    /// Looks at the next `slots` slots and drops the counters that have expired.
    pub(super) fn sweep(&mut self, slots: usize, now: u64, mut dropped: impl FnMut(Class)) {
        let end = self.fresh;
        for _ in 0..slots.min(end as usize) {
            if self.cursor >= end {
                self.cursor = 0;
            }
            let slot = self.cursor;
            self.cursor += 1;
            let layout = self.layout;
            let words = self.slot(slot);
            let print = Fingerprint(words[0], words[1]);
            if print.1 & CLASS == 0 || !layout.expired(&words[HEAD..], now) {
                continue;
            }
            self.remove(print, slot);
            dropped(print.class());
        }
        if self.index.len() == 0 && end > 0 {
            // A flood that is over leaves nothing behind.
            *self = Self::new(self.layout);
        }
    }

    /// The same counters in a wider layout.
    pub(super) fn widened(&self, layout: Layout) -> Self {
        let mut wider = Self::new(layout);
        for (print, counter) in self.iter() {
            if let Some(fresh) = wider.insert(print) {
                self.layout.widen(counter, &layout, fresh);
            }
        }
        wider
    }

    fn remove(&mut self, print: Fingerprint, slot: u32) {
        let (plan, slabs) = (self.plan, &self.slabs);
        self.index.remove(print.0, slot, |slot| plan.slot(slabs, slot)[0]);
        let vacant = self.vacant;
        let words = self.slot(slot);
        (words[0], words[1]) = (u64::from(vacant), 0);
        self.vacant = slot + 1;
    }

    /// A larger index, from the slots in the order in which they lie: the memory is read ahead, which makes the pause ten times
    /// shorter than in the order of hashes.
    fn reindex(&mut self) {
        let mut larger = self.index.larger();
        for slot in 0..self.fresh {
            let words = self.plan.slot(&self.slabs, slot);
            if words[1] & CLASS != 0 {
                larger.insert(words[0], slot);
            }
        }
        self.index = larger;
    }

    /// A slot that has never been used, with one slab more where all are.
    fn unused(&mut self) -> Option<u32> {
        let slot = self.fresh;
        if slot as usize >= Index::MOST {
            return None;
        }
        let (slab, _) = self.plan.place(slot);
        if slab == self.slabs.len() {
            self.slabs.push(vec![0; self.plan.words(slab)].into_boxed_slice());
        }
        self.fresh += 1;
        Some(slot)
    }

    fn slot(&mut self, slot: u32) -> &mut [u64] {
        let (slab, first) = self.plan.place(slot);
        &mut self.slabs[slab][first..first + self.plan.stride as usize]
    }
}

impl Plan {
    fn new(stride: usize) -> Self {
        Self { stride: stride as u32, shift: (FIRST_WORDS / stride).max(1).ilog2() }
    }

    /// Apart from the slab's `self`, so that the index can be asked and changed meanwhile.
    fn slot<'a>(&self, slabs: &'a [Box<[u64]>], slot: u32) -> &'a [u64] {
        let (slab, first) = self.place(slot);
        &slabs[slab][first..first + self.stride as usize]
    }

    /// The slab, and the slot's first word in it. Slab `n` begins at slot `(2ⁿ − 1) · first` until slabs no longer double.
    fn place(&self, slot: u32) -> (usize, usize) {
        let moved = slot as usize + (1 << self.shift);
        let level = (moved.ilog2() - self.shift).min(DOUBLINGS);
        let shift = self.shift + level;
        let beyond = moved - (1 << shift);
        (level as usize + (beyond >> shift), (beyond & ((1 << shift) - 1)) * self.stride as usize)
    }

    fn words(&self, slab: usize) -> usize {
        (self.stride as usize) << (self.shift + DOUBLINGS.min(slab as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_lie_side_by_side() {
        for stride in [3, 12, 300] {
            let plan = Plan::new(stride);
            let mut expected = (0, 0);
            for slot in 0..10_000 {
                assert_eq!(plan.place(slot), expected);
                expected.1 += stride;
                if expected.1 == plan.words(expected.0) {
                    expected = (expected.0 + 1, 0);
                }
            }
        }
    }
}
