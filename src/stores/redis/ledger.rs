//! What this instance counted for itself while Redis gave no answer: it is added there in the background, when there are answers
//! again.
//!
//! Of each counter is known how much was let pass without Redis and not added since, but never more than it held here after the last of
//! that, which is all that can still count. (What it holds beside is what Redis granted, and has counted.) That much is
//! charged in Redis as of now, but no more than there is room for: so a limit is strict for up to one window after an outage, and
//! a request counts twice rather than never. A key that shared a counter with its network is charged what that one held. Of more
//! than `max_keys` counters the rest is not added.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    cluster,
    counters::{Charge, Counters},
    link::{Down, Link},
    terms::{Name, Terms},
    together::together,
};

/// In one script call: a millisecond of Redis' time.
const BATCH: usize = 50;
/// Script calls side by side.
const ABREAST: usize = 16;

pub(super) struct Ledger {
    owed: Mutex<HashMap<Name, Owed>>,
    most: usize,
}

#[derive(Clone)]
struct Owed {
    terms: Terms,
    used: u64,
    /// When the last of it was charged, and how long that counts.
    at: Instant,
    lasts: Duration,
}

impl Ledger {
    pub(super) fn new(max_keys: usize) -> Self {
        Self { owed: Mutex::default(), most: max_keys }
    }

    /// One more of `cost`, after which the counter here holds `held`.
    pub(super) fn note(&self, name: Name, terms: Terms, (cost, held): (u64, u64), lasts: Duration) {
        let entry = Owed { terms, used: cost.min(held), at: Instant::now(), lasts };
        let mut owed = self.owed.lock();
        let full = owed.len() >= self.most;
        match owed.entry(name) {
            Entry::Occupied(mut known) => {
                let before = known.get().used;
                known.insert(Owed { used: before.saturating_add(cost).min(held), ..entry });
            }
            Entry::Vacant(vacant) if !full => {
                vacant.insert(entry);
            }
            Entry::Vacant(_) => owed.retain(|_, owed| owed.counts()),
        }
    }

    /// Adds what is owed to the server that has these slots. It stays owed until it is.
    pub(super) async fn settle(&self, link: &Link, counters: &Counters, mine: &impl Fn(u16) -> bool) {
        let mut due: Vec<(Name, Owed)> = {
            let mut owed = self.owed.lock();
            owed.retain(|_, owed| owed.counts());
            let mine = owed.iter().filter(|(name, _)| mine(cluster::slot(&name.tag)));
            mine.map(|(name, owed)| (name.clone(), owed.clone())).collect()
        };
        if due.is_empty() {
            return;
        }
        log::info!("Redis at {}: adding {} counters of an outage", link.server(), due.len());
        due.sort_unstable_by(|(one, _), (other, _)| one.tag.cmp(&other.tag));
        let batches: Vec<&[(Name, Owed)]> =
            due.chunk_by(|(one, _), (other, _)| one.tag == other.tag).flat_map(|same| same.chunks(BATCH)).collect();
        for some in batches.chunks(ABREAST) {
            let added = some.iter().map(|batch| add(link, counters, batch));
            let added = together(added.collect()).await;
            let mut owed = self.owed.lock();
            for (name, paid) in some.iter().zip(&added).filter(|(_, added)| added.is_ok()).flat_map(|(batch, _)| *batch)
            {
                // What was counted meanwhile is still owed.
                let Some(rest) = owed.get_mut(name) else { continue };
                rest.used = rest.used.saturating_sub(paid.used);
                if rest.used == 0 || rest.at == paid.at {
                    owed.remove(name);
                }
            }
            // The next second, or the next connection, brings the rest.
            if added.iter().any(Result::is_err) {
                return;
            }
        }
    }
}

impl Owed {
    fn counts(&self) -> bool {
        self.at.elapsed() < self.lasts
    }
}

/// Each for itself: whole, or as much as there is room for.
async fn add(link: &Link, counters: &Counters, batch: &[(Name, Owed)]) -> Result<(), Down> {
    let of = |(name, owed): &'_ (Name, Owed), cost: u64| (name.clone(), owed.terms.clone(), cost);
    let mut wanted: Vec<_> = batch
        .iter()
        .map(|entry| of(entry, entry.1.used.min(entry.1.terms.limit)))
        .filter(|(.., cost)| *cost > 0)
        .collect();
    // What one finds full may have a little room left; others take it meanwhile, or leave some.
    for _ in 0..3 {
        if wanted.is_empty() {
            break;
        }
        let charges: Vec<_> = wanted
            .iter()
            .map(|(name, terms, cost)| Charge { name, terms, cost: *cost, binding: false, penalty: Duration::ZERO })
            .collect();
        let counted = counters.ask_at(link, &charges).await?;
        wanted = wanted
            .into_iter()
            .zip(counted)
            .filter(|(_, counted)| !counted.verdict.allowed && counted.verdict.remaining > 0)
            .map(|((name, terms, cost), counted)| (name, terms, cost.min(counted.verdict.remaining)))
            .collect();
    }
    Ok(())
}
