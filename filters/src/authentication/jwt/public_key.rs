//! Public keys as they come in PEM: SubjectPublicKeyInfo, or the one inside an X.509 certificate.

use jsonwebtoken::DecodingKey;

use super::algorithm::KeyKind;
use crate::pem::{self, EC, EC_P256, EC_P384, ED25519, NotPem, RSA, certificate_key, rsa, spki, without_leading_zeros};

/// A public key fit for verification, and what it is.
pub(super) struct PublicKey {
    pub(super) kind: KeyKind,
    pub(super) key: DecodingKey,
}

/// Below is within reach of factoring (NIST SP 800-131A); above, one verification costs too much, and AWS-LC refuses it.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

impl PublicKey {
    /// One `PUBLIC KEY` or `CERTIFICATE` block. The error says what to do and never quotes the text.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, String> {
        let (label, der) = pem::block(text).map_err(|why| match why {
            NotPem::Absent => "no PEM; it must hold one `-----BEGIN PUBLIC KEY-----` block",
            NotPem::Several => "more than one PEM block; write the one key, or a key set with `jwks`",
            NotPem::Base64 => "a PEM block whose base64 cannot be read",
        })?;
        match label {
            "PUBLIC KEY" => Self::from_spki(&der),
            "CERTIFICATE" => Self::from_spki(certificate_key(&der).ok_or("the certificate cannot be read")?),
            "RSA PUBLIC KEY" => match rsa(&der) {
                Some((n, e)) => Self::rsa(n, e),
                None => Err("the RSA public key cannot be read".into()),
            },
            _ if label.ends_with("PRIVATE KEY") => {
                Err("this is a private key, which a gateway that only verifies must not hold; write the public one (`openssl pkey -pubout`)".into())
            }
            _ => Err("neither a `PUBLIC KEY` nor a `CERTIFICATE` in PEM".into()),
        }
    }

    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, String> {
        let n = without_leading_zeros(n);
        let e = without_leading_zeros(e);
        let bits = n.first().map_or(0, |top| n.len() * 8 - top.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(format!("an RSA key of {bits} bits; it must have {} to {}", RSA_BITS.start(), RSA_BITS.end()));
        }
        // An even exponent is no RSA; with e = 1 every message is its own signature.
        if e.len() > 8 || e == [1] || e.last().is_none_or(|low| low & 1 == 0) {
            return Err("an RSA key with an unusable public exponent".into());
        }
        Ok(Self { kind: KeyKind::Rsa, key: DecodingKey::from_rsa_raw_components(n, e) })
    }

    /// `point`: uncompressed, RFC 5480, section 2.2. Whether it lies on the curve is checked at each verification.
    pub(super) fn ec(kind: KeyKind, point: &[u8]) -> Result<Self, String> {
        let length = match kind {
            KeyKind::P256 => 65,
            KeyKind::P384 => 97,
            _ => return Err("not an EC key".into()),
        };
        if point.len() != length || point[0] != 4 {
            return Err("an EC key whose point is not uncompressed, or of the wrong length".into());
        }
        Ok(Self { kind, key: DecodingKey::from_ec_der(point) })
    }

    pub(super) fn ed25519(key: &[u8]) -> Result<Self, String> {
        if key.len() != 32 {
            return Err("an Ed25519 key that has not 32 bytes".into());
        }
        Ok(Self { kind: KeyKind::Ed25519, key: DecodingKey::from_ed_der(key) })
    }

    /// RFC 5280, section 4.1.2.7: SEQUENCE { SEQUENCE { algorithm, parameters }, BIT STRING }.
    fn from_spki(der: &[u8]) -> Result<Self, String> {
        let (identifier, key) = spki(der).ok_or("the public key cannot be read")?;
        match identifier {
            RSA => match rsa(key) {
                Some((n, e)) => Self::rsa(n, e),
                None => Err("the RSA public key cannot be read".into()),
            },
            EC_P256 => Self::ec(KeyKind::P256, key),
            EC_P384 => Self::ec(KeyKind::P384, key),
            ED25519 => Self::ed25519(key),
            _ if identifier.starts_with(EC) => Err("an EC key on a curve other than P-256 and P-384".into()),
            _ => Err("a key that is neither RSA, nor EC on P-256 or P-384, nor Ed25519".into()),
        }
    }
}
