//! Tokens that were taken back before their end: one by its `jti`, those of a user, or all that were issued before an instant.
//!
//! They are asked when a token is verified, and each new one makes what was verified before worthless, so that no memory of good
//! tokens keeps a revoked one alive. As long as the process; bounded, and full it takes no more: to forget one would bring a token
//! back to life.
//!
//! What is held is hashed, so that it may stand where other instances learn of it ([`SharedRevocations`]), and no dump of the memory
//! names a user. Who keeps them in a shared store tells here what others have revoked, and whether that is known at all.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use super::denial::Reason;

/// Of all methods together; some 60 bytes each. As many again may come from other instances.
pub const MAX_REVOCATIONS: usize = 100_000;
/// Of a `jti` or a user id that can be revoked: no issuer writes longer ones, and no longer user id is taken.
pub const MAX_NAME: usize = 256;

/// The last millisecond of the year 9999. Later instants are that one, for ever; all up to it are whole in a double.
pub const LAST_INSTANT: i64 = 253_402_300_799_999;

/// What is revoked, without saying it: one byte for the kind, then 128 bits of SHA-256 over method and name.
pub type RevocationMark = [u8; 17];

/// Everything that was revoked.
pub struct Revocations {
    held: RwLock<HashMap<RevocationMark, Held>>,
    /// There was one of this kind: nobody hashes for what nobody has revoked.
    kinds: [AtomicBool; KINDS],
    /// Another one after each revocation.
    generation: AtomicU64,
    /// Until then, in milliseconds since 1970, tokens may be taken by what is known of others. An instant and not a flag: whoever is
    /// to move it on may hang.
    known_until: AtomicU64,
}

/// Shared with nobody.
impl Default for Revocations {
    fn default() -> Self {
        let known_until = AtomicU64::new(u64::MAX);
        Self { held: RwLock::default(), kinds: Default::default(), generation: AtomicU64::default(), known_until }
    }
}

#[derive(Clone, Copy)]
struct Held {
    issued_until: i64,
    until: i64,
}

/// One, as instances tell each other. Instants are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationEntry {
    pub mark: RevocationMark,
    /// Tokens that were issued up to then.
    pub issued_until: i64,
    /// When none of them can hold any more.
    pub until: i64,
}

/// What is revoked. Instants are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    Token {
        jti: String,
    },
    /// Tokens that were issued up to now; the user may sign in again.
    Subject {
        user_id: String,
    },
    IssuedBefore {
        instant: i64,
    },
}

/// Of a mark.
#[derive(Clone, Copy)]
enum Kind {
    Token,
    Subject,
    IssuedBefore,
}

const KINDS: usize = 3;

/// It was not taken: there is room for no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The port of a store from which other instances learn what this one has revoked.
pub trait SharedRevocations: Send + Sync {
    /// Writes it there. What could not be written is held here, and written when that can be done.
    fn publish<'a>(
        &'a self,
        entry: &'a RevocationEntry,
    ) -> Pin<Box<dyn Future<Output = Result<(), Unpublished>> + Send + 'a>>;
}

/// Why other instances do not know of a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished {
    /// The store gives no answer. It is told when it does.
    Silent,
    Full,
}

/// What a revocation may be about in a token whose signature was verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'t> {
    pub(super) jti: Option<&'t str>,
    pub(super) user_id: &'t str,
    /// Milliseconds since 1970.
    pub(super) issued: Option<i64>,
}

impl Revocation {
    /// The metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "jti",
            Self::Subject { .. } => "subject",
            Self::IssuedBefore { .. } => "issued_before",
        }
    }

    fn entry(&self, method: &str, until: i64, now: i64) -> RevocationEntry {
        let (mark, issued_until) = match self {
            Self::Token { jti } => (mark(Kind::Token, method, jti), LAST_INSTANT),
            Self::Subject { user_id } => (mark(Kind::Subject, method, user_id), now),
            // Issued before it is issued until the millisecond before.
            Self::IssuedBefore { instant } => (mark(Kind::IssuedBefore, method, ""), instant.saturating_sub(1)),
        };
        RevocationEntry { mark, issued_until: issued_until.min(LAST_INSTANT), until }
    }
}

fn mark(kind: Kind, method: &str, name: &str) -> RevocationMark {
    let hash = Sha256::new().chain_update(method).chain_update([0]).chain_update(name).finalize();
    let mut mark = [kind as u8; 17];
    mark[1..].copy_from_slice(&hash[..16]);
    mark
}

