//! Keys of envelopes, in versions: `[keyrings.NAME]`, loaded.
//!
//! A message names its key as `kid`: `NAME.id` of a version, or for a key of a ring of kind `secret` the session key that is
//! derived from it (see [`session`]). Which versions open is a matter of their state and of the clock; a revoked one is
//! not even read. Private keys are wiped when the ring is dropped, and no `Debug` shows one.

mod generate;
mod load;
pub mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_lc_rs::{agreement, rsa::OaepPrivateDecryptingKey};
use gapura_config::{
    model::{KeyKind, KeyState},
    secret::Secret,
};
use zeroize::Zeroizing;

pub use self::{generate::generate, session::SessionKey};
use crate::{
    contract::{Lease, RemoteKey},
    crypto::{Curve, PublicJwk},
};

/// All rings of a configuration, by name. None: it could not be loaded, and its faults are noted elsewhere.
pub type Keyrings = BTreeMap<String, Option<Arc<Keyring>>>;

/// The versions of one key.
#[derive(Debug)]
pub struct Keyring {
    name: String,
    kind: KeyKind,
    versions: Box<[Version]>,
}

/// One key, and what it is good for.
pub struct Version {
    kid: String,
    state: KeyState,
    /// In milliseconds since 1970.
    until: Option<i64>,
    /// None where it is revoked.
    key: Option<Key>,
    /// Where a key service lent it.
    leases: Box<[Arc<dyn Lease>]>,
}

pub enum Key {
    Agreement(AgreementKey),
    Rsa(RsaKey),
    /// An RSA key pair whose private half a key service keeps.
    Remote(RemoteRsa),
    Secret(Secret),
}

/// A key pair on a curve.
pub struct AgreementKey {
    pub curve: Curve,
    pub private: agreement::PrivateKey,
    /// The 32 bytes of the private key, for libraries that want it so.
    pub scalar: Zeroizing<[u8; 32]>,
    pub public: PublicJwk,
}

/// An RSA key pair.
pub struct RsaKey {
    pub private: OaepPrivateDecryptingKey,
    pub public: PublicJwk,
}

/// What of an RSA key pair is here, and who has the rest.
pub struct RemoteRsa {
    pub private: Arc<dyn RemoteKey>,
    pub public: PublicJwk,
    /// Of the modulus, and so of every message to it.
    pub bytes: usize,
}

impl Keyring {
    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn kind(&self) -> KeyKind {
        self.kind
    }
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The key that a message names, if it opens now.
    pub fn opening(&self, kid: &str, now_ms: u64) -> Option<&Key> {
        self.versions.iter().find(|version| version.kid == kid).and_then(|version| version.opening(now_ms))
    }

    /// Every key that opens now: for messages that do not say which they were sealed to.
    pub fn all_opening(&self, now_ms: u64) -> impl Iterator<Item = (&Version, &Key)> {
        self.versions.iter().filter_map(move |version| Some((version, version.opening(now_ms)?)))
    }

    /// What clients are told to seal to. The rules of the configuration see to it that there is one.
    pub fn active(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.state == KeyState::Active)
    }

    /// The key of the active version, for whoever needs no more.
    pub fn into_active(self) -> Option<Key> {
        self.versions.into_iter().find(|version| version.state == KeyState::Active)?.key
    }

    /// `bodies: x25519, 2026-11 active, 2026-05 retiring`, for `gapura explain`.
    pub fn explain(&self) -> String {
        let versions: Vec<String> =
            self.versions.iter().map(|version| format!("{} {}", version.kid, version.state.name())).collect();
        format!("keyring {} ({}): {}", self.name, self.kind.name(), versions.join(", "))
    }
}

impl Version {
    pub fn kid(&self) -> &str {
        &self.kid
    }
    pub fn state(&self) -> KeyState {
        self.state
    }
    /// When a retiring version ends, in milliseconds since 1970.
    pub fn until(&self) -> Option<i64> {
        self.until
    }

    /// The key, unless it is over.
    pub fn opening(&self, now_ms: u64) -> Option<&Key> {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let lent = !self.leases.iter().any(|lease| lease.is_over());
        self.key.as_ref().filter(|_| lent && self.until.is_none_or(|until| now < until))
    }

    /// What its key is held on.
    pub fn leases(&self) -> &[Arc<dyn Lease>] {
        &self.leases
    }

    /// What clients may be shown. None of a secret, and of a revoked version.
    pub fn public(&self) -> Option<&PublicJwk> {
        match self.key.as_ref()? {
            Key::Agreement(key) => Some(&key.public),
            Key::Rsa(key) => Some(&key.public),
            Key::Remote(key) => Some(&key.public),
            Key::Secret(_) => None,
        }
    }
}

/// No key in it.
impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kid, self.state.name())
    }
}
