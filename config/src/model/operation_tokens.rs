//! `[operation_tokens.NAME]`: leave for one operation, once.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::is_token;
use crate::{
    guard,
    secret::SecretRef,
    units::{Period, written_as_string},
};

/// Tokens that one route gives out with its response and another one asks for, and takes once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationToken {
    /// What they are signed with: a secret of 32 bytes or more (HS256), or a private key in PEM as in `[identity_assertion]`.
    pub key: Option<SecretRef>,
    /// In place of `key`, while one key follows another: the first signs, and what any of them has signed is taken.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub keys: Vec<SecretRef>,
    /// How long one may be used.
    #[serde(default = "lifetime")]
    pub lifetime: Period,
    /// The header that carries it, of the response and of the request.
    #[serde(default = "header")]
    #[schemars(extend("format" = "header-name"))]
    pub header: String,
    /// Where the issuing route has what the token is for: `path:NAME`, `body:/pointer` or `header:NAME` of the response.
    pub issued_for: Option<IssuedFor>,
    /// Where the route that requires it has the same: `path:NAME` or `header:NAME` of the request.
    pub used_for: Option<UsedFor>,
}

fn lifetime() -> Period {
    Period::secs(15 * 60)
}
fn header() -> String {
    "X-Operation-Token".into()
}

/// Where an exchange has the transaction that a token is given out for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuedFor {
    /// A named segment of the route's path.
    Path(String),
    /// A field of the response.
    Header(String),
    /// A JSON pointer (RFC 6901) into the body of the response.
    Body(String),
}

/// Where a request has the transaction that its token must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsedFor {
    Path(String),
    Header(String),
}

fn segment(name: &str) -> Result<String, String> {
    match guard::is_segment_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!("`{name}` cannot name a segment of a path; write \"path:id\" for `{{id}}`")),
    }
}

fn field(name: &str) -> Result<String, String> {
    if is_token(name) {
        Ok(name.to_owned())
    } else {
        Err(format!("`{name}` is not a header name; write \"header:X-Id\""))
    }
}

impl FromStr for IssuedFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("path", name)) => segment(name).map(Self::Path),
            Some(("header", name)) => field(name).map(Self::Header),
            Some(("body", pointer)) if pointer.starts_with('/') && !has_bad_escape(pointer) => {
                Ok(Self::Body(pointer.to_owned()))
            }
            Some(("body", pointer)) => Err(format!("`{pointer}` is no JSON pointer; write \"body:/payment/id\"")),
            _ => Err(format!(
                "`{text}` is no place of a value; write \"path:NAME\", \"header:NAME\" or \"body:/pointer\""
            )),
        }
    }
}

/// RFC 6901, section 3: `~` stands before `0` or `1` only.
fn has_bad_escape(pointer: &str) -> bool {
    pointer.replace("~0", "").replace("~1", "").contains('~')
}

impl FromStr for UsedFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("path", name)) => segment(name).map(Self::Path),
            Some(("header", name)) => field(name).map(Self::Header),
            _ => Err(format!("`{text}` is no place of a value; write \"path:NAME\" or \"header:NAME\"")),
        }
    }
}

impl fmt::Display for IssuedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "path:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Body(pointer) => write!(f, "body:{pointer}"),
        }
    }
}

impl fmt::Display for UsedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(name) => write!(f, "path:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

written_as_string! {
    IssuedFor => "issued-for", "path:NAME, header:NAME or body:/pointer";
    UsedFor => "used-for", "path:NAME or header:NAME";
}
