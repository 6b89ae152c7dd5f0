//! What a filter is, and what it may be given.

mod advice;
mod certificate;
mod claims;
mod exchange;
mod filter;
mod key_limits;
mod keys;
mod principal;
mod problem;
mod services;

pub use advice::advice;
pub use certificate::ClientCertificate;
pub use claims::{Claim, Claims, Confirmation};
pub use exchange::{Clock, Exchange, Now, Origin};
pub use filter::{Filter, HeaderEdit, Stage};
pub use key_limits::KeyLimits;
pub use keys::{
    Asked, CANNOT_ASK, KeyReader, KeyService, Lease, Leased, NO_ANSWER, NOT_ASKED, Purpose, RemoteKey, SAYS_NO,
    Unanswered, ciphertext,
};
pub use principal::{Principal, UnfitIdentity, UserId};
pub use problem::{Code, PROBLEM_JSON, Refusal};
pub use services::Services;
