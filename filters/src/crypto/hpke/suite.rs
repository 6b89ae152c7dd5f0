//! The suites: which KEM and AEAD, and RFC 9180 itself, from the crate `hpke`.

use std::convert::Infallible;

use hpke::{
    Deserializable, Kem as KemTrait, OpModeR, OpModeS, Serializable,
    aead::{Aead as AeadTrait, AeadTag, AesGcm256, ChaCha20Poly1305},
    kdf::HkdfSha256,
    kem::{DhP256HkdfSha256, X25519HkdfSha256},
    rand_core::{TryCryptoRng, TryRng},
    setup_receiver, setup_sender_with_rng,
};
use rand::RngCore;
use zeroize::Zeroizing;

use super::{OpenError, TAG};

pub(super) type Secret = Zeroizing<[u8; 32]>;

/// How the key is agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kem {
    X25519,
    P256,
}

/// How the message is encrypted; the client chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aead {
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Kem {
    pub fn id(self) -> u16 {
        match self {
            Self::X25519 => X25519HkdfSha256::KEM_ID,
            Self::P256 => DhP256HkdfSha256::KEM_ID,
        }
    }
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::X25519, Self::P256].into_iter().find(|kem| kem.id() == id)
    }
    /// Of the encapsulated key: a point, uncompressed for P-256.
    pub fn enc_len(self) -> usize {
        match self {
            Self::X25519 => 32,
            Self::P256 => 65,
        }
    }
}

impl Aead {
    pub fn id(self) -> u16 {
        match self {
            Self::Aes256Gcm => AesGcm256::AEAD_ID,
            Self::ChaCha20Poly1305 => ChaCha20Poly1305::AEAD_ID,
        }
    }
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|aead| aead.id() == id)
    }
}

/// The gateway's private key. Wiped when dropped, absent from `Debug`.
pub enum RecipientKey {
    X25519(<X25519HkdfSha256 as KemTrait>::PrivateKey),
    P256(<DhP256HkdfSha256 as KemTrait>::PrivateKey),
}

/// What messages are sealed to.
pub enum RecipientPublicKey {
    X25519(<X25519HkdfSha256 as KemTrait>::PublicKey),
    P256(<DhP256HkdfSha256 as KemTrait>::PublicKey),
}

impl RecipientKey {
    /// From the 32 bytes of a scalar. None where they are none of this curve.
    pub fn from_bytes(kem: Kem, bytes: &[u8]) -> Option<Self> {
        match kem {
            Kem::X25519 => Deserializable::from_bytes(bytes).ok().map(Self::X25519),
            Kem::P256 => Deserializable::from_bytes(bytes).ok().map(Self::P256),
        }
    }

    pub fn public(&self) -> RecipientPublicKey {
        match self {
            Self::X25519(key) => RecipientPublicKey::X25519(X25519HkdfSha256::sk_to_pk(key)),
            Self::P256(key) => RecipientPublicKey::P256(DhP256HkdfSha256::sk_to_pk(key)),
        }
    }

    pub fn kem(&self) -> Kem {
        match self {
            Self::X25519(_) => Kem::X25519,
            Self::P256(_) => Kem::P256,
        }
    }
}

impl std::fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecipientKey({:?})", self.kem())
    }
}

impl RecipientPublicKey {
    /// From the encoding of RFC 9180: 32 bytes, or an uncompressed point.
    pub fn from_bytes(kem: Kem, bytes: &[u8]) -> Option<Self> {
        match kem {
            Kem::X25519 => Deserializable::from_bytes(bytes).ok().map(Self::X25519),
            Kem::P256 => Deserializable::from_bytes(bytes).ok().map(Self::P256),
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::X25519(key) => key.to_bytes().to_vec(),
            Self::P256(key) => key.to_bytes().to_vec(),
        }
    }

    pub fn kem(&self) -> Kem {
        match self {
            Self::X25519(_) => Kem::X25519,
            Self::P256(_) => Kem::P256,
        }
    }
}

