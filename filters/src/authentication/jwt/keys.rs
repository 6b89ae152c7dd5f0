//! The keys of one method, compiled: each accepted algorithm with keys of its own kind, and nothing else.

use std::sync::Arc;

use gapura_config::model::JwtAlgorithm;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{DecodingKey, crypto::aws_lc};
use sha2::{Sha256, Sha384, Sha512};

use super::{algorithm, algorithm::KeyKind, jwks::SetKey, remote::KeySet, token::Token};
use crate::authentication::Denial;

/// Keys without a `kid` to choose by are tried in turn; so many signatures one token may cost.
pub(super) const MAX_TRIED: usize = 16;

/// What a method verifies with. A token's `alg` picks an entry; the entry holds its keys; so no key can be used with an
/// algorithm of another kind, whatever the token says (RFC 8725, sections 2.1 and 3.1).
pub(super) enum Keys {
    /// As long as the policy.
    Fixed(Vec<(JwtAlgorithm, Verifier)>),
    /// Of a provider, which may change them at any time.
    Remote(Vec<JwtAlgorithm>, Arc<KeySet>),
}

pub(super) enum Verifier {
    // The key schedule is computed once. `jsonwebtoken` would copy the secret and compute it for each token.
    Hs256(Hmac<Sha256>),
    Hs384(Hmac<Sha384>),
    Hs512(Hmac<Sha512>),
    One(JwtAlgorithm, DecodingKey),
    Set(JwtAlgorithm, Vec<(Option<String>, DecodingKey)>),
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
        entries.collect::<Option<Vec<_>>>().map(Self::Fixed)
    }

    /// The caller has checked that the key fits every algorithm.
    pub(super) fn one(algorithms: &[JwtAlgorithm], key: &DecodingKey) -> Self {
        let one = |&algorithm| (algorithm, Verifier::One(algorithm, key.clone()));
        Self::Fixed(algorithms.iter().map(one).collect())
    }

    /// Each algorithm takes from the set what is of its kind and not bound to another algorithm (RFC 7517, section 4.4).
    pub(super) fn set(algorithms: &[JwtAlgorithm], set: &[SetKey]) -> Self {
        let entry = |&algorithm| {
            let fitting = set.iter().filter(|key| key.fits(algorithm));
            let keys = fitting.map(|key| (key.kid.clone(), key.public.key.clone())).collect();
            (algorithm, Verifier::Set(algorithm, keys))
        };
        Self::Fixed(algorithms.iter().map(entry).collect())
    }

    /// Algorithms that no key of the set fits.
    pub(super) fn without_key(&self) -> impl Iterator<Item = JwtAlgorithm> {
        let empty = |(algorithm, verifier): &(JwtAlgorithm, Verifier)| match verifier {
            Verifier::Set(_, keys) if keys.is_empty() => Some(*algorithm),
            _ => None,
        };
        let entries = match self {
            Self::Fixed(entries) => &entries[..],
            Self::Remote(..) => &[],
        };
        entries.iter().filter_map(empty)
    }

    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Denial> {
        let fits = match self {
            Self::Fixed(entries) => match entries.iter().find(|(algorithm, _)| *algorithm == token.algorithm) {
                Some((_, verifier)) => verifier.verify(token)?,
                None => return Err(NOT_ACCEPTED.into()),
            },
            Self::Remote(algorithms, set) if algorithms.contains(&token.algorithm) => {
                set.verify(token.algorithm, token)?
            }
            Self::Remote(..) => return Err(NOT_ACCEPTED.into()),
        };
        if fits { Ok(()) } else { Err("the token's signature does not verify".into()) }
    }

    /// Another one after each change of keys.
    pub(super) fn generation(&self) -> u64 {
        self.remote().map_or(0, |set| set.generation())
    }

    /// The provider's set, where there is one.
    pub(super) fn remote(&self) -> Option<&Arc<KeySet>> {
        match self {
            Self::Fixed(_) => None,
            Self::Remote(_, set) => Some(set),
        }
    }
}

const NOT_ACCEPTED: &str = "the token's `alg` is not accepted";

impl Verifier {
    fn verify(&self, token: &Token<'_>) -> Result<bool, Denial> {
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
pub(super) fn signature_fits(algorithm: JwtAlgorithm, key: &DecodingKey, token: &Token<'_>) -> bool {
    let algorithm = algorithm::in_jsonwebtoken(algorithm);
    let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key);
    verifier.is_ok_and(|verifier| verifier.verify(token.signed, &token.signature).is_ok())
}

impl SetKey {
    pub(super) fn fits(&self, algorithm: JwtAlgorithm) -> bool {
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
