//! JSON Web Encryption, compact (RFC 7516), of bodies and of tokens: bytes in, bytes out.
//!
//! Strict where the standard leaves room. A message has one spelling: canonical base64url, no member twice, one recipient. What
//! widens the attack surface does not exist here: `RSA1_5` (Bleichenbacher), `RSA-OAEP` with SHA-1, PBES2 (an iteration count of
//! the sender's choice), `zip` (bombs, and lengths that tell of content), extensions by `crit`. A key that does not unwrap is
//! replaced by a random one (RFC 7516, section 11.5), so that a wrong key and a wrong tag are one failure.

mod agreement;
mod algorithms;
mod compact;
pub mod content;
mod open;
mod seal;

#[cfg(test)]
mod tests;

pub use self::{
    algorithms::{Alg, Enc},
    compact::{Compact, Header, MAX_HEADER, Malformed},
    open::{OpeningKey, Unopened},
    seal::{Agreed, Prepared, SealingKey, Unsealable, seal},
};

/// Of the URL-safe alphabet, without padding, with no spare bit set: one spelling of each text.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(text).ok()
}
