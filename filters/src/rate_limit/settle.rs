//! Costs that the response tells: `cost = { header = "X-Cost", max = 100 }`.
//!
//! Such a rule reserves its largest cost when the request comes, and what the response does not use of it is given back. To
//! charge the difference afterwards instead would admit requests that have no room: as many as come at once, each of them beyond
//! the limit by all but its default. Where no response comes at all (the client has left, and what the upstream did is not known)
//! the reservation stays.

use gapura_config::model::LimitCost;
use http::{HeaderName, request};

use super::{
    RateLimits,
    charges::{Place, Receipts},
    memory::Fingerprint,
    store::CounterStore,
};
use crate::contract::{Exchange, HeaderEdit};

/// Where a response tells its cost.
pub(super) struct Told {
    pub(super) header: HeaderName,
    pub(super) default: u64,
    max: u64,
}

/// A reservation that a response has not settled yet.
#[derive(Debug)]
pub(super) struct Reservation {
    rule: usize,
    at: u64,
    /// In memory, and the instant there.
    here: Option<(Fingerprint, u64)>,
    /// In the shared store, under this key.
    shared: Option<Vec<u8>>,
    /// What the response has told.
    spent: Option<u64>,
}

impl Told {
    pub(super) fn new(cost: &LimitCost) -> Option<Self> {
        match cost {
            LimitCost::Fixed(_) => None,
            // Its form was checked with the file.
            LimitCost::Told(told) => {
                Some(Self { header: told.header.parse().ok()?, default: told.default, max: told.max })
            }
        }
    }

    /// A whole number, up to the largest cost; anything else, and several of them, tell nothing.
    fn read(&self, headers: &impl HeaderEdit) -> u64 {
        let text = headers.only(&self.header).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.default;
        }
        text.parse().map_or(self.max, |cost: u64| cost.min(self.max))
    }
}

impl RateLimits {
    /// Remembers what was reserved.
    pub(super) fn reserve(&self, receipts: &Receipts, head: &request::Parts, exchange: &mut Exchange) {
        for receipt in receipts.iter() {
            let rule = &self.rules[receipt.rule];
            if rule.told.is_none() {
                continue;
            }
            let is_shared = matches!(receipt.place, Place::Shared { .. });
            let shared = is_shared.then(|| rule.key(&self.route, head, exchange));
            let (rule, at, here) = (receipt.rule, receipt.at, receipt.in_memory());
            let reservation = Reservation { rule, at, here, shared, spent: None };
            exchange.charges.reservations.push(reservation);
        }
    }

    /// Reads the costs, of all stages, from the head of the response; and hides the headers from the client.
    pub(super) fn read_costs(&self, headers: &mut impl HeaderEdit, exchange: &mut Exchange) {
        let Exchange { charges, principal, .. } = exchange;
        for reservation in charges.reservations.iter_mut().filter(|reservation| reservation.spent.is_none()) {
            let rule = &self.rules[reservation.rule];
            let Some(told) = &rule.told else { continue };
            // A refusal tells nothing, and is not for nothing: whoever guesses credentials uses up the limit by address.
            let spent = if exchange.refused { told.default.max(1) } else { told.read(headers) };
            reservation.spent = Some(spent);
            let unused = rule.cost - spent;
            if let Some((counter, at)) = reservation.here {
                let quota = &rule.terms(principal.as_deref()).quota;
                rule.bank.refund(counter, quota, (at, unused));
            }
            if let Some(report) = charges.tightest.as_mut().filter(|report| report.rule == reservation.rule) {
                report.remaining += unused;
            }
        }
        for told in self.rules[self.mine.clone()].iter().filter_map(|rule| rule.told.as_ref()) {
            headers.unset(&told.header);
        }
    }

    /// Gives back to the shared store what responses did not use. What is in memory has been given back.
    pub(super) async fn settle(&self, exchange: &mut Exchange) {
        let CounterStore::Shared { shared, .. } = &self.counters else { return };
        let reservations = std::mem::take(&mut exchange.charges.reservations);
        let mut unused = Vec::new();
        for Reservation { rule, at, shared, spent, .. } in &reservations {
            let rule = &self.rules[*rule];
            if let (Some(key), Some(spent)) = (shared, *spent)
                && spent < rule.cost
            {
                unused.push((rule.demand(key, exchange.principal.as_deref()).costing(rule.cost - spent), *at));
            }
        }
        if !unused.is_empty() {
            shared.refund(exchange.now, &unused).await;
        }
    }
}
