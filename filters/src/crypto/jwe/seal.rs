//! Sealing a message.

use aws_lc_rs::{
    key_wrap::{AES_128, AES_256, AesKek, KeyWrap as _},
    rand,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey},
};
use base64::{Engine, encoded_len, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    Alg, Enc,
    agreement::{Purpose, agree, ephemeral},
    content,
};
use crate::crypto::{PublicJwk, bulk_base64};

/// A key of the receiver's, and the algorithm that it is used with.
#[derive(Clone, Copy)]
pub enum SealingKey<'k> {
    Direct(&'k [u8]),
    /// 16 or 32 bytes: `A128KW` or `A256KW`.
    Wrapping(&'k [u8]),
    Rsa(&'k OaepPublicEncryptingKey),
    /// `ECDH-ES`: the agreed key is the content key.
    Agreement(&'k PublicJwk),
    /// The same, agreed on before.
    Agreed(&'k Agreed),
}

/// A content key agreed on with a receiver, ahead of the messages that are sealed with it.
pub struct Agreed {
    enc: Enc,
    epk: PublicJwk,
    cek: Zeroizing<Vec<u8>>,
}

impl Agreed {
    /// Fails where nothing can be agreed on with this key: it is not on its curve, or of small order.
    pub fn with(public: &PublicJwk, enc: Enc) -> Result<Self, Unsealable> {
        let (private, epk) = public.curve().and_then(ephemeral).ok_or(Unsealable)?;
        let purpose = Purpose { alg: Alg::EcdhEs, enc, apu: &[], apv: &[] };
        Ok(Self { enc, epk, cek: agree(&private, public, purpose).ok_or(Unsealable)? })
    }
}

/// The key does not fit, or the system has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealable;

/// A message without its content: header and keys are made.
pub struct Prepared {
    enc: Enc,
    /// `header.encrypted_key.`
    start: String,
    header_len: usize,
    cek: Zeroizing<Vec<u8>>,
}

/// A whole message. `members` serialise to an object: the members of the header besides `alg`, `enc` and `epk`.
pub fn seal(enc: Enc, key: SealingKey<'_>, members: &impl Serialize, plaintext: &[u8]) -> Result<String, Unsealable> {
    Prepared::new(enc, key, members)?.finish(plaintext)
}

impl Prepared {
    pub fn new(enc: Enc, key: SealingKey<'_>, members: &impl Serialize) -> Result<Self, Unsealable> {
        let (alg, epk, cek) = match key {
            SealingKey::Direct(key) if key.len() == enc.key_len() => (Alg::Dir, None, Zeroizing::new(key.to_vec())),
            SealingKey::Direct(_) => return Err(Unsealable),
            SealingKey::Wrapping(key) if key.len() == 16 => (Alg::A128Kw, None, fresh(enc.key_len())?),
            SealingKey::Wrapping(_) => (Alg::A256Kw, None, fresh(enc.key_len())?),
            SealingKey::Rsa(_) => (Alg::RsaOaep256, None, fresh(enc.key_len())?),
            SealingKey::Agreement(public) => {
                let Agreed { epk, cek, .. } = Agreed::with(public, enc)?;
                (Alg::EcdhEs, Some(epk), cek)
            }
            SealingKey::Agreed(agreed) if agreed.enc == enc => {
                (Alg::EcdhEs, Some(agreed.epk.clone()), agreed.cek.clone())
            }
            SealingKey::Agreed(_) => return Err(Unsealable),
        };
        let encrypted_key = match key {
            SealingKey::Wrapping(key) => wrap(key, &cek)?,
            SealingKey::Rsa(key) => encrypt(key, &cek)?,
            SealingKey::Direct(_) | SealingKey::Agreement(_) | SealingKey::Agreed(_) => Vec::new(),
        };
        let header = header(alg, enc, epk.as_ref(), members)?;
        let mut start = String::with_capacity(header.len() * 4 / 3 + encrypted_key.len() * 4 / 3 + 8);
        URL_SAFE_NO_PAD.encode_string(&header, &mut start);
        let header_len = start.len();
        start.push('.');
        URL_SAFE_NO_PAD.encode_string(&encrypted_key, &mut start);
        start.push('.');
        Ok(Self { enc, start, header_len, cek })
    }

    /// The message, in a text of exactly its size.
    pub fn finish(self, plaintext: &[u8]) -> Result<String, Unsealable> {
        let mut iv = [0; 16];
        let iv = &mut iv[..self.enc.iv_len()];
        rand::fill(iv).map_err(|_| Unsealable)?;
        self.finish_with(iv, plaintext)
    }

    fn finish_with(self, iv: &[u8], plaintext: &[u8]) -> Result<String, Unsealable> {
        let mut content = Vec::with_capacity(self.enc.ciphertext_len(plaintext.len()));
        content.extend_from_slice(plaintext);
        let protected = &self.start.as_bytes()[..self.header_len];
        let tag = content::seal(self.enc, &self.cek, iv, protected, &mut content).ok_or(Unsealable)?;
        let mut message = String::with_capacity(self.len(plaintext.len()));
        message.push_str(&self.start);
        URL_SAFE_NO_PAD.encode_string(iv, &mut message);
        for part in [&content, &tag] {
            message.push('.');
            bulk_base64::URL_SAFE_NO_PAD.encode_append(part, &mut message);
        }
        Ok(message)
    }

    /// The length of the message for a plaintext of this length.
    pub fn len(&self, plaintext_len: usize) -> usize {
        let coded = |bytes: usize| encoded_len(bytes, false).unwrap_or(usize::MAX);
        let enc = self.enc;
        self.start.len() + coded(enc.iv_len()) + coded(enc.ciphertext_len(plaintext_len)) + coded(enc.tag_len()) + 2
    }

    /// Never: a header has at least an algorithm.
    pub fn is_empty(&self) -> bool {
        false
    }
}

fn fresh(len: usize) -> Result<Zeroizing<Vec<u8>>, Unsealable> {
    let mut key = Zeroizing::new(vec![0; len]);
    rand::fill(&mut key).map_err(|_| Unsealable)?;
    Ok(key)
}

fn wrap(key: &[u8], cek: &[u8]) -> Result<Vec<u8>, Unsealable> {
    let kek = AesKek::new(if key.len() == 16 { &AES_128 } else { &AES_256 }, key).map_err(|_| Unsealable)?;
    let mut wrapped = vec![0; cek.len() + 8];
    kek.wrap(cek, &mut wrapped).map_err(|_| Unsealable)?;
    Ok(wrapped)
}

fn encrypt(key: &OaepPublicEncryptingKey, cek: &[u8]) -> Result<Vec<u8>, Unsealable> {
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, cek, &mut encrypted, None).map_err(|_| Unsealable)?;
    Ok(encrypted)
}

/// `{"alg":…,"enc":…,"epk":…,` and the caller's members.
fn header(alg: Alg, enc: Enc, epk: Option<&PublicJwk>, members: &impl Serialize) -> Result<Vec<u8>, Unsealable> {
    let mut header = format!(r#"{{"alg":"{}","enc":"{}""#, alg.name(), enc.name()).into_bytes();
    if let Some(epk) = epk {
        header.extend_from_slice(format!(r#","epk":{}"#, Value::from(epk.members())).as_bytes());
    }
    let members = serde_json::to_vec(members).map_err(|_| Unsealable)?;
    match members.strip_prefix(b"{") {
        Some(b"}") => header.push(b'}'),
        Some(rest) => {
            header.push(b',');
            header.extend_from_slice(rest);
        }
        None => return Err(Unsealable),
    }
    Ok(header)
}
