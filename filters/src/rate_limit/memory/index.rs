//! From a fingerprint to the number of a slot: one cache line of an open table for most look-ups.
//!
//! A general map keeps its control bytes apart from its values, which is one miss more for each decision over a million keys,
//! and doubles, where this one grows by half. The fingerprints stay in the slots: an entry has ten bits of one, so that a slot
//! is rarely looked at in vain.

/// Zero is vacant; else a tag above, and below it the slot's number plus one.
const SLOT_BITS: u32 = 22;
const SLOT: u32 = (1 << SLOT_BITS) - 1;

/// What a slot takes here at most: an index is half full or more.
pub(super) const BYTES: usize = 2 * size_of::<u32>();

#[derive(Default)]
pub(super) struct Index {
    entries: Box<[u32]>,
    len: usize,
}

impl Index {
    /// Slots that can be told apart: four million in each of 128 shards.
    pub(super) const MOST: usize = SLOT as usize;

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot with this hash that `is` the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            let slot = (entry & SLOT) - 1;
            if entry & !SLOT == tag(hash) && is(slot) {
                return Some(slot);
            }
            at = self.after(at);
        }
    }

    /// One more would make it slow: it has to be built anew, larger.
    pub(super) fn is_full(&self) -> bool {
        self.len * 4 >= self.entries.len() * 3
    }

    /// Empty, with room for half as many again as this one has.
    pub(super) fn larger(&self) -> Self {
        Self { entries: vec![0; (self.len * 2).max(8)].into_boxed_slice(), len: 0 }
    }

    /// The caller has seen to it that there is room, and that the slot is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let mut at = self.home(hash);
        while self.entries[at] != 0 {
            at = self.after(at);
        }
        self.entries[at] = tag(hash) | (slot + 1);
        self.len += 1;
    }

    /// Takes a slot out and moves up what was put behind it, so that no marks of removed ones pile up.
    pub(super) fn remove(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.position(hash, slot) else { return };
        self.len -= 1;
        let mut at = self.after(hole);
        while self.entries[at] != 0 {
            let home = self.home(hash_of((self.entries[at] & SLOT) - 1));
            // It may move if its home is not between the hole and itself, around the end.
            let reaches = if hole <= at { home <= hole || home > at } else { home <= hole && home > at };
            if reaches {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.entries[hole] = 0;
    }

    fn position(&self, hash: u64, slot: u32) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        while self.entries[at] != 0 {
            if self.entries[at] & SLOT == slot + 1 {
                return Some(at);
            }
            at = self.after(at);
        }
        None
    }

    /// By multiplication, for a length that is no power of two.
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.entries.len() as u128) >> 64) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }
}

/// From bits that hardly move the home.
fn tag(hash: u64) -> u32 {
    (hash as u32) << SLOT_BITS
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Like a map, whatever comes and goes, with hashes that meet.
        #[test]
        fn it_finds_what_is_there(steps in prop::collection::vec((0..40_u32, any::<bool>()), 1..400), spread in 1..=u64::MAX) {
            let hash = |slot: u32| (u64::from(slot) / 3).wrapping_mul(spread);
            let (mut index, mut model) = (Index::default(), HashMap::new());
            for (slot, insert) in steps {
                if insert && model.insert(slot, ()).is_none() {
                    if index.is_full() {
                        let mut larger = index.larger();
                        model.keys().filter(|&&other| other != slot).for_each(|&slot| larger.insert(hash(slot), slot));
                        index = larger;
                    }
                    index.insert(hash(slot), slot);
                } else if !insert && model.remove(&slot).is_some() {
                    index.remove(hash(slot), slot, hash);
                }
                prop_assert_eq!(index.len(), model.len());
                for slot in 0..40 {
                    prop_assert_eq!(index.find(hash(slot), |found| found == slot).is_some(), model.contains_key(&slot));
                }
            }
        }
    }
}
