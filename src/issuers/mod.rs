//! Backends that issued API keys, asked whose a key is: their table, or their endpoint.
//!
//! A key is asked about once, however many requests wait for it; a question goes on when its requests are gone. At most `max_concurrent` are on
//! their way, and a bounded number waits for its turn. After some failures in a row nobody is asked for a while that grows: an outage
//! then costs no request anything. An answer that cannot be read is about its key alone: whoever found a key that confuses the backend would
//! otherwise shut out everyone whose key is not known yet.

mod breaker;
mod endpoint;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gapura_config::{
    fault::{Fault, Place},
    model::{Config, KeyIntrospection},
};
use gapura_filters::{
    authentication::{ForeignKeys, ForeignSource, KeyIssuer, Question},
    metrics::Metrics,
};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounterVec};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use self::breaker::Breaker;
use self::endpoint::Endpoint;
pub(crate) use self::endpoint::{Destination, Posts};
use crate::stores::sql::{Lookup, NoRows};

/// What can be asked.
pub(crate) trait Source: Send + Sync + 'static {
    fn ask(&self, parameter: &str) -> impl Future<Output = Result<Vec<Vec<u8>>, Silence>> + Send;
}

/// Why nothing is known of a key. The text is for the log: it holds no key.
#[derive(Debug)]
pub(crate) enum Silence {
    /// The backend cannot be asked, whatever key it is about.
    Outage(String),
    /// It has answered, with what says nothing about this key.
    Unreadable(String),
}

impl Source for Lookup {
    async fn ask(&self, parameter: &str) -> Result<Vec<Vec<u8>>, Silence> {
        Lookup::ask(self, parameter).await.map_err(|why| {
            let (NoRows::Query(why) | NoRows::Unreachable(why)) = why;
            // A database may repeat what it was asked about.
            Silence::Outage(if parameter.is_empty() { why } else { why.replace(parameter, "…") })
        })
    }
}

/// Questions that wait, for each one on its way.
const WAITING: usize = 32;

/// One backend, and the questions to it.
struct Issuer<S> {
    source: S,
    method: Arc<str>,
    /// By their digests; what comes of them.
    asking: Mutex<HashMap<[u8; 32], watch::Receiver<Option<bool>>>>,
    most: usize,
    turns: Semaphore,
    within: Duration,
    breaker: Mutex<Breaker>,
    /// The log has heard of an answer that cannot be read, and of none since that can.
    garbled: AtomicBool,
    results: IntCounterVec,
    seconds: Histogram,
}

struct Asked<S>(Arc<Issuer<S>>);

impl<S: Source> Asked<S> {
    fn new(source: S, keys: &ForeignKeys, metrics: &Metrics) -> Self {
        let (within, concurrent) = match &keys.source {
            ForeignSource::Lookup(lookup) => (lookup.timeout, lookup.max_concurrent),
            ForeignSource::Introspection { config, .. } => (config.timeout, config.max_concurrent),
        };
        let concurrent = usize::try_from(concurrent).unwrap_or(1);
        for result in ["found", "unknown", "failed", "timeout", "unreadable", "skipped", "overloaded"] {
            metrics.key_lookups.with_label_values(&[keys.method(), result]);
        }
        Self(Arc::new(Issuer {
            source,
            method: Arc::clone(keys.method()),
            asking: Mutex::default(),
            most: concurrent * (1 + WAITING),
            turns: Semaphore::new(concurrent),
            within: within.get(),
            breaker: Mutex::default(),
            garbled: AtomicBool::new(false),
            results: metrics.key_lookups.clone(),
            seconds: metrics.key_lookup_duration.with_label_values(&[keys.method()]),
        }))
    }
}

impl<S: Source> KeyIssuer for Asked<S> {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let said = self.0.begin(question);
        Box::pin(async move {
            let Some(mut said) = said else { return false };
            // Whoever asks has ended without a word: that is no answer.
            said.wait_for(Option::is_some).await.is_ok_and(|said| *said == Some(true))
        })
    }
}

impl<S: Source> Issuer<S> {
    /// None: it is not asked.
    fn begin(self: &Arc<Self>, question: Question) -> Option<watch::Receiver<Option<bool>>> {
        let mut asking = self.asking.lock();
        if let Some(said) = asking.get(&question.digest) {
            return Some(said.clone());
        }
        if asking.len() >= self.most {
            self.count("overloaded");
            return None;
        }
        if !self.breaker.lock().admits(Instant::now()) {
            self.count("skipped");
            return None;
        }
        let (say, said) = watch::channel(None);
        asking.insert(question.digest, said.clone());
        let entry = Entry { issuer: Arc::clone(self), digest: question.digest };
        tokio::spawn(async move {
            let answered = entry.issuer.run(&question).await;
            drop(entry);
            // Nobody may wait any more.
            let _ = say.send(Some(answered));
        });
        Some(said)
    }

