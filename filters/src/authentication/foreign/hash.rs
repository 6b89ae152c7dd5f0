//! How backends find and hash keys, and the comparison.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gapura_config::model::{FindBy, HashEncoding, Hashed, KeyHash, KeyLookup};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::json::Json;

/// The hashing of one `[api_keys.NAME.lookup]`.
#[derive(PartialEq, Eq)]
pub(super) struct Hashing {
    hash: KeyHash,
    encoding: HashEncoding,
    find_by: FindBy,
    hashed: Hashed,
    /// The one of all keys.
    salt: Option<Zeroizing<Vec<u8>>>,
}

impl Hashing {
    pub(super) fn new(lookup: &KeyLookup, salt: Option<Zeroizing<Vec<u8>>>) -> Self {
        let KeyLookup { hash, encoding, hashed, .. } = *lookup;
        Self { hash, encoding, find_by: lookup.find_by.clone(), hashed, salt }
    }

    /// What `$1` is for this key. None: no such key is the backend's.
    pub(super) fn parameter(&self, key: &str) -> Option<Zeroizing<String>> {
        if let Some((part, _)) = self.find_by.split(key) {
            return Some(Zeroizing::new(part.to_owned()));
        }
        if self.find_by != FindBy::Hash {
            return None;
        }
        // Without a salt of its own no salted hash can be found by; the configuration was held to that.
        let salt = self.salt.as_ref().map_or(&b""[..], |salt| salt);
        Some(match self.hash {
            KeyHash::Plain => Zeroizing::new(key.to_owned()),
            _ => Zeroizing::new(self.encode(&self.digest(key, salt))),
        })
    }

    /// What a row must have beside the caller, to be compared.
    pub(super) fn columns(&self) -> Vec<&'static str> {
        let compared = self.find_by != FindBy::Hash || self.hash == KeyHash::Plain;
        let salted = self.hash.is_salted() && self.salt.is_none();
        [("hash", compared), ("salt", salted)].into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name).collect()
    }

    /// Whether a row is that of this key: its hash, compared in constant time.
    pub(super) fn fits(
        &self,
        key: &str,
        hash: Option<&Json<'_>>,
        salt: Option<&Json<'_>>,
    ) -> Result<bool, &'static str> {
        let Some(hash) = hash else {
            // It was found by the hash of the whole key, which nobody guesses; a key itself a database may compare as it likes.
            let found = self.find_by == FindBy::Hash && self.hash != KeyHash::Plain;
            return if found { Ok(true) } else { Err("the query gives no `hash`") };
        };
        let Json::String(hash) = hash else { return Err("its `hash` is no text") };
        let known = match octets(hash) {
            Some(octets) => octets,
            None if self.hash == KeyHash::Plain => Some(hash.as_bytes().to_vec()),
            None => self.decode(hash),
        };
        let known = Zeroizing::new(known.ok_or("its `hash` is not written in `encoding`")?);
        let own;
        let salt: &[u8] = match (&self.salt, salt) {
            (Some(salt), _) => salt,
            (None, _) if !self.hash.is_salted() => &[],
            (None, Some(Json::String(text))) => {
                own = octets(text).unwrap_or_else(|| Some(text.as_bytes().to_vec()));
                own.as_deref().filter(|salt| !salt.is_empty()).ok_or("its `salt` is empty")?
            }
            (None, _) => return Err("it has no `salt`"),
        };
        let hashed = match self.hashed {
            Hashed::Key => key,
            Hashed::Rest => self.find_by.split(key).map_or("", |(_, rest)| rest),
        };
        Ok(self.digest(hashed, salt).ct_eq(&known).into())
    }

    fn digest(&self, key: &str, salt: &[u8]) -> Vec<u8> {
        match self.hash {
            KeyHash::Plain => key.as_bytes().to_vec(),
            KeyHash::Sha256 => Sha256::digest(key).to_vec(),
            KeyHash::Sha512 => Sha512::digest(key).to_vec(),
            KeyHash::Sha256SaltKey => Sha256::new().chain_update(salt).chain_update(key).finalize().to_vec(),
            KeyHash::Sha256KeySalt => Sha256::new().chain_update(key).chain_update(salt).finalize().to_vec(),
            // An HMAC takes keys of any length.
            KeyHash::HmacSha256 => Hmac::<Sha256>::new_from_slice(salt).map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    mac.update(key.as_bytes());
                    mac.finalize().into_bytes().to_vec()
                },
            ),
        }
    }

    fn encode(&self, digest: &[u8]) -> String {
        match self.encoding {
            HashEncoding::Hex => digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            HashEncoding::Base64 => STANDARD.encode(digest),
            HashEncoding::Base64url => URL_SAFE_NO_PAD.encode(digest),
        }
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        match self.encoding {
            HashEncoding::Hex => from_hex(text),
            HashEncoding::Base64 => STANDARD.decode(text).ok(),
            HashEncoding::Base64url => URL_SAFE_NO_PAD.decode(text).ok(),
        }
    }
}

/// A column of bytes comes as PostgreSQL writes one: `\x` and hex. None: it is text.
fn octets(text: &str) -> Option<Option<Vec<u8>>> {
    text.strip_prefix("\\x").map(from_hex)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()).collect()
}
