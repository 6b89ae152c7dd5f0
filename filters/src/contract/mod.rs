//! What a filter is, and what it may be given.

mod claims;
mod exchange;
mod filter;
mod key_limits;
mod principal;
mod problem;
mod services;

pub use claims::{Claim, Claims};
pub use exchange::{Clock, Exchange, Now};
pub use filter::{Filter, HeaderEdit, Stage};
pub use key_limits::KeyLimits;
pub use principal::{Principal, UnfitIdentity, UserId};
pub use problem::{Code, PROBLEM_JSON, Refusal};
pub use services::Services;
