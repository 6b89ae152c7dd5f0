//! From a caller's identity to a passphrase, and from a passphrase to a key.

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Lowercase hex of the SHA-256 of a passphrase: `keyHash` on the wire. Not secret, yet an offline oracle: never logged.
pub type KeyHash = [u8; 64];

/// 64 characters of lowercase hex. Wiped when dropped, absent from `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Passphrase([u8; 64]);

/// What AES-256-CBC is started with. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KeyIv {
    pub key: [u8; 32],
    pub iv: [u8; 16],
}

/// `userId_email_masterKey`, with `_timestamp` (milliseconds) for the derivation `user_timestamp`, hashed with SHA-256.
///
/// The format has no way to tell `a_b` + `c` from `a` + `b_c`: two callers whose ids and addresses are chosen to run into
/// each other share a passphrase. Existing clients fix these bytes; identity providers that let users choose ids with `_`
/// and addresses at once should not feed this profile.
pub fn passphrase(user_id: &str, email: &str, master_key: &[u8], timestamp: Option<u64>) -> Passphrase {
    let mut hash = Sha256::new();
    hash.update(user_id);
    hash.update(b"_");
    hash.update(email);
    hash.update(b"_");
    hash.update(master_key);
    if let Some(timestamp) = timestamp {
        hash.update(b"_");
        hash.update(itoa::Buffer::new().format(timestamp));
    }
    let mut digest = hash.finalize();
    let passphrase = Passphrase(hex(digest.as_ref()));
    digest.as_mut_slice().zeroize();
    passphrase
}

/// SHA-256 of the passphrase *as text*, not of the bytes its hex stands for.
pub fn key_hash(passphrase: &[u8]) -> KeyHash {
    hex(Sha256::digest(passphrase).as_ref())
}

/// OpenSSL's `EVP_BytesToKey` with MD5 and one round: D1 ‖ D2 ‖ D3 with Dn = MD5(Dn-1 ‖ passphrase ‖ salt).
///
/// One round of MD5 stretches nothing. It is harmless here only because a passphrase is the SHA-256 of a secret master key.
pub fn evp_bytes_to_key(passphrase: &[u8], salt: &[u8; 8]) -> KeyIv {
    let mut derived = Zeroizing::new([0; 48]);
    for end in [16, 32, 48] {
        let mut hash = Md5::new();
        if end > 16 {
            hash.update(&derived[end - 32..end - 16]);
        }
        hash.update(passphrase);
        hash.update(salt);
        hash.finalize_into((&mut derived[end - 16..end]).try_into().expect("a block of MD5 has 16 bytes"));
    }
    let mut made = KeyIv { key: [0; 32], iv: [0; 16] };
    made.key.copy_from_slice(&derived[..32]);
    made.iv.copy_from_slice(&derived[32..]);
    made
}

/// Without branch or lookup by value, as the digits of a passphrase are secret.
pub(super) fn hex(digest: &[u8; 32]) -> [u8; 64] {
    let digit = |nibble: u8| nibble + b'0' + (((9_i8 - nibble as i8) >> 7) as u8 & (b'a' - b'0' - 10));
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text
}

impl Passphrase {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_lowercase_and_whole() {
        let digest: [u8; 32] = std::array::from_fn(|i| (i * 8) as u8 | (i as u8 >> 1));
        let expected: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex(&digest), expected.as_bytes());
    }

    #[test]
    fn a_passphrase_hashes_its_parts_joined_by_underscores() {
        let of = |text: &str| hex(Sha256::digest(text).as_ref());
        assert_eq!(passphrase("u1", "a@b.c", b"key", None).0, of("u1_a@b.c_key"));
        assert_eq!(passphrase("u1", "a@b.c", b"key", Some(17)).0, of("u1_a@b.c_key_17"));
        assert_eq!(format!("{:?}", passphrase("u1", "a@b.c", b"key", None)), "Passphrase(…)");
    }
}
