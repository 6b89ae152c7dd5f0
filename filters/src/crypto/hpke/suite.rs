//! RFC 9180 in base mode, for one message: DHKEM, key schedule, the first nonce, and one exported secret.
//!
//! On the primitives of aws-lc, as the crate `hpke` computes its curves and ciphers in plain Rust, four to ten times as slow,
//! and agrees anew on the recipient's own public key with each message. The tests hold this to that crate, both ways, and to
//! the vectors of the RFC.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, PrivateKey, UnparsedPublicKey},
};
use zeroize::Zeroizing;

use super::OpenError;
use crate::{
    crypto::{Curve, PublicJwk, hkdf},
    keyring::AgreementKey,
};

pub(super) type Secret = Zeroizing<[u8; 32]>;

const VERSION: &[u8] = b"HPKE-v1";
pub(super) const KDF_HKDF_SHA256: u16 = 1;
const MODE_BASE: u8 = 0;

/// How the message is encrypted; the client chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aead {
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// The gateway's side of a key agreement.
#[derive(Clone, Copy)]
pub struct Recipient<'k> {
    curve: Curve,
    private: &'k PrivateKey,
    public: &'k [u8],
}

impl<'k> From<&'k AgreementKey> for Recipient<'k> {
    fn from(key: &'k AgreementKey) -> Self {
        Self { curve: key.curve, private: &key.private, public: key.public.agreement_bytes() }
    }
}

impl Recipient<'_> {
    pub(super) fn curve(&self) -> Curve {
        self.curve
    }
}

/// The identifier of a curve's KEM (RFC 9180, section 7.1).
pub(super) const fn kem_id(curve: Curve) -> u16 {
    match curve {
        Curve::P256 => 0x0010,
        Curve::X25519 => 0x0020,
    }
}

pub(super) fn kem_of(id: u16) -> Option<Curve> {
    [Curve::X25519, Curve::P256].into_iter().find(|curve| kem_id(*curve) == id)
}

/// Of the encapsulated key: a point, uncompressed for P-256.
pub(super) const fn enc_len(curve: Curve) -> usize {
    match curve {
        Curve::X25519 => 32,
        Curve::P256 => 65,
    }
}

impl Aead {
    /// RFC 9180, section 7.3.
    pub const fn id(self) -> u16 {
        match self {
            Self::Aes256Gcm => 0x0002,
            Self::ChaCha20Poly1305 => 0x0003,
        }
    }
    pub fn from_id(id: u16) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|aead| aead.id() == id)
    }

    /// Both have keys of 32 bytes.
    pub(super) fn key(self, bytes: &[u8; 32]) -> LessSafeKey {
        let algorithm: &'static Algorithm = match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        };
        LessSafeKey::new(UnboundKey::new(algorithm, bytes).expect("both ciphers have keys of 32 bytes"))
    }
}

/// One message's cipher, and the secret that its response is sealed under.
struct Schedule {
    key: LessSafeKey,
    nonce: Nonce,
    exported: Secret,
}

/// Opens `ct`, which ends in its tag, in place. What the context exports under `label`.
pub(super) fn receive(
    key: Recipient<'_>,
    aead: Aead,
    enc: &[u8],
    (info, aad): (&[u8], &[u8]),
    ct: &mut [u8],
    label: &[u8],
) -> Result<Secret, OpenError> {
    let shared = agree(key.private, key.curve, enc, |dh| shared_secret(key.curve, dh, enc, key.public))?;
    let schedule = schedule(key.curve, aead, &shared, info, label);
    schedule.key.open_in_place(schedule.nonce, Aad::from(aad), ct).map_err(|_| OpenError)?;
    Ok(schedule.exported)
}

pub(super) struct Sent {
    pub(super) enc: Vec<u8>,
    pub(super) ct: Vec<u8>,
    pub(super) exported: Secret,
}

