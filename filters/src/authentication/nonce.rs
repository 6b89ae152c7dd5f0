//! Values for clients to put into proofs (RFC 9449, section 8): a proof with one cannot have been made long before.
//!
//! Nothing is remembered. A value is its own time and a MAC over it, so any instance with the same key takes it, and it ends by
//! itself; that a proof is used once is seen to elsewhere.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(super) struct Nonces(Zeroizing<[u8; 32]>);

/// How long one may be used.
const LIFETIME: Duration = Duration::from_secs(300);
/// The clock of another instance may be ahead.
const AHEAD: Duration = Duration::from_secs(60);
const TIME: usize = 8;
const TAG: usize = 16;

/// What a value is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// Good, and the client should have the next one before this one ends.
    Old,
    /// Over, or never given out.
    Ended,
}

impl Nonces {
    /// From a secret of any length.
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(Zeroizing::new(mac(secret, b"gapura dpop nonce")))
    }

    pub(super) fn make(&self, now_ms: u64) -> HeaderValue {
        let time = (now_ms / 1000).to_be_bytes();
        let mut value = [0; TIME + TAG];
        value[..TIME].copy_from_slice(&time);
        value[TIME..].copy_from_slice(&self.tag(time));
        // base64url is always fit for a field.
        HeaderValue::try_from(URL_SAFE_NO_PAD.encode(value)).unwrap_or(HeaderValue::from_static(""))
    }

    pub(super) fn age(&self, nonce: &str, now_ms: u64) -> Age {
        let mut value = [0; TIME + TAG];
        if URL_SAFE_NO_PAD.decode_slice(nonce, &mut value) != Ok(value.len()) {
            return Age::Ended;
        }
        let (time, tag) = value.split_at(TIME);
        let time: [u8; TIME] = time.try_into().unwrap_or_default();
        if !bool::from(self.tag(time).ct_eq(tag)) {
            return Age::Ended;
        }
        let (made, now) = (u64::from_be_bytes(time), now_ms / 1000);
        match now.checked_sub(made) {
            None if made - now <= AHEAD.as_secs() => Age::Fresh,
            Some(age) if age <= LIFETIME.as_secs() / 2 => Age::Fresh,
            Some(age) if age <= LIFETIME.as_secs() => Age::Old,
            _ => Age::Ended,
        }
    }

    /// The key changes with each hour of the value's own time.
    fn tag(&self, time: [u8; TIME]) -> [u8; TAG] {
        let hour = u64::from_be_bytes(time) / 3600;
        let key = Zeroizing::new(mac(&*self.0, &hour.to_be_bytes()));
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac(&*key, &time)[..TAG]);
        tag
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length.
    Hmac::<Sha256>::new_from_slice(key).map_or([0; 32], |mut mac| {
        mac.update(message);
        mac.finalize().into_bytes().into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600_000;

    #[test]
    fn it_ends_by_itself_and_nobody_else_makes_one() {
        let nonces = Nonces::new(b"a secret");
        let made = nonces.make(NOW);
        let made = made.to_str().unwrap();
        for (after, age) in [(0, Age::Fresh), (150, Age::Fresh), (151, Age::Old), (300, Age::Old), (301, Age::Ended)] {
            assert_eq!(nonces.age(made, NOW + after * 1000), age, "{after}");
        }
        assert_eq!(nonces.age(made, NOW - 60_000), Age::Fresh);
        assert_eq!(nonces.age(made, NOW - 61_000), Age::Ended);
        assert_eq!(Nonces::new(b"another").age(made, NOW), Age::Ended);
        assert_eq!(Nonces::new(b"a secret").age(made, NOW), Age::Fresh, "another instance with the same key");
        for at in 0..made.len() {
            let mut changed = made.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(nonces.age(str::from_utf8(&changed).unwrap(), NOW), Age::Ended, "{at}");
        }
        for text in ["", "a", &made[1..], &format!("{made}="), &format!("{made}A"), &"A".repeat(4000)] {
            assert_eq!(nonces.age(text, NOW), Age::Ended, "{text}");
        }
    }
}
