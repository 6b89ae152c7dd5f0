//! What a token is bound to (`cnf`, RFC 7800), and that its presenter has it.
//!
//! A token that says it is bound is held to it wherever it comes and whatever the configuration says: else who steals it would
//! present it as one that is not (RFC 9449, section 7.2).

use gapura_config::model::Binding;
use subtle::ConstantTimeEq;

use super::{
    Asked, Authentication, Denial, JwtMethod,
    dpop::{Unused, Wrong},
};
use crate::contract::{Now, Principal};

/// By which scheme a token came. Cookies and subprotocols are as good as `Bearer`: they prove nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Bearer,
    Dpop,
}

impl Authentication {
    /// Once the rest of the request's credentials is known to be good.
    pub(super) async fn spend(&self, unused: &Unused, now: Now) -> Result<(), Denial> {
        match &self.dpop {
            Some(dpop) => dpop.spend(unused, now).await,
            None => Err(Denial::Invalid("no proof can be checked here".into())),
        }
    }

    /// Of a token with a proof, what is left to do: to see that the proof is not used again.
    pub(super) fn hold(
        &self,
        method: &JwtMethod,
        principal: &Principal,
        (scheme, token): (Scheme, &[u8]),
        asked: Asked<'_>,
    ) -> Result<Option<Unused>, Denial> {
        let bound = principal.claims.confirmation();
        let (certificate, key) = (bound.certificate.as_ref(), bound.key.as_ref());
        if let Some(wanted) = certificate {
            // The chain was verified in the handshake; RFC 8705, section 3, asks for no more than the same certificate.
            let shown = asked.certificate.filter(|shown| shown.holds(asked.now_ms));
            if !shown.is_some_and(|shown| shown.sha256.ct_eq(wanted).into()) {
                return Err(Denial::Invalid(
                    "the token is bound to a certificate that this connection has not shown".into(),
                ));
            }
        }
        let enough = match method.binding() {
            Binding::Optional => true,
            Binding::Certificate => certificate.is_some(),
            Binding::Dpop => key.is_some(),
            Binding::Any => certificate.is_some() || key.is_some(),
        };
        if !enough {
            return Err(Denial::Invalid("the token is not bound as it must be (`binding`)".into()));
        }
        let wrong = |why: &'static str| match &self.dpop {
            Some(dpop) => dpop.wrong(Wrong::Token, why.into()),
            None => Denial::Invalid(why.into()),
        };
        match (scheme, key) {
            (Scheme::Bearer, None) => Ok(None),
            (Scheme::Bearer, Some(_)) => Err(wrong("the token is bound to a key, and came without a proof")),
            (Scheme::Dpop, None) => Err(wrong("the token came with a proof, and is not bound to a key")),
            (Scheme::Dpop, Some(key)) => match (&self.dpop, asked.request) {
                (Some(dpop), Some(request)) => dpop.check(asked.headers, token, key, request).map(Some),
                _ => Err(wrong("no proof can be checked here")),
            },
        }
    }
}
