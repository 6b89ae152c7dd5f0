//! The promises of `src/stores/redis`, against a real Redis.

mod adaptive;
mod adaptive_fleets;
mod clock;
mod contract;
mod counters;
mod downgrades;
mod failover;
mod fleets;
mod gateways;
mod hiccups;
mod journal;
mod lockouts;
mod merging;
mod million;
mod outage;
mod replays;
mod resharding;
mod revocations;
mod server;
mod tls;
mod tls_fleets;

use std::{
    collections::HashMap,
    future::Future,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use gapura::stores::RedisStore;
use gapura_config::{
    model::{self, LimitAlgorithm, OnOutage},
    secret::SecretRef,
    units::Period,
};
use gapura_filters::{
    contract::Now,
    metrics::Metrics,
    rate_limit::{Counted, Demand, Quota, SharedCounters},
};

use self::{journal::Journal, server::Server};

/// For what must happen; a test that meets it has failed. Long, for a machine that does much else: nobody waits for it who has no need to.
const PATIENCE: Duration = Duration::from_secs(120);
/// No answer of a Redis that runs is late, however busy the machine is.
const AMPLE: Duration = Duration::from_secs(20);

const NOW: Now = Now { monotonic: Duration::ZERO, unix_ms: 0 };

/// A store as one instance has it.
struct Instance {
    store: Arc<RedisStore>,
    metrics: Metrics,
}

impl Instance {
    fn new(url: &str, on_outage: OnOutage, timeout: Duration) -> Self {
        Self::with(url, |redis| model::Redis { on_outage, timeout: Period(timeout), ..redis })
    }

    /// As `[state.redis]` says.
    fn with(url: &str, change: impl FnOnce(model::Redis) -> model::Redis) -> Self {
        Journal::begin();
        let metrics = Metrics::new().unwrap();
        let (_kept, url) = secret(url);
        let redis = change(model::Redis { timeout: Period(AMPLE), ..model::Redis::new(url) });
        Self { store: RedisStore::connect(&redis, (1000, 1000), &metrics).unwrap(), metrics }
    }

    /// Connected.
    async fn of(server: &Server) -> Self {
        let instance = Self::new(&server.url(), OnOutage::Closed, AMPLE);
        instance.is(true).await;
        instance
    }

    async fn is(&self, up: bool) {
        until(async || self.store.is_up() == up).await;
    }

    /// None in an outage.
    async fn charge(&self, demands: &[Demand<'_>]) -> Option<Vec<Counted>> {
        self.store.charge(NOW, demands).await.into_iter().collect()
    }

    async fn one(&self, rule: &str, quota: &Quota, key: &[u8]) -> Counted {
        self.charge(&[demand(rule, quota, key)]).await.unwrap()[0]
    }

    async fn refund(&self, rule: &str, quota: &Quota, key: &[u8], at: u64) {
        self.store.refund(NOW, &[(demand(rule, quota, key), at)]).await;
    }

    /// Questions with this result so far.
    fn calls(&self, result: &str) -> u64 {
        self.metrics.store_calls.with_label_values(&["redis", result]).get()
    }
}

/// Where the text is found, as long as the file is kept.
fn secret(text: &str) -> (tempfile::NamedTempFile, SecretRef) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let place = format!("file:{}", file.path().display()).parse().unwrap();
    (file, place)
}

fn demand<'a>(rule: &'a str, quota: &'a Quota, key: &'a [u8]) -> Demand<'a> {
    Demand { rule, quota, key, cost: 1, binding: true }
}

fn quota(algorithm: LimitAlgorithm, limit: u64, window: Duration) -> Quota {
    Quota { algorithm, limit, window, burst: limit, penalty: Duration::ZERO }
}

const ALGORITHMS: [LimitAlgorithm; 3] =
    [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra];
const MINUTE: Duration = Duration::from_secs(60);

/// Waits for a condition.
async fn until(condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "it does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// On a runtime with two threads, as instances have several.
fn run<F: Future<Output = ()>>(test: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// What a rule promises, of the instants it admitted in µs: never more than N in any window that ends at one of them.
fn keeps_its_word(quota: &Quota, admitted: &[u64]) {
    let mut admitted = admitted.to_vec();
    admitted.sort_unstable();
    let window = quota.window.as_micros() as u64;
    for (first, &since) in admitted.iter().enumerate() {
        for (last, &newest) in admitted.iter().enumerate().skip(first) {
            let come = (last - first + 1) as u64;
            let most = match quota.algorithm {
                LimitAlgorithm::Gcra => quota.burst + (newest - since) * quota.limit / window,
                _ if newest - since < window => quota.limit,
                _ => break,
            };
            assert!(come <= most, "{:?}: {come} in {} µs, at most {most}", quota.algorithm, newest - since);
        }
    }
}

/// `name=value` of `INFO`.
fn info(text: &str) -> HashMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).collect()
}
