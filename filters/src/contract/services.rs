//! State below the swap line: it lives as long as the process, so that a reload never resets a quota or forgets a replay.

use std::sync::Arc;

use crate::{encryption::ReplayStore, metrics::Metrics, rate_limit::CounterStore};

/// What filters may be given when they are built.
#[derive(Clone)]
pub struct Services {
    pub counters: CounterStore,
    pub replays: ReplayStore,
    pub metrics: Arc<Metrics>,
}
