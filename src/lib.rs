//! The part of Gapura that touches the world: command line, listeners, upstreams, reload.
//!
//! What is decided about a request stands in `gapura-filters`, what an operator may write in `gapura-config`. Start reading
//! at [`cli`], then `serve`, `wiring`, and `proxy`.

mod admin;
pub mod cli;
mod examine;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http1;
mod issuers;
mod keys;
mod kms;
mod pem;
mod providers;
mod proxy;
mod reload;
mod serve;
pub mod stores;
mod upstream;
mod wiring;
