//! Tokens that were taken back before their end: one by its `jti`, those of a user, or all that were issued before an instant.
//!
//! They are asked when a token is verified, and each new one makes what was verified before worthless, so that no memory of good
//! tokens keeps a revoked one alive. As long as the process; bounded, and full it takes no more: to forget one would bring a token
//! back to life.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::RwLock;

use super::denial::Reason;

/// Of all methods together; some 200 bytes each.
pub const MAX_REVOCATIONS: usize = 100_000;
/// Of a `jti` or a user id that can be revoked: no issuer writes longer ones, and no longer user id is taken.
pub const MAX_NAME: usize = 256;

/// Everything that was revoked.
#[derive(Default)]
pub struct Revocations {
    methods: RwLock<HashMap<String, Revoked>>,
    held: AtomicUsize,
    /// Another one after each revocation.
    generation: AtomicU64,
}

/// Of one method.
#[derive(Default)]
struct Revoked {
    /// Until when each is remembered, in milliseconds since 1970.
    tokens: HashMap<String, u64>,
    /// Tokens of a user that were issued up to an instant; until when that is remembered.
    users: HashMap<String, (i64, u64)>,
    /// Tokens issued before this instant.
    before: Option<i64>,
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

impl Revocation {
    /// The metric label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "jti",
            Self::Subject { .. } => "subject",
            Self::IssuedBefore { .. } => "issued_before",
        }
    }
}

/// It was not taken: there is room for no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What a revocation may be about in a token whose signature was verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'t> {
    pub(super) jti: Option<&'t str>,
    pub(super) user_id: &'t str,
    /// Milliseconds since 1970.
    pub(super) issued: Option<i64>,
}

impl Revocations {
    /// From now on. `method` is `jwt.NAME`; `until_ms` is when no token that this is about can hold any more.
    pub fn revoke(
        &self,
        method: &str,
        revocation: &Revocation,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Result<(), Full> {
        let until = until_ms.unwrap_or(u64::MAX);
        let mut methods = self.methods.write();
        if self.held.load(Ordering::Relaxed) >= MAX_REVOCATIONS {
            for revoked in methods.values_mut() {
                revoked.tokens.retain(|_, until| *until > now_ms);
                revoked.users.retain(|_, (_, until)| *until > now_ms);
            }
            self.held.store(methods.values().map(Revoked::len).sum(), Ordering::Relaxed);
        }
        let room = self.held.load(Ordering::Relaxed) < MAX_REVOCATIONS;
        let revoked = methods.entry(method.to_owned()).or_default();
        let before = revoked.len();
        match revocation {
            Revocation::Token { jti } if room || revoked.tokens.contains_key(jti) => {
                let kept = revoked.tokens.entry(jti.clone()).or_default();
                *kept = until.max(*kept);
            }
            Revocation::Subject { user_id } if room || revoked.users.contains_key(user_id) => {
                let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
                let (issued, kept) = revoked.users.entry(user_id.clone()).or_default();
                (*issued, *kept) = (now.max(*issued), until.max(*kept));
            }
            Revocation::IssuedBefore { instant } => revoked.before = revoked.before.max(Some(*instant)),
            _ => return Err(Full),
        }
        self.held.fetch_add(revoked.len() - before, Ordering::Relaxed);
        // Last, and under the lock: who reads it afterwards finds the revocation, too.
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A token that cannot say what is asked of it is refused: it may be the one.
    pub(super) fn check(&self, method: &str, token: Asked<'_>) -> Result<(), Reason> {
        if self.generation() == 0 {
            return Ok(());
        }
        let methods = self.methods.read();
        let Some(revoked) = methods.get(method) else { return Ok(()) };
        if token.jti.is_some_and(|jti| revoked.tokens.contains_key(jti)) {
            return Err("the token is revoked".into());
        }
        if let Some((until, _)) = revoked.users.get(token.user_id)
            && token.issued.is_none_or(|issued| issued <= *until)
        {
            return Err("the user's tokens of that time are revoked".into());
        }
        if let Some(before) = revoked.before
            && token.issued.is_none_or(|issued| issued < before)
        {
            return Err("all tokens of that time are revoked".into());
        }
        Ok(())
    }
}

impl Revoked {
    fn len(&self) -> usize {
        self.tokens.len() + self.users.len()
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
        assert_eq!(all.revoke("jwt.users", &token("7"), None, 0), Ok(()), "known already");
        assert_eq!(all.revoke("jwt.users", &Revocation::IssuedBefore { instant: 1 }, None, 0), Ok(()));
        assert_eq!(all.revoke("jwt.users", &token("new"), None, 1000), Ok(()), "half of them cannot hold any more");
        assert_eq!(all.held.load(Ordering::Relaxed), MAX_REVOCATIONS / 2 + 1);
        for known in ["1", "7", "99999", "new"] {
            assert!(!check(&all, Some(known), "u", Some(9)), "{known}");
        }
        assert!(check(&all, Some("2"), "u", Some(9)));
    }
}
