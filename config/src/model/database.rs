//! Where API keys are kept.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

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

impl DatabaseRef {
    /// What can be known without opening it: the address can be read, and a file could stand where it says. One that is not there yet is
    /// made at the first use. The error never holds an address that is a secret.
    pub fn check(&self) -> Result<(), String> {
        let address = self.read()?;
        let Some(path) = address.strip_prefix("sqlite:") else { return Ok(()) };
        // As an address may have it: `sqlite:///path?mode=ro`.
        let path = Path::new(path.trim_start_matches("//").split('?').next().unwrap_or_default());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match (path.is_dir(), folder.is_dir()) {
            (true, _) => Err(format!("`{self}` is a folder, and a database of SQLite is a file")),
            (false, false) => Err(format!("`{self}` stands in a folder that does not exist")),
            (false, true) => Ok(()),
        }
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
