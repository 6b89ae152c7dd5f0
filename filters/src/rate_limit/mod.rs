//! Rate limits with a printed guarantee.
//!
//! A route's rules by address, header, route or all stand before authentication, those by user or API key after it; each of
//! the two stages is one [`RateLimits`]. Rules are all or nothing: a request that one refuses is charged to none.
//!
//! **Reserve, then roll back.** Rules are asked in turn, and each that agrees is charged under the same lock at once. At the
//! first refusal what was charged is given back, the charges of the earlier stage too, and the remaining rules are only asked,
//! for `Retry-After`. So no rule ever counts less than it has admitted, whatever runs beside it; the price is that a request
//! may be refused because of a unit which another one, refused by a later rule, holds for those nanoseconds (across the
//! stages: while it is authenticated).
//!
//! A rule that only observes is charged as if it enforced: where it agrees and the request passes all that do enforce. Observing
//! rules do not see each other.
//!
//! A request that authentication refuses stays charged: whoever guesses credentials uses up the limit by address.

mod algorithm;
mod charges;
mod explain;
mod grown;
mod key;
mod memory;
mod overrides;
mod rule;
mod settle;
mod shared;
mod store;

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::model;
use http::{HeaderName, HeaderValue, header::RETRY_AFTER, request};

use self::{
    algorithm::nanos,
    charges::{Place, Receipt, Receipts, Report},
    overrides::Overrides,
    rule::Rule,
};
pub use self::{
    algorithm::{Quota, Verdict},
    charges::Charges,
    memory::{Amount, MemoryCounters, Restored, SNAPSHOT_MAGIC, Unusable},
    store::{Counted, CounterStore, Demand, Pending, SharedCounters},
};
use crate::{
    contract::{Code, Exchange, Filter, HeaderEdit, Refusal, Services, Stage},
    metrics::Metrics,
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// All rules of one stage of one route.
pub struct RateLimits {
    stage: Stage,
    route: Arc<str>,
    /// Of the whole route: those of the earlier stage first, for their refund.
    rules: Box<[Rule]>,
    mine: Range<usize>,
    /// The response tells the cost for one of the rules.
    told: bool,
    counters: CounterStore,
}

/// What the rules of a stage said together.
#[derive(Default)]
struct Tally {
    refused: Option<Report>,
    tightest: Option<Report>,
    receipts: Receipts,
}

impl RateLimits {
    /// The rules of `stage` among those that a route names; None where there is none. Give it all rules of the route, in their
    /// order, in both stages. A fault is the path of the key that is wrong, and what to write instead.
    pub fn build(
        route: &str,
        rules: &[(&str, &model::RateLimit)],
        stage: Stage,
        services: &Services,
    ) -> Result<Option<Self>, Vec<(String, String)>> {
        Self::over(route, rules, stage, &services.counters, &services.metrics)
    }

    /// [`Self::build`], of all services those that it needs.
    pub fn over(
        route: &str,
        rules: &[(&str, &model::RateLimit)],
        stage: Stage,
        counters: &CounterStore,
        metrics: &Metrics,
    ) -> Result<Option<Self>, Vec<(String, String)>> {
        let (mut built, mut faults) = (Vec::<Rule>::new(), Vec::new());
        for (name, rule) in rules {
            match Rule::build(name, rule, counters, metrics) {
                // Named twice it is still one rule.
                Ok(rule) if built.iter().any(|other| other.name == rule.name) => {}
                Ok(rule) => built.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        built.sort_by_key(Rule::stage);
        let first = built.partition_point(|rule| rule.stage() < stage);
        let mine = first..built.partition_point(|rule| rule.stage() <= stage);
        if mine.is_empty() {
            return Ok(None);
        }
        let told = built.iter().any(|rule| rule.told.is_some());
        Ok(Some(Self { stage, route: route.into(), rules: built.into(), mine, told, counters: counters.clone() }))
    }

    /// With the limits that the records of API keys have in place of the rules' own. Faults as in [`Self::build`].
    pub fn with_keys(
        mut self,
        rules: &[(&str, &model::RateLimit)],
        api_keys: &model::Named<model::ApiKeys>,
    ) -> Result<Self, Vec<(String, String)>> {
        let (mut built, mut faults) = (Vec::new(), Vec::new());
        for rule in std::mem::take(&mut self.rules) {
            let Some((name, written)) = rules.iter().find(|(name, _)| **name == *rule.name) else { continue };
            match Overrides::build(name, written, api_keys) {
                Ok(overrides) => built.push(rule.with(overrides, &self.counters)),
                Err(found) => faults.extend(found),
            }
        }
        self.rules = built.into();
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// The rules of this stage that count such requests.
    fn concerned(&self, head: &request::Parts) -> impl Iterator<Item = usize> {
        self.mine.clone().filter(|&index| self.rules[index].concerns(&head.method))
    }

    /// These rules are asked in memory. Charges as long as none refuses.
    fn charge_memory(
        &self,
        counters: &MemoryCounters,
        rules: impl Iterator<Item = usize>,
        (head, exchange): (&request::Parts, &Exchange),
        tally: &mut Tally,
    ) {
        let now = nanos(exchange.now.monotonic);
        for index in rules {
            let rule = &self.rules[index];
            let commit = tally.refused.is_none();
            let charged = rule.decide(counters, (&self.route, head, exchange), (now, commit));
            let at = charged.decision.at;
            tally.add(index, rule, &charged.decision.verdict);
            if commit && charged.decision.verdict.allowed {
                tally.receipts.push(Receipt { rule: index, at, place: Place::Memory(charged.counter) });
            }
        }
    }

    /// Gives back charges in memory.
    fn refund_memory(&self, receipts: &Receipts, exchange: &Exchange) {
        for receipt in receipts.iter() {
            let Some(rule) = self.rules.get(receipt.rule) else { continue };
            if let Some((counter, at)) = receipt.in_memory() {
                rule.bank.refund(counter, &rule.terms(exchange.principal.as_deref()).quota, (at, rule.cost));
            }
        }
    }

    fn refusal(&self, report: &Report, exchange: &Exchange) -> Refusal {
        let rule = &self.rules[report.rule];
        let refusal = Refusal::new(Code::RateLimited, "The limit of requests is reached; try again later.")
            .reason(rule.reason.clone())
            .header(RETRY_AFTER, digits(report.seconds))
            .header(RATE_LIMIT_POLICY, rule.terms(exchange.principal.as_deref()).policy.clone());
        match rule.state_field(report) {
            Some(state) => refusal.header(RATE_LIMIT, state),
            None => refusal,
        }
    }
}

impl Filter for RateLimits {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn explain(&self) -> Vec<String> {
        self.rules[self.mine.clone()].iter().flat_map(Rule::explain).collect()
    }

    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        let mut tally = Tally { tightest: exchange.charges.tightest, ..Tally::default() };
        match &self.counters {
            CounterStore::Memory(memory) => {
                self.charge_memory(memory, self.concerned(head), (head, exchange), &mut tally);
            }
            CounterStore::Shared { shared, local, .. } => {
                if let Err(refusal) = self.charge_shared((&**shared, local), head, exchange, &mut tally).await {
                    let earlier = std::mem::take(&mut exchange.charges.receipts);
                    self.refund(&**shared, &earlier, head, exchange).await;
                    return Err(refusal);
                }
            }
        }
        let Some(report) = tally.refused else {
            exchange.charges.tightest = tally.tightest;
            if self.told {
                self.reserve(&tally.receipts, head, exchange);
            }
            // Nothing after the last rule of a route asks for them.
            if self.mine.end < self.rules.len() {
                exchange.charges.receipts = tally.receipts;
            }
            return Ok(());
        };
        let earlier = std::mem::take(&mut exchange.charges.receipts);
        exchange.charges.reservations.clear();
        for receipts in [&tally.receipts, &earlier] {
            match &self.counters {
                CounterStore::Memory(_) => self.refund_memory(receipts, exchange),
                CounterStore::Shared { shared, .. } => self.refund(&**shared, receipts, head, exchange).await,
            }
        }
        exchange.charges.refused = true;
        Err(self.refusal(&report, exchange))
    }

    /// The tightest rule. An upstream's own fields give way: they speak of a limit that the client does not meet first.
    fn on_response_headers<H: HeaderEdit>(&self, headers: &mut H, exchange: &mut Exchange) {
        if self.told {
            self.read_costs(headers, exchange);
        }
        let Charges { tightest: Some(report), refused: false, .. } = &exchange.charges else { return };
        // The filter whose rule it is writes it, so that two stages do not write twice.
        if !self.mine.contains(&report.rule) {
            return;
        }
        let rule = &self.rules[report.rule];
        headers.set(&RATE_LIMIT_POLICY, rule.terms(exchange.principal.as_deref()).policy.clone());
        if let Some(state) = rule.state_field(report) {
            headers.set(&RATE_LIMIT, state);
        }
    }

    async fn on_complete(&self, exchange: &mut Exchange) {
        if self.told {
            self.settle(exchange).await;
        }
    }
}

impl Tally {
    fn add(&mut self, index: usize, rule: &Rule, verdict: &Verdict) {
        rule.count(verdict);
        if rule.observes {
            return;
        }
        let seconds = seconds(verdict.wait);
        let report = Report { rule: index, remaining: verdict.remaining, seconds };
        if verdict.allowed {
            self.tightest = Some(report.tighter(self.tightest));
        } else {
            // `Retry-After: 0` invites the request that was just refused.
            self.refused = Some(Report { seconds: seconds.max(1), ..report }.longer(self.refused));
        }
    }
}

/// One allocation, where `HeaderValue::from` takes two.
fn digits(number: u64) -> HeaderValue {
    let digits = Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes());
    HeaderValue::from_maybe_shared(digits).unwrap_or_else(|_| HeaderValue::from(number))
}

/// Rounded up.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
