//! How long a caller may go on. A request is let in once; a socket that it opened lives for hours, and must not outlive what it was let in
//! with.

use std::{fmt, sync::Arc};

use super::{
    HeldKeys,
    api_keys::Record,
    jwt::Window,
    revocations::{Asked, Revocations},
};
use crate::contract::Principal;

/// Of all credentials that a request presented: the first that ends ends it.
#[derive(Clone, Default)]
pub struct Tenures {
    first: Option<Tenure>,
    /// Nearly never any.
    more: Vec<Tenure>,
}

/// Of one credential.
#[derive(Clone)]
pub(super) enum Tenure {
    Token(Arc<TokenTenure>),
    Key(KeyTenure),
    /// Of a client: its last second, since 1970.
    Certificate(i64),
}

/// Why a caller may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Expired,
    Revoked,
}

/// A verified token, whose text is not kept.
pub(super) struct TokenTenure {
    pub(super) principal: Arc<Principal>,
    pub(super) window: Window,
    /// What a revocation may name it by; None where it cannot say.
    pub(super) named: Option<Named>,
    pub(super) revocations: Arc<Revocations>,
}

pub(super) struct Named {
    pub(super) jti: Option<Box<str>>,
    /// Milliseconds since 1970.
    pub(super) issued: Option<i64>,
}

#[derive(Clone)]
pub(super) struct KeyTenure {
    pub(super) record: Arc<Record>,
    /// Where it stands in a database: what becomes of it there.
    pub(super) held: Option<Arc<HeldKeys>>,
}

impl Ended {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// For the client and the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "the credential has expired",
            Self::Revoked => "the credential is revoked",
        }
    }
}

impl Tenures {
    pub(super) fn add(&mut self, tenure: Tenure) {
        match self.first {
            None => self.first = Some(tenure),
            Some(_) => self.more.push(tenure),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Tenure> {
        self.first.iter().chain(&self.more)
    }

    /// Nothing was presented that could end.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether the caller may not go on, as far as is known now.
    pub fn ended(&self, now_ms: u64) -> Option<Ended> {
        self.all().find_map(|tenure| tenure.ended(now_ms))
    }

    /// When that is to be asked again, if nothing is revoked or changed before: milliseconds since 1970.
    pub fn until_ms(&self) -> Option<i64> {
        self.all().filter_map(Tenure::until_ms).min()
    }
}

impl Tenure {
    fn ended(&self, now_ms: u64) -> Option<Ended> {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        if self.until_ms().is_some_and(|until| now >= until) {
            return Some(Ended::Expired);
        }
        let revoked = match self {
            Self::Token(token) => token.is_revoked(),
            Self::Key(key) => key.current().is_none_or(|record| record.is_revoked()),
            Self::Certificate(_) => false,
        };
        revoked.then_some(Ended::Revoked)
    }

    fn until_ms(&self) -> Option<i64> {
        match self {
            Self::Token(token) => Some(token.window.until_ms),
            Self::Key(key) => key.current()?.expires(),
            Self::Certificate(last) => Some(last.saturating_add(1).saturating_mul(1000)),
        }
    }
}

impl TokenTenure {
    fn is_revoked(&self) -> bool {
        if self.revocations.generation() == 0 {
            return false;
        }
        let Some(Named { jti, issued }) = &self.named else { return true };
        let asked = Asked { jti: jti.as_deref(), user_id: self.principal.user_id.as_str(), issued: *issued };
        self.revocations.check(&self.principal.method, asked).is_err()
    }
}

impl KeyTenure {
    /// The record as it is now; None where it was removed.
    fn current(&self) -> Option<Arc<Record>> {
        let Some(held) = &self.held else { return Some(Arc::clone(&self.record)) };
        self.record.found_in(held).unwrap_or_else(|| Some(Arc::clone(&self.record)))
    }
}

/// Nobody's name in it.
impl fmt::Debug for Tenures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "until {:?}", self.until_ms())
    }
}
