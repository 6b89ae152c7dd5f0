//! Secrets are references, never literals: `"env:NAME"` or `"file:/path"`; keys also `"kms:…"`, which a key service has a part in.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::{bounded, units::written_as_string};

/// Where a secret is found. It is read at start and at each reload, never written anywhere.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SecretRef {
    /// The value of an environment variable.
    Env(String),
    /// The bytes of a file; one trailing newline is dropped.
    File(PathBuf),
    /// `kms:env:NAME`, `kms:file:/path`: what is found there is a ciphertext, and AWS KMS says what it holds.
    Kms(Box<SecretRef>),
    /// `kms:key:ID`: a key pair that never leaves AWS KMS, by its ARN, its id or its alias.
    KmsKey(String),
}

/// Secret bytes: wiped when dropped, absent from `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl SecretRef {
    /// Reads the secret. The error names the reference and the reason, never a byte of the value.
    pub fn read(&self) -> Result<Secret, String> {
        let bytes = match self {
            Self::Env(name) => match std::env::var_os(name) {
                Some(value) => value.into_encoded_bytes(),
                None => return Err(format!("the environment variable `{name}` is not set")),
            },
            Self::File(path) => {
                let mut bytes = bounded::read(path)?;
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                    if bytes.last() == Some(&b'\r') {
                        bytes.pop();
                    }
                }
                bytes
            }
            Self::Kms(_) | Self::KmsKey(_) => {
                return Err("`kms:` is not read here: it is for the keys of envelopes and tokens".into());
            }
        };
        if bytes.is_empty() {
            return Err(format!("`{self}` is empty"));
        }
        Ok(Secret(Zeroizing::new(bytes)))
    }

    /// Where `kms:` finds a ciphertext: every byte of it, of which none is secret.
    pub fn ciphertext(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Kms(inner) => match &**inner {
                // Of a ciphertext that is no text, the last byte may look like a newline.
                Self::File(path) => bounded::read(path),
                other => other.read().map(|found| found.bytes().to_vec()),
            },
            _ => Err(format!("`{self}` is no ciphertext")),
        }
    }
}

impl Secret {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for SecretRef {
    type Err = String;

    /// The error never repeats the text: what was written may be the secret itself.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("env", _)) => {
                Err("`env:` takes the name of an environment variable: letters, digits and `_`; write \"env:NAME\""
                    .into())
            }
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("file", _)) => Err("`file:` takes a path; write \"file:/path\"".into()),
            Some(("kms", rest)) => Self::of_kms(rest),
            // Only these words, and nothing of what follows: a secret may have a colon, too.
            Some((store @ ("vault" | "aws" | "gcp" | "azure"), _)) => {
                Err(format!("`{store}:` is no place that secrets are read from; write \"env:NAME\" or \"file:/path\""))
            }
            _ => Err("a secret is never written here; write where it is found: \"env:NAME\" or \"file:/path\"".into()),
        }
    }
}

const KMS_HELP: &str = "`kms:` takes what holds a ciphertext, or a key's name; write \"kms:file:/path\", \"kms:env:NAME\" or \"kms:key:ARN\"";

impl SecretRef {
    fn of_kms(rest: &str) -> Result<Self, String> {
        match rest.split_once(':') {
            // ARNs, ids, `alias/NAME`: nothing else is a key of AWS KMS.
            Some(("key", id)) => {
                let known = |byte: u8| byte.is_ascii_alphanumeric() || b":/_-".contains(&byte);
                let fits = (1..=2048).contains(&id.len()) && id.bytes().all(known);
                fits.then(|| Self::KmsKey(id.to_owned())).ok_or_else(|| {
                    "`kms:key:` takes a key of AWS KMS; write its ARN, its id or \"kms:key:alias/NAME\"".into()
                })
            }
            Some(("env" | "file", _)) => rest.parse().map(|inner| Self::Kms(Box::new(inner))),
            _ => Err(KMS_HELP.into()),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Kms(inner) => write!(f, "kms:{inner}"),
            Self::KmsKey(id) => write!(f, "kms:key:{id}"),
        }
    }
}

written_as_string! {
    SecretRef => "secret", "where the secret is found: env:NAME or file:/path, and a key also behind kms:";
}
