//! Why a credential is not taken.

use std::borrow::Cow;

use super::{dpop::Wrong, lockout::Claimed};
use crate::contract::Refusal;

/// Why a credential is bad, for the operator's log. It never repeats what was presented.
pub(super) type Reason = Cow<'static, str>;

#[derive(Debug)]
pub(super) enum Denial {
    /// Nobody issued it, as far as can be told: a guess, perhaps at somebody's.
    Guess(Reason, Option<Claimed>),
    /// It is bad, and no guess: nothing secret was tried, or what was tried is right.
    Invalid(Reason),
    /// The token may be good, and whoever presents it does not have what it is bound to.
    Unbound(Wrong, Reason),
    /// It may be good; there is nothing yet to tell by.
    Unready(Reason),
}

/// The refusal, and whether it was for a guess.
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    pub(super) guess: Option<Option<Claimed>>,
}

impl<R: Into<Reason>> From<R> for Denial {
    fn from(reason: R) -> Self {
        Self::Guess(reason.into(), None)
    }
}

impl Denial {
    /// For the log, which method said so.
    pub(super) fn by(self, method: &str) -> Self {
        match self {
            Self::Guess(reason, claimed) => Self::Guess(format!("{method}: {reason}").into(), claimed),
            Self::Invalid(reason) => Self::Invalid(format!("{method}: {reason}").into()),
            Self::Unbound(wrong, reason) => Self::Unbound(wrong, format!("{method}: {reason}").into()),
            Self::Unready(reason) => Self::Unready(format!("{method}: {reason}").into()),
        }
    }

    /// A guess at this identity.
    pub(super) fn at(self, claimed: impl FnOnce() -> Option<Claimed>) -> Self {
        match self {
            Self::Guess(reason, None) => Self::Guess(reason, claimed()),
            other => other,
        }
    }
}
