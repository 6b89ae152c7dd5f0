//! The connection: one per process, a time budget for each question, and a breaker.
//!
//! Requests never connect and never test whether Redis is back. A task of its own does (`keeper`), and hands over a
//! connection only after Redis has answered on it in time; while there is none a question costs one atomic load. So an outage
//! costs [`FAILURES`] requests their budget, and nothing from then on.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisConnectionInfo, RedisError, RedisResult,
    ServerErrorKind, aio::MultiplexedConnection,
};
use tokio::{sync::Notify, time::timeout};

use super::{address, meters::Meters, road::Road};

/// After so many failures in a row Redis is not asked any more. One is a lost packet.
const FAILURES: u32 = 5;
/// To connect: name, TCP, TLS, password. No request waits for it.
pub(super) const CONNECT: Duration = Duration::from_secs(2);

pub(super) struct Link {
    origin: Origin,
    /// Host and port, for the log.
    server: String,
    /// What no line of the log may hold.
    secrets: Arc<[String]>,
    budget: Duration,
    live: ArcSwapOption<Live>,
    /// Connections so far.
    published: AtomicU64,
    /// Woken when `live` becomes None: once for each connection.
    lost: Notify,
    /// Woken then, too, and when another server has the keys.
    stale: Option<Arc<Notify>>,
    /// Of the key that the probe asks for: one that this server has.
    tag: Mutex<Arc<str>>,
    meters: Arc<Meters>,
}

/// Whom to connect to.
pub(super) enum Origin {
    Server(ConnectionInfo),
    /// Whom the Sentinels name.
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        login: RedisConnectionInfo,
        tls: bool,
    },
}

/// A connection on which Redis answers.
struct Live {
    connection: MultiplexedConnection,
    number: u64,
    /// In a row.
    failures: AtomicU32,
}

/// There was no answer; the breaker knows, and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Down {
    Silent,
    /// Another server has the keys: host and port.
    Moved(String),
    /// They are on their way to it.
    Leaving(String),
}

impl Link {
    /// Does not connect.
    pub(super) fn new(
        origin: Origin,
        server: String,
        (secrets, budget): (Arc<[String]>, Duration),
        stale: Option<Arc<Notify>>,
        meters: Arc<Meters>,
    ) -> Self {
        meters.begin();
        let (live, lost, tag) = (ArcSwapOption::empty(), Notify::new(), Mutex::new("limits".into()));
        let published = AtomicU64::new(0);
        Self { origin, server, secrets, budget, live, published, lost, stale, tag, meters }
    }

    pub(super) fn is_up(&self) -> bool {
        self.live.load().is_some()
    }

