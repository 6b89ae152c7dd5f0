//! The connection: one per process, a time budget for each question, and a breaker.
//!
//! Requests never connect and never test whether Redis is back. A task of its own does (`keeper`), and hands over a
//! connection only after Redis has answered on it in time; while there is none a question costs one atomic load. So an outage
//! costs [`FAILURES`] requests their budget, and nothing from then on.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use gapura_filters::metrics::Metrics;
use prometheus::{Histogram, IntCounter, IntGauge};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisError, RedisResult,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::{sync::Notify, time::timeout};

/// After so many failures in a row Redis is not asked any more. One is a lost packet.
const FAILURES: u32 = 5;
/// To connect: name, TCP, TLS, password. No request waits for it.
const CONNECT: Duration = Duration::from_secs(2);

pub(super) struct Link {
    client: Client,
    /// Host and port, for the log.
    server: String,
    budget: Duration,
    live: ArcSwapOption<Live>,
    /// Woken when `live` becomes None: once for each connection.
    lost: Notify,
    meters: Meters,
}

/// A connection on which Redis answers.
struct Live {
    connection: MultiplexedConnection,
    /// In a row.
    failures: AtomicU32,
}

/// There was no answer; the breaker knows, and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Down;

struct Meters {
    up: IntGauge,
    duration: Histogram,
    answered: IntCounter,
    failed: IntCounter,
    late: IntCounter,
    skipped: IntCounter,
}

impl Link {
    /// Does not connect. The error never holds the URL.
    pub(super) fn new(url: &str, budget: Duration, metrics: &Metrics) -> Result<Self, String> {
        if !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("the URL of Redis begins with `redis://` or `rediss://`".to_owned());
        }
        // redis-rs reads `#insecure` as leave to skip the check of the certificate.
        if url.contains('#') {
            return Err("the URL of Redis ends before a `#`; in a password write `%23`".to_owned());
        }
        let info = url.into_connection_info().map_err(|fault| {
            format!(
                "the URL of Redis is not one: {}; in a password `/`, `?`, `@` and `:` are written %xx",
                fault.category()
            )
        })?;
        // Without it the kernel holds back every question that is asked while another is on its way.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let server = match info.addr() {
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
            ConnectionAddr::TcpTls { host, port, .. } => {
                // rustls is built with two providers in this process, so one has to be chosen; the first choice stands.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                format!("{host}:{port}, TLS")
            }
            _ => return Err("the URL of Redis names no host".to_owned()),
        };
        let client =
            Client::open(info).map_err(|fault| format!("the URL of Redis is not one: {}", fault.category()))?;
        let live = ArcSwapOption::empty();
        Ok(Self { client, server, budget, live, lost: Notify::new(), meters: Meters::new(metrics) })
    }

    pub(super) fn is_up(&self) -> bool {
        self.live.load().is_some()
    }

    /// Puts one question, within the budget.
    pub(super) async fn ask<T, F>(&self, question: impl FnOnce(MultiplexedConnection) -> F) -> Result<T, Down>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Some(live) = self.live.load_full() else {
            self.meters.skipped.inc();
            return Err(Down);
        };
        let start = Instant::now();
        let answer = timeout(self.budget, question(live.connection.clone())).await;
        self.meters.duration.observe(start.elapsed().as_secs_f64());
        match answer {
            Ok(Ok(answer)) => {
                self.meters.answered.inc();
                // A read is cheaper than a write to a line that all threads share.
                if live.failures.load(Ordering::Relaxed) > 0 {
                    live.failures.store(0, Ordering::Relaxed);
                }
                Ok(answer)
            }
            Ok(Err(fault)) => {
                self.meters.failed.inc();
                self.failed(&live, || self.spelled(&fault), broken(&fault));
                Err(Down)
            }
            Err(_late) => {
                self.meters.late.inc();
                self.failed(&live, || self.late(), false);
                Err(Down)
            }
        }
    }

    /// Connects, and puts one question as requests will; what is wrong, for the log.
    pub(super) async fn dial<F>(
        &self,
        probe: impl FnOnce(MultiplexedConnection) -> F,
    ) -> Result<MultiplexedConnection, String>
    where
        F: Future<Output = RedisResult<()>>,
    {
        // Times are measured here, so not in the connection too.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection = timeout(CONNECT, self.client.get_multiplexed_async_connection_with_config(&config))
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
            .map_err(|fault| self.spelled(&fault))?;
        match timeout(self.budget, probe(connection.clone())).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(fault)) => Err(self.spelled(&fault)),
            Err(_late) => Err(self.late()),
        }
    }

    /// Requests ask from now on.
    pub(super) fn publish(&self, connection: MultiplexedConnection) {
        self.meters.up.set(1);
        log::info!("Redis at {} answers", self.server);
        self.live.store(Some(Arc::new(Live { connection, failures: AtomicU32::new(0) })));
    }

    /// Until the connection that was published is given up.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    fn failed(&self, live: &Arc<Live>, fault: impl FnOnce() -> String, at_once: bool) {
        let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < FAILURES && !at_once {
            return;
        }
        // Of all that fail at once one gives the connection up, and a late one never the connection that came after it.
        let before = self.live.compare_and_swap(live, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, live)) {
            self.meters.up.set(0);
            log::warn!("Redis at {} is not asked for now: {}", self.server, fault());
            self.lost.notify_one();
        }
    }

    fn late(&self) -> String {
        format!("no answer within {} ms (state.redis.timeout)", self.budget.as_millis())
    }

    /// Redis repeats arguments in some of its errors.
    fn spelled(&self, fault: &RedisError) -> String {
        match self.client.get_connection_info().redis_settings().password() {
            Some(password) if !password.is_empty() => fault.to_string().replace(password, "…"),
            _ => fault.to_string(),
        }
    }
}

/// Nothing more will come on this connection.
fn broken(fault: &RedisError) -> bool {
    fault.is_io_error() || fault.is_unrecoverable_error()
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        let calls = |result| metrics.store_calls.with_label_values(&["redis", result]);
        Self {
            up: metrics.store_up.with_label_values(&["redis"]),
            duration: metrics.store_duration.with_label_values(&["redis"]),
            answered: calls("answered"),
            failed: calls("failed"),
            late: calls("late"),
            skipped: calls("skipped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_none_is_named_without_its_password() {
        let metrics = Metrics::new().unwrap();
        for url in [
            "http://u:hunter2@localhost",
            "redis://u:hunter2@localhost:port",
            "redis://u:hunter2@localhost/zero",
            "rediss://u:hunter2@localhost/#insecure",
            "redis://u:hunter2@",
            "hunter2",
        ] {
            let fault = Link::new(url, CONNECT, &metrics).err().unwrap();
            assert!(fault.contains("the URL of Redis") && !fault.contains("hunter2"), "{url}: {fault}");
        }
        let link = Link::new("redis://u:hunter2@localhost:7000/3", CONNECT, &metrics).unwrap();
        assert_eq!(link.server(), "localhost:7000");
        assert!(!link.is_up());
    }

    #[test]
    fn what_redis_says_is_logged_without_the_password() {
        let link = Link::new("redis://u:hunter%402@localhost", CONNECT, &Metrics::new().unwrap()).unwrap();
        let fault = redis::make_extension_error("ERR".into(), Some("unknown user u hunter@2".into()));
        assert_eq!(link.spelled(&fault).matches("hunter").count(), 0);
    }
}
