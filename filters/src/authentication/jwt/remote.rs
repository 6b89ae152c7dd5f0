//! Key sets that their providers publish. Somebody else fetches them ahead; here they are read, and nobody waits.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
};

use arc_swap::ArcSwapOption;
use gapura_config::model::JwtAlgorithm;
use parking_lot::Mutex;

use super::{
    jwks::{self, SetKey},
    keys::{MAX_TRIED, signature_fits},
    token::Token,
};
use crate::authentication::Denial;

/// Where a set comes from, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySource {
    /// `jwt.NAME`
    pub method: Arc<str>,
    pub location: Location,
    /// A PEM bundle of the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `https://…` of the set itself.
    Set(String),
    /// An issuer whose metadata name the set (OpenID Connect Discovery 1.0, section 4).
    Issuer(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(uri) => f.write_str(uri),
            Self::Issuer(issuer) => write!(f, "discovery at {issuer}"),
        }
    }
}

/// All sets of the process. A reload finds those that it still needs with the keys that they have.
#[derive(Debug, Default)]
pub struct KeySets(Mutex<Vec<Weak<KeySet>>>);

impl KeySets {
    /// The set of this source, empty if it is new.
    pub fn of(&self, source: KeySource) -> Arc<KeySet> {
        let mut all = self.0.lock();
        all.retain(|set| set.strong_count() > 0);
        if let Some(known) = all.iter().filter_map(Weak::upgrade).find(|set| set.source == source) {
            return known;
        }
        let set =
            Arc::new(KeySet { source, keys: ArcSwapOption::empty(), trouble: Mutex::new(None), wake: OnceLock::new() });
        all.push(Arc::downgrade(&set));
        set
    }
}

/// A text, and what was read from it.
struct Published {
    text: Vec<u8>,
    keys: Vec<SetKey>,
    generation: u64,
}

/// The keys of one source, as they were when they were last fetched.
pub struct KeySet {
    source: KeySource,
    keys: ArcSwapOption<Published>,
    /// Why the last attempt to fetch them failed.
    trouble: Mutex<Option<String>>,
    /// Tells who fetches that a key is wanted which the set has not.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// A set that was taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    pub keys: usize,
    /// What is wrong with entries that were passed over.
    pub passed_over: Vec<String>,
}

impl KeySet {
    pub fn source(&self) -> &KeySource {
        &self.source
    }

    /// From now on somebody fetches it, and is called when a key is missing. False: somebody does already.
    pub fn follow(&self, wake: impl Fn() + Send + Sync + 'static) -> bool {
        self.wake.set(Box::new(wake)).is_ok()
    }

    /// A new text. One that holds no usable key is refused, and changes nothing: a provider's bad hour locks nobody out.
    pub fn replace(&self, text: &[u8]) -> Result<Taken, String> {
        let (keys, passed_over) = jwks::read_published(text)?;
        let taken = Taken { keys: keys.len(), passed_over };
        let before = self.keys.load();
        // A provider says the same for months; only another text makes what was verified before worthless.
        if before.as_ref().is_none_or(|before| before.text != text) {
            let generation = before.as_ref().map_or(1, |before| before.generation + 1);
            self.keys.store(Some(Arc::new(Published { text: text.to_vec(), keys, generation })));
        }
        *self.trouble.lock() = None;
        Ok(taken)
    }

    /// It could not be fetched: what it holds stays.
    pub fn failed(&self, why: String) {
        *self.trouble.lock() = Some(why);
    }

    /// None once keys were fetched; before, what there is to say about it.
    pub fn missing(&self) -> Option<String> {
        if self.keys.load().is_some() {
            return None;
        }
        let why = self.trouble.lock().clone().unwrap_or_else(|| "they are being fetched".into());
        Some(format!("{}: no keys yet: {why}", self.source.method))
    }

    /// Another one after each change; 0 before there are keys.
    pub(super) fn generation(&self) -> u64 {
        self.keys.load().as_ref().map_or(0, |published| published.generation)
    }

    /// Whether the signature is of a key of this set that is for the token's algorithm.
    pub(super) fn verify(&self, algorithm: JwtAlgorithm, token: &Token<'_>) -> Result<bool, Denial> {
        let keys = self.keys.load();
        let Some(Published { keys, .. }) = keys.as_deref() else {
            return Err(Denial::Unready("the provider's keys were not fetched yet".into()));
        };
        let mut fitting = keys.iter().filter(|key| key.fits(algorithm));
        let Some(wanted) = &token.kid else {
            return Ok(fitting.take(MAX_TRIED).any(|key| signature_fits(algorithm, &key.public.key, token)));
        };
        match fitting.find(|key| key.kid.as_ref() == Some(wanted)) {
            Some(key) => Ok(signature_fits(algorithm, &key.public.key, token)),
            None => {
                // The provider may have a new key since. Who fetches sees to it that a flood of inventions costs nothing.
                if let Some(wake) = self.wake.get() {
                    wake();
                }
                Err(Denial::Invalid("the provider has no key with the token's `kid` for its `alg`".into()))
            }
        }
    }
}

/// No key in it.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source.method, self.source.location)
    }
}
