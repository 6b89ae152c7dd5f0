//! Keys of token issuers, fetched ahead in the background: no request ever waits for a provider.
//!
//! One task for each key set. It fetches at the start, then again and again, so that a key that its provider has published is
//! known before tokens are signed with it. A token with a `kid` that is not known asks for a fetch out of turn, seldom enough
//! that whoever invents them reaches neither the provider nor this process. What was fetched stays through any outage.

mod provider;

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use gapura_filters::{
    authentication::{KeySet, Taken},
    metrics::Metrics,
};
use http::{StatusCode, Uri};
use prometheus::{IntCounterVec, IntGauge};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

/// The port to the providers: one GET over TLS, its certificate verified. The error is for the operator.
pub(crate) trait Web: Send + Sync + 'static {
    /// At most `max` bytes of body.
    fn get(&self, uri: &Uri, ca: Option<&Path>, max: u64) -> impl Future<Output = Result<Page, String>> + Send;
}

/// What a provider answered.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
}

/// From one fetch to the next: keys are published hours ahead of their use, and cached as long by other verifiers.
const REFRESH: Duration = Duration::from_secs(300);
/// Instances that started together shall not ask together: a tenth sooner or later.
const JITTER: f64 = 0.1;
/// After a failure, doubled with each further one.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(60);
/// For unknown `kid`s.
const OUT_OF_TURN: Duration = Duration::from_secs(10);
/// The whole of one fetch, redirects and discovery too.
const WITHIN: Duration = Duration::from_secs(5);

/// Keeps the set fetched as long as anybody holds it. A second call for the same set does nothing.
pub(crate) fn follow(set: &Arc<KeySet>, web: impl Web, metrics: &Metrics) {
    let wanted = Arc::new(Notify::new());
    let wake = Arc::clone(&wanted);
    if set.follow(move || wake.notify_one()) {
        let name = &set.source().method;
        let task = Task {
            set: Arc::downgrade(set),
            web,
            wanted,
            fetches: metrics.key_fetches.clone(),
            keys: metrics.keys.with_label_values(&[name]),
        };
        tokio::spawn(task.run());
    }
}

struct Task<W> {
    /// Dropped by everybody else, it is needed no more.
    set: Weak<KeySet>,
    web: W,
    /// Told when a token names a key that the set has not.
    wanted: Arc<Notify>,
    fetches: IntCounterVec,
    keys: IntGauge,
}

impl<W: Web> Task<W> {
    async fn run(self) {
        let mut failures = 0;
        while let Some(set) = self.set.upgrade() {
            let began = Instant::now();
            failures = if self.fetch(&set).await { 0 } else { failures + 1 };
            drop(set);
            let again = pause(failures, rand::random());
            tokio::select! {
                () = sleep_until(began + again) => {}
                () = self.out_of_turn(began) => {}
            }
        }
    }

    async fn out_of_turn(&self, last: Instant) {
        self.wanted.notified().await;
        sleep_until(last + OUT_OF_TURN).await;
    }

    /// Whether the set was fetched and taken.
    async fn fetch(&self, set: &KeySet) -> bool {
        let source = set.source();
        let text = match timeout(WITHIN, provider::fetch(&self.web, source)).await {
            Ok(text) => text,
            Err(_) => Err(format!("the provider takes longer than {WITHIN:?}")),
        };
        let name = &source.method;
        match text.and_then(|text| set.replace(&text)) {
            Ok(Taken { keys, passed_over }) => {
                log::debug!("{name}: {keys} keys from {}", source.location);
                for why in passed_over {
                    log::warn!("{name}: {}: passed over: {why}", source.location);
                }
                self.fetches.with_label_values(&[name, "success"]).inc();
                self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
                true
            }
            Err(why) => {
                let still = if set.missing().is_some() { "there are none yet" } else { "those fetched before stay" };
                log::warn!("{name}: keys cannot be fetched from {}: {why}; {still}", source.location);
                self.fetches.with_label_values(&[name, "failure"]).inc();
                set.failed(why);
                false
            }
        }
    }
}

/// From the start of one fetch to that of the next; `random` is from 0 to 1.
fn pause(failures: u32, random: f64) -> Duration {
    let base = match failures {
        0 => REFRESH,
        failed => RETRY.saturating_mul(1 << (failed - 1).min(6)).min(RETRY_AT_MOST),
    };
    base.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}
