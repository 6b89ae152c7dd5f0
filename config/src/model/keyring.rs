//! `[keyrings.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::secret::SecretRef;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keyring {
    /// What its keys are. All versions are of one kind.
    pub kind: KeyKind,
    /// The keys, the old and the coming ones too. Exactly one is `active`.
    #[schemars(length(min = 1))]
    pub versions: Vec<KeyVersion>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyVersion {
    /// Tells the version in envelopes, as `NAME.id`: letters, digits, `_` and `-`, unique in its ring.
    pub id: String,
    /// The private key, PKCS #8 in PEM; or the secret, of 32 bytes or more.
    pub key: SecretRef,
    /// Whether it opens envelopes, and whether clients are told to seal to it.
    pub state: KeyState,
    /// `retiring` only: opens nothing after this instant, 2027-01-01T00:00:00Z. Absent: no end.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub until: Option<toml_datetime::Datetime>,
    /// `rsa` only: what partners write in `kid` instead of `NAME.id`.
    pub kid: Option<String>,
}

/// What the keys of a ring are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// Key pairs on Curve25519.
    X25519,
    /// Key pairs on NIST P-256.
    P256,
    /// RSA key pairs of 2048 to 4096 bits.
    Rsa,
    /// Secrets of 32 bytes or more, which session keys are derived from.
    Secret,
}

/// What a version of a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Opens envelopes, and is not offered yet: all instances get to know it first.
    Pending,
    /// Opens envelopes, and is offered to clients. Exactly one of a ring.
    Active,
    /// Opens envelopes until `until`, and is offered no more.
    Retiring,
    /// Opens nothing. Its key is not even read.
    Revoked,
}

impl KeyKind {
    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X25519 => "x25519",
            Self::P256 => "p256",
            Self::Rsa => "rsa",
            Self::Secret => "secret",
        }
    }
}

impl KeyState {
    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Revoked => "revoked",
        }
    }
}
