//! What the operator wrote: the TOML model, loading, units, secret references and faults.
//!
//! No tokio, no Pingora, nothing that serves: this crate turns a file into a [`model::Config`], or into every
//! [`fault::Fault`] that it has, each with its place.
//!
//! A file goes through four checks, and a later one runs on whatever the earlier ones left sound:
//!
//! 1. [`load`]: it is readable, small enough, UTF-8 and TOML;
//! 2. `shape`: each key is known, each value has its type, format and range;
//! 3. `serde` fills the [`model`];
//! 4. `rules`: what the tables say about each other makes sense.

pub mod bounded;
pub mod fault;
mod formats;
pub mod guard;
mod load;
pub mod model;
mod nearest;
mod redact;
mod render;
mod rules;
mod schema;
pub mod secret;
mod shape;
mod source;
mod syntax;
pub mod units;

pub use load::{Faults, Loaded, load, parse};
pub use schema::json_schema;
pub use source::Source;
