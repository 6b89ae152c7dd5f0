//! Terms for limits that are known only when a key comes that has one: those of keys in databases.
//!
//! Keys share a few limits (plans of a price list), so terms are made once for each limit and stay as long as the policy. What is made is
//! never moved: it is found without a lock, and a charge and its refund read the same.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use gapura_config::model::RateLimit;

use super::{algorithm::Quota, overrides::Terms};
use crate::contract::KeyLimits;

pub(super) struct Grown {
    name: Box<str>,
    rule: RateLimit,
    lists: [OnceLock<Box<Node>>; LISTS],
    count: AtomicUsize,
}

/// A limit, and its terms where the rule can take it.
struct Node {
    limit: u64,
    terms: Option<Terms>,
    next: OnceLock<Box<Self>>,
}

const LISTS: usize = 64;
/// Different limits of one rule; a few hundred bytes each.
const MOST: usize = 4096;

impl Grown {
    pub(super) fn new(name: &str, rule: &RateLimit) -> Self {
        let lists = std::array::from_fn(|_| OnceLock::new());
        Self { name: name.into(), rule: rule.clone(), lists, count: AtomicUsize::new(0) }
    }

    /// What a key with these limits has in place of the rule's own. None too where the rule cannot take it: its own limit then holds.
    pub(super) fn of(&self, limits: &KeyLimits, widen: impl FnOnce(&Quota)) -> Option<&Terms> {
        let limit = limits.get(&self.name)?;
        // Fibonacci hashing: limits are round numbers.
        let list = limit.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        let mut place = self.lists.get(usize::try_from(list).unwrap_or(0))?;
        let mut widen = Some(widen);
        loop {
            if place.get().is_none() && self.count.load(Ordering::Relaxed) >= MOST {
                return None;
            }
            // Two that come at once make one: the second waits, and finds the counters wide enough, too.
            let node = place.get_or_init(|| self.make(limit, widen.take()));
            if node.limit == limit {
                return node.terms.as_ref();
            }
            place = &node.next;
        }
    }

    fn make(&self, limit: u64, widen: Option<impl FnOnce(&Quota)>) -> Box<Node> {
        let terms = Terms::new(&self.name, &RateLimit { limit, ..self.rule.clone() });
        if let Err((_, why)) = &terms {
            log::warn!("rate limit {}: keys with a limit of {limit} have the rule's own: {why}", self.name);
        }
        if let (Ok(terms), Some(widen)) = (&terms, widen) {
            widen(&terms.quota);
        }
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == MOST {
            log::warn!("rate limit {}: keys have {MOST} different limits; further ones have the rule's own", self.name);
        }
        Box::new(Node { limit, terms: terms.ok(), next: OnceLock::new() })
    }
}
