//! What a client reads where its credentials are missing or bad.

use http::{HeaderValue, header::WWW_AUTHENTICATE};

use super::{
    Authentication,
    denial::{Denial, Denied},
    dpop::{DPOP_NONCE, Wrong},
};
use crate::contract::{Code, Refusal};

impl Authentication {
    pub(super) fn missing(&self) -> Denied {
        let refusal = Refusal::new(Code::CredentialsMissing, "This request needs credentials.");
        let refusal = refusal.reason("no credential was presented");
        Denied { refusal: self.challenges.missing().fold(refusal, with_challenge), guess: None }
    }

    /// One text for whatever is wrong: which check failed helps only whoever forges. `now_ms` is for a nonce.
    pub(super) fn deny(&self, denial: Denial, now_ms: u64) -> Denied {
        let (reason, guess) = match denial {
            Denial::Guess(reason, claimed) => (reason, Some(claimed)),
            Denial::Invalid(reason) => (reason, None),
            Denial::Unbound(wrong, reason) => {
                let refusal = Refusal::new(Code::CredentialsInvalid, INVALID).reason(reason);
                return Denied { refusal: self.unbound(wrong, refusal, now_ms), guess: None };
            }
            // A good token must not be called bad: its owner would throw it away.
            Denial::Unready(reason) => {
                let refusal = Refusal::new(Code::Overloaded, "Credentials cannot be checked at the moment.");
                return Denied { refusal: refusal.reason(reason), guess: None };
            }
        };
        let refusal = Refusal::new(Code::CredentialsInvalid, INVALID);
        Denied { refusal: self.challenges.invalid().fold(refusal.reason(reason), with_challenge), guess }
    }

    /// RFC 9449, section 7.1: the challenge says that a proof is wrong, not why; section 9: with the nonce to use.
    fn unbound(&self, wrong: Wrong, refusal: Refusal, now_ms: u64) -> Refusal {
        let Some(dpop) = &self.dpop else { return refusal };
        let refusal = with_challenge(refusal, &dpop.challenge(Some(wrong)));
        match dpop.next_nonce(now_ms) {
            Some(nonce) => refusal.header(DPOP_NONCE, nonce),
            None => refusal,
        }
    }
}

const INVALID: &str = "The credentials of this request are not valid.";

fn with_challenge(refusal: Refusal, challenge: &HeaderValue) -> Refusal {
    refusal.header(WWW_AUTHENTICATE, challenge.clone())
}
