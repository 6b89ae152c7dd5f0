//! Rate limits with a printed guarantee.

/// What an exchange was charged, so that it can be given back when a later rule refuses.
#[derive(Debug, Default)]
pub struct Charges {}

/// Where counters live.
#[derive(Clone)]
pub enum CounterStore {}
