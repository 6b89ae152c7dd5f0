//! Lock-outs: whoever guesses at credentials is not answered any more, for a while that grows.
//!
//! A *guess* is a credential that nobody issued: an unknown API key, a token that is none or whose signature does not verify. An
//! expired token or one for another audience is no guess: its sender holds what an issuer made.
//!
//! **Locked out is always an address**, never an identity: else whoever knows a user's id could keep that user out. Guesses with one
//! claimed identity count too, from all addresses together: an identity that is being guessed is *watched*, and an address that
//! fails with it is locked out at its first failure. A good credential from another address passes at any time.
//!
//! The answer to a locked address is the same whatever it presents, and given before anything is looked at; so it tells neither
//! which identities exist nor whether a guess was right.
//!
//! With a shared store failures of all instances are counted together. Only a failure asks it; of locks elsewhere it tells on its own,
//! and good requests cost nothing.

mod memory;
mod record;

use std::{
    fmt,
    future::{Future, ready},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use gapura_config::model::{self, LockoutMode};
use http::{HeaderName, HeaderValue, header::RETRY_AFTER, request};
use prometheus::IntCounter;
use sha2::{Digest, Sha256};

use self::memory::{Ledger, address_key};
pub use self::{memory::Key, record::Terms};
use crate::{
    contract::{Code, Exchange, Filter, Now, Refusal, Services, Stage},
    metrics::Metrics,
    networks::Networks,
};

/// Failures so far: as long as the process, so that a reload forgives nobody.
#[derive(Default)]
pub struct Lockouts {
    addresses: Ledger,
    identities: Ledger,
    shared: Option<Arc<dyn SharedLockouts>>,
}

/// A store that counts the failures of all instances together, under its own clock.
pub trait SharedLockouts: Send + Sync {
    /// Notes a failure of an address, and of a claimed identity where there is one. None: it cannot be reached, and this instance
    /// counts for itself.
    fn fail<'a>(
        &'a self,
        address: &'a Key,
        identity: Option<&'a Key>,
        terms: &'a Terms,
    ) -> Pin<Box<dyn Future<Output = Option<Failed>> + Send + 'a>>;

    /// How long an address is locked out still, by any instance. Nothing is asked for it: it is what is known here.
    fn left(&self, address: &Key) -> Option<Duration>;
}

/// What comes of a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failed {
    /// The address is locked for so long, since now or before.
    pub locked: Option<Duration>,
    /// The lock began with this failure.
    pub begins: bool,
    /// With this failure the identity begins to be watched, for so long.
    pub watched: Option<Duration>,
}

/// Whose credential it says it is. Nothing of it is verified, and nothing of it can be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claimed {
    method: Arc<str>,
    key: Key,
}

impl Claimed {
    /// The first half of SHA-256 over the method, a NUL, and the user id or the key's id.
    pub(super) fn new(method: &Arc<str>, identity: &str) -> Self {
        let digest = Sha256::new().chain_update(method.as_bytes()).chain_update([0]).chain_update(identity).finalize();
        let mut key = Key::default();
        key.copy_from_slice(&digest[..16]);
        Self { method: Arc::clone(method), key }
    }
}

