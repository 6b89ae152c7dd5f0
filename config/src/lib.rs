//! What the operator wrote: the TOML model, loading, units, secret references and faults.
//!
//! No tokio, no Pingora, nothing that serves: this crate turns a file into a [`model::Config`], or into every
//! [`fault::Fault`] that it has, each with its place.

pub mod fault;
pub mod model;
pub mod secret;
pub mod units;
