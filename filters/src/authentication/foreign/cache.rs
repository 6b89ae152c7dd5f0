//! What backends have said of keys. It holds keyed digests, by a secret of the process: a dump of the memory gives nobody a key to use.
//!
//! Good keys and unknown ones have their own room, so that whoever invents keys pushes out no good one.

use std::{collections::HashMap, sync::Arc};

use gapura_config::model::KeyCache;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use super::super::api_keys::{Digest, Record};

pub(super) struct Cache {
    keyed: Hmac<Sha256>,
    shards: [Mutex<Shard>; SHARDS],
    terms: Terms,
}

/// In milliseconds.
struct Terms {
    ttl: u64,
    negative_ttl: u64,
    stale: u64,
    per_shard: usize,
}

#[derive(Default)]
struct Shard {
    good: HashMap<Digest, Good>,
    bad: HashMap<Digest, Bad>,
}

struct Good {
    record: Arc<Record>,
    asked_ms: u64,
    /// Somebody asks again already.
    renewing: bool,
}

#[derive(Clone, Copy)]
struct Bad {
    asked_ms: u64,
    fate: Fate,
}

/// What an answer that names no caller makes of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The backend does not have it (any more).
    Unknown,
    /// The backend has it, with values that no caller can have.
    Unusable,
    /// The answer says nothing about it: what was known before stays.
    Unreadable,
}

/// What is known of a key now.
pub(super) enum Known {
    Good(Arc<Record>),
    /// It is good, and soon to be asked about again. Said once.
    Ageing(Arc<Record>),
    /// The backend does not have it.
    Unknown,
    /// The backend has it, with values that no caller can have.
    Unusable,
    /// The backend said nothing of use about it a moment ago.
    Unreadable,
    /// It has to be asked. It was good; without an answer it still is.
    Stale(Arc<Record>),
    Nothing,
}

const SHARDS: usize = 16;
/// The two clocks of a question are read at different moments.
const SKEW_MS: u64 = 10_000;

impl Cache {
    pub(super) fn new(config: &KeyCache) -> Self {
        let ms = |period: gapura_config::units::Period| u64::try_from(period.get().as_millis()).unwrap_or(u64::MAX);
        let secret: [u8; 32] = rand::random();
        Self {
            // An HMAC takes keys of any length.
            keyed: Hmac::new_from_slice(&secret).unwrap_or_else(|_| Hmac::new(&Default::default())),
            shards: Default::default(),
            terms: Terms {
                ttl: ms(config.ttl),
                negative_ttl: ms(config.negative_ttl),
                stale: ms(config.stale),
                per_shard: (config.max_entries / SHARDS).max(1),
            },
        }
    }

    pub(super) fn digest(&self, key: &[u8]) -> Digest {
        let mut mac = self.keyed.clone();
        mac.update(key);
        mac.finalize().into_bytes().into()
    }

    pub(super) fn recall(&self, digest: &Digest, now_ms: u64) -> Known {
        let Terms { ttl, negative_ttl, stale, .. } = self.terms;
        let mut shard = self.shard(digest).lock();
        let bad = shard.bad.get(digest).filter(|bad| age(bad.asked_ms, now_ms) < negative_ttl).map(|bad| bad.fate);
        if let Some(good) = shard.good.get_mut(digest) {
            let age = age(good.asked_ms, now_ms);
            let record = || Arc::clone(&good.record);
            if age >= ttl {
                return match bad {
                    // To ask again would be in vain.
                    Some(_) if age - ttl < stale => Known::Good(record()),
                    Some(_) => Known::Unreadable,
                    None if age - ttl < stale => Known::Stale(record()),
                    None => Known::Nothing,
                };
            }
            // A key in use is asked about before it has to be, and no request waits for that.
            if age >= ttl - ttl / 4 && !good.renewing {
                good.renewing = true;
                return Known::Ageing(Arc::clone(&good.record));
            }
            return Known::Good(record());
        }
        match bad {
            Some(Fate::Unknown) => Known::Unknown,
            Some(Fate::Unusable) => Known::Unusable,
            Some(Fate::Unreadable) => Known::Unreadable,
            None => Known::Nothing,
        }
    }

    pub(super) fn good(&self, digest: Digest, asked_ms: u64, record: Record) {
        let mut shard = self.shard(&digest).lock();
        shard.bad.remove(&digest);
        if let Some(before) = shard.good.get(&digest) {
            record.continue_usage(&before.record);
        }
        make_room(&mut shard.good, &digest, self.terms.per_shard);
        shard.good.insert(digest, Good { record: Arc::new(record), asked_ms, renewing: false });
    }

    pub(super) fn bad(&self, digest: Digest, asked_ms: u64, fate: Fate) {
        let mut shard = self.shard(&digest).lock();
        if fate != Fate::Unreadable {
            shard.good.remove(&digest);
        }
        make_room(&mut shard.bad, &digest, self.terms.per_shard);
        shard.bad.insert(digest, Bad { asked_ms, fate });
    }

    fn shard(&self, digest: &Digest) -> &Mutex<Shard> {
        &self.shards[usize::from(digest[0]) % SHARDS]
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let each = self.shards.iter().map(|shard| shard.lock());
        each.fold((0, 0), |(good, bad), shard| (good + shard.good.len(), bad + shard.bad.len()))
    }
}

/// A clock that was set back makes an answer old, never young.
fn age(asked_ms: u64, now_ms: u64) -> u64 {
    if asked_ms > now_ms.saturating_add(SKEW_MS) { u64::MAX } else { now_ms.saturating_sub(asked_ms) }
}

/// Any one makes room: to forget costs one question.
fn make_room<T>(entries: &mut HashMap<Digest, T>, digest: &Digest, most: usize) {
    if entries.len() >= most
        && !entries.contains_key(digest)
        && let Some(one) = entries.keys().next().copied()
    {
        entries.remove(&one);
    }
}