    async fn run(&self, question: &Question) -> bool {
        let Ok(Ok(_turn)) = timeout(self.within, self.turns.acquire()).await else {
            self.count("overloaded");
            return false;
        };
        let began = Instant::now();
        let said = timeout(self.within, self.source.ask(&question.parameter())).await;
        self.seconds.observe(began.elapsed().as_secs_f64());
        let late = said.is_err();
        let no_answer = || Silence::Outage(format!("there is no answer within {:?}", self.within));
        let said = said.unwrap_or_else(|_| Err(no_answer()));
        let learned = said.and_then(|said| question.keys.learn(question, &said).map_err(Silence::Unreadable));
        if !matches!(learned, Err(Silence::Outage(_))) && self.breaker.lock().succeeded() {
            log::info!("{}: the backend of the API keys answers again", self.method);
        }
        match learned {
            Ok(found) => {
                self.count(if found { "found" } else { "unknown" });
                self.garbled.store(false, Ordering::Relaxed);
                true
            }
            Err(Silence::Unreadable(why)) => {
                self.count("unreadable");
                question.keys.unreadable(question, &why);
                if !self.garbled.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "{}: what the backend says of an API key cannot be used: {why}; where the key was good it stays so for a while, else it gets 503",
                        self.method
                    );
                }
                false
            }
            Err(Silence::Outage(why)) => {
                self.count(if late { "timeout" } else { "failed" });
                question.keys.unreachable(&why);
                if let Some(pause) = self.breaker.lock().failed(Instant::now()) {
                    log::warn!(
                        "{}: the backend of the API keys cannot be asked: {why}; those that are known stay for a while, others get 503; \
                         it is asked again in {pause:?}",
                        self.method
                    );
                }
                false
            }
        }
    }

    fn count(&self, result: &str) {
        self.results.with_label_values(&[&*self.method, result]).inc();
    }
}

/// A question that is being asked; gone with whoever asks, even by a panic.
struct Entry<S> {
    issuer: Arc<Issuer<S>>,
    digest: [u8; 32],
}

impl<S> Drop for Entry<S> {
    fn drop(&mut self) {
        self.issuer.asking.lock().remove(&self.digest);
    }
}

/// From now on the backend of these keys is asked. A second call for the same does nothing.
pub(crate) fn follow(keys: &Arc<ForeignKeys>, posts: impl Posts, metrics: &Metrics) {
    match &keys.source {
        ForeignSource::Lookup(config) => match Lookup::new(config) {
            Ok(lookup) => {
                if keys.served_by(Arc::new(Asked::new(lookup, keys, metrics))) {
                    tokio::spawn(try_until_reached(Arc::downgrade(keys)));
                }
            }
            Err(why) => keys.unreachable(&why),
        },
        ForeignSource::Introspection { config, authorization } => {
            let endpoint = Endpoint::new(posts, config, authorization.clone());
            keys.served_by(Arc::new(Asked::new(endpoint, keys, metrics)));
        }
    }
}

const RETRY: Duration = Duration::from_millis(500);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);

/// Until the table can be asked, the gateway is not ready.
async fn try_until_reached(keys: Weak<ForeignKeys>) {
    let (mut pause, mut said) = (RETRY, false);
    while let Some(keys) = keys.upgrade().filter(|keys| keys.missing().is_some()) {
        if let Err(NoRows::Query(why) | NoRows::Unreachable(why)) = attempt(&keys).await {
            keys.unreachable(&why);
            if !said {
                log::warn!("{}: the backend's keys cannot be looked up yet: {why}", keys.method());
                said = true;
            }
        } else if said {
            log::info!("{}: the backend's keys can be looked up", keys.method());
        }
        drop(keys);
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_AT_MOST);
    }
}

/// Tries the statement of a lookup, on a connection of its own.
async fn attempt(keys: &ForeignKeys) -> Result<(), NoRows> {
    let ForeignSource::Lookup(config) = &keys.source else { return Ok(()) };
    let lookup = Lookup::new(config).map_err(NoRows::Unreachable)?;
    let tried = timeout(PATIENCE, lookup.attempt(&keys.columns(), &keys.sample())).await;
    tried.unwrap_or_else(|_| Err(NoRows::Unreachable(format!("there is no answer within {PATIENCE:?}"))))?;
    keys.reached();
    Ok(())
}

/// For the start, and for a reload.
const PATIENCE: Duration = Duration::from_secs(5);

/// Statements that their databases refuse. One that cannot be reached is an outage, not a fault.
pub(crate) async fn faults(all: &[Arc<ForeignKeys>]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for keys in all.iter().filter(|keys| keys.missing().is_some()) {
        if let Err(NoRows::Query(why)) = attempt(keys).await {
            let place = keys.method().split('.').fold(Place::root(), |place, key| place.key(key));
            let fault = Fault::at(place.key("lookup").key("query"), format!("the database refuses this query: {why}"));
            let columns = keys.columns().join("`, `");
            faults.push(fault.help(format!("it needs one text parameter, `$1`, and the columns `{columns}`")));
        }
    }
    faults
}

/// Endpoints that are reached over TLS and trust the system's authorities.
pub(crate) fn needs_system_authorities(config: &Config) -> bool {
    let needs = |one: &KeyIntrospection| one.ca.is_none() && one.url.starts_with("https://");
    config.api_keys.values().filter_map(|keys| keys.introspection.as_ref()).any(needs)
}
