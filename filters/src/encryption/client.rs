//! The client's side of an envelope, for `gapura encrypt` and `gapura decrypt`.
//!
//! Faults here are precise: they are read by the person who holds the key, and never sent over a network.

use std::fmt;

use gapura_config::model::{EnvelopeFields, KeyDerivation};

use super::envelope::{self, Envelope, Form, Labels, Reading};
use crate::{
    contract::UserId,
    crypto::{self, Ciphertext, LocalFailure, Passphrase},
};

/// What a passphrase is made of.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    pub user_id: &'a str,
    pub email: &'a str,
    pub master_key: &'a [u8],
    pub key_derivation: KeyDerivation,
}

/// Why an envelope cannot be opened. Never a byte of key or content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What the JSON lacks.
    NotAnEnvelope(&'static str),
    UserId,
    Timestamp,
    KeyHash,
    Ciphertext(LocalFailure),
}

/// The JSON of a request envelope, with a fresh salt. `timestamp` is in milliseconds since 1970.
pub fn seal_request(plaintext: &[u8], identity: Identity<'_>, timestamp: u64) -> String {
    let passphrase = identity.passphrase(timestamp);
    let labels = Labels {
        key_hash: &crypto::key_hash(passphrase.as_bytes()),
        timestamp,
        user_id: &UserId::string(identity.user_id),
        success: true,
    };
    text(Form::bare(&EnvelopeFields::default()).seal(plaintext, &passphrase, super::salt(), labels))
}

/// Opens an envelope, bare or within `{"success":…,"data":…}`. The content may be anything: not every upstream answers JSON.
pub fn open_envelope(json: &[u8], identity: Identity<'_>) -> Result<Vec<u8>, Fault> {
    open(json, identity, None)
}

/// The same for an envelope that must carry this time, in milliseconds since 1970.
pub fn open_envelope_of(json: &[u8], identity: Identity<'_>, timestamp: u64) -> Result<Vec<u8>, Fault> {
    open(json, identity, Some(timestamp))
}

fn open(json: &[u8], identity: Identity<'_>, timestamp: Option<u64>) -> Result<Vec<u8>, Fault> {
    let fields = EnvelopeFields::default();
    let inner;
    let envelope = match envelope::read(json, &fields) {
        Reading::Other(why) => {
            inner = unwrapped(json).ok_or(Fault::NotAnEnvelope(why))?;
            complete(envelope::read(&inner, &fields))?
        }
        reading => complete(reading)?,
    };
    if envelope.user_id != identity.user_id {
        return Err(Fault::UserId);
    }
    if timestamp.is_some_and(|wanted| wanted != envelope.timestamp) {
        return Err(Fault::Timestamp);
    }
    let passphrase = identity.passphrase(envelope.timestamp);
    if envelope.key_hash.as_bytes() != crypto::key_hash(passphrase.as_bytes()) {
        return Err(Fault::KeyHash);
    }
    open_with_passphrase(envelope.data.as_bytes(), passphrase.as_bytes())
}

/// The bare base64 of `encryptedData`, with a fresh salt.
pub fn seal_with_passphrase(plaintext: &[u8], passphrase: &[u8]) -> String {
    let mut out = Vec::with_capacity(crypto::sealed_len(plaintext.len()));
    crypto::seal(plaintext, passphrase, super::salt(), &mut out);
    text(out)
}

/// Opens what [`seal_with_passphrase`] and `CryptoJS.AES.encrypt` write. White space around it is what terminals add.
pub fn open_with_passphrase(base64: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, Fault> {
    Ciphertext::decode(base64.trim_ascii())
        .and_then(|ciphertext| ciphertext.open_locally(passphrase))
        .map_err(Fault::Ciphertext)
}

impl Identity<'_> {
    fn passphrase(&self, timestamp: u64) -> Passphrase {
        let bound = match self.key_derivation {
            KeyDerivation::User => None,
            KeyDerivation::UserTimestamp => Some(timestamp),
        };
        crypto::passphrase(self.user_id, self.email, self.master_key, bound)
    }
}

fn complete(reading: Reading<'_>) -> Result<Envelope<'_>, Fault> {
    match reading {
        Reading::Envelope(envelope) => Ok(envelope),
        Reading::Broken(why) | Reading::Other(why) => Err(Fault::NotAnEnvelope(why)),
    }
}

/// The object under `data`.
fn unwrapped(json: &[u8]) -> Option<Vec<u8>> {
    let mut outer: serde_json::Value = serde_json::from_slice(json).ok()?;
    let inner = outer.get_mut("data")?.take();
    if inner.is_object() { serde_json::to_vec(&inner).ok() } else { None }
}

/// JSON and base64 are text by construction.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnEnvelope(why) => return write!(f, "the input is not an envelope: {why}"),
            Self::UserId => "the envelope is for another user id",
            Self::Timestamp => "the envelope carries another timestamp",
            Self::KeyHash => {
                "the envelope was sealed under another passphrase: user id, email, master key or key derivation differ"
            }
            Self::Ciphertext(LocalFailure::Base64) => "the ciphertext is not canonical base64",
            Self::Ciphertext(LocalFailure::Prefix) => "the ciphertext does not start with `Salted__`",
            Self::Ciphertext(LocalFailure::Length) => "the ciphertext is not a whole number of 16-byte blocks",
            Self::Ciphertext(LocalFailure::Padding) => {
                "the ciphertext was changed, or sealed under another passphrase: its padding is wrong"
            }
        })
    }
}

impl std::error::Error for Fault {}
