//! Everything that is decided. No Pingora, no Redis, no SQL, no sockets.
//!
//! Start reading at [`contract`]: what a filter is. [`chain`] puts filters into the gateway's order, [`policy`] compiles a
//! configuration into routes with their chains.

pub mod addresses;
pub mod assertion;
pub mod authentication;
pub mod authorisation;
pub mod chain;
pub mod contract;
pub mod crypto;
pub mod delivery;
pub mod encryption;
pub mod guard;
mod instant;
pub mod json;
pub mod keyring;
pub mod leases;
pub mod metrics;
pub mod networks;
pub mod operation_tokens;
mod pem;
pub mod policy;
pub mod rate_limit;
pub mod reading;
pub mod registry;
pub mod replay;
pub mod router;
pub mod security_headers;
pub mod signing;
pub mod target;
