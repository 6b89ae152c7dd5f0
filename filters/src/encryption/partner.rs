//! The partner's side of the profile `jwe-rsa`: it seals what the gateway opens, and opens what the gateway seals to its key.

use std::{borrow::Cow, time::Duration};

use aws_lc_rs::rsa::OaepPrivateDecryptingKey;
use gapura_config::model::Preset;

use super::profiles::jwe_rsa::{JweRsa, public_key, unwrap};
use crate::{
    contract::Now,
    crypto::jwe::{Alg, Compact, Header, OpeningKey},
};

/// To whom a partner seals.
pub struct Receiver<'r> {
    pub preset: Option<Preset>,
    /// A public key or a certificate in PEM.
    pub pem: &'r [u8],
    /// The name under which the gateway finds its key.
    pub kid: &'r str,
}

/// The message, in the wrapper of its preset. The errors are about the key.
pub fn seal(to: &Receiver<'_>, content_type: &str, unix_ms: u64, plaintext: &[u8]) -> Result<String, &'static str> {
    let sender = JweRsa::of_partner(to.preset, public_key(to.pem)?, to.kid);
    let now = Now { monotonic: Duration::ZERO, unix_ms };
    let sealed = sender.prepare(sender.reply(), content_type, now).and_then(|prepared| prepared.finish(plaintext));
    let sealed = sealed.map_err(|_| "nothing can be sealed with this key")?;
    Ok(match sender.wrapper() {
        Some((before, behind)) => before + &sealed + behind,
        None => sealed,
    })
}

/// What a message holds, and the name that it gives to its key.
pub fn open(
    preset: Option<Preset>,
    body: &[u8],
    key: &OaepPrivateDecryptingKey,
) -> Result<(Vec<u8>, Option<String>), &'static str> {
    let message = match preset {
        Some(preset) => unwrap(preset, body).ok_or("the input is no message in the wrapper of its preset")?,
        None => Cow::Borrowed(std::str::from_utf8(body).map_err(|_| "the input is no compact JWE")?),
    };
    let compact = Compact::split(message.as_bytes()).map_err(|_| "the input is no compact JWE")?;
    let json = compact.header().map_err(|_| "the input is no compact JWE")?;
    let header = Header::read(&json).map_err(|why| why.0)?;
    if header.alg != Alg::RsaOaep256 {
        return Err("the message is not of RSA-OAEP-256");
    }
    let opened = compact.open(&header, OpeningKey::Rsa(key));
    let plaintext = opened.map_err(|_| "the message was changed, or sealed to another key")?;
    Ok((plaintext, header.kid().map(str::to_owned)))
}
