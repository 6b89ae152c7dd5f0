//! From weaker profiles to stronger ones: the end of the founding format on its day, and the lock that lets no caller go back.
//!
//! The lock is against whoever can change a request before it reaches the gateway (that is what envelopes are for) and would
//! have it sealed the old way, or not at all. It is remembered by this process only: another instance, or a restart, learns it
//! anew from the caller's next message.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem,
};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, Config, MacMode, Profile},
};
use parking_lot::Mutex;
use toml_datetime::{Datetime, Offset, Time};

use super::{Encryption, profiles::strength};
use crate::{
    contract::{Code, Now, Principal, Refusal},
    instant,
};

/// `cryptojs` with its MAC.
pub(super) const WITH_MAC: u8 = 1;
/// No envelope at all.
pub(super) const PLAINTEXT: u8 = 0;

/// When `cryptojs` ends.
pub(super) struct Legacy {
    end_ms: i64,
    day: String,
}

impl Legacy {
    pub(super) fn new(day: &Datetime) -> Option<Self> {
        Some(Self { end_ms: end_of(day)?, day: day.to_string() })
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        i64::try_from(now_ms).unwrap_or(i64::MAX) >= self.end_ms
    }

    pub(super) fn day(&self) -> &str {
        &self.day
    }
}

impl Encryption {
    /// A weaker envelope than this caller has sent before is refused: it need not be the caller who made it weaker.
    pub(super) fn refuse_downgrade(&self, principal: &Principal, strength: u8) -> Result<(), Refusal> {
        let Some(seen) = &self.downgrades else { return Ok(()) };
        if strength >= seen.strongest(&self.name, principal.into()) {
            return Ok(());
        }
        self.results.downgraded.inc();
        let caller = principal.user_id.as_str();
        log::warn!("security: a weaker envelope than before from {caller} at encryption.{}: refused", self.name);
        let detail =
            format!("The envelope is weaker than those that you sent before. Accepted here: {}.", self.names());
        Err(Refusal::new(Code::EnvelopeRequired, detail).reason("a weaker profile than before"))
    }

    /// Of an envelope that was accepted.
    pub(super) fn note_strength(&self, principal: &Principal, strength: u8) {
        if let Some(seen) = &self.downgrades {
            seen.note(&self.name, principal.into(), strength);
        }
    }

    pub(super) fn refuse_ended(&self, now: Now) -> Result<(), Refusal> {
        let Some(legacy) = self.legacy.as_ref().filter(|legacy| legacy.is_over(now.unix_ms)) else { return Ok(()) };
        self.results.ended.inc();
        let others: Vec<&str> = self.others().map(Profile::name).collect();
        let detail = match others.is_empty() {
            true => format!("The profile cryptojs ended with {}.", legacy.day()),
            false => format!("The profile cryptojs ended with {}. Accepted here: {}.", legacy.day(), others.join(", ")),
        };
        Err(Refusal::new(Code::EnvelopeRequired, detail).reason("cryptojs has ended"))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.accepted.profiles.iter().map(|profile| profile.name()).collect();
        names.join(", ")
    }

    /// All profiles but the founding one.
    fn others(&self) -> impl Iterator<Item = Profile> {
        self.accepted.profiles.iter().copied().filter(|profile| *profile != Profile::CryptoJs)
    }
}

const DAY_MS: i64 = 86_400_000;
/// How long before it an end is spoken of.
const NEAR_MS: i64 = 60 * DAY_MS;

/// The first moment after this day, UTC.
fn end_of(day: &Datetime) -> Option<i64> {
    let midnight = Time { hour: 0, minute: 0, second: Some(0), nanosecond: None };
    instant::unix_ms(&Datetime { date: day.date, time: Some(midnight), offset: Some(Offset::Z) })?.checked_add(DAY_MS)
}

/// Warnings about ends that are near or past, for those who start or check a gateway.
pub fn ending(config: &Config, now_ms: u64) -> Vec<Fault> {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let warning = |(name, entry): (&String, &model::Encryption)| {
        let day = entry.accept_legacy_until.as_ref()?;
        let left = end_of(day)?.saturating_sub(now);
        let message = match left {
            ..=0 => format!("`cryptojs` ended with {day}: its envelopes are refused"),
            1..=NEAR_MS => format!("`cryptojs` ends with {day}, in {} days", left / DAY_MS),
            _ => return None,
        };
        let place = Place::root().key("encryption").key(name).key("accept_legacy_until");
        let help = "gapura_envelopes_total{profile=\"cryptojs\"} tells who still sends them; then remove the profile";
        Some(Fault::warning(place, message).help(help))
    };
    config.encryption.iter().filter_map(warning).collect()
}

