//! Counters of one shard: an index of 32-bit numbers over slabs of words.
//!
//! A map that held counters by value would copy them all when it grows, and pay its empty buckets with the size of a counter.
//! Here only the index grows; slabs are added one by one and never move.

use hashbrown::HashTable;

use super::super::algorithm::Meter;

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

/// A slab is about this long: a few counters, so that a rule nobody uses costs nothing, and one that few use costs little.
const SLAB_WORDS: usize = 512;

pub(super) struct Slab {
    meter: Meter,
    index: HashTable<u32>,
    slabs: Vec<Box<[u64]>>,
    /// Words of a slot, and slots of a slab as a power of two.
    stride: usize,
    shift: u32,
    /// One more than the slot that heads the list of vacant ones; 0 for none.
    vacant: u64,
    /// Where the search for expired counters goes on.
    cursor: usize,
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
    pub(super) fn new(meter: Meter) -> Self {
        let stride = HEAD + meter.words();
        let shift = (SLAB_WORDS / stride).max(1).ilog2();
        Self { meter, index: HashTable::new(), slabs: Vec::new(), stride, shift, vacant: 0, cursor: 0 }
    }

    pub(super) fn meter(&self) -> Meter {
        self.meter
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&mut self, print: Fingerprint) -> Option<&mut [u64]> {
        let slot = *self
            .index
            .find(print.0, |&slot| at(&self.slabs, self.stride, self.shift, slot)[..HEAD] == [print.0, print.1])?;
        Some(&mut self.slot(slot)[HEAD..])
    }

    /// A counter nobody has charged, for a fingerprint that is not there yet. None when 2³² counters stand in this shard.
    pub(super) fn insert(&mut self, print: Fingerprint) -> Option<&mut [u64]> {
        if self.vacant == 0 {
            self.grow()?;
        }
        let slot = u32::try_from(self.vacant.checked_sub(1)?).ok()?;
        self.vacant = self.slot(slot)[0];
        let (stride, shift, slabs) = (self.stride, self.shift, &self.slabs);
        self.index.insert_unique(print.0, slot, |&slot| at(slabs, stride, shift, slot)[0]);
        let words = self.slot(slot);
        words.fill(0);
        (words[0], words[1]) = (print.0, print.1);
        Some(&mut words[HEAD..])
    }

    /// Looks at the next `slots` slots and drops the counters that have expired.
    pub(super) fn sweep(&mut self, slots: usize, now: u64, mut dropped: impl FnMut(Class)) {
        let end = self.slabs.len() << self.shift;
        for _ in 0..slots.min(end) {
            if self.cursor >= end {
                self.cursor = 0;
            }
            let slot = self.cursor as u32;
            self.cursor += 1;
            let meter = self.meter;
            let words = self.slot(slot);
            let print = Fingerprint(words[0], words[1]);
            if print.1 & CLASS == 0 || !meter.expired(&words[HEAD..], now) {
                continue;
            }
            self.remove(print, slot);
            dropped(print.class());
        }
        if self.index.is_empty() && end > 0 {
            // A flood that is over leaves nothing behind.
            *self = Self::new(self.meter);
        }
    }

    /// The same counters in a wider layout.
    pub(super) fn widened(&self, meter: Meter) -> Self {
        let mut wider = Self::new(meter);
        for &slot in &self.index {
            let words = at(&self.slabs, self.stride, self.shift, slot);
            if let Some(fresh) = wider.insert(Fingerprint(words[0], words[1])) {
                self.meter.widen(&words[HEAD..], &meter, fresh);
            }
        }
        wider
    }

    fn remove(&mut self, print: Fingerprint, slot: u32) {
        if let Ok(entry) = self.index.find_entry(print.0, |&found| found == slot) {
            entry.remove();
        }
        let vacant = self.vacant;
        let words = self.slot(slot);
        (words[0], words[1]) = (vacant, 0);
        self.vacant = u64::from(slot) + 1;
    }

    /// One slab more, all of its slots on the list of vacant ones.
    fn grow(&mut self) -> Option<()> {
        let first = self.slabs.len() << self.shift;
        let slots = 1 << self.shift;
        u32::try_from(first + slots).ok()?;
        let mut slab = vec![0; self.stride * slots].into_boxed_slice();
        for (slot, words) in slab.chunks_exact_mut(self.stride).enumerate() {
            words[0] = if slot + 1 == slots { self.vacant } else { (first + slot) as u64 + 2 };
        }
        self.slabs.push(slab);
        self.vacant = first as u64 + 1;
        Some(())
    }

    fn slot(&mut self, slot: u32) -> &mut [u64] {
        let (slab, first) = place(self.stride, self.shift, slot);
        &mut self.slabs[slab][first..first + self.stride]
    }
}

/// Apart from `self`, so that the index can be asked and changed meanwhile.
fn at(slabs: &[Box<[u64]>], stride: usize, shift: u32, slot: u32) -> &[u64] {
    let (slab, first) = place(stride, shift, slot);
    &slabs[slab][first..first + stride]
}

fn place(stride: usize, shift: u32, slot: u32) -> (usize, usize) {
    let slot = slot as usize;
    (slot >> shift, (slot & ((1 << shift) - 1)) * stride)
}
