//! Public keys as they come in PEM: SubjectPublicKeyInfo, or the one inside an X.509 certificate.
//!
//! The reader is small on purpose: it takes the DER it knows and refuses all other, so that the kind of a key is read
//! from its own algorithm identifier and never guessed from bytes somewhere in the file.

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::DecodingKey;

use super::algorithm::KeyKind;

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
        let (label, der) = pem(text)?;
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

// The contents of AlgorithmIdentifier, whole: RFC 3279, section 2.3.1; RFC 5480, section 2.1.1; RFC 8410, section 3.
const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const EC_P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// SubjectPublicKeyInfo: the algorithm identifier and the bytes of the key.
fn spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, []) = element(der, SEQUENCE)? else { return None };
    let (identifier, rest) = element(body, SEQUENCE)?;
    let ([0, key @ ..], []) = element(rest, BIT_STRING)? else { return None };
    Some((identifier, key))
}

/// RFC 8017, appendix A.1.1: modulus and exponent, both positive.
fn rsa(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, []) = element(der, SEQUENCE)? else { return None };
    let (n, rest) = element(body, INTEGER)?;
    let (e, []) = element(rest, INTEGER)? else { return None };
    let positive = |number: &[u8]| number.first().is_some_and(|top| top & 0x80 == 0);
    (positive(n) && positive(e)).then_some((n, e))
}

/// RFC 5280, section 4.1: SubjectPublicKeyInfo follows version, serial, signature, issuer, validity and subject. Nothing
/// of the certificate is believed but its key: the operator named the file, dates and signature say nothing to us.
fn certificate_key(der: &[u8]) -> Option<&[u8]> {
    let (certificate, []) = element(der, SEQUENCE)? else { return None };
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    if let Some((_, after)) = element(rest, VERSION) {
        rest = after;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, rest) = element(rest, tag)?;
    }
    let (_, after) = element(rest, SEQUENCE)?;
    rest.get(..rest.len() - after.len())
}

/// The contents of the first element, which must have this tag, and what follows it. DER: lengths in their shortest form.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    let (length, rest) = match (*length, rest) {
        (short @ 0..=0x7f, rest) => (usize::from(short), rest),
        (0x81, [a @ 0x80..=0xff, rest @ ..]) => (usize::from(*a), rest),
        (0x82, [a @ 1..=0xff, b, rest @ ..]) => (usize::from(*a) << 8 | usize::from(*b), rest),
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// RFC 7468: the one block of a text, its label and its bytes. Text around the block is allowed, a second block is not:
/// which of two keys is meant cannot be known.
fn pem(text: &[u8]) -> Result<(&str, Vec<u8>), String> {
    const NOT_PEM: &str = "no PEM; it must hold one `-----BEGIN PUBLIC KEY-----` block";
    let text = str::from_utf8(text).map_err(|_| NOT_PEM)?;
    let (_, block) = text.split_once("-----BEGIN ").ok_or(NOT_PEM)?;
    let (label, block) = block.split_once("-----").ok_or(NOT_PEM)?;
    let (body, rest) = block.split_once("-----END ").ok_or(NOT_PEM)?;
    let (end, rest) = rest.split_once("-----").ok_or(NOT_PEM)?;
    if end != label {
        return Err(NOT_PEM.into());
    }
    if rest.contains("-----BEGIN ") {
        return Err("more than one PEM block; write the one key, or a key set with `jwks`".into());
    }
    let base64: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(base64).map_err(|_| "a PEM block whose base64 cannot be read")?;
    Ok((label, der))
}

fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}