/// Seals to a public key, under an ephemeral one of its own.
pub(super) fn send(
    key: &PublicJwk,
    aead: Aead,
    (info, aad): (&[u8], &[u8]),
    plaintext: &[u8],
    label: &[u8],
) -> Result<Sent, OpenError> {
    let curve = key.curve().ok_or(OpenError)?;
    let ephemeral = PrivateKey::generate(curve.algorithm()).map_err(|_| OpenError)?;
    let enc = ephemeral.compute_public_key().map_err(|_| OpenError)?.as_ref().to_vec();
    let public = key.agreement_bytes();
    let shared = agree(&ephemeral, curve, public, |dh| shared_secret(curve, dh, &enc, public))?;
    let schedule = schedule(curve, aead, &shared, info, label);
    let mut ct = plaintext.to_vec();
    let tag = schedule.key.seal_in_place_append_tag(schedule.nonce, Aad::from(aad), &mut ct);
    tag.map_err(|_| OpenError)?;
    Ok(Sent { enc, ct, exported: schedule.exported })
}

/// Points of small order agree on nothing secret, and points off the curve are none: both are refused in here.
fn agree<T>(own: &PrivateKey, curve: Curve, other: &[u8], then: impl FnOnce(&[u8]) -> T) -> Result<T, OpenError> {
    let other = UnparsedPublicKey::new(curve.algorithm(), other);
    agreement::agree(own, other, OpenError, |dh| Ok(then(dh)))
}

/// RFC 9180, section 4.1: `ExtractAndExpand`.
fn shared_secret(curve: Curve, dh: &[u8], enc: &[u8], public: &[u8]) -> Secret {
    let kem = kem_id(curve).to_be_bytes();
    let suite = [b"KEM", &kem[..]];
    let prk = hkdf::extract(&[], &[VERSION, suite[0], suite[1], b"eae_prk", dh]);
    expand(&prk, &suite, b"shared_secret", &[enc, public])
}

/// RFC 9180, section 5.1, without a pre-shared key.
fn schedule(curve: Curve, aead: Aead, shared: &Secret, info: &[u8], label: &[u8]) -> Schedule {
    let mut suite = *b"HPKE\0\0\0\0\0\0";
    for (at, id) in [kem_id(curve), KDF_HKDF_SHA256, aead.id()].into_iter().enumerate() {
        suite[4 + 2 * at..6 + 2 * at].copy_from_slice(&id.to_be_bytes());
    }
    let suite = &suite[..];
    let psk_id_hash = hkdf::extract_bytes(&[], &[VERSION, suite, b"psk_id_hash"]);
    let info_hash = hkdf::extract_bytes(&[], &[VERSION, suite, b"info_hash", info]);
    let context: [&[u8]; 3] = [&[MODE_BASE], &psk_id_hash[..], &info_hash[..]];
    let secret = hkdf::extract(&shared[..], &[VERSION, suite, b"secret"]);
    let key = expand::<32>(&secret, &[suite], b"key", &context);
    let nonce = expand::<12>(&secret, &[suite], b"base_nonce", &context);
    let exporter = hkdf::Prk::new(&expand::<32>(&secret, &[suite], b"exp", &context)[..]);
    Schedule {
        key: aead.key(&key),
        nonce: Nonce::assume_unique_for_key(*nonce),
        exported: expand(&exporter, &[suite], b"sec", &[label]),
    }
}

/// RFC 9180, section 4: `LabeledExpand`.
fn expand<const LEN: usize>(prk: &hkdf::Prk, suite: &[&[u8]], label: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; LEN]> {
    let len = (LEN as u16).to_be_bytes();
    let mut pieces: [&[u8]; 8] = [b""; 8];
    let all = [&len[..], VERSION].into_iter().chain(suite.iter().copied()).chain([label]).chain(info.iter().copied());
    for (piece, given) in pieces.iter_mut().zip(all) {
        *piece = given;
    }
    prk.expand(&pieces)
}
