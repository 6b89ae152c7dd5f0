//! `[state.redis]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{secret::SecretRef, units::Period};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://` or `rediss://`, with user and password where there is one. Of a Cluster some of its nodes, of Sentinel the
    /// Sentinels, by commas: `redis://user:password@a:6379,b:6379`.
    pub url: SecretRef,
    /// The nodes of `url` are those of a Redis Cluster.
    #[serde(default)]
    pub cluster: bool,
    /// The nodes of `url` are Sentinels, which know the server.
    pub sentinel: Option<Sentinel>,
    /// What a decision is while Redis cannot be reached.
    #[serde(default)]
    pub on_outage: OnOutage,
    /// The longest a request waits for Redis.
    #[serde(default = "budget")]
    pub timeout: Period,
    /// `sync` asks Redis for each request, `adaptive` only near a limit.
    #[serde(default)]
    pub mode: RedisMode,
    /// `adaptive` only: how many instances there are at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub instances: Option<u64>,
}

/// How the server is reached that the Sentinels name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The name under which the Sentinels watch the server.
    pub master: String,
    /// The user at the server; the one of `url` is that at the Sentinels.
    pub username: Option<String>,
    /// The password at the server.
    pub password: Option<SecretRef>,
    /// The server speaks TLS. Default: as the Sentinels, by the scheme of `url`.
    pub tls: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnOutage {
    /// Each instance decides by what it has let pass itself.
    #[default]
    Local,
    /// Everything passes.
    Open,
    /// Everything is refused: 503. So are tokens, which other instances may have revoked.
    Closed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RedisMode {
    /// Each decision is one of Redis.
    #[default]
    Sync,
    /// Far from its limit a counter decides here, and tells Redis afterwards.
    Adaptive,
}

fn budget() -> Period {
    Period(std::time::Duration::from_millis(20))
}

impl Redis {
    /// One server, and the defaults for everything else.
    pub fn new(url: SecretRef) -> Self {
        Self {
            url,
            cluster: false,
            sentinel: None,
            on_outage: OnOutage::default(),
            timeout: budget(),
            mode: RedisMode::default(),
            instances: None,
        }
    }
}
