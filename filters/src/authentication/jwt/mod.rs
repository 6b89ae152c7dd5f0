//! JSON Web Tokens (RFC 7519), verified as RFC 8725 asks.

mod algorithm;
mod build;
mod claims;
mod encrypted;
mod jwks;
mod keys;
mod proof;
mod public_key;
mod remote;
mod token;
mod verified;

#[cfg(test)]
mod key_tests;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, Binding, JwtAlgorithm, TokenSource},
};

pub use self::remote::{KeySet, KeySets, KeySource, Location, Taken};
use self::{
    claims::{ClaimPath, ClaimPaths, Required},
    keys::Keys,
    verified::Verified,
};
pub(super) use self::{
    claims::{Window, issuer},
    encrypted::Decryption,
    proof::{Proof, names as proof_algorithms},
    token::Token,
};
use super::{
    Denial, Reason,
    lockout::Claimed,
    revocations::{Asked, Revocations},
    tenure::{Named, TokenTenure},
};
use crate::keyring::Keyrings;

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
    /// What a token must be bound to, at least.
    binding: Binding,
    /// Where tokens are encrypted.
    decryption: Option<Decryption>,
    claims: ClaimPaths,
    /// Of tokens with a public key, whose signatures cost ten times all the rest.
    verified: Option<Verified>,
    revocations: Arc<Revocations>,
    warnings: Vec<Fault>,
}

impl JwtMethod {
    /// With these claims in its principals.
    pub(super) fn keeping(mut self, claims: &BTreeSet<String>) -> Self {
        // A name that is no path is of a claim that no token has.
        let path = |name: &String| Some((name.clone(), ClaimPath::parse(name).ok()?));
        self.claims.kept = claims.iter().filter_map(path).collect();
        self
    }

    /// Refusing tokens that are revoked.
    pub(super) fn heeding(mut self, revocations: &Arc<Revocations>) -> Self {
        self.revocations = Arc::clone(revocations);
        self
    }

    /// Another one after each change of keys and each revocation: all of them only ever grow.
    fn generation(&self, now_ms: u64) -> u64 {
        let decryption = self.decryption.as_ref().map_or(0, |decryption| decryption.generation(now_ms));
        self.keys.generation().wrapping_add(self.revocations.generation()).wrapping_add(decryption)
    }

    /// With the keys that its tokens are encrypted to. None: they could not be loaded, which is a fault elsewhere.
    pub(super) fn decrypting(mut self, config: &model::Jwt, rings: &Keyrings) -> Result<Self, Vec<Fault>> {
        let Some(decryption) = &config.decryption else { return Ok(self) };
        let place = Place::root();
        let place = self.name.split('.').fold(place, |place, key| place.key(key)).key("decryption");
        self.decryption = Decryption::build(&place, decryption, rings)?;
        // To open a token costs more than to verify it.
        self.verified.get_or_insert_with(Verified::new);
        Ok(self)
    }

    pub(super) fn decryption(&self) -> Option<&Decryption> {
        self.decryption.as_ref()
    }

    /// A token that came as this one did is taken at all.
    pub(super) fn check_form(&self, encrypted: bool) -> Result<(), Reason> {
        match &self.decryption {
            None if encrypted => Err("the token is encrypted, and no key here opens it".into()),
            Some(decryption) if !encrypted && !decryption.accepts_unencrypted() => {
                Err("the token is not encrypted".into())
            }
            _ => Ok(()),
        }
    }

    /// The caller, if the token holds: what it is for, its signature, then dates, issuer, audience and required claims, then
    /// the identity.
    pub(super) fn verify(&self, token: &Token<'_>, now_ms: u64) -> Result<Arc<TokenTenure>, Denial> {
        if self.revocations.is_blind(now_ms) {
            return Err(Denial::Unready("which tokens are revoked is not known".into()));
        }
        // Read first: keys that change and tokens that are revoked meanwhile make what is kept here worthless, not wrong.
        let generation = self.generation(now_ms);
        token.check_typ(self.typ.as_deref())?;
        self.keys.verify(token)?;
        // What comes now was signed by whoever may sign: it can be of no use here, but it is no guess.
        let caller = Arc::new(self.read(token, now_ms).map_err(Denial::Invalid)?);
        if let Some(verified) = &self.verified {
            verified.keep(token.text, generation, Arc::clone(&caller));
        }
        Ok(caller)
    }

    /// Dates, issuer, audience, required claims, and the caller, of a token whose signature was verified.
    fn read(&self, token: &Token<'_>, now_ms: u64) -> Result<TokenTenure, Reason> {
        let claims = token.claims()?;
        let window = claims::check_dates(&claims, now_ms, self.leeway, self.max_age)?;
        let issuer = issuer(&claims)?;
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err("the token is from another issuer".into());
        }
        claims::check_audience(&claims, &self.audience)?;
        self.require.iter().try_for_each(|required| required.check(&claims))?;
        let principal = self.claims.principal(&self.name, &claims)?;
        let named = claims::jti(&claims).and_then(|jti| Ok((jti, claims::issued(&claims)?)));
        if self.revocations.generation() > 0 {
            let (jti, issued) = named.clone()?;
            self.revocations.check(&self.name, Asked { jti, user_id: principal.user_id.as_str(), issued })?;
        }
        let named = named.ok().map(|(jti, issued)| Named { jti: jti.map(Box::from), issued });
        Ok(TokenTenure { principal: Arc::new(principal), window, named, revocations: Arc::clone(&self.revocations) })
    }

    /// Whose token it says it is.
    pub(super) fn claimed(&self, token: &Token<'_>) -> Option<Claimed> {
        let claims = token.claims().ok()?;
        self.claims.user_id(&claims).map(|user_id| Claimed::new(&self.name, user_id.as_str()))
    }

    /// The caller of a token that this method has verified before.
    pub(super) fn recall(&self, text: &[u8], now_ms: u64) -> Option<Arc<TokenTenure>> {
        let longest = if self.decryption.is_some() { encrypted::MAX_ENCRYPTED } else { token::MAX_TOKEN };
        let remembers = text.len() <= longest && !self.revocations.is_blind(now_ms);
        let verified = self.verified.as_ref().filter(|_| remembers)?;
        verified.recall(text, self.generation(now_ms), now_ms)
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

    pub(super) fn binding(&self) -> Binding {
        self.binding
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
        match self.binding {
            Binding::Optional => {}
            Binding::Certificate => text += ", bound to the client's certificate",
            Binding::Dpop => text += ", bound to a key (DPoP)",
            Binding::Any => text += ", bound to the client's certificate or to a key (DPoP)",
        }
        if let Some(decryption) = &self.decryption {
            text += &format!(", {decryption}");
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