/// Opens `ct`, which ends in its tag, in place; and exports a secret from the context.
pub(super) fn receive(
    key: &RecipientKey,
    (kem, aead): (Kem, Aead),
    enc: &[u8],
    info: &[u8],
    aad: &[u8],
    ct: &mut [u8],
    label: &[u8],
) -> Result<Secret, OpenError> {
    match (key, kem, aead) {
        (RecipientKey::X25519(key), Kem::X25519, Aead::Aes256Gcm) => {
            receive_with::<AesGcm256, X25519HkdfSha256>(key, enc, info, aad, ct, label)
        }
        (RecipientKey::X25519(key), Kem::X25519, Aead::ChaCha20Poly1305) => {
            receive_with::<ChaCha20Poly1305, X25519HkdfSha256>(key, enc, info, aad, ct, label)
        }
        (RecipientKey::P256(key), Kem::P256, Aead::Aes256Gcm) => {
            receive_with::<AesGcm256, DhP256HkdfSha256>(key, enc, info, aad, ct, label)
        }
        (RecipientKey::P256(key), Kem::P256, Aead::ChaCha20Poly1305) => {
            receive_with::<ChaCha20Poly1305, DhP256HkdfSha256>(key, enc, info, aad, ct, label)
        }
        _ => Err(OpenError),
    }
}

fn receive_with<A: AeadTrait, K: KemTrait>(
    key: &K::PrivateKey,
    enc: &[u8],
    info: &[u8],
    aad: &[u8],
    ct: &mut [u8],
    label: &[u8],
) -> Result<Secret, OpenError> {
    let enc = K::EncappedKey::from_bytes(enc).map_err(|_| OpenError)?;
    let mut context = setup_receiver::<A, HkdfSha256, K>(&OpModeR::Base, key, &enc, info).map_err(|_| OpenError)?;
    let (content, tag) = ct.split_at_mut(ct.len().checked_sub(TAG).ok_or(OpenError)?);
    let tag = AeadTag::<A>::from_bytes(tag).map_err(|_| OpenError)?;
    context.open_inout_detached(content.into(), aad, &tag).map_err(|_| OpenError)?;
    let mut secret = Secret::default();
    context.export(label, &mut secret[..]).map_err(|_| OpenError)?;
    Ok(secret)
}

pub(super) struct Sent {
    pub(super) enc: Vec<u8>,
    pub(super) ct: Vec<u8>,
    pub(super) secret: Secret,
}

pub(super) fn send(
    (kem, aead): (Kem, Aead),
    key: &RecipientPublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    label: &[u8],
) -> Result<Sent, OpenError> {
    match (key, kem, aead) {
        (RecipientPublicKey::X25519(key), Kem::X25519, Aead::Aes256Gcm) => {
            send_with::<AesGcm256, X25519HkdfSha256>(key, info, aad, plaintext, label)
        }
        (RecipientPublicKey::X25519(key), Kem::X25519, Aead::ChaCha20Poly1305) => {
            send_with::<ChaCha20Poly1305, X25519HkdfSha256>(key, info, aad, plaintext, label)
        }
        (RecipientPublicKey::P256(key), Kem::P256, Aead::Aes256Gcm) => {
            send_with::<AesGcm256, DhP256HkdfSha256>(key, info, aad, plaintext, label)
        }
        (RecipientPublicKey::P256(key), Kem::P256, Aead::ChaCha20Poly1305) => {
            send_with::<ChaCha20Poly1305, DhP256HkdfSha256>(key, info, aad, plaintext, label)
        }
        _ => Err(OpenError),
    }
}

fn send_with<A: AeadTrait, K: KemTrait>(
    key: &K::PublicKey,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
    label: &[u8],
) -> Result<Sent, OpenError> {
    let (enc, mut context) =
        setup_sender_with_rng::<A, HkdfSha256, K>(&OpModeS::Base, key, info, &mut Random).map_err(|_| OpenError)?;
    let ct = context.seal(plaintext, aad).map_err(|_| OpenError)?;
    let mut secret = Secret::default();
    context.export(label, &mut secret[..]).map_err(|_| OpenError)?;
    Ok(Sent { enc: enc.to_bytes().to_vec(), ct, secret })
}

/// The thread's generator, for a crate that goes by another version of the traits.
struct Random;

impl TryRng for Random {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(rand::rng().next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(rand::rng().next_u64())
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        rand::rng().fill_bytes(out);
        Ok(())
    }
}

impl TryCryptoRng for Random {}
