//! One rule on one route, compiled: its numbers, its counters, its fields.

use std::{hash::Hasher, sync::Arc};

use gapura_config::model::{self, LimitAlgorithm, LimitBy, LimitMode, OnOutage};
use http::{HeaderValue, Method, request};
use prometheus::IntCounter;
use siphasher::sip128::SipHasher13;

use super::{
    algorithm::{Quota, Verdict},
    charges::Report,
    key::{self, Owner},
    memory::{self, Bank, Charged, Fingerprint, MemoryCounters},
    overrides::{Overrides, Terms},
    settle::Told,
    store::{CounterStore, Demand},
};
use crate::{
    contract::{Exchange, Principal, Stage},
    metrics::Metrics,
};

pub(super) struct Rule {
    pub(super) name: Arc<str>,
    /// Of whoever has none of his own.
    pub(super) terms: Terms,
    pub(super) overrides: Overrides,
    /// Of a request, up to what may come at once. Where the response tells, the most that it may tell.
    pub(super) cost: u64,
    pub(super) told: Option<Told>,
    pub(super) by: LimitBy,
    /// Empty: all.
    pub(super) methods: Box<[Method]>,
    /// It only counts: `mode = "observe"`.
    pub(super) observes: bool,
    /// What it does while the shared store gives no answer.
    pub(super) on_outage: OnOutage,
    pub(super) bank: Arc<Bank>,
    /// Of the bank's keys, before the first byte of one.
    hasher: SipHasher13,
    /// `"general"`
    quoted: String,
    /// For the log.
    pub(super) reason: String,
    allowed: IntCounter,
    /// Of a rule that only observes: those it would have refused.
    refused: IntCounter,
    overflow: IntCounter,
}

impl Rule {
    pub(super) fn build(
        name: &str,
        rule: &model::RateLimit,
        counters: &CounterStore,
        metrics: &Metrics,
    ) -> Result<Self, (String, String)> {
        let terms = Terms::new(name, rule).map_err(|(key, fault)| (format!("rate_limits.{name}.{key}"), fault))?;
        let observes = rule.mode == LimitMode::Observe;
        let refused = if observes { "would_refuse" } else { "refused" };
        let Metrics { rate_limit_decisions, rate_limit_overflow, .. } = metrics;
        let bank = counters.memory().bank(name, &terms.quota);
        Ok(Self {
            name: name.into(),
            hasher: counters.memory().hasher(&bank),
            bank,
            terms,
            overrides: Overrides::default(),
            cost: rule.cost.most(),
            told: Told::new(&rule.cost),
            by: rule.by.clone(),
            // Their form was checked with the file.
            methods: rule.methods.iter().filter_map(|method| method.parse().ok()).collect(),
            observes,
            quoted: quoted(name),
            reason: format!("rate limit {name}"),
            on_outage: rule.on_outage.unwrap_or(counters.on_outage()),
            allowed: rate_limit_decisions.with_label_values(&[name, "allowed"]),
            refused: rate_limit_decisions.with_label_values(&[name, refused]),
            overflow: rate_limit_overflow.with_label_values(&[name]),
        })
    }

    /// With the limits that API keys have of their own.
    pub(super) fn with(mut self, overrides: Overrides, counters: &CounterStore) -> Self {
        for quota in overrides.quotas() {
            // The same counters, laid out so that they hold the larger limit too.
            self.bank = counters.memory().bank(&self.name, quota);
        }
        self.hasher = counters.memory().hasher(&self.bank);
        self.overrides = overrides;
        self
    }

    /// For this caller.
    pub(super) fn terms(&self, principal: Option<&Principal>) -> &Terms {
        self.overrides.of(principal, |quota| self.bank.widen(quota)).unwrap_or(&self.terms)
    }

    pub(super) fn stage(&self) -> Stage {
        key::stage(&self.by)
    }

    /// GET includes HEAD, as for routes: else HEAD would be a way around the limit.
    pub(super) fn concerns(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || method == Method::HEAD && self.methods.contains(&Method::GET)
    }

    /// Asks the counter in memory, and charges it where it agrees and `commit` is set.
    pub(super) fn decide(
        &self,
        counters: &MemoryCounters,
        (route, head, exchange): (&str, &request::Parts, &Exchange),
        (now, commit): (u64, bool),
    ) -> Charged {
        let key = self.fingerprint(route, head, exchange);
        let networks = || self.networks(exchange);
        let quota = &self.terms(exchange.principal.as_deref()).quota;
        let charged = self.bank.decide(counters, (key, networks), quota, (now, self.cost, commit));
        if charged.overflowed() {
            self.overflow.inc();
        }
        charged
    }

    pub(super) fn count(&self, verdict: &Verdict) {
        if verdict.allowed { self.allowed.inc() } else { self.refused.inc() }
    }

    /// The key in full, for a store that other instances read too.
    pub(super) fn key(&self, route: &str, head: &request::Parts, exchange: &Exchange) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32);
        key::write(&self.by, route, head, exchange, |piece| bytes.extend_from_slice(piece));
        bytes
    }

    pub(super) fn demand<'a>(&'a self, key: &'a [u8], principal: Option<&Principal>) -> Demand<'a> {
        let quota = &self.terms(principal).quota;
        Demand { rule: &self.name, quota, key, cost: self.cost, binding: !self.observes }
    }

    /// What the counter in memory holds after this charge. That of a network is not of this key alone.
    pub(super) fn used(&self, charged: &Charged, principal: Option<&Principal>) -> u64 {
        let quota = &self.terms(principal).quota;
        let most = if quota.algorithm == LimitAlgorithm::Gcra { quota.burst } else { quota.limit };
        most.saturating_sub(charged.decision.verdict.remaining)
    }

    /// `"general";r=42;t=13`
    pub(super) fn state_field(&self, report: &Report) -> Option<HeaderValue> {
        let (mut remaining, mut seconds) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (remaining, seconds) = (remaining.format(report.remaining), seconds.format(report.seconds));
        let parts = [&self.quoted, ";r=", remaining, ";t=", seconds];
        // To the byte: what has room to spare is shared by one allocation more.
        let mut value = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| value.extend_from_slice(part.as_bytes()));
        HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
    }

    fn fingerprint(&self, route: &str, head: &request::Parts, exchange: &Exchange) -> Fingerprint {
        let mut hasher = self.hasher;
        match key::write(&self.by, route, head, exchange, |piece| hasher.write(piece)) {
            Owner::Client => memory::key(&hasher),
            Owner::Rule => memory::fixed(&hasher),
        }
    }

    /// The counter of the client's network, and the one for networks beyond the bound on their number.
    fn networks(&self, exchange: &Exchange) -> [Fingerprint; 2] {
        let (network, bytes) = key::network(exchange.client_ip);
        let mut hasher = self.hasher;
        let rest = memory::fixed(&hasher);
        hasher.write(&network[..bytes]);
        [memory::network(&hasher), rest]
    }
}

/// `"general";q=100;w=60`
pub(super) fn policy_field(name: &str, quota: &Quota) -> Option<HeaderValue> {
    let seconds = quota.window.as_nanos().div_ceil(1_000_000_000).max(1);
    HeaderValue::from_str(&format!("{};q={};w={seconds}", quoted(name), quota.limit)).ok()
}

/// RFC 9651, section 3.3.3: a string of visible ASCII. TOML allows any text for a name.
fn quoted(name: &str) -> String {
    let mut text = String::from('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}
