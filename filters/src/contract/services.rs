//! State below the swap line: it lives as long as the process, so that a reload never resets a quota or forgets a replay.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::KeyReader;
use crate::{
    authentication::{ForeignTables, HeldTables, KeySets, Lockouts, Revocations, SharedRevocations},
    encryption::Downgrades,
    metrics::Metrics,
    rate_limit::{CounterStore, MemoryCounters},
    replay::{MemoryReplays, ReplayStore},
};

/// What filters may be given when they are built.
#[derive(Clone)]
pub struct Services {
    pub counters: CounterStore,
    pub replays: ReplayStore,
    /// How strong the envelopes of callers were.
    pub downgrades: Arc<Downgrades>,
    /// Failed authentications.
    pub lockouts: Arc<Lockouts>,
    /// API keys in databases, read in the background.
    pub held_keys: Arc<HeldTables>,
    /// API keys of backends, asked for.
    pub foreign_keys: Arc<ForeignTables>,
    /// Tokens that were taken back.
    pub revocations: Arc<Revocations>,
    /// Where other instances learn of those.
    pub shared_revocations: Option<Arc<dyn SharedRevocations>>,
    /// Keys of token issuers, fetched in the background.
    pub key_sets: Arc<KeySets>,
    /// Random, of this process alone: for what no other instance has to verify.
    pub own_secret: Arc<Zeroizing<[u8; 32]>>,
    /// Keys that the configuration names, those of a key service too.
    pub keys: KeyReader,
    pub metrics: Arc<Metrics>,
}

impl Services {
    /// All state in this process: at most so many limiter keys, and so many remembered envelopes.
    pub fn in_memory(max_keys: usize, max_replays: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            counters: CounterStore::Memory(Arc::new(MemoryCounters::new(max_keys))),
            replays: ReplayStore::Memory(Arc::new(MemoryReplays::new(max_replays))),
            downgrades: Arc::default(),
            lockouts: Arc::default(),
            held_keys: Arc::default(),
            foreign_keys: Arc::default(),
            revocations: Arc::default(),
            shared_revocations: None,
            key_sets: Arc::default(),
            own_secret: Arc::new(Zeroizing::new(rand::random())),
            keys: KeyReader::default(),
            metrics,
        }
    }

    /// The same, with keys from elsewhere.
    #[must_use]
    pub fn with_keys(&self, keys: KeyReader) -> Self {
        Self { keys, ..self.clone() }
    }

    /// The same, with nothing noted of keys that were read.
    #[must_use]
    pub fn noting_keys(&self) -> Self {
        Self { keys: self.keys.anew(), ..self.clone() }
    }
}
