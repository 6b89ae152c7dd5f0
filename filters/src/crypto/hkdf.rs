//! HKDF-SHA-256 (RFC 5869), over an HMAC whose key blocks are hashed once however many outputs it is asked for.
//!
//! Written out instead of taken from a library for that one reason: a message under a session key asks for seven outputs,
//! and the libraries at hand hash the key blocks anew for each.

use std::sync::LazyLock;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// What `extract` makes. Wiped when dropped, by the HMAC itself.
pub struct Prk(Hmac<Sha256>);

/// HMAC under the empty salt, which RFC 5869 reads as 32 zero bytes.
static NO_SALT: LazyLock<Hmac<Sha256>> = LazyLock::new(|| keyed(&[]));

/// HKDF-Extract. The input may come in pieces.
pub fn extract(salt: &[u8], input: &[&[u8]]) -> Prk {
    Prk::new(&extract_bytes(salt, input)[..])
}

/// The same, as bytes.
pub fn extract_bytes(salt: &[u8], input: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = if salt.is_empty() { NO_SALT.clone() } else { keyed(salt) };
    for piece in input {
        mac.update(piece);
    }
    let mut prk = mac.finalize().into_bytes();
    let mut out = Zeroizing::new([0; 32]);
    out.copy_from_slice(&prk);
    prk.as_mut_slice().zeroize();
    out
}

impl Prk {
    /// What was extracted elsewhere.
    pub fn new(bytes: &[u8]) -> Self {
        Self(keyed(bytes))
    }

    /// HKDF-Expand to at most one block: every key and nonce here is that short. `info` may come in pieces.
    pub fn expand<const LEN: usize>(&self, info: &[&[u8]]) -> Zeroizing<[u8; LEN]> {
        const { assert!(LEN <= 32, "one block of SHA-256") };
        let mut mac = self.0.clone();
        for piece in info {
            mac.update(piece);
        }
        mac.update(&[1]);
        let mut block = mac.finalize().into_bytes();
        let mut out = Zeroizing::new([0; LEN]);
        out.copy_from_slice(&block[..LEN]);
        block.as_mut_slice().zeroize();
        out
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::unhex;

    #[test]
    fn agrees_with_rfc_5869_where_one_block_is_asked_for() {
        // Appendix A.1: 42 bytes; the first block of it.
        let prk = extract(&unhex("000102030405060708090a0b0c"), &[&[0x0b; 10], &[0x0b; 12]]);
        let okm = prk.expand::<32>(&[&unhex("f0f1f2f3f4"), &unhex("f5f6f7f8f9")]);
        assert_eq!(okm[..], unhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
        // Appendix A.3: no salt, no info.
        let okm = extract(&[], &[&[0x0b; 22]]).expand::<32>(&[]);
        assert_eq!(okm[..], unhex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"));
    }

    #[test]
    fn agrees_with_another_implementation_on_any_lengths() {
        use aws_lc_rs::hkdf;
        struct Len(usize);
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                self.0
            }
        }
        for len in [0, 1, 31, 32, 63, 64, 65, 200] {
            let (salt, input, info) = (vec![1; len], vec![2; 200 - len], vec![3; len]);
            let theirs = hkdf::Salt::new(hkdf::HKDF_SHA256, &salt).extract(&input);
            let mut out = [0; 12];
            theirs.expand(&[&info], Len(12)).and_then(|okm| okm.fill(&mut out)).expect("short enough");
            assert_eq!(*extract(&salt, &[&input]).expand::<12>(&[&info]), out);
        }
    }
}
