//! `Salted__` ‖ salt ‖ AES-256-CBC/PKCS#7, in base64: what `openssl enc -aes-256-cbc -md md5` and `CryptoJS.AES` write.

use aes::{Aes256Dec, Aes256Enc};
use cbc::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, array::typenum::U16};
use sha2::{Digest, Sha256};
use subtle::Choice;
use zeroize::Zeroize;

use super::{
    bulk_base64::STANDARD,
    derive::evp_bytes_to_key,
    json::is_json,
    padding::{blank, unpad},
};

pub const SALT_LEN: usize = 8;
const MAGIC: &[u8; 8] = b"Salted__";
const HEADER: usize = MAGIC.len() + SALT_LEN;
const BLOCK: usize = 16;

/// It cannot be opened. That is all that anyone learns: base64, length, prefix, padding, UTF-8 and JSON are one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenError;

/// Why a message cannot be opened, for the person who holds the key at a terminal. Never for a client of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalFailure {
    Base64,
    Prefix,
    Length,
    Padding,
}

/// Decoded, its form checked; not yet decrypted. Everything known so far, the sender knows as well.
pub struct Ciphertext(Vec<u8>);

/// Decodes and decrypts. What comes back is well-formed JSON.
pub fn open(base64: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, OpenError> {
    Ciphertext::decode(base64).map_err(|_| OpenError)?.open(passphrase)
}

impl Ciphertext {
    /// Strict and canonical (RFC 4648, section 3.5): padding required, unused bits zero, no white space. One message has
    /// one spelling, or a replayed one could be written anew.
    pub fn decode(base64: &[u8]) -> Result<Self, LocalFailure> {
        let bytes = STANDARD.decode_to_vec(base64).map_err(|_| LocalFailure::Base64)?;
        if !bytes.starts_with(MAGIC) {
            return Err(LocalFailure::Prefix);
        }
        if bytes.len() < HEADER + BLOCK || !bytes.len().is_multiple_of(BLOCK) {
            return Err(LocalFailure::Length);
        }
        Ok(Self(bytes))
    }

    /// The first 128 bits of SHA-256 over `scope` and the whole message, salt included: its name in the memory of replays.
    pub fn fingerprint(&self, scope: &str) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update((scope.len() as u64).to_be_bytes());
        hash.update(scope);
        hash.update(&self.0);
        let digest: [u8; 32] = hash.finalize().into();
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&digest[..16]);
        fingerprint
    }

    /// Decrypts in place. Padding and content are both examined, over the same bytes, before either result is looked at.
    pub fn open(self, passphrase: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut plaintext = self.decrypt(passphrase);
        let Some(last_block) = plaintext.last_chunk_mut::<BLOCK>() else { return Err(OpenError) };
        let (good_padding, padding) = unpad(last_block);
        blank(last_block, padding);
        let good_content = Choice::from(u8::from(is_json(&plaintext)));
        // The only branch: what it tells is what the answer tells anyway.
        if bool::from(good_padding & good_content) {
            plaintext.truncate(plaintext.len() - usize::from(padding));
            Ok(plaintext)
        } else {
            plaintext.zeroize();
            Err(OpenError)
        }
    }

    /// For the one who holds the key at a terminal: any content, and a plain answer.
    pub fn open_locally(self, passphrase: &[u8]) -> Result<Vec<u8>, LocalFailure> {
        let mut plaintext = self.decrypt(passphrase);
        let Some(last_block) = plaintext.last_chunk::<BLOCK>() else { return Err(LocalFailure::Length) };
        let (good, padding) = unpad(last_block);
        if !bool::from(good) {
            plaintext.zeroize();
            return Err(LocalFailure::Padding);
        }
        plaintext.truncate(plaintext.len() - usize::from(padding));
        Ok(plaintext)
    }

    /// The blocks decrypted, padding still on.
    fn decrypt(self, passphrase: &[u8]) -> Vec<u8> {
        let mut bytes = self.0;
        let mut salt = [0; SALT_LEN];
        salt.copy_from_slice(&bytes[MAGIC.len()..HEADER]);
        // Moving the message over its header costs far less than the allocation that a copy would need.
        bytes.drain(..HEADER);
        let secret = evp_bytes_to_key(passphrase, &salt);
        let mut cipher = cbc::Decryptor::<Aes256Dec>::new(&secret.key.into(), &secret.iv.into());
        cipher.decrypt_blocks(blocks(&mut bytes));
        bytes
    }
}

/// The length of what [`seal`] writes for a plaintext of this length.
pub const fn sealed_len(plaintext_len: usize) -> usize {
    (HEADER + padded(plaintext_len)).div_ceil(3) * 4
}

const fn padded(plaintext_len: usize) -> usize {
    (plaintext_len / BLOCK + 1) * BLOCK
}

/// Bytes encrypted at a time: few enough that clearing the buffers costs a small message little, and a multiple of both 16
/// (AES) and 3 (base64), so that every piece but the last is written without base64 padding.
const PIECE: usize = 48 * 32;

/// Encrypts and appends the base64 to `out`. The salt must be fresh and random: it alone makes the key and the IV new.
pub fn seal(plaintext: &[u8], passphrase: &[u8], salt: [u8; SALT_LEN], out: &mut Vec<u8>) {
    out.reserve_exact(sealed_len(plaintext.len()));
    let secret = evp_bytes_to_key(passphrase, &salt);
    let mut cipher = cbc::Encryptor::<Aes256Enc>::new(&secret.key.into(), &secret.iv.into());

    let mut piece = [0; PIECE];
    piece[..MAGIC.len()].copy_from_slice(MAGIC);
    piece[MAGIC.len()..HEADER].copy_from_slice(&salt);
    let mut start = HEADER;
    let mut rest = plaintext;
    loop {
        let (now, later) = rest.split_at(rest.len().min(PIECE - start));
        let mut end = start + now.len();
        piece[start..end].copy_from_slice(now);
        // A piece that is not full holds the end of the plaintext; one that is full may, and then the padding comes next.
        let last = end < PIECE;
        if last {
            let padding = BLOCK - end % BLOCK;
            piece[end..end + padding].fill(padding as u8);
            end += padding;
        }
        cipher.encrypt_blocks(blocks(&mut piece[start..end]));
        STANDARD.encode_append(&piece[..end], out);
        if last {
            return;
        }
        (start, rest) = (0, later);
    }
}

fn blocks(bytes: &mut [u8]) -> &mut [Array<u8, U16>] {
    Array::slice_as_chunks_mut(bytes).0
}
