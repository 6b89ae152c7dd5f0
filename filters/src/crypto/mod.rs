//! Pure cryptography of body envelopes, profile `cryptojs`: bytes in, bytes out; no clock, no randomness, no HTTP.
//!
//! The format is that of existing clients, byte for byte, with every weakness it has: AES-CBC without a MAC, MD5 key
//! derivation, a passphrase hash on the wire. What can be done about them without changing a byte is done here and in
//! [`crate::encryption`]: one opaque error, padding in constant time, plaintext that must be well-formed JSON.

mod derive;
mod fields;
mod json;
pub mod jwe;
mod jwk;
mod padding;
mod salted;

pub use derive::{KeyHash, KeyIv, Passphrase, evp_bytes_to_key, key_hash, passphrase};
pub use fields::fields;
pub use json::is_json;
pub use jwk::{Curve, PublicJwk};
pub use padding::unpad;
pub use salted::{Ciphertext, LocalFailure, OpenError, SALT_LEN, open, seal, sealed_len};
