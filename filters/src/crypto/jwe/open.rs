//! Opening a message.

use aws_lc_rs::{
    agreement,
    key_wrap::{AES_128, AES_256, AesKek, KeyWrap as _},
    rand,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey},
};
use zeroize::Zeroizing;

use super::{
    Alg, Compact, Header,
    agreement::{Purpose, agree},
    content, decode,
};
use crate::crypto::bulk_base64;

/// A key of the receiver's. It fits only the algorithms of its kind: a message never chooses what a key is used as.
#[derive(Clone, Copy)]
pub enum OpeningKey<'k> {
    /// For `dir`: the content encryption key itself.
    Direct(&'k [u8]),
    /// For `A128KW` and `A256KW`.
    Wrapping(&'k [u8]),
    /// For `RSA-OAEP-256`.
    Rsa(&'k OaepPrivateDecryptingKey),
    /// For `RSA-OAEP-256` with a private key that is elsewhere: the content encryption key as it was unwrapped there, if it was.
    Unwrapped(Option<&'k [u8]>),
    /// For `ECDH-ES` and its two with key wrapping.
    Agreement(&'k agreement::PrivateKey),
}

/// A message does not open; why is nobody's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unopened;

type Cek = Zeroizing<Vec<u8>>;

impl Compact<'_> {
    /// The content, decrypted and authenticated together with the header. `header` is the one of this message.
    pub fn open(&self, header: &Header<'_>, key: OpeningKey<'_>) -> Result<Vec<u8>, Unopened> {
        let part = |text: &[u8]| decode(text).ok_or(Unopened);
        let (encrypted_key, iv, tag) = (part(self.encrypted_key)?, part(self.iv)?, part(self.tag)?);
        let mut ciphertext = Vec::with_capacity(self.ciphertext.len() / 4 * 3 + 2 + tag.len());
        bulk_base64::URL_SAFE_NO_PAD.decode_append(self.ciphertext, &mut ciphertext).map_err(|_| Unopened)?;
        let cek = cek(header, &encrypted_key, key).ok_or(Unopened)?;
        content::open(header.enc, &cek, &iv, self.protected, ciphertext, &tag).ok_or(Unopened)
    }
}

/// The content encryption key. None: key and algorithm are no pair, which anybody can see; a key that does not unwrap is
/// replaced by a random one instead.
fn cek(header: &Header<'_>, encrypted_key: &[u8], key: OpeningKey<'_>) -> Option<Cek> {
    let len = header.enc.key_len();
    match (header.alg, key) {
        (Alg::Dir, OpeningKey::Direct(key)) => {
            (encrypted_key.is_empty() && key.len() == len).then(|| Zeroizing::new(key.to_vec()))
        }
        (Alg::A128Kw | Alg::A256Kw, OpeningKey::Wrapping(key)) => {
            (Some(key.len()) == header.alg.wrapping_len()).then(|| or_random(unwrap(key, encrypted_key, len), len))?
        }
        (Alg::RsaOaep256, OpeningKey::Rsa(key)) => or_random(decrypt(key, encrypted_key, len), len),
        (Alg::RsaOaep256, OpeningKey::Unwrapped(cek)) => {
            or_random(cek.filter(|cek| cek.len() == len).map(|cek| Zeroizing::new(cek.to_vec())), len)
        }
        (Alg::EcdhEs | Alg::EcdhEsA128Kw | Alg::EcdhEsA256Kw, OpeningKey::Agreement(private)) => {
            let purpose = Purpose { alg: header.alg, enc: header.enc, apu: &header.apu, apv: &header.apv };
            let agreed = agree(private, header.epk.as_ref()?, purpose)?;
            match header.alg {
                Alg::EcdhEs => encrypted_key.is_empty().then_some(agreed),
                _ => or_random(unwrap(&agreed, encrypted_key, len), len),
            }
        }
        _ => None,
    }
}

/// RFC 7516, section 11.5. The random key is made in either case, so that it costs no more time in one.
fn or_random(unwrapped: Option<Cek>, len: usize) -> Option<Cek> {
    let mut random = Zeroizing::new(vec![0; len]);
    rand::fill(&mut random).ok()?;
    Some(unwrapped.unwrap_or(random))
}

/// RFC 3394, for a content key of exactly this length.
fn unwrap(key: &[u8], wrapped: &[u8], len: usize) -> Option<Cek> {
    if wrapped.len() != len + 8 {
        return None;
    }
    let kek = AesKek::new(if key.len() == 16 { &AES_128 } else { &AES_256 }, key).ok()?;
    let mut cek = Zeroizing::new(vec![0; len]);
    kek.unwrap(wrapped, &mut cek).ok()?;
    Some(cek)
}

fn decrypt(key: &OaepPrivateDecryptingKey, encrypted: &[u8], len: usize) -> Option<Cek> {
    let mut room = Zeroizing::new(vec![0; key.min_output_size()]);
    let cek = key.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut room, None).ok()?;
    (cek.len() == len).then(|| Zeroizing::new(cek.to_vec()))
}
