//! `[jwt.NAME.decryption]`: tokens that are encrypted on top of being signed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::KeyKind;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtDecryption {
    /// The keys that tokens are encrypted to: the NAME of `[keyrings.NAME]`.
    pub keyring: String,
    /// How the content key comes about, exactly what is accepted: of the kind of the keyring.
    #[schemars(length(min = 1))]
    pub algorithms: Vec<JweAlgorithm>,
    /// How the content is encrypted, exactly what is accepted.
    #[serde(default = "content")]
    #[schemars(length(min = 1))]
    pub encryption: Vec<JweContent>,
    /// Take signed tokens that are not encrypted, too. Only for migrations: whoever sees one can use it.
    #[serde(default)]
    pub accept_unencrypted: bool,
}

fn content() -> Vec<JweContent> {
    vec![JweContent::A256Gcm]
}

/// RFC 7518, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum JweAlgorithm {
    #[serde(rename = "dir")]
    Dir,
    #[serde(rename = "A256KW")]
    A256Kw,
    #[serde(rename = "RSA-OAEP-256")]
    RsaOaep256,
    #[serde(rename = "ECDH-ES")]
    EcdhEs,
    #[serde(rename = "ECDH-ES+A128KW")]
    EcdhEsA128Kw,
    #[serde(rename = "ECDH-ES+A256KW")]
    EcdhEsA256Kw,
}

/// RFC 7518, section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum JweContent {
    #[serde(rename = "A128GCM")]
    A128Gcm,
    #[serde(rename = "A256GCM")]
    A256Gcm,
    #[serde(rename = "A128CBC-HS256")]
    A128CbcHs256,
    #[serde(rename = "A256CBC-HS512")]
    A256CbcHs512,
}

impl JweAlgorithm {
    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::A256Kw => "A256KW",
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::EcdhEs => "ECDH-ES",
            Self::EcdhEsA128Kw => "ECDH-ES+A128KW",
            Self::EcdhEsA256Kw => "ECDH-ES+A256KW",
        }
    }

    pub const fn takes(self, kind: KeyKind) -> bool {
        match self {
            Self::Dir | Self::A256Kw => matches!(kind, KeyKind::Secret),
            Self::RsaOaep256 => matches!(kind, KeyKind::Rsa),
            Self::EcdhEs | Self::EcdhEsA128Kw | Self::EcdhEsA256Kw => {
                matches!(kind, KeyKind::X25519 | KeyKind::P256)
            }
        }
    }
}

impl JweContent {
    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A128Gcm => "A128GCM",
            Self::A256Gcm => "A256GCM",
            Self::A128CbcHs256 => "A128CBC-HS256",
            Self::A256CbcHs512 => "A256CBC-HS512",
        }
    }
}
