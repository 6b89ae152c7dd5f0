//! Message encryption: opens request envelopes, seals responses.

/// How a response is to be sealed.
#[derive(Debug)]
pub struct Sealing {}

/// Where accepted envelopes are remembered.
#[derive(Clone)]
pub enum ReplayStore {}