fn instant(ms: u64) -> i64 {
    i64::try_from(ms).map_or(LAST_INSTANT, |ms| ms.min(LAST_INSTANT))
}

impl Revocations {
    /// From now on, on this instance; what others are to be told. `method` is `jwt.NAME`; `until_ms` is when no token that this is
    /// about can hold any more.
    pub fn revoke(
        &self,
        method: &str,
        revocation: &Revocation,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<RevocationEntry, Full> {
        let now = instant(now_ms);
        let entry = revocation.entry(method, until_ms.map_or(LAST_INSTANT, instant), now);
        let mut held = self.held.write();
        if held.len() >= MAX_REVOCATIONS && !held.contains_key(&entry.mark) {
            held.retain(|_, held| held.until > now);
            if held.len() >= MAX_REVOCATIONS && !matches!(revocation, Revocation::IssuedBefore { .. }) {
                return Err(Full);
            }
        }
        self.take(&mut held, &entry);
        // Last, and under the lock: who reads it afterwards finds the revocation, too.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(entry)
    }

    /// What other instances have revoked. The store bounds their number.
    pub fn learn(&self, entries: &[RevocationEntry], now_ms: u64) {
        let now = instant(now_ms);
        let mut held = self.held.write();
        let mut changed = false;
        for entry in entries.iter().filter(|entry| entry.until > now && usize::from(entry.mark[0]) < KINDS) {
            if held.len() >= 2 * MAX_REVOCATIONS && !held.contains_key(&entry.mark) {
                held.retain(|_, held| held.until > now);
            }
            changed |= self.take(&mut held, entry);
        }
        // Nothing new must not cost everybody a verification.
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }

    /// All that still counts.
    pub fn entries(&self, now_ms: u64) -> Vec<RevocationEntry> {
        let now = instant(now_ms);
        let held = self.held.read();
        let counts = held.iter().filter(|(_, held)| held.until > now);
        counts
            .map(|(mark, &Held { issued_until, until })| RevocationEntry { mark: *mark, issued_until, until })
            .collect()
    }

    /// Who shares them with others says until when tokens may be taken by what is known.
    pub fn known_until(&self, unix_ms: u64) {
        self.known_until.store(unix_ms, Ordering::Release);
    }

    /// What others have revoked is not known, and no token is to be taken without.
    pub fn is_blind(&self, now_ms: u64) -> bool {
        now_ms > self.known_until.load(Ordering::Acquire)
    }

    /// Another one after each revocation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Never less than before: of two about the same the wider counts, and the longer. Whether it is new.
    fn take(&self, held: &mut HashMap<RevocationMark, Held>, entry: &RevocationEntry) -> bool {
        let RevocationEntry { mark, issued_until, until } = *entry;
        self.kinds[usize::from(mark[0])].store(true, Ordering::Release);
        match held.entry(mark) {
            Place::Vacant(place) => {
                place.insert(Held { issued_until, until });
                true
            }
            Place::Occupied(mut place) => {
                let known = place.get_mut();
                let before = *known;
                *known = Held { issued_until: before.issued_until.max(issued_until), until: before.until.max(until) };
                known.issued_until != before.issued_until || known.until != before.until
            }
        }
    }

    /// A token that cannot say what is asked of it is refused: it may be the one.
    pub(super) fn check(&self, method: &str, token: Asked<'_>) -> Result<(), Reason> {
        if self.generation() == 0 {
            return Ok(());
        }
        let asked = [
            (Kind::Token, token.jti, "the token is revoked"),
            (Kind::Subject, Some(token.user_id), "the user's tokens of that time are revoked"),
            (Kind::IssuedBefore, Some(""), "all tokens of that time are revoked"),
        ];
        for (kind, name, why) in asked {
            let (Some(name), true) = (name, self.kinds[kind as usize].load(Ordering::Acquire)) else { continue };
            let mark = mark(kind, method, name);
            let until = self.held.read().get(&mark).map(|held| held.issued_until);
            if until.is_some_and(|until| token.issued.is_none_or(|issued| issued <= until)) {
                return Err(why.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(jti: &str) -> Revocation {
        Revocation::Token { jti: jti.into() }
    }

    fn check(revocations: &Revocations, jti: Option<&str>, user_id: &str, issued: Option<i64>) -> bool {
        revocations.check("jwt.users", Asked { jti, user_id, issued }).is_ok()
    }

    #[test]
    fn by_token_by_user_by_time() {
        let all = Revocations::default();
        assert!(check(&all, Some("a"), "u", None));
        all.revoke("jwt.users", &token("a"), None, 5000).unwrap();
        assert!(
            !check(&all, Some("a"), "u", Some(9000))
                && check(&all, Some("b"), "u", None)
                && check(&all, None, "u", None)
        );
        all.revoke("jwt.users", &Revocation::Subject { user_id: "u".into() }, None, 5000).unwrap();
        assert!(
            !check(&all, None, "u", Some(5000)) && check(&all, None, "u", Some(5001)) && check(&all, None, "v", None)
        );
        assert!(check(&all, Some("u"), "a", None), "a `jti` is no user id");
        assert!(!check(&all, None, "u", None), "without `iat` it may be of that time");
        // An earlier instant takes nothing back.
        all.revoke("jwt.users", &Revocation::Subject { user_id: "u".into() }, None, 100).unwrap();
        all.revoke("jwt.users", &Revocation::IssuedBefore { instant: 2000 }, None, 5000).unwrap();
        all.revoke("jwt.users", &Revocation::IssuedBefore { instant: 1000 }, None, 5000).unwrap();
        assert!(!check(&all, None, "u", Some(5000)));
        assert!(
            !check(&all, None, "v", Some(1999)) && check(&all, None, "v", Some(2000)) && !check(&all, None, "v", None)
        );
        let other = Asked { jti: Some("a"), user_id: "u", issued: None };
        assert!(all.check("jwt.staff", other).is_ok(), "another method's tokens are others");
        assert_eq!(all.generation(), 5);
    }

    #[test]
    fn it_is_bounded_and_forgets_nothing_early() {
        let all = Revocations::default();
        for n in 0..MAX_REVOCATIONS {
            all.revoke("jwt.users", &token(&n.to_string()), Some(1000 + n as u64 % 2 * 1000), 0).unwrap();
        }
        assert_eq!(all.revoke("jwt.users", &token("new"), None, 0), Err(Full));
        assert!(all.revoke("jwt.users", &token("7"), None, 0).is_ok(), "known already");
        assert!(all.revoke("jwt.users", &Revocation::IssuedBefore { instant: 1 }, None, 0).is_ok());
        assert!(all.revoke("jwt.users", &token("new"), None, 1000).is_ok(), "half of them cannot hold any more");
        assert_eq!(all.held.read().len(), MAX_REVOCATIONS / 2 + 2);
        for known in ["1", "7", "99999", "new"] {
            assert!(!check(&all, Some(known), "u", Some(9)), "{known}");
        }
        assert!(check(&all, Some("2"), "u", Some(9)));
    }

    #[test]
    fn what_one_tells_the_other_knows() {
        let (one, other) = (Revocations::default(), Revocations::default());
        let entries = [
            one.revoke("jwt.users", &token("a"), Some(9000), 5000).unwrap(),
            one.revoke("jwt.users", &Revocation::Subject { user_id: "u".into() }, None, 5000).unwrap(),
            one.revoke("jwt.users", &Revocation::IssuedBefore { instant: 2000 }, None, 5000).unwrap(),
        ];
        other.learn(&entries, 5000);
        assert!(!check(&other, Some("a"), "v", Some(9000)) && !check(&other, None, "u", Some(5000)));
        assert!(!check(&other, None, "v", Some(1999)) && check(&other, Some("b"), "v", Some(2000)));
        let sorted = |mut entries: Vec<RevocationEntry>| {
            entries.sort_by_key(|entry| entry.mark);
            entries
        };
        assert_eq!(sorted(other.entries(5000)), sorted(one.entries(5000)));
        assert_eq!(other.entries(9000).len(), 2, "what has ended is not told");
        // Nothing new, and nothing that no version knows.
        other.learn(&entries, 5000);
        other.learn(&[RevocationEntry { mark: [9; 17], issued_until: 1, until: LAST_INSTANT }], 5000);
        assert_eq!((other.generation(), other.entries(0).len()), (1, 3));
        let narrower = RevocationEntry { issued_until: 1, until: 6000, ..entries[1] };
        other.learn(&[narrower], 5000);
        assert!(!check(&other, None, "u", Some(5000)), "less takes nothing back");
    }

    #[test]
    fn a_mark_says_nothing() {
        let entry = Revocations::default().revoke("jwt.users", &token("t-1"), None, 0).unwrap();
        assert!(!entry.mark.windows(3).any(|bytes| bytes == b"t-1"));
        assert_ne!(mark(Kind::Token, "jwt.a", "b"), mark(Kind::Token, "jwt.ab", ""));
    }
}
