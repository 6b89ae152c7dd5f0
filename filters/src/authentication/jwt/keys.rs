//! The keys of one method, compiled: each accepted algorithm with keys of its own kind, and nothing else.

use gapura_config::model::JwtAlgorithm;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, crypto::aws_lc};
use sha2::{Sha256, Sha384, Sha512};

use super::{algorithm, algorithm::KeyKind, jwks::SetKey, token::Token};
use crate::authentication::Reason;

/// Keys without a `kid` to choose by are tried in turn; so many signatures one token may cost.
const MAX_TRIED: usize = 16;

/// What a method verifies with. A token's `alg` picks an entry; the entry holds its keys; so no key can be used with an
/// algorithm of another kind, whatever the token says (RFC 8725, sections 2.1 and 3.1).
pub(super) struct Keys(Vec<(JwtAlgorithm, Verifier)>);

enum Verifier {
    // The key schedule is computed once. `jsonwebtoken` would copy the secret and compute it for each token.
    Hs256(Hmac<Sha256>),
    Hs384(Hmac<Sha384>),
    Hs512(Hmac<Sha512>),
    One(Algorithm, DecodingKey),
    Set(Algorithm, Vec<(Option<String>, DecodingKey)>),
}

impl Keys {
    /// For HS*; `None` for an algorithm that takes no secret.
    pub(super) fn secret(algorithms: &[JwtAlgorithm], secret: &[u8]) -> Option<Self> {
        let entries = algorithms.iter().map(|&algorithm| {
            let verifier = match algorithm {
                JwtAlgorithm::HS256 => Verifier::Hs256(Hmac::new_from_slice(secret).ok()?),
                JwtAlgorithm::HS384 => Verifier::Hs384(Hmac::new_from_slice(secret).ok()?),
                JwtAlgorithm::HS512 => Verifier::Hs512(Hmac::new_from_slice(secret).ok()?),
                _ => return None,
            };
            Some((algorithm, verifier))
        });
        entries.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The caller has checked that the key fits every algorithm.
    pub(super) fn one(algorithms: &[JwtAlgorithm], key: &DecodingKey) -> Self {
        let one = |&algorithm| (algorithm, Verifier::One(algorithm::in_jsonwebtoken(algorithm), key.clone()));
        Self(algorithms.iter().map(one).collect())
    }

    /// Each algorithm takes from the set what is of its kind and not bound to another algorithm (RFC 7517, section 4.4).
    pub(super) fn set(algorithms: &[JwtAlgorithm], set: &[SetKey]) -> Self {
        let entry = |&algorithm| {
            let fitting = set.iter().filter(|key| key.fits(algorithm));
            let keys = fitting.map(|key| (key.kid.clone(), key.public.key.clone())).collect();
            (algorithm, Verifier::Set(algorithm::in_jsonwebtoken(algorithm), keys))
        };
        Self(algorithms.iter().map(entry).collect())
    }

    /// Algorithms that no key of the set fits.
    pub(super) fn without_key(&self) -> impl Iterator<Item = JwtAlgorithm> {
        let empty = |(algorithm, verifier): &(JwtAlgorithm, Verifier)| match verifier {
            Verifier::Set(_, keys) if keys.is_empty() => Some(*algorithm),
            _ => None,
        };
        self.0.iter().filter_map(empty)
    }

    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Reason> {
        let Some((_, verifier)) = self.0.iter().find(|(algorithm, _)| *algorithm == token.algorithm) else {
            return Err("the token's `alg` is not accepted".into());
        };
        if verifier.verify(token)? { Ok(()) } else { Err("the token's signature does not verify".into()) }
    }
}

impl Verifier {
    fn verify(&self, token: &Token<'_>) -> Result<bool, Reason> {
        Ok(match self {
            Self::Hs256(mac) => mac_fits(mac, token),
            Self::Hs384(mac) => mac_fits(mac, token),
            Self::Hs512(mac) => mac_fits(mac, token),
            Self::One(algorithm, key) => signature_fits(*algorithm, key, token),
            Self::Set(algorithm, keys) => match &token.kid {
                Some(wanted) => {
                    let key = keys.iter().find(|(kid, _)| kid.as_ref() == Some(wanted));
                    let (_, key) = key.ok_or("the key set has no key with the token's `kid` for its `alg`")?;
                    signature_fits(*algorithm, key, token)
                }
                None => keys.iter().take(MAX_TRIED).any(|(_, key)| signature_fits(*algorithm, key, token)),
            },
        })
    }
}

/// In constant time; a MAC of another length, a truncated one too, does not fit.
fn mac_fits<M: Mac + Clone>(keyed: &M, token: &Token<'_>) -> bool {
    let mut mac = keyed.clone();
    mac.update(token.signed);
    mac.verify_slice(&token.signature).is_ok()
}

/// The provider is named, not taken from the process default: a dependency that switches on the other backend of
/// `jsonwebtoken` would otherwise turn each verification into a panic.
fn signature_fits(algorithm: Algorithm, key: &DecodingKey, token: &Token<'_>) -> bool {
    let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key);
    verifier.is_ok_and(|verifier| verifier.verify(token.signed, &token.signature).is_ok())
}

impl SetKey {
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.public.kind == algorithm::key_kind(algorithm) && self.algorithm.is_none_or(|bound| bound == algorithm)
    }
}

/// Whether all of these take a shared secret, all take a public key, or neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Secret,
    Public,
    Mixed,
}

pub(super) fn family(algorithms: &[JwtAlgorithm]) -> Family {
    let secret = |algorithm: &&JwtAlgorithm| matches!(algorithm::key_kind(**algorithm), KeyKind::Secret(_));
    match algorithms.iter().filter(secret).count() {
        0 => Family::Public,
        count if count == algorithms.len() => Family::Secret,
        _ => Family::Mixed,
    }
}
