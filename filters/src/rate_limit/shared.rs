//! Rules whose counts a shared store holds.
//!
//! **Counted beside.** With `on_outage = "local"` every request is charged in this instance's memory too, before the store is asked,
//! and given back where the store refuses. So whatever the store does (it hiccups, dies, comes back empty) one instance never
//! lets more than the limit pass in a window: a request without an answer is decided by what this instance has let pass itself. What this
//! instance alone has used up is refused without a question.
//!
//! The exception is a key that shares a counter with its network, for want of room: what others have charged there keeps it from nothing
//! that the store grants.

use gapura_config::model::OnOutage;
use http::request;

use super::{
    RateLimits, Tally,
    algorithm::nanos,
    charges::{Place, Receipt, Receipts},
    memory::{Charged, MemoryCounters},
    store::{Counted, Demand, SharedCounters},
};
use crate::contract::{Code, Exchange, Refusal};

/// A rule that is asked.
struct Asked {
    rule: usize,
    key: Vec<u8>,
    /// What the counter in memory said, where there is one.
    here: Option<Charged>,
}

impl Asked {
    /// In memory, for as long as the request is not refused.
    fn beside(&self) -> Option<(super::memory::Fingerprint, u64)> {
        let here = self.here.filter(|here| here.decision.verdict.allowed)?;
        Some((here.counter, here.decision.at))
    }

    /// This instance has let the limit pass itself.
    fn is_used_up(&self) -> bool {
        self.here.is_some_and(|here| !here.decision.verdict.allowed && !here.overflowed())
    }
}

impl RateLimits {
    /// Every rule is asked in one call to the store, and those that it does not answer as the operator wants it in an outage.
    pub(super) async fn charge_shared(
        &self,
        (shared, local): (&dyn SharedCounters, &MemoryCounters),
        head: &request::Parts,
        exchange: &Exchange,
        tally: &mut Tally,
    ) -> Result<(), Refusal> {
        let mut asked: Vec<Asked> = Vec::new();
        let (mut used_up, now) = (false, nanos(exchange.now.monotonic));
        for index in self.concerned(head) {
            let rule = &self.rules[index];
            let decide = || rule.decide(local, (&self.route, head, exchange), (now, !used_up));
            let here = (rule.on_outage == OnOutage::Local).then(decide);
            let one = Asked { rule: index, key: rule.key(&self.route, head, exchange), here };
            used_up |= one.is_used_up() && !rule.observes;
            asked.push(one);
        }
        if asked.is_empty() {
            return Ok(());
        }
        if used_up {
            self.refuse_here(&asked, exchange, tally);
            return Ok(());
        }
        let principal = exchange.principal.as_deref();
        let demands: Vec<_> = asked.iter().map(|one| self.rules[one.rule].demand(&one.key, principal)).collect();
        let answers = shared.charge(exchange.now, &demands).await;

        let refuses = |(demand, answer): (&Demand<'_>, &Option<Counted>)| {
            demand.binding && answer.is_some_and(|counted| !counted.verdict.allowed)
        };
        // Then the store has charged nothing.
        let refused = demands.iter().zip(&answers).any(refuses);
        let closes = |(one, answer): (&Asked, &Option<Counted>)| {
            let rule = &self.rules[one.rule];
            answer.is_none() && rule.on_outage == OnOutage::Closed && !rule.observes
        };
        let closed = asked.iter().zip(&answers).any(closes);
        for (one, answer) in asked.iter().zip(&answers) {
            self.conclude(one, *answer, exchange, tally);
        }
        if refused {
            let receipts = std::mem::take(&mut tally.receipts);
            self.refund_memory(&receipts, exchange);
        } else if closed {
            let receipts = std::mem::take(&mut tally.receipts);
            self.refund(shared, &receipts, head, exchange).await;
            return Err(Refusal::new(Code::Overloaded, "Requests cannot be counted at the moment.")
                .reason("the shared counters cannot be reached, and on_outage is \"closed\""));
        } else if tally.refused.is_none() {
            for ((one, demand), _) in asked.iter().zip(&demands).zip(&answers).filter(|(_, answer)| answer.is_none()) {
                if let Some(here) = one.here.filter(|here| here.decision.verdict.allowed) {
                    shared.missed(demand, self.rules[one.rule].used(&here, principal));
                }
            }
        }
        Ok(())
    }

    /// What comes of the answers of store and memory for one rule. A request that passes is in the receipts.
    fn conclude(&self, one: &Asked, answer: Option<Counted>, exchange: &Exchange, tally: &mut Tally) {
        let rule = &self.rules[one.rule];
        let Some(Counted { mut verdict, at }) = answer else {
            // With another `on_outage` nobody has counted.
            let Some(here) = one.here else { return };
            tally.add(one.rule, rule, &here.decision.verdict);
            if let Some((counter, at)) = one.beside() {
                tally.receipts.push(Receipt { rule: one.rule, at, place: Place::Memory(counter) });
            }
            return;
        };
        if verdict.allowed
            && let Some(here) = one.here.filter(|here| !here.overflowed())
            && (here.decision.verdict.remaining < verdict.remaining || !here.decision.verdict.allowed)
        {
            verdict = here.decision.verdict;
        }
        tally.add(one.rule, rule, &verdict);
        if answer.is_some_and(|counted| counted.verdict.allowed) {
            tally.receipts.push(Receipt { rule: one.rule, at, place: Place::Shared { beside: one.beside() } });
        } else if let Some((counter, at)) = one.beside() {
            let quota = &rule.terms(exchange.principal.as_deref()).quota;
            rule.bank.refund(counter, quota, (at, rule.cost));
        }
    }

    /// Without a question to the store: what the rules that are counted here say.
    fn refuse_here(&self, asked: &[Asked], exchange: &Exchange, tally: &mut Tally) {
        // Those before the one that refuses have been charged, the others were only asked.
        let mut charged = true;
        for one in asked {
            let rule = &self.rules[one.rule];
            let Some(here) = one.here else { continue };
            tally.add(one.rule, rule, &here.decision.verdict);
            if let Some((counter, at)) = one.beside().filter(|_| charged) {
                let quota = &rule.terms(exchange.principal.as_deref()).quota;
                rule.bank.refund(counter, quota, (at, rule.cost));
            }
            charged &= !one.is_used_up() || rule.observes;
        }
    }

    /// Gives charges back, wherever they were made.
    pub(super) async fn refund(
        &self,
        shared: &dyn SharedCounters,
        receipts: &Receipts,
        head: &request::Parts,
        exchange: &Exchange,
    ) {
        self.refund_memory(receipts, exchange);
        let charged: Vec<_> = receipts
            .iter()
            .filter(|receipt| matches!(receipt.place, Place::Shared { .. }))
            .filter_map(|receipt| Some((self.rules.get(receipt.rule)?, receipt.at)))
            .map(|(rule, at)| (rule, rule.key(&self.route, head, exchange), at))
            .collect();
        if charged.is_empty() {
            return;
        }
        let principal = exchange.principal.as_deref();
        let demands: Vec<_> = charged.iter().map(|(rule, key, at)| (rule.demand(key, principal), *at)).collect();
        shared.refund(exchange.now, &demands).await;
    }
}