/// `jwt.users identity 3fa9c2d1`
impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} identity ", self.method)?;
        self.key[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Lockouts {
    pub fn shared(store: Arc<dyn SharedLockouts>) -> Self {
        Self { shared: Some(store), ..Self::default() }
    }

    fn left(&self, address: &Key, now: Duration) -> Option<Duration> {
        self.addresses.left(address, now).or_else(|| self.shared.as_ref()?.left(address))
    }

    async fn fail(&self, address: &Key, identity: Option<&Key>, now: Duration, terms: &Terms) -> Failed {
        let told = match &self.shared {
            Some(shared) => shared.fail(address, identity, terms).await,
            None => None,
        };
        let Some(told) = told else { return self.fail_here(address, identity, now, terms) };
        if let Some(left) = told.locked {
            self.addresses.note(address, now, terms, |record| record.hold(now, left));
        }
        told
    }

    fn fail_here(&self, address: &Key, identity: Option<&Key>, now: Duration, terms: &Terms) -> Failed {
        let watched = identity.and_then(|identity| {
            let note = |record: &mut record::Record| (record.fail(now, terms), record.left(now).is_some());
            self.identities.note(identity, now, terms, note)
        });
        let (watched, is_watched) = watched.unwrap_or_default();
        let begun = self.addresses.note(address, now, terms, |record| match record.left(now) {
            // Of guesses on their way at once the first one locked it.
            Some(left) => (Some(left), false),
            None if is_watched => (Some(record.lock(now, terms)), true),
            None => {
                let lasts = record.fail(now, terms);
                (lasts, lasts.is_some())
            }
        });
        let (locked, begins) = begun.unwrap_or_default();
        Failed { locked, begins, watched }
    }
}

/// `[lockout]`, compiled. One for all routes.
pub struct Lockout {
    terms: Terms,
    observes: bool,
    exempt: Networks,
    state: Arc<Lockouts>,
    /// `"lockout";q=10;w=60`
    policy: HeaderValue,
    by_address: IntCounter,
    by_identity: IntCounter,
    refused: IntCounter,
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

impl Lockout {
    /// None where they are off.
    pub fn new(config: &model::Lockout, services: &Services) -> Option<Arc<Self>> {
        if config.mode == LockoutMode::Off {
            return None;
        }
        let terms = Terms::from(config);
        let Metrics { lockouts, lockout_refusals, .. } = &*services.metrics;
        Some(Arc::new(Self {
            terms,
            observes: config.mode == LockoutMode::Observe,
            exempt: Networks::new(&config.exempt),
            state: Arc::clone(&services.lockouts),
            policy: field(&format!("\"lockout\";q={};w={}", terms.failures, whole_seconds(terms.window))),
            by_address: lockouts.with_label_values(&["address"]),
            by_identity: lockouts.with_label_values(&["identity"]),
            refused: lockout_refusals.clone(),
        }))
    }

    /// Notes a guess.
    pub(super) async fn failed(&self, address: IpAddr, claimed: Option<&Claimed>, now: Now) {
        if self.exempt.contains(address) {
            return;
        }
        let identity = claimed.map(|claimed| &claimed.key);
        let failed = self.state.fail(&address_key(address), identity, now.monotonic, &self.terms).await;
        let Terms { failures, window, .. } = self.terms;
        let window = whole_seconds(window);
        let would = if self.observes { "would be " } else { "" };
        if let (Some(lasts), Some(claimed)) = (failed.watched, claimed) {
            self.by_identity.inc();
            log::warn!(
                "security: {claimed} is {would}watched for {} s: {failures} failed authentications within {window} s, \
                 the last from {address}",
                whole_seconds(lasts)
            );
        }
        if let (Some(lasts), true) = (failed.locked, failed.begins) {
            self.by_address.inc();
            let seconds = whole_seconds(lasts);
            match claimed.filter(|_| failed.watched.is_none()) {
                Some(claimed) => {
                    log::warn!(
                        "security: {address} is {would}locked out for {seconds} s: failed authentications, the last with {claimed}"
                    );
                }
                None => log::warn!("security: {address} is {would}locked out for {seconds} s: failed authentications"),
            }
        }
    }

    /// The refusal for an address that is locked out.
    pub fn admit(&self, address: IpAddr, now: Now) -> Result<(), Refusal> {
        let Some(left) = self.state.left(&address_key(address), now.monotonic) else { return Ok(()) };
        if self.observes || self.exempt.contains(address) {
            return Ok(());
        }
        self.refused.inc();
        let seconds = whole_seconds(left);
        Err(Refusal::new(Code::RateLimited, "Too many failed authentications; try again later.")
            .reason("the address is locked out")
            .header(RETRY_AFTER, HeaderValue::from(seconds))
            .header(RATE_LIMIT_POLICY, self.policy.clone())
            .header(RATE_LIMIT, field(&format!("\"lockout\";r=0;t={seconds}"))))
    }
}

/// The door: it stands before limits and authentication, so that a locked address costs next to nothing.
pub struct LockoutDoor(pub Arc<Lockout>);

impl Filter for LockoutDoor {
    fn stage(&self) -> Stage {
        Stage::Lockouts
    }

    fn explain(&self) -> Vec<String> {
        let Terms { failures, window, duration, max_duration } = self.0.terms;
        let mode = if self.0.observes { "observed only: " } else { "" };
        vec![format!(
            "{mode}{failures} failed authentications within {window:?} lock an address out for {duration:?}, then twice as long \
             each time up to {max_duration:?}; never {}",
            self.0.exempt.explain()
        )]
    }

    fn on_request(
        &self,
        _head: &request::Parts,
        exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(self.0.admit(exchange.client_ip, exchange.now))
    }
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Digits and quotes are always fit.
fn field(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
