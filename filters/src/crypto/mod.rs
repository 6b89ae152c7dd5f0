//! Pure cryptography of body envelopes: bytes in, bytes out; no clock, no HTTP.
//!
//! `cryptojs` (`salted`) is the format of existing clients, byte for byte, with every weakness it has: AES-CBC without a MAC,
//! MD5 key derivation, a passphrase hash on the wire. What can be done about them without changing a byte is done here and
//! in [`crate::encryption`]: one opaque error, padding in constant time, plaintext that must be well-formed JSON; and
//! [`mac`] closes the rest for clients that send one header more. Of the strong formats [`hpke`] (RFC 9180) and
//! [`aes128gcm`] (RFC 8188) stand here.

pub mod aes128gcm;
mod bulk_base64;
mod derive;
mod fields;
pub mod hkdf;
pub mod hpke;
mod json;
pub mod jwe;
mod jwk;
pub mod mac;
mod padding;
mod salted;
#[cfg(test)]
pub(crate) mod testing;

pub use derive::{KeyHash, KeyIv, Passphrase, evp_bytes_to_key, key_hash, passphrase};
pub use fields::{decimal, fields};
pub use json::is_json;
pub use jwk::{Curve, PublicJwk};
pub use padding::unpad;
pub use salted::{Ciphertext, LocalFailure, OpenError, SALT_LEN, open, seal, sealed_len};
