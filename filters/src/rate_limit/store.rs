//! Where counters live, and the port of a store that several instances share.

use std::{future::Future, pin::Pin, sync::Arc};

use gapura_config::model::OnOutage;

use super::{
    algorithm::{Quota, Verdict},
    memory::MemoryCounters,
};
use crate::contract::Now;

/// Where counters live.
#[derive(Clone)]
pub enum CounterStore {
    Memory(Arc<MemoryCounters>),
    /// Counters shared between instances; `local` counts beside them for rules with `on_outage = "local"`, and alone where they
    /// cannot be reached. `on_outage` is for rules that do not say otherwise.
    Shared {
        shared: Arc<dyn SharedCounters>,
        local: Arc<MemoryCounters>,
        on_outage: OnOutage,
    },
}

/// The port. Rules of one request are decided in one call, all or nothing.
pub trait SharedCounters: Send + Sync {
    /// One answer for each demand, in order; None where the store gives none. If any *binding* one refuses, nothing is charged, and
    /// the `wait` of the others is as if it had not been asked; else all that agree are charged. A key is charged under the store's
    /// own clock where it has one; `now` is for those that have none.
    fn charge<'a>(&'a self, now: Now, demands: &'a [Demand<'a>]) -> Pending<'a, Vec<Option<Counted>>>;

    /// Gives back what [`Self::charge`] took. What is no longer counted, or cannot be reached, stays as it is.
    fn refund<'a>(&'a self, now: Now, charged: &'a [(Demand<'a>, u64)]) -> Pending<'a, ()>;

    /// What [`Self::charge`] did not answer was let pass by this instance, whose own counter holds `held` since: this demand's cost,
    /// and what the store may know. It adds what it does not know when it can be reached again, never more than `held`.
    fn missed(&self, demand: &Demand<'_>, held: u64);
}

pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One key of one rule, and what it is asked to bear.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The name of the rule: with the quota's algorithm and window, and the key, it names the counter.
    pub rule: &'a str,
    pub quota: &'a Quota,
    /// Any bytes, of up to about 1 KiB; they may be personal data (an address, a user id).
    pub key: &'a [u8],
    pub cost: u64,
    /// False: its refusal keeps nothing from passing, nor from being charged.
    pub binding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub verdict: Verdict,
    /// What the store wants back with a refund: as a rule the instant of the charge, in its own unit.
    pub at: u64,
}

impl Demand<'_> {
    /// The same with another cost.
    pub fn costing(self, cost: u64) -> Self {
        Self { cost, ..self }
    }
}

impl CounterStore {
    /// The memory of this process, which every store has: alone, or for outages.
    pub fn memory(&self) -> &Arc<MemoryCounters> {
        match self {
            Self::Memory(memory) | Self::Shared { local: memory, .. } => memory,
        }
    }

    /// Of rules that do not say it themselves.
    pub(super) fn on_outage(&self) -> OnOutage {
        match self {
            Self::Memory(_) => OnOutage::default(),
            Self::Shared { on_outage, .. } => *on_outage,
        }
    }
}
