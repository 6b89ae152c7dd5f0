//! JSON Web Tokens (RFC 7519), verified as RFC 8725 asks.

mod algorithm;
mod build;
mod claims;
mod jwks;
mod keys;
mod public_key;
mod remote;
mod token;

#[cfg(test)]
mod key_tests;

use std::{fmt, sync::Arc, time::Duration};

use gapura_config::{
    fault::Fault,
    model::{JwtAlgorithm, TokenSource},
};

pub use self::remote::{KeySet, KeySets, KeySource, Location, Taken};
pub(super) use self::{claims::issuer, token::Token};
use self::{
    claims::{ClaimPaths, Required},
    keys::Keys,
};
use super::Denial;
use crate::contract::Principal;

/// One `[jwt.NAME]`, compiled. Built once per policy, shared by its routes.
pub struct JwtMethod {
    /// `jwt.NAME`
    name: Arc<str>,
    algorithms: Vec<JwtAlgorithm>,
    keys: Keys,
    /// Where the keys come from: the reference, never the key.
    key_source: String,
    /// Where in a request its tokens stand.
    source: TokenSource,
    issuer: Option<String>,
    audience: Vec<String>,
    leeway: Duration,
    max_age: Option<Duration>,
    /// The only `typ` that is taken, where the operator names one.
    typ: Option<String>,
    require: Vec<Required>,
    claims: ClaimPaths,
    warnings: Vec<Fault>,
}

impl JwtMethod {
    /// The caller, if the token holds: what it is for, its signature, then dates, issuer, audience and required claims, then
    /// the identity.
    pub(super) fn verify(&self, token: &Token<'_>, now_ms: u64) -> Result<Principal, Denial> {
        token.check_typ(self.typ.as_deref())?;
        self.keys.verify(token)?;
        let claims = token.claims()?;
        claims::check_dates(&claims, now_ms, self.leeway, self.max_age)?;
        let issuer = issuer(&claims)?;
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err("the token is from another issuer".into());
        }
        claims::check_audience(&claims, &self.audience)?;
        self.require.iter().try_for_each(|required| required.check(&claims))?;
        Ok(self.claims.principal(&self.name, &claims)?)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn source(&self) -> &TokenSource {
        &self.source
    }

    /// The provider's keys, where it has them from one.
    pub(super) fn key_set(&self) -> Option<&Arc<KeySet>> {
        self.keys.remote()
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(super) fn accepts(&self, algorithm: JwtAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// An algorithm that both accept.
    pub(super) fn shares_algorithm(&self, other: &Self) -> bool {
        self.algorithms.iter().any(|algorithm| other.accepts(*algorithm))
    }

    pub(super) fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// `jwt.users: HS256 with env:JWT_SECRET, issuer any, audience any, leeway 30s`
    pub(super) fn explain(&self) -> String {
        let algorithms: Vec<&str> = self.algorithms.iter().map(|algorithm| algorithm::name(*algorithm)).collect();
        let issuer = self.issuer.as_deref().unwrap_or("any");
        let audience = if self.audience.is_empty() { "any".to_owned() } else { self.audience.join(" or ") };
        let mut text = format!(
            "{}: {} with {}, issuer {issuer}, audience {audience}, leeway {:?}",
            self.name,
            algorithms.join(" "),
            self.key_source,
            self.leeway
        );
        match &self.source {
            TokenSource::Header => {}
            other => text += &format!(", token from {other}"),
        }
        if let Some(max_age) = self.max_age {
            text += &format!(", max_age {max_age:?}");
        }
        if let Some(typ) = &self.typ {
            text += &format!(", typ {typ}");
        }
        for required in &self.require {
            text += &format!(", requires {}", required.explain());
        }
        text
    }
}

/// No key and no claim in it.
impl fmt::Debug for JwtMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain())
    }
}
