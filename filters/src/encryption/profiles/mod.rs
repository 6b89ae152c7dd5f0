//! The wire formats. Each opens a request's message and seals its response; what all of them have in common stands in
//! [`super`]: what a request shows from outside, age, replay, and the head.

pub(super) mod aes128gcm;
pub(super) mod cryptojs;
pub(super) mod hpke;
pub(super) mod jwe;
pub(super) mod jwe_rsa;
pub(super) mod masters;

use bytes::Bytes;
use gapura_config::model::Profile;

use super::response::How;

/// What a strong profile made of a message: authenticated, and bound to its request.
pub(super) struct Opened {
    pub(super) plaintext: Bytes,
    /// What the plaintext is; empty where the message had no content.
    pub(super) content_type: String,
    /// When it was made, in milliseconds since 1970. None: the scheme does not say.
    pub(super) iat: Option<u64>,
    /// What no other message of this caller has: it tells replays.
    pub(super) unique: Vec<u8>,
    pub(super) sealing: How,
}

/// The order of strength (1 is `cryptojs` with its MAC): what a response may not fall below, and what a body is tried for first.
pub(super) const fn strength(profile: Profile) -> u8 {
    match profile {
        Profile::Hpke | Profile::Jwe | Profile::Aes128Gcm => 3,
        Profile::JweRsa => 2,
        Profile::CryptoJs => 0,
    }
}
