//! From weaker profiles to stronger ones: the end of the founding format on its day, and the lock that lets no caller go back.
//!
//! The lock is against whoever can change a request before it reaches the gateway (that is what envelopes are for) and would
//! have it sealed the old way, or not at all. Where it is remembered: [`super::downgrades`].

use gapura_config::{
    fault::{Fault, Place},
    model::{self, Config, MacMode, Profile},
};
use toml_datetime::{Datetime, Offset, Time};

use super::{Encryption, downgrades::Caller, profiles::strength};
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
    pub(super) async fn refuse_downgrade(&self, principal: &Principal, strength: u8) -> Result<(), Refusal> {
        let Some(seen) = &self.downgrades else { return Ok(()) };
        let weaker = seen.is_weaker(Caller::new(&self.name, principal), strength, self.strongest()).await;
        let unknown =
            |why| Refusal::new(Code::Overloaded, "The gateway cannot accept envelopes at the moment.").reason(why);
        if !weaker.map_err(unknown)? {
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
    pub(super) async fn note_strength(&self, principal: &Principal, strength: u8, now: Now) {
        if let Some(seen) = &self.downgrades {
            seen.sent(Caller::new(&self.name, principal), strength, now).await;
        }
    }

    /// What this entry accepts at best.
    fn strongest(&self) -> u8 {
        let with_mac = self.cryptojs.as_ref().is_some_and(|cryptojs| cryptojs.mac() != MacMode::Off);
        let of_profiles = self.accepted.profiles.iter().map(|profile| strength(*profile)).max();
        of_profiles.unwrap_or(PLAINTEXT).max(if with_mac { WITH_MAC } else { PLAINTEXT })
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

    /// How it stands with the end of `cryptojs`, for `gapura explain`.
    pub fn explain_end(&self, now_ms: u64) -> Option<String> {
        let legacy = self.legacy.as_ref()?;
        let left = legacy.end_ms.saturating_sub(i64::try_from(now_ms).unwrap_or(i64::MAX));
        let others: Vec<&str> = self.others().map(Profile::name).collect();
        let others = if others.is_empty() { "nothing".to_owned() } else { others.join(", ") };
        Some(match left {
            ..=0 => format!("that day is past: cryptojs is refused with ENVELOPE_REQUIRED; accepted: {others}"),
            _ => format!("that is in {} days", left / DAY_MS),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight() {
        let legacy = Legacy::new(&"2027-06-30".parse().unwrap()).unwrap();
        // `date -u -d 2027-07-01 +%s`
        assert!(!legacy.is_over(1_814_399_999_999));
        assert!(legacy.is_over(1_814_400_000_000));
    }
}
