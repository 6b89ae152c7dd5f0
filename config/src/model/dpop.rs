//! Tokens that are worth nothing without a key: what a token must be bound to, and `[dpop]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::JwtAlgorithm;
use crate::{secret::SecretRef, units::Period};

/// What a token must be bound to (`cnf`, RFC 7800). Whatever it is bound to, it is held to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// A token may be bound, or not.
    #[default]
    Optional,
    /// To the client's certificate (RFC 8705).
    Certificate,
    /// To a key that the client proves with each request (RFC 9449).
    Dpop,
    /// To either.
    Any,
}

/// Proofs of possession (RFC 9449): what is taken for one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dpop {
    /// Of proofs. Those with a shared secret are none.
    #[schemars(length(min = 1), extend("examples" = [["ES256"]]))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// A proof made longer ago is refused, and so long it is remembered. From 1s to 10m.
    pub max_age: Period,
    /// How far a client's clock may be ahead.
    pub leeway: Period,
    /// A proof must carry a value that the gateway gave out: it cannot have been made in advance.
    pub nonce: bool,
    /// What these values are made with, the same for all instances; 32 bytes or more. Absent: each instance makes its own.
    pub nonce_key: Option<SecretRef>,
}

impl Default for Dpop {
    fn default() -> Self {
        use JwtAlgorithm as A;
        Self {
            algorithms: vec![A::ES256, A::ES384, A::EdDSA, A::PS256, A::RS256],
            max_age: Period::secs(60),
            leeway: Period::secs(5),
            nonce: false,
            nonce_key: None,
        }
    }
}
