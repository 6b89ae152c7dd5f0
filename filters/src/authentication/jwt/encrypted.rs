//! Nested tokens (RFC 7519, section 5.2): a signed token, encrypted to a key of the gateway's.
//!
//! Decryption proves nothing of the sender: anyone has the public key. So what it gives is a signed token and nothing else, held
//! to every check that a token in clear is held to. An encrypted token without a signature inside is refused.

use std::{fmt, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model,
};
use zeroize::Zeroizing;

use crate::{
    authentication::Reason,
    crypto::jwe::{Alg, Compact, Enc, Header, Malformed, OpeningKey},
    keyring::{Key, Keyring, Keyrings},
};

/// Larger than a token in clear, as base64 stands around base64.
pub(super) const MAX_ENCRYPTED: usize = 12 * 1024;
/// Tokens that do not name their key are tried with so many.
const MAX_TRIED: usize = 8;

/// `[jwt.NAME.decryption]`, compiled.
pub(in crate::authentication) struct Decryption {
    ring: Arc<Keyring>,
    algorithms: Vec<Alg>,
    encryption: Vec<Enc>,
    accept_unencrypted: bool,
}

impl Decryption {
    /// None: the ring could not be loaded, and its own faults say why.
    pub(super) fn build(
        place: &Place,
        config: &model::JwtDecryption,
        rings: &Keyrings,
    ) -> Result<Option<Self>, Vec<Fault>> {
        let at = place.key("keyring");
        let Some(ring) = rings.get(&config.keyring) else {
            return Err(vec![Fault::at(at, format!("there is no `[keyrings.{}]`", config.keyring))]);
        };
        let Some(ring) = ring else { return Ok(None) };
        let algorithms: Vec<Alg> = config.algorithms.iter().filter_map(|alg| Alg::named(alg.name())).collect();
        let encryption: Vec<Enc> = config.encryption.iter().filter_map(|enc| Enc::named(enc.name())).collect();
        let faults = misfits(&at, ring, &algorithms, &encryption);
        if !faults.is_empty() {
            return Err(faults);
        }
        let accept_unencrypted = config.accept_unencrypted;
        Ok(Some(Self { ring: Arc::clone(ring), algorithms, encryption, accept_unencrypted }))
    }

    /// A token that is not encrypted is taken as well.
    pub(super) fn accepts_unencrypted(&self) -> bool {
        self.accept_unencrypted
    }

    /// How many of its keys are over. It only grows, and with each step what was opened before is worth nothing.
    pub(super) fn generation(&self, now_ms: u64) -> u64 {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let over = |until: i64| until <= now;
        self.ring.versions().iter().filter(|version| version.until().is_some_and(over)).count() as u64
    }

    /// The token inside. One reason for everything that depends on a key.
    pub(in crate::authentication) fn open(&self, text: &[u8], now_ms: u64) -> Result<Zeroizing<Vec<u8>>, Reason> {
        let malformed = |Malformed(why): Malformed| Reason::from(format!("the encrypted token: {why}"));
        if text.len() > MAX_ENCRYPTED {
            return Err("the encrypted token is longer than 12 KiB".into());
        }
        let message = Compact::split(text).map_err(malformed)?;
        let json = message.header().map_err(malformed)?;
        let header = Header::read(&json).map_err(malformed)?;
        if !self.algorithms.contains(&header.alg) || !self.encryption.contains(&header.enc) {
            return Err("the encrypted token's `alg` or `enc` is not accepted".into());
        }
        // RFC 7519, section 5.2: what is nested must be said to be.
        if !header.text("cty").is_some_and(|cty| cty.eq_ignore_ascii_case("JWT")) {
            return Err("the encrypted token does not say that it holds a signed one (`cty`)".into());
        }
        let named = header.kid().and_then(|kid| self.ring.opening(kid, now_ms));
        let keys = match named {
            Some(key) => vec![key],
            // An issuer may have names of its own for keys; whether one fits shows when it opens.
            None => self.ring.all_opening(now_ms).map(|(_, key)| key).take(MAX_TRIED).collect(),
        };
        let opened = keys.into_iter().find_map(|key| message.open(&header, opening(key, header.alg)).ok());
        opened.map(Zeroizing::new).ok_or_else(|| "the encrypted token does not open".into())
    }
}

/// As `alg` has it. A key of another kind than the algorithm's opens nothing.
fn opening(key: &Key, alg: Alg) -> OpeningKey<'_> {
    match key {
        Key::Agreement(key) => OpeningKey::Agreement(&key.private),
        Key::Rsa(key) => OpeningKey::Rsa(&key.private),
        // The rules of the configuration let no ring with one decrypt tokens.
        Key::Remote(_) => OpeningKey::Unwrapped(None),
        Key::Secret(secret) if alg == Alg::Dir => OpeningKey::Direct(secret.bytes()),
        Key::Secret(secret) => OpeningKey::Wrapping(secret.bytes()),
    }
}

/// A secret is used as it is here, so its length must be that of the algorithm.
fn misfits(place: &Place, ring: &Keyring, algorithms: &[Alg], encryption: &[Enc]) -> Vec<Fault> {
    let lengths: Vec<usize> = algorithms
        .iter()
        .flat_map(|alg| match alg {
            Alg::Dir => encryption.iter().map(|enc| enc.key_len()).collect(),
            Alg::A256Kw => vec![32],
            _ => Vec::new(),
        })
        .collect();
    let secrets = ring.versions().iter().filter_map(|version| match version.opening(0) {
        Some(Key::Secret(secret)) => Some((version.kid(), secret.bytes().len())),
        _ => None,
    });
    secrets
        .filter(|(_, length)| !lengths.contains(length))
        .map(|(kid, length)| {
            let wanted: Vec<String> = lengths.iter().map(usize::to_string).collect();
            let message =
                format!("the secret of {kid} has {length} bytes, and its algorithms take {}", wanted.join(" or "));
            // A ring has none that is shorter.
            let fit = lengths.iter().copied().find(|length| *length >= 32).unwrap_or(32);
            Fault::at(place.clone(), message)
                .help(format!("write the secret as its bytes: `openssl rand {fit} > FILE`"))
        })
        .collect()
}

/// ` encrypted to keyring tokens (RSA-OAEP-256; A256GCM)`, for `gapura explain`.
impl fmt::Display for Decryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<&str> = self.algorithms.iter().map(|alg| alg.name()).collect();
        let encryption: Vec<&str> = self.encryption.iter().map(|enc| enc.name()).collect();
        let also = if self.accept_unencrypted { " or in clear" } else { "" };
        let (ring, algorithms, encryption) = (self.ring.name(), algorithms.join(" "), encryption.join(" "));
        write!(f, "encrypted to keyring {ring} ({algorithms}; {encryption}){also}")
    }
}
