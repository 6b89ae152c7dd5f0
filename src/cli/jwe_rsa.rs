//! The partner's side of the profile `jwe-rsa`: `encrypt` and `decrypt` with `--profile jwe-rsa`.

use clap::ValueEnum;
use gapura_config::model::Preset;
use gapura_filters::{
    encryption::partner::{self, Receiver},
    keyring::Key,
};

use super::{
    jwe::{JweOptions, private_key},
    seal::{now, read},
    strong::{StrongOptions, is_media_type},
};

#[derive(Debug, clap::Args)]
pub(super) struct RsaOptions {
    /// With `--profile jwe-rsa`: the scheme whose wrapper and header a message has.
    #[arg(long, value_enum, requires = "profile")]
    preset: Option<Scheme>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scheme {
    VisaMle,
    Mastercard,
}

impl RsaOptions {
    /// Another profile has no use for these.
    pub(super) fn refuse_with(&self, profile: &str) -> Result<(), String> {
        match self.preset {
            Some(_) => Err(format!("--preset belongs to --profile jwe-rsa, not to {profile}")),
            None => Ok(()),
        }
    }

    fn preset(&self) -> Option<Preset> {
        self.preset.map(|scheme| match scheme {
            Scheme::VisaMle => Preset::VisaMle,
            Scheme::Mastercard => Preset::Mastercard,
        })
    }
}

pub(super) fn encrypt(
    options: &RsaOptions,
    jwe: &JweOptions,
    shared: &StrongOptions,
    plaintext: &[u8],
) -> Result<String, String> {
    fitting(jwe, shared)?;
    let kid = shared.kid.as_deref().ok_or("--kid is missing: the gateway could not find the key")?;
    if kid.is_empty() || kid.len() > 255 || kid.chars().any(char::is_control) {
        return Err("--kid is the name of the gateway's key: NAME.id, or the `kid` of its version".into());
    }
    if !is_media_type(&shared.content_type) {
        return Err("--content-type is no TYPE/SUBTYPE of at most 255 bytes".into());
    }
    let pem = read(jwe.key.as_ref().ok_or("--key is missing: the gateway's public key or certificate, in PEM")?)?;
    let to = Receiver { preset: options.preset(), pem: pem.bytes(), kid };
    partner::seal(&to, &shared.content_type, now(), plaintext).map_err(|why| format!("--key: {why}"))
}

pub(super) fn decrypt(
    options: &RsaOptions,
    jwe: &JweOptions,
    shared: &StrongOptions,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    fitting(jwe, shared)?;
    let key = private_key(jwe.key.as_ref().ok_or("--key is missing: the partner's private key, PKCS #8 in PEM")?)?;
    let Key::Rsa(key) = &key else { return Err("--key is not an RSA key of 2048 to 4096 bits".into()) };
    let (plaintext, kid) = partner::open(options.preset(), body.trim_ascii(), &key.private)?;
    if shared.kid.is_some() && shared.kid != kid {
        return Err("the message names another key".into());
    }
    Ok(plaintext)
}

/// Nothing that would be passed over in silence: this scheme binds a message to nothing.
fn fitting(jwe: &JweOptions, shared: &StrongOptions) -> Result<(), String> {
    let other = shared.session_key.as_ref().map(|_| "--session-key");
    match shared.not_of_jwe().or(other).or_else(|| jwe.not_of_rsa()) {
        Some(name) => Err(format!("{name} belongs to other profiles: jwe-rsa binds a message to no request")),
        None => Ok(()),
    }
}
