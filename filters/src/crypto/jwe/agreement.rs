//! ECDH-ES (RFC 7518, section 4.6): a secret agreed on with an ephemeral key, and what is derived from it.

use aws_lc_rs::agreement::{self, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{Alg, Enc};
use crate::crypto::{Curve, PublicJwk};

/// What the derived key is for and between whom.
#[derive(Clone, Copy)]
pub(super) struct Purpose<'p> {
    pub(super) alg: Alg,
    pub(super) enc: Enc,
    pub(super) apu: &'p [u8],
    pub(super) apv: &'p [u8],
}

/// The derived key. None: the public key is on another curve, not on its curve, or of small order; the library checks the
/// point (SP 800-56A, section 5.6.2.3) and refuses an agreed secret of zeros (RFC 7748, section 6.1).
pub(super) fn agree(
    private: &agreement::PrivateKey,
    public: &PublicJwk,
    purpose: Purpose<'_>,
) -> Option<Zeroizing<Vec<u8>>> {
    let curve = public.curve()?;
    if private.algorithm() != curve.algorithm() {
        return None;
    }
    let public = UnparsedPublicKey::new(curve.algorithm(), public.agreement_bytes());
    agreement::agree(private, public, (), |secret| Ok(derive(secret, purpose))).ok()
}

/// Concat KDF with SHA-256 (RFC 7518, section 4.6.2).
fn derive(secret: &[u8], purpose: Purpose<'_>) -> Zeroizing<Vec<u8>> {
    let Purpose { alg, enc, apu, apv } = purpose;
    let (name, len) = match alg.wrapping_len() {
        Some(len) => (alg.name(), len),
        None => (enc.name(), enc.key_len()),
    };
    let mut key = Zeroizing::new(Vec::with_capacity(len.next_multiple_of(32)));
    for round in 1_u32.. {
        if key.len() >= len {
            break;
        }
        let mut hash = Sha256::new();
        hash.update(round.to_be_bytes());
        hash.update(secret);
        for field in [name.as_bytes(), apu, apv] {
            hash.update((field.len() as u32).to_be_bytes());
            hash.update(field);
        }
        hash.update((len as u32 * 8).to_be_bytes());
        let mut block = hash.finalize();
        key.extend_from_slice(block.as_ref());
        block.as_mut_slice().zeroize();
    }
    key.truncate(len);
    key
}

/// A fresh key pair for one message.
pub(super) fn ephemeral(curve: Curve) -> Option<(agreement::PrivateKey, PublicJwk)> {
    let private = agreement::PrivateKey::generate(curve.algorithm()).ok()?;
    let public = private.compute_public_key().ok()?;
    let public = match curve {
        Curve::X25519 => PublicJwk::X25519(public.as_ref().try_into().ok()?),
        Curve::P256 => PublicJwk::P256(public.as_ref().try_into().ok()?),
    };
    Some((private, public))
}
