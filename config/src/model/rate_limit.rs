//! `[rate_limits.NAME]`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{OnOutage, is_token};
use crate::units::{Period, written_as_string};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Requests in any one window; with a `cost`, their costs together.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: u64,
    /// Any stretch of time of this length. From 100ms to 31d.
    pub window: Period,
    /// Whose requests are counted together: `client_ip`, `user`, `api_key`, `route`, `global` or `header:NAME`; or a list of
    /// them, for each combination of their values.
    pub by: LimitBy,
    /// How requests are counted: `sliding_window`, `sliding_log` or `gcra`.
    #[serde(default)]
    pub algorithm: LimitAlgorithm,
    /// `gcra` only: how many may come at once. Default: `limit`.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<u64>,
    /// Only requests with these methods are asked and charged. Absent: all. GET includes HEAD.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "format": "method" }))]
    pub methods: Vec<String>,
    /// What a request counts for: a number, or where the response tells it, `{ header = "X-Cost", max = 100 }`.
    #[serde(default)]
    pub cost: LimitCost,
    /// After a refusal the key stays refused for this long. From 1s to 1h.
    pub penalty: Option<Period>,
    /// `observe` counts what would have been refused, and refuses nothing.
    #[serde(default)]
    pub mode: LimitMode,
    /// What a decision is while Redis cannot be reached: `local`, `open` or `closed`. Default: that of `state.redis`.
    pub on_outage: Option<OnOutage>,
}

/// One key, or several: then each combination of their values is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LimitBy {
    One(LimitKey),
    Each(#[schemars(length(min = 1))] Vec<LimitKey>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitKey {
    ClientIp,
    User,
    ApiKey,
    Route,
    Global,
    /// Lower case.
    Header(String),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitAlgorithm {
    /// Slices of the window: never more than `limit` in any window, in little memory.
    #[default]
    SlidingWindow,
    /// The instants of the last `limit` requests: exact.
    SlidingLog,
    /// A steady rate, and `burst` at once.
    Gcra,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LimitCost {
    Fixed(#[schemars(range(min = 1, max = 1_000_000_000))] u64),
    Told(ToldCost),
}

/// A cost that the upstream tells in a header of its response.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldCost {
    /// The header, a whole number. It is removed from the response.
    #[schemars(extend("format" = "header-name"))]
    pub header: String,
    /// What a response without it costs.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub default: u64,
    /// The most that a request can cost. So much is reserved until its response tells.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max: u64,
}

fn one() -> u64 {
    1
}

impl Default for LimitCost {
    fn default() -> Self {
        Self::Fixed(1)
    }
}

impl LimitCost {
    /// The most that one request costs.
    pub fn most(&self) -> u64 {
        match self {
            Self::Fixed(cost) => *cost,
            Self::Told(told) => told.max,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitMode {
    /// What is over the limit is refused.
    #[default]
    Enforce,
    /// It is only counted.
    Observe,
}

impl RateLimit {
    /// The most instants a `sliding_log` keeps per key, 16 KiB of them: above it one client could fill memory with its own log.
    pub const MAX_LOG: u64 = 4096;

    /// The most that may come at once: a request that costs more never passes.
    pub fn at_once(&self) -> u64 {
        match self.algorithm {
            LimitAlgorithm::Gcra => self.burst.unwrap_or(self.limit),
            LimitAlgorithm::SlidingWindow | LimitAlgorithm::SlidingLog => self.limit,
        }
    }

    /// Whether one key may have this limit in place of the rule's, which is `[rate_limits.NAME]`. Else why not, and what to do about it.
    pub fn takes_of_a_key(&self, name: &str, limit: u64) -> Result<(), (String, String)> {
        if !self.by.keys().contains(&LimitKey::ApiKey) {
            let message = format!("`{name}` does not count by API key: no limit of it can be of one key");
            return Err((message, format!("write `by = \"api_key\"` in `[rate_limits.{name}]`, or remove this")));
        }
        if self.algorithm == LimitAlgorithm::SlidingLog && limit > Self::MAX_LOG {
            let message = format!("a sliding log of {limit} requests takes {} KiB for each key", limit * 4 / 1024);
            return Err((message, format!("write at most {}", Self::MAX_LOG)));
        }
        if self.cost.most() > (Self { limit, ..self.clone() }).at_once() {
            let message = format!("a request may cost {} and would never pass", self.cost.most());
            return Err((message, "write at least that, or lower the `cost` of the rule".into()));
        }
        Ok(())
    }

    /// A rule with the defaults for everything else.
    pub fn new(limit: u64, window: Period, by: impl Into<LimitBy>) -> Self {
        Self {
            limit,
            window,
            by: by.into(),
            algorithm: LimitAlgorithm::default(),
            burst: None,
            methods: Vec::new(),
            cost: LimitCost::default(),
            penalty: None,
            mode: LimitMode::default(),
            on_outage: None,
        }
    }
}

impl LimitBy {
    /// The parts, in the order of the file.
    pub fn keys(&self) -> &[LimitKey] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Each(keys) => keys,
        }
    }
}

impl From<LimitKey> for LimitBy {
    fn from(key: LimitKey) -> Self {
        Self::One(key)
    }
}

impl FromStr for LimitKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "client_ip" => Self::ClientIp,
            "user" => Self::User,
            "api_key" => Self::ApiKey,
            "route" => Self::Route,
            "global" => Self::Global,
            _ => match text.strip_prefix("header:") {
                Some(name) if is_token(name) => Self::Header(name.to_ascii_lowercase()),
                _ => return Err(unknown(text)),
            },
        })
    }
}

/// What is no key; a list of keys in one text is most often meant as a list.
fn unknown(text: &str) -> String {
    let parts: Vec<&str> = text.split([',', '+', ' ']).map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts.iter().all(|part| part.parse::<LimitKey>().is_ok()) {
        let list = parts.iter().map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(", ");
        return format!("`{text}` is no key to count by; write a list for each combination of values: [{list}]");
    }
    format!(
        "`{text}` is no key to count by; write \"client_ip\", \"user\", \"api_key\", \"route\", \"global\" or \"header:NAME\""
    )
}

/// As the file writes it.
impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::User => f.write_str("user"),
            Self::ApiKey => f.write_str("api_key"),
            Self::Route => f.write_str("route"),
            Self::Global => f.write_str("global"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// `route + user`
impl fmt::Display for LimitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.keys().iter().enumerate() {
            write!(f, "{}{key}", if index == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}

written_as_string! {
    LimitKey => "rate-limit-key", "client_ip, user, api_key, route, global or header:NAME";
}
