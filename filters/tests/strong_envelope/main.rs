//! The profiles `hpke` and `aes128gcm` as a route meets them: what a client seals reaches the upstream, what comes back opens,
//! and nothing else does.

mod master_keys;
mod members;
mod migration;
mod refusals;
mod requests;
mod stage;