    /// The connection, for questions of the background.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        self.live.load().as_ref().map(|live| live.connection.clone())
    }

    /// The same, and its number: who remembers what was seen knows another connection by it.
    pub(super) fn numbered(&self) -> Option<(MultiplexedConnection, u64)> {
        self.live.load().as_ref().map(|live| (live.connection.clone(), live.number))
    }

    pub(super) fn tag(&self) -> Arc<str> {
        self.tag.lock().clone()
    }

    pub(super) fn set_tag(&self, tag: Arc<str>) {
        *self.tag.lock() = tag;
    }

    /// Puts one question, within the budget.
    pub(super) async fn ask<T, F>(&self, question: impl FnOnce(Road) -> F) -> Result<T, Down>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.put(question, Road::new).await
    }

    /// The same about keys that are on their way to this server, as another one has said.
    pub(super) async fn ask_ahead<T, F>(&self, question: impl FnOnce(Road) -> F) -> Result<T, Down>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.put(question, Road::asking).await
    }

    async fn put<T, F>(
        &self,
        question: impl FnOnce(Road) -> F,
        road: fn(MultiplexedConnection) -> Road,
    ) -> Result<T, Down>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Some(live) = self.live.load_full() else {
            self.meters.skipped.inc();
            return Err(Down::Silent);
        };
        let start = Instant::now();
        let answer = timeout(self.budget, question(road(live.connection.clone()))).await;
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
                // The server is well, and has answered in time.
                if let (Some(stale), true) = (&self.stale, redirects(&fault)) {
                    stale.notify_one();
                    return Err(elsewhere(&fault).unwrap_or(Down::Silent));
                }
                self.failed(&live, || self.spelled(&fault), broken(&fault));
                Err(Down::Silent)
            }
            Err(_late) => {
                self.meters.late.inc();
                self.failed(&live, || self.late(), false);
                Err(Down::Silent)
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
        let connection = timeout(CONNECT, self.connect())
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT.as_secs()))?
            .map_err(|fault| self.spelled(&fault))?;
        match timeout(self.budget, probe(connection.clone())).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(fault)) if self.stale.is_none() && fault.kind() == ErrorKind::Server(ServerErrorKind::Moved) => {
                Err(format!("{}; it is a node of a Cluster: write `cluster = true`", self.spelled(&fault)))
            }
            Ok(Err(fault)) => Err(self.spelled(&fault)),
            Err(_late) => Err(self.late()),
        }
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        match &self.origin {
            Origin::Server(server) => connect(server.clone()).await,
            Origin::Sentinel { sentinels, master, login, tls } => {
                let mut found = Err(RedisError::from((ErrorKind::EmptySentinelList, "no Sentinel has answered")));
                // One that hangs must not use up the time of the others.
                let patience = CONNECT / (sentinels.len() as u32 + 1);
                for sentinel in sentinels {
                    match timeout(patience, ask_sentinel(sentinel, master)).await {
                        Ok(Ok((host, port))) => {
                            found = Ok(address::at(login.clone(), *tls, &host, port)?);
                            break;
                        }
                        Ok(Err(fault)) => found = Err(fault),
                        Err(_late) => {}
                    }
                }
                // A server that has just become a replica refuses the probe, which writes.
                connect(found?).await
            }
        }
    }

    /// Requests ask from now on.
    pub(super) fn publish(&self, connection: MultiplexedConnection) {
        log::info!("Redis at {} answers", self.server);
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        self.live.store(Some(Arc::new(Live { connection, number, failures: AtomicU32::new(0) })));
        self.meters.came();
    }

    /// Until the connection that was published is given up.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Host and port, for the log.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Of a question of the background, which may be the first to hear that keys have moved.
    pub(super) fn heard(&self, fault: &RedisError) {
        if let (Some(stale), true) = (&self.stale, redirects(fault)) {
            stale.notify_one();
        }
    }

    fn failed(&self, live: &Arc<Live>, fault: impl FnOnce() -> String, at_once: bool) {
        let failures = live.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < FAILURES && !at_once {
            return;
        }
        // Of all that fail at once one gives the connection up, and a late one never the connection that came after it.
        let before = self.live.compare_and_swap(live, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, live)) {
            self.meters.went();
            log::warn!("Redis at {} is not asked for now: {}", self.server, fault());
            self.lost.notify_one();
            if let Some(stale) = &self.stale {
                stale.notify_one();
            }
        }
    }

    fn late(&self) -> String {
        format!("no answer within {} ms (state.redis.timeout)", self.budget.as_millis())
    }

    /// Redis repeats arguments in some of its errors.
    pub(super) fn spelled(&self, fault: &RedisError) -> String {
        self.secrets.iter().fold(fault.to_string(), |text, secret| text.replace(secret.as_str(), "…"))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.meters.end(self.is_up());
    }
}

/// Times are measured by who asks, so not in the connection too.
pub(super) async fn connect(server: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    Client::open(server)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Host and port of the server that is the master now.
async fn ask_sentinel(sentinel: &ConnectionInfo, master: &str) -> RedisResult<(String, u16)> {
    let mut connection = connect(sentinel.clone()).await?;
    let mut question = redis::cmd("SENTINEL");
    let found: Option<(String, u16)> =
        question.arg("get-master-addr-by-name").arg(master).query_async(&mut connection).await?;
    found
        .ok_or_else(|| RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "the Sentinels know no such master")))
}

/// Nothing more will come on this connection, or nothing but refusals: who was the master is a replica.
fn broken(fault: &RedisError) -> bool {
    let replica = fault.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
    // Redis 6 says it within the error of a script.
    fault.is_io_error() || fault.is_unrecoverable_error() || replica || fault.to_string().contains("READONLY")
}

/// Where the keys are instead, or will be.
fn elsewhere(fault: &RedisError) -> Option<Down> {
    let (node, _) = fault.redirect_node()?;
    match fault.kind() {
        ErrorKind::Server(ServerErrorKind::Moved) => Some(Down::Moved(node.to_owned())),
        ErrorKind::Server(ServerErrorKind::Ask) => Some(Down::Leaving(node.to_owned())),
        _ => None,
    }
}

/// The keys are elsewhere, or on their way.
fn redirects(fault: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    matches!(fault.kind(), ErrorKind::Server(Moved | Ask | TryAgain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_logged_without_the_password() {
        let info = redis::IntoConnectionInfo::into_connection_info("redis://localhost").unwrap();
        let meters = Arc::new(Meters::new(&gapura_filters::metrics::Metrics::new().unwrap()));
        let secrets = Arc::from(["hunter@2".to_owned()]);
        let link = Link::new(Origin::Server(info), String::new(), (secrets, CONNECT), None, meters);
        let fault = redis::make_extension_error("ERR".into(), Some("unknown user u hunter@2".into()));
        assert_eq!(link.spelled(&fault).matches("hunter").count(), 0);
        assert!(!link.is_up());
    }
}
