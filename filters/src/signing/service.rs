//! Keys that a key service keeps: it signs, and what it signed is verified here, by the public key, before anybody gets it.

use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::secret::SecretRef;
use sha2::{Digest as _, Sha256};

use super::{Answer, Signer};
use crate::{
    contract::{KeyReader, Purpose, RemoteKey, Unanswered},
    pem,
};

/// A key pair of a key service: EC on P-256 (ES256) or RSA (RS256).
struct ServiceKey {
    key: Arc<dyn RemoteKey>,
    kind: Kind,
    /// As the library takes it: a point, or the numbers in DER.
    public: Box<[u8]>,
    kid: String,
    jwk: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    Rsa,
}

/// The key that a reference names, where a key service keeps it.
pub fn of_service(keys: &KeyReader, reference: &SecretRef) -> Option<Result<Arc<dyn Signer>, String>> {
    let found = keys.remote(reference, Purpose::Sign)?;
    Some(found.and_then(|key| {
        let unfit = || format!("`{reference}` is neither EC on P-256 nor RSA of 2048 to 4096 bits");
        Ok(Arc::new(ServiceKey::new(key).ok_or_else(unfit)?) as Arc<dyn Signer>)
    }))
}

impl ServiceKey {
    fn new(key: Arc<dyn RemoteKey>) -> Option<Self> {
        let (identifier, public) = pem::spki(key.public())?;
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (kind, members) = match identifier {
            pem::EC_P256 => {
                let [4, point @ ..] = public else { return None };
                let (x, y) = point.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
                (Kind::P256, format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b64(x), b64(y)))
            }
            pem::RSA => {
                let (n, e) = pem::rsa(public)?;
                let (n, e) = (pem::without_leading_zeros(n), pem::without_leading_zeros(e));
                if !(256..=512).contains(&n.len()) {
                    return None;
                }
                (Kind::Rsa, format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n)))
            }
            _ => return None,
        };
        // RFC 7638: exactly these members, in the order of their names.
        let kid = b64(&Sha256::digest(&members));
        let rest = members.trim_start_matches('{');
        let jwk = format!(r#"{{"alg":"{}","kid":"{kid}","use":"sig",{rest}"#, kind.algorithm());
        Some(Self { kind, public: public.into(), kid, jwk, key })
    }

    fn is_of_this_key(&self, message: &[u8], signature: &[u8]) -> bool {
        let by: &'static dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &ECDSA_P256_SHA256_FIXED,
            Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(by, &self.public).verify(message, signature).is_ok()
    }
}

impl Kind {
    const fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::Rsa => "RS256",
        }
    }
}

impl Signer for ServiceKey {
    fn algorithm(&self) -> &'static str {
        self.kind.algorithm()
    }
    fn kid(&self) -> &str {
        &self.kid
    }
    fn public_jwk(&self) -> Option<&str> {
        Some(&self.jwk)
    }
    fn sign<'a>(&'a self, message: &'a [u8]) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let signature = self.key.sign(message).await.map_err(|why| match why {
                Unanswered::Unfit => "the key service does not take the message".to_owned(),
                Unanswered::Away(why) => why,
            })?;
            let signature = match self.kind {
                Kind::P256 => fixed(&signature).ok_or("the signature cannot be read")?,
                Kind::Rsa => signature,
            };
            let ours = self.is_of_this_key(message, &signature);
            ours.then_some(signature).ok_or_else(|| "the signature is not of the key".to_owned())
        })
    }
    fn verify<'a>(&'a self, message: &'a [u8], signature: &'a [u8]) -> Answer<'a, bool> {
        Box::pin(std::future::ready(Ok(self.is_of_this_key(message, signature))))
    }
}

/// RFC 7518, section 3.4, wants the two numbers in 32 bytes each; a service writes ECDSA-Sig-Value (RFC 3279, section 2.2.3).
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = pem::rsa(der)?;
    let mut out = vec![0; 64];
    for (number, place) in [r, s].into_iter().zip(out.chunks_exact_mut(32)) {
        let number = pem::without_leading_zeros(number);
        place.get_mut(32_usize.checked_sub(number.len())?..)?.copy_from_slice(number);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_its_numbers_in_32_bytes_each() {
        let der = |r: &[u8], s: &[u8]| {
            let integer = |bytes: &[u8]| [&[2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
            let body = [integer(r), integer(s)].concat();
            [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()
        };
        let long = [&[0][..], &[0xff; 32]].concat();
        let read = fixed(&der(&long, &[5])).unwrap();
        assert_eq!((&read[..32], read[63], &read[32..63]), (&[0xff; 32][..], 5, &[0; 31][..]));
        let longer = [&[1][..], &[0xff; 32]].concat();
        assert_eq!(fixed(&der(&longer, &[5])), None, "33 bytes");
        for bad in [&b""[..], &[0x30, 0], &[0x30, 3, 2, 1, 1], &[&der(&[1], &[1])[..], &[0]].concat()] {
            assert_eq!(fixed(bad), None, "{bad:?}");
        }
    }
}
