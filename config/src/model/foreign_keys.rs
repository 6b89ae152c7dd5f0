//! API keys that a backend issued: how the gateway asks whose they are, and how long it remembers.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::DatabaseRef;
use crate::{
    secret::SecretRef,
    units::{Period, written_as_string},
};

/// The backend's own table of keys, asked by its own hash.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLookup {
    /// Where the table is: `sqlite:/path`, or `env:NAME` or `file:/path` with the address of a PostgreSQL database. It is only read.
    pub database: DatabaseRef,
    /// One SELECT with one parameter, `$1`. Its columns by name: `id`, `user_id`, and `hash`, `salt`, `email`, `roles`, `permissions`, `expires`, `active`.
    #[schemars(extend("format" = "sql"))]
    pub query: String,
    /// How the backend hashes keys.
    pub hash: KeyHash,
    /// The one salt of all keys, or the HMAC key. Absent: that in the column `salt`.
    pub salt: Option<SecretRef>,
    /// How it writes hashes: what `$1` is, and the column `hash`.
    #[serde(default)]
    pub encoding: HashEncoding,
    /// What `$1` is: `hash`, or a part of the key: `prefix:8` (so many characters), `before:.` (what stands before the first `.`).
    #[serde(default)]
    pub find_by: FindBy,
    /// What is hashed: the whole `key`, or the `rest` behind what `find_by` names.
    #[serde(default)]
    pub hashed: Hashed,
    /// The longest that a request waits for an answer.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// Questions on their way at once.
    #[serde(default = "max_concurrent")]
    #[schemars(range(min = 1, max = 64))]
    pub max_concurrent: u32,
}

/// An endpoint that says whose a key is, as RFC 7662 has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyIntrospection {
    /// `https://host/path`, or `http://` on loopback. It gets `token=KEY` by POST.
    #[schemars(extend("format" = "introspection-url"))]
    pub url: String,
    /// PEM bundle of authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// The gateway's own login there (HTTP Basic), with `client_secret`.
    pub client_id: Option<String>,
    /// The password of `client_id`.
    pub client_secret: Option<SecretRef>,
    /// Or its bearer token there.
    pub bearer: Option<SecretRef>,
    /// Where in the answer the identity stands.
    #[serde(default)]
    pub claims: IntrospectionClaims,
    /// The longest that a request waits for an answer.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// Questions on their way at once.
    #[serde(default = "max_concurrent")]
    #[schemars(range(min = 1, max = 64))]
    pub max_concurrent: u32,
}

fn timeout() -> Period {
    Period::secs(1)
}
fn max_concurrent() -> u32 {
    8
}

/// Where in an answer the caller's identity stands: names, dotted paths or JSON pointers, as in `claims` of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntrospectionClaims {
    /// Names the key in limits and logs. Keys with one id share their limits.
    pub id: String,
    /// The user id. An answer without it is no answer.
    pub user_id: String,
    /// The e-mail address.
    pub email: String,
    /// What a route may ask for in `roles`.
    pub roles: String,
    /// What a route may ask for in `permissions`.
    pub permissions: String,
}

impl Default for IntrospectionClaims {
    fn default() -> Self {
        let [id, user_id, email, roles, permissions] = ["sub", "sub", "email", "roles", "scope"].map(str::to_owned);
        Self { id, user_id, email, roles, permissions }
    }
}

/// How long answers of `lookup` or `introspection` are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyCache {
    /// A good key is asked about again after this. What the backend revokes ends within it.
    pub ttl: Period,
    /// An unknown one is asked about again after this. What the backend issues is known within it.
    pub negative_ttl: Period,
    /// While there is no answer, good keys stay good for so long after `ttl`.
    pub stale: Period,
    /// Good keys remembered at once, some 500 bytes each; and as many unknown ones, 80 bytes each.
    #[schemars(range(min = 1000, max = 10_000_000))]
    pub max_entries: usize,
}

impl Default for KeyCache {
    fn default() -> Self {
        Self { ttl: Period::secs(60), negative_ttl: Period::secs(5), stale: Period::secs(600), max_entries: 100_000 }
    }
}

/// How a backend hashes keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyHash {
    /// SHA-256(key).
    Sha256,
    /// SHA-512(key).
    Sha512,
    /// SHA-256(salt ‖ key).
    Sha256SaltKey,
    /// SHA-256(key ‖ salt).
    Sha256KeySalt,
    /// HMAC-SHA-256(salt, key).
    HmacSha256,
    /// The key itself: whoever reads that table can call. For migrations.
    Plain,
}

impl KeyHash {
    pub fn is_salted(self) -> bool {
        matches!(self, Self::Sha256SaltKey | Self::Sha256KeySalt | Self::HmacSha256)
    }
}

/// As the file writes it.
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha256SaltKey => "sha256_salt_key",
            Self::Sha256KeySalt => "sha256_key_salt",
            Self::HmacSha256 => "hmac_sha256",
            Self::Plain => "plain",
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashEncoding {
    /// Lower case as `$1`; either case in the column.
    #[default]
    Hex,
    /// The standard alphabet, padded.
    Base64,
    /// The alphabet for URLs, without padding.
    Base64url,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hashed {
    /// The whole key, as it is presented.
    #[default]
    Key,
    /// What stands behind the part by which it is found.
    Rest,
}

/// By what a key is found in the backend's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FindBy {
    #[default]
    Hash,
    /// Its first characters.
    Prefix(usize),
    /// What stands before the first occurrence of this.
    Before(String),
}

impl FindBy {
    /// The part of a key that finds it, and what stands behind it. None: the key has no such part, or nothing behind it.
    pub fn split<'k>(&self, key: &'k str) -> Option<(&'k str, &'k str)> {
        let (part, rest) = match self {
            Self::Hash => return None,
            Self::Prefix(length) => key.split_at_checked(*length)?,
            Self::Before(mark) => key.split_once(mark.as_str())?,
        };
        (!part.is_empty() && !rest.is_empty()).then_some((part, rest))
    }
}

impl FromStr for FindBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` finds no key; write \"hash\", \"prefix:8\" or \"before:.\"");
        match text.split_once(':') {
            None if text == "hash" => Ok(Self::Hash),
            Some(("prefix", length)) => {
                length.parse().ok().filter(|length| (4..=256).contains(length)).map(Self::Prefix).ok_or_else(|| {
                    format!("`{text}` names too few or too many characters; write \"prefix:8\", from 4 to 256")
                })
            }
            Some(("before", mark)) if (1..=8).contains(&mark.len()) && mark.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self::Before(mark.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

/// As the file writes it.
impl fmt::Display for FindBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash => f.write_str("hash"),
            Self::Prefix(length) => write!(f, "prefix:{length}"),
            Self::Before(mark) => write!(f, "before:{mark}"),
        }
    }
}

written_as_string! {
    FindBy => "find-by", "hash, prefix:N or before:MARK";
}