/// Whether an entry accepts envelopes of more than one strength, so that there is something to lock.
pub(super) fn has_levels(config: &model::Encryption) -> bool {
    let profiles = config.profile.listed();
    let of_profiles = profiles.iter().any(|profile| strength(*profile) != strength(profiles[0]));
    of_profiles || !config.required || (profiles.contains(&Profile::CryptoJs) && config.mac == MacMode::Optional)
}

/// Who sent an envelope: user ids are unique within the method that proved them.
#[derive(Clone, Copy, Hash)]
pub(super) struct Caller<'c> {
    method: &'c str,
    user_id: &'c str,
}

impl<'c> From<&'c Principal> for Caller<'c> {
    fn from(principal: &'c Principal) -> Self {
        Self { method: &principal.method, user_id: principal.user_id.as_str() }
    }
}

const SHARDS: usize = 16;
/// Callers of one shard that are remembered for certain; twice as many at most are held, about 3 MiB over all shards.
const GENERATION: usize = 4096;

/// The strongest envelope of each caller. Bounded: where there are more callers than it holds, it forgets those who sent
/// nothing for the longest time.
pub struct Downgrades {
    /// Random: nobody can choose an id that falls together with another's.
    hash: [RandomState; 2],
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    young: HashMap<u128, u8>,
    old: HashMap<u128, u8>,
}

impl Default for Downgrades {
    fn default() -> Self {
        Self { hash: [RandomState::new(), RandomState::new()], shards: Default::default() }
    }
}

impl Downgrades {
    pub(super) fn strongest(&self, entry: &str, caller: Caller<'_>) -> u8 {
        let key = self.key(entry, caller);
        self.shards[(key as usize) % SHARDS].lock().look(key)
    }

    pub(super) fn note(&self, entry: &str, caller: Caller<'_>, strength: u8) {
        let key = self.key(entry, caller);
        let mut shard = self.shards[(key as usize) % SHARDS].lock();
        let strongest = shard.look(key).max(strength);
        shard.keep(key, strongest);
    }

    fn key(&self, entry: &str, caller: Caller<'_>) -> u128 {
        let [high, low] = self.hash.each_ref().map(|hash| u128::from(hash.hash_one((entry, caller))));
        high << 64 | low
    }
}

impl Shard {
    /// Looking keeps young: who is refused stays known.
    fn look(&mut self, key: u128) -> u8 {
        if let Some(strength) = self.young.get(&key) {
            return *strength;
        }
        let Some(strength) = self.old.remove(&key) else { return PLAINTEXT };
        self.keep(key, strength);
        strength
    }

    fn keep(&mut self, key: u128, strength: u8) {
        if strength == PLAINTEXT {
            return;
        }
        if self.young.len() >= GENERATION && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, strength);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(user_id: &str) -> Caller<'_> {
        Caller { method: "jwt.users", user_id }
    }

    #[test]
    fn the_strongest_is_remembered_of_each_caller_and_entry() {
        let seen = Downgrades::default();
        seen.note("a", caller("u1"), 3);
        seen.note("a", caller("u1"), 1);
        assert_eq!(seen.strongest("a", caller("u1")), 3);
        assert_eq!(seen.strongest("a", caller("u2")), 0);
        assert_eq!(seen.strongest("b", caller("u1")), 0);
        assert_eq!(seen.strongest("a", Caller { method: "jwt.others", user_id: "u1" }), 0);
    }

    #[test]
    fn memory_is_bounded_and_whoever_is_asked_for_stays() {
        let seen = Downgrades::default();
        seen.note("a", caller("asked"), 3);
        for at in 0..SHARDS * GENERATION * 4 {
            seen.note("a", caller(&at.to_string()), 2);
            if at % 1000 == 0 {
                assert_eq!(seen.strongest("a", caller("asked")), 3, "after {at}");
            }
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let held: usize = seen.shards.iter().map(held).sum();
        assert!(held <= 2 * SHARDS * GENERATION, "{held}");
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let legacy = Legacy::new(&"2027-06-30".parse().unwrap()).unwrap();
        // `date -u -d 2027-07-01 +%s`
        assert!(!legacy.is_over(1_814_399_999_999));
        assert!(legacy.is_over(1_814_400_000_000));
    }
}
