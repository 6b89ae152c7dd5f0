//! `[identity_assertion]`: what upstreams verify.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{secret::SecretRef, units::Period};

/// A short-lived token, signed by the gateway, that tells an upstream who calls and for which request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityAssertion {
    /// Private keys in PEM: EC on P-256 (ES256), Ed25519 (EdDSA) or RSA (RS256). The first signs; all are published.
    #[schemars(length(min = 1))]
    pub keys: Vec<SecretRef>,
    /// The `iss` of assertions.
    pub issuer: String,
    /// The `aud` of assertions. Absent: the upstream's NAME.
    pub audience: Option<String>,
    /// From `iat` to `exp`. From 1s to 10m.
    #[serde(default = "lifetime")]
    pub lifetime: Period,
    /// The header that carries it. The client's own copies never pass.
    #[serde(default = "header")]
    #[schemars(extend("format" = "header-name"))]
    pub header: String,
}

fn lifetime() -> Period {
    Period::secs(60)
}
fn header() -> String {
    "X-Gapura-Assertion".into()
}
