//! Where API keys are kept.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::{secret::SecretRef, units::written_as_string};

/// `sqlite:/path`, or where the address of a database server is found: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseRef {
    Sqlite(PathBuf),
    /// `postgres://…`, or `sqlite:/path`.
    Secret(SecretRef),
}

impl FromStr for DatabaseRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path.contains('?') || path.is_empty() {
                true => {
                    Err("a database file is named by its path alone; write \"sqlite:/var/lib/gapura/keys.db\"".into())
                }
                false => Ok(Self::Sqlite(path.into())),
            };
        }
        // The text is not repeated: it may be an address with its password.
        text.parse().map(Self::Secret).map_err(|_| {
            "this is no place of a database; write \"sqlite:/path\", or \"env:NAME\" or \"file:/path\" where postgres:// is \
             found, since it may hold a password"
                .into()
        })
    }
}

impl DatabaseRef {
    /// The address. The error never holds it.
    pub fn read(&self) -> Result<String, String> {
        let address = match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Secret(reference) => String::from_utf8(reference.read()?.bytes().to_vec())
                .map_err(|_| format!("`{reference}` is no text"))?,
        };
        let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| address.starts_with(scheme));
        if known { Ok(address) } else { Err(format!("`{self}` begins with none of sqlite: and postgres://")) }
    }
}

impl fmt::Display for DatabaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Secret(reference) => reference.fmt(f),
        }
    }
}

written_as_string! {
    DatabaseRef => "database", "sqlite:/path, or env:NAME or file:/path where the address is found";
}
