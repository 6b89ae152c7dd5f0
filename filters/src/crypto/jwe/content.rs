//! Content encryption: AES-GCM, and AES-CBC with HMAC (RFC 7518, section 5).

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{
        AES_128, AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    hmac,
    iv::FixedLength,
};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::Enc;

/// Decrypts in place. `ciphertext` may have room for the tag behind it. None: one failure, whatever it was.
pub fn open(enc: Enc, key: &[u8], iv: &[u8], aad: &[u8], mut ciphertext: Vec<u8>, tag: &[u8]) -> Option<Vec<u8>> {
    if key.len() != enc.key_len() || iv.len() != enc.iv_len() || tag.len() != enc.tag_len() {
        return None;
    }
    let opened = match enc {
        Enc::A128Gcm | Enc::A256Gcm => {
            ciphertext.extend_from_slice(tag);
            let nonce = Nonce::try_assume_unique_for_key(iv).ok()?;
            gcm(enc, key)?.open_in_place(nonce, Aad::from(aad), &mut ciphertext).ok().map(|plaintext| plaintext.len())
        }
        Enc::A128CbcHs256 | Enc::A256CbcHs512 => {
            let (mac_key, cipher_key) = key.split_at(key.len() / 2);
            // Before a block is decrypted: padding is looked at only in what the sender wrote.
            if !bool::from(mac(enc, mac_key, iv, aad, &ciphertext)[..enc.tag_len()].ct_eq(tag)) {
                return None;
            }
            let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cbc(enc, cipher_key)?).ok()?;
            let iv: [u8; 16] = iv.try_into().ok()?;
            cipher.decrypt(&mut ciphertext, DecryptionContext::Iv128(FixedLength::from(iv))).ok().map(|p| p.len())
        }
    };
    match opened {
        Some(len) => {
            ciphertext.truncate(len);
            Some(ciphertext)
        }
        None => {
            ciphertext.zeroize();
            None
        }
    }
}

/// Encrypts in place and returns the tag. The initialisation vector must be new under this key.
pub fn seal(enc: Enc, key: &[u8], iv: &[u8], aad: &[u8], content: &mut Vec<u8>) -> Option<Vec<u8>> {
    if key.len() != enc.key_len() || iv.len() != enc.iv_len() {
        return None;
    }
    match enc {
        Enc::A128Gcm | Enc::A256Gcm => {
            let nonce = Nonce::try_assume_unique_for_key(iv).ok()?;
            let tag = gcm(enc, key)?.seal_in_place_separate_tag(nonce, Aad::from(aad), content).ok()?;
            Some(tag.as_ref().to_vec())
        }
        Enc::A128CbcHs256 | Enc::A256CbcHs512 => {
            let (mac_key, cipher_key) = key.split_at(key.len() / 2);
            let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(cbc(enc, cipher_key)?).ok()?;
            let start: [u8; 16] = iv.try_into().ok()?;
            cipher.less_safe_encrypt(content, EncryptionContext::Iv128(FixedLength::from(start))).ok()?;
            Some(mac(enc, mac_key, iv, aad, content)[..enc.tag_len()].to_vec())
        }
    }
}

fn gcm(enc: Enc, key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = if enc == Enc::A128Gcm { &AES_128_GCM } else { &AES_256_GCM };
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

fn cbc(enc: Enc, key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm = if enc == Enc::A128CbcHs256 { &AES_128 } else { &AES_256 };
    UnboundCipherKey::new(algorithm, key).ok()
}

/// RFC 7518, section 5.2.2.1: over associated data, initialisation vector, ciphertext, and the length of the first in bits.
fn mac(enc: Enc, key: &[u8], iv: &[u8], aad: &[u8], ciphertext: &[u8]) -> [u8; 64] {
    let algorithm = if enc == Enc::A128CbcHs256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA512 };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    context.update(aad);
    context.update(iv);
    context.update(ciphertext);
    context.update(&(aad.len() as u64 * 8).to_be_bytes());
    let tag = context.sign();
    let mut whole = [0; 64];
    whole[..tag.as_ref().len()].copy_from_slice(tag.as_ref());
    whole
}
