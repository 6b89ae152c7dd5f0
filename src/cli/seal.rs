//! The client's side, for people with `curl`: `encrypt`, `decrypt`, `keys hash`.

use std::{
    io::{self, Read as _},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{ValueEnum, builder::NonEmptyStringValueParser};
use gapura_config::{
    model::{self, KeyDerivation},
    secret::{Secret, SecretRef},
};
use gapura_filters::{
    authentication::{MAX_API_KEY, api_key_hash},
    contract::KeyReader,
    encryption::client::{self, Identity},
    metrics::Metrics,
};

use super::{Exit, jwe, jwe_rsa, print, strong};
use crate::kms;

/// Where a secret is found. The text itself is never a secret: it would stand in the shell's history.
#[derive(Debug, Clone)]
pub(super) struct Reference(SecretRef);

impl Reference {
    pub(super) fn of(&self) -> &SecretRef {
        &self.0
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The master key: env:NAME or file:/path.
    #[arg(long, value_name = "REF", required_unless_present_any = ["passphrase", "profile"], requires = "user_id", requires = "email")]
    master_key: Option<Reference>,
    /// The user that the envelope is of.
    #[arg(long, value_name = "ID", requires = "master_key", conflicts_with = "profile", value_parser = NonEmptyStringValueParser::new())]
    user_id: Option<String>,
    /// The user's email address.
    #[arg(long, requires = "master_key", conflicts_with = "profile", value_parser = NonEmptyStringValueParser::new())]
    email: Option<String>,
    /// Milliseconds since 1970: when sealing, the envelope's time (without it, now); when opening, the time that the envelope
    /// must carry (without it, any).
    #[arg(long, value_name = "MS", requires = "master_key", conflicts_with = "profile")]
    timestamp: Option<u64>,
    /// What the passphrase is made of, as `key_derivation` of the configuration says.
    #[arg(long, value_enum, default_value = "user", requires = "master_key", conflicts_with = "profile")]
    key_derivation: Derivation,
    /// Instead of the three: the passphrase itself. Then input and output are the bare base64 of `encryptedData`.
    #[arg(long, value_name = "REF", conflicts_with_all = ["master_key", "user_id", "email", "timestamp", "key_derivation"])]
    passphrase: Option<Reference>,
    #[command(flatten)]
    strong: strong::StrongOptions,
    #[command(flatten)]
    jwe: jwe::JweOptions,
    #[command(flatten)]
    rsa: jwe_rsa::RsaOptions,
}

impl Options {
    fn of_profile(&self) -> Result<(&jwe::JweOptions, &strong::StrongOptions, &jwe_rsa::RsaOptions), String> {
        match self.strong.profile {
            Some(strong::Profile::JweRsa) | None => {}
            Some(other) => self.rsa.refuse_with(other.name())?,
        }
        Ok((&self.jwe, &self.strong, &self.rsa))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Derivation {
    User,
    UserTimestamp,
}

/// Larger than any body that a gateway takes.
const MAX_INPUT: u64 = 256 << 20;

pub(super) fn encrypt(options: &Options) -> ExitCode {
    finish(|| {
        let plaintext = input()?;
        let (jwe, shared, rsa) = options.of_profile()?;
        match shared.profile {
            None => {}
            Some(strong::Profile::Jwe) => return jwe::encrypt(jwe, shared, &plaintext).map(line),
            Some(strong::Profile::JweRsa) => return jwe_rsa::encrypt(rsa, jwe, shared, &plaintext).map(line),
            Some(profile) => {
                options.jwe.refuse_with(profile)?;
                return strong::encrypt(profile, &options.strong, &plaintext, now());
            }
        }
        if let Some(passphrase) = &options.passphrase {
            return Ok(line(client::seal_with_passphrase(&plaintext, read(passphrase)?.bytes())));
        }
        let timestamp = options.timestamp.unwrap_or_else(now);
        with_identity(options, |identity| Ok(line(client::seal_request(&plaintext, identity, timestamp))))
    })
}

pub(super) fn decrypt(options: &Options) -> ExitCode {
    finish(|| {
        let sealed = input()?;
        let (jwe, shared, rsa) = options.of_profile()?;
        match shared.profile {
            None => {}
            Some(strong::Profile::Jwe) => return jwe::decrypt(jwe, shared, &sealed),
            Some(strong::Profile::JweRsa) => return jwe_rsa::decrypt(rsa, jwe, shared, &sealed),
            Some(profile) => {
                options.jwe.refuse_with(profile)?;
                return strong::decrypt(profile, &options.strong, sealed);
            }
        }
        if let Some(passphrase) = &options.passphrase {
            return client::open_with_passphrase(&sealed, read(passphrase)?.bytes()).map_err(|why| why.to_string());
        }
        with_identity(options, |identity| {
            let opened = match options.timestamp {
                Some(timestamp) => client::open_envelope_of(&sealed, identity, timestamp),
                None => client::open_envelope(&sealed, identity),
            };
            opened.map_err(|why| why.to_string())
        })
    })
}

pub(super) fn hash(salt: &Reference) -> ExitCode {
    finish(|| {
        let key = input()?;
        // `echo` and editors end a line; no key does.
        let key = key.strip_suffix(b"\n").map_or(&key[..], |key| key.strip_suffix(b"\r").unwrap_or(key));
        if key.is_empty() {
            return Err("standard input holds no key; write `printf %s \"$KEY\" | gapura keys hash …`".into());
        }
        if key.len() > MAX_API_KEY {
            return Err(format!("the key has more than {MAX_API_KEY} bytes: the gateway would never look it up"));
        }
        if key.iter().any(|byte| !byte.is_ascii_graphic()) {
            return Err("the key holds a character that no header carries; a key is one line of visible ASCII".into());
        }
        Ok(line(api_key_hash(read(salt)?.bytes(), key).to_string()))
    })
}

fn with_identity<T>(options: &Options, act: impl FnOnce(Identity<'_>) -> Result<T, String>) -> Result<T, String> {
    let (Some(reference), Some(user_id), Some(email)) = (&options.master_key, &options.user_id, &options.email) else {
        return Err("--master-key, --user-id and --email belong together".into());
    };
    let master_key = read(reference)?;
    act(Identity {
        user_id,
        email,
        master_key: master_key.bytes(),
        key_derivation: match options.key_derivation {
            Derivation::User => KeyDerivation::User,
            Derivation::UserTimestamp => KeyDerivation::UserTimestamp,
        },
    })
}

fn finish(act: impl FnOnce() -> Result<Vec<u8>, String>) -> ExitCode {
    match act() {
        Ok(bytes) => print(&bytes),
        Err(why) => Exit::why(&why).with(&why),
    }
}

/// Reads keys as a `[kms]` says.
pub(super) fn keys(config: &model::Kms) -> Result<KeyReader, String> {
    let metrics = Metrics::new().map_err(|why| why.to_string())?;
    Ok(kms::reader(config, &Arc::new(metrics)))
}

pub(super) fn read(reference: &Reference) -> Result<Secret, String> {
    reference.read()
}

impl Reference {
    /// The secret. KMS is asked where the environment says that it is.
    pub(super) fn read(&self) -> Result<Secret, String> {
        match self.0 {
            SecretRef::Env(_) | SecretRef::File(_) => self.0.read(),
            SecretRef::Kms(_) | SecretRef::KmsKey(_) => keys(&model::Kms::default())?.read(&self.0),
        }
    }
}

fn input() -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_INPUT + 1)
        .read_to_end(&mut bytes)
        .map_err(|why| format!("standard input cannot be read: {why}"))?;
    if bytes.len() as u64 > MAX_INPUT {
        Err(format!("standard input is larger than {} MiB", MAX_INPUT >> 20))
    } else {
        Ok(bytes)
    }
}

fn line(text: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut line = text.into();
    line.push(b'\n');
    line
}

pub(super) fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
