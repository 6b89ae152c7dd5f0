//! RFC 8188, content coding `aes128gcm`: a header, then records that are authenticated one by one, so that a body of any
//! length is opened and sealed with the memory of one record.
//!
//! Records are bound to their place by their nonce, and the end of the body is marked inside the last one: what is reordered
//! does not open, what is cut off is noticed. A record may have [`MAX_RECORD`] bytes, less than the RFC allows: it is what a
//! stranger can make the gateway hold.

mod open;
mod seal;
mod stream;
#[cfg(test)]
mod tests;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub use self::{
    open::open_in_place,
    seal::{Sealer, seal, sealed_len},
    stream::{Opener, Writer},
};
use super::{OpenError, fields::decimal, hkdf};

pub const SALT_LEN: usize = 16;
/// What our writers use.
pub const RECORD: u32 = 64 << 10;
pub const MAX_RECORD: u32 = 1 << 20;
/// One byte of content, its delimiter, the tag (RFC 8188, section 2).
pub const MIN_RECORD: u32 = 18;

const TAG: usize = 16;
/// Salt, record size, length of the key id.
const FIXED: usize = SALT_LEN + 4 + 1;
const MORE: u8 = 1;
const LAST: u8 = 2;
const INPUT_LABEL: &[u8] = b"gapura aes128gcm v1\0";

/// What stands before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub salt: [u8; SALT_LEN],
    pub record_size: u32,
    pub key_id: &'a str,
}

impl<'a> Header<'a> {
    /// None: there must be more bytes before it can be said.
    pub fn read(bytes: &'a [u8]) -> Result<Option<Self>, OpenError> {
        let Some((salt, rest)) = bytes.split_first_chunk::<SALT_LEN>() else { return Ok(None) };
        let Some((record_size, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let record_size = u32::from_be_bytes(*record_size);
        if !(MIN_RECORD..=MAX_RECORD).contains(&record_size) {
            return Err(OpenError);
        }
        let Some((len, rest)) = rest.split_first() else { return Ok(None) };
        let Some(key_id) = rest.get(..usize::from(*len)) else { return Ok(None) };
        let key_id = std::str::from_utf8(key_id).map_err(|_| OpenError)?;
        Ok(Some(Self { salt: *salt, record_size, key_id }))
    }

    /// Where the first record begins.
    pub fn end(&self) -> usize {
        FIXED + self.key_id.len()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.record_size.to_be_bytes());
        out.push(u8::try_from(self.key_id.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.key_id.as_bytes());
    }
}

/// `kid~iat~id`, the key id of this profile: under which key, when, and which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId<'a> {
    pub kid: &'a str,
    /// Milliseconds since 1970.
    pub iat: u64,
    /// 16 bytes in base64url, as they were sent.
    pub id: &'a str,
}

impl<'a> KeyId<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kid, rest) = text.split_once('~')?;
        let (iat, id) = rest.split_once('~')?;
        Some(Self { kid, iat: decimal(iat)?, id })
    }
}

impl std::fmt::Display for KeyId<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}~{}~{}", self.kid, self.iat, self.id)
    }
}

/// The input key of RFC 8188 for one message: the context goes into the key, so that any library can do the rest.
pub fn input_key(session_key: &[u8; 32], context: &[u8]) -> zeroize::Zeroizing<[u8; 32]> {
    hkdf::extract(&[], &[session_key]).expand(&[INPUT_LABEL, context])
}

/// The cipher of one body, and the number of its next record.
struct Records {
    cipher: LessSafeKey,
    nonce: [u8; 12],
    next: u64,
}

impl Records {
    fn new(input_key: &[u8], salt: &[u8; SALT_LEN]) -> Self {
        let prk = hkdf::extract(salt, &[input_key]);
        let key = prk.expand::<16>(&[b"Content-Encoding: aes128gcm\0"]);
        let nonce = prk.expand::<12>(&[b"Content-Encoding: nonce\0"]);
        let key = UnboundKey::new(&AES_128_GCM, &key[..]).expect("a key of AES-128 has 16 bytes");
        Self { cipher: LessSafeKey::new(key), nonce: *nonce, next: 0 }
    }

    /// Of 2^64 records of at least 18 bytes the last never comes.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.nonce;
        for (byte, count) in nonce[4..].iter_mut().zip(self.next.to_be_bytes()) {
            *byte ^= count;
        }
        self.next = self.next.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Decrypts one record where it stands. How much content it has, and whether it is the last.
    fn open(&mut self, record: &mut [u8]) -> Result<(usize, bool), OpenError> {
        let nonce = self.next_nonce();
        let plain = self.cipher.open_in_place(nonce, Aad::empty(), record).map_err(|_| OpenError)?;
        // It is authentic from here on, so that a search by value tells nobody anything new.
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(OpenError)?;
        match plain[end] {
            MORE => Ok((end, false)),
            LAST => Ok((end, true)),
            _ => Err(OpenError),
        }
    }

    /// Appends a record of this content.
    fn append(&mut self, content: &[u8], delimiter: u8, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + content.len(), 0);
        let mut end = [0; 1 + TAG];
        let nonce = self.next_nonce();
        self.cipher
            .seal_out_of_place_scatter(nonce, Aad::empty(), content, &mut out[start..], &[delimiter], &mut end)
            .expect("a record is far below the limit of the cipher");
        out.extend_from_slice(&end);
    }

    /// Encrypts the bytes of `out` from `start` on, as one record.
    fn seal(&mut self, out: &mut Vec<u8>, start: usize, delimiter: u8) {
        self.seal_padded(out, start, delimiter, 0);
    }

    /// The same, with so many zeros behind the delimiter.
    fn seal_padded(&mut self, out: &mut Vec<u8>, start: usize, delimiter: u8, padding: usize) {
        out.push(delimiter);
        out.resize(out.len() + padding, 0);
        let nonce = self.next_nonce();
        let tag = self.cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..]);
        out.extend_from_slice(tag.expect("a record is far below the limit of the cipher").as_ref());
    }
}
