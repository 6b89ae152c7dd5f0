//! Keys as they come in PEM (RFC 7468), and the little DER around them.
//!
//! The reader is small on purpose: it takes the DER it knows and refuses all other, so that the kind of a key is read
//! from its own algorithm identifier and never guessed from bytes somewhere in the file.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Why a text is not one PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPem {
    Absent,
    /// Which of two keys is meant cannot be known.
    Several,
    Base64,
}

/// The one block of a text, its label and its bytes. Text around the block is allowed, a second block is not.
pub(crate) fn block(text: &[u8]) -> Result<(&str, Zeroizing<Vec<u8>>), NotPem> {
    let text = str::from_utf8(text).map_err(|_| NotPem::Absent)?;
    let (_, block) = text.split_once("-----BEGIN ").ok_or(NotPem::Absent)?;
    let (label, block) = block.split_once("-----").ok_or(NotPem::Absent)?;
    let (body, rest) = block.split_once("-----END ").ok_or(NotPem::Absent)?;
    let (end, rest) = rest.split_once("-----").ok_or(NotPem::Absent)?;
    if end != label {
        return Err(NotPem::Absent);
    }
    if rest.contains("-----BEGIN ") {
        return Err(NotPem::Several);
    }
    // Of its size at once: a text that grows leaves copies of a private key behind.
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let mut der = Zeroizing::new(vec![0; base64.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(&base64[..], &mut der).map_err(|_| NotPem::Base64)?;
    der.truncate(length);
    Ok((label, der))
}

// The contents of AlgorithmIdentifier, whole: RFC 3279, section 2.3.1; RFC 5480, section 2.1.1; RFC 8410, section 3.
pub(crate) const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
pub(crate) const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
pub(crate) const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
pub(crate) const EC_P384: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
pub(crate) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
pub(crate) const X25519: &[u8] = b"\x06\x03\x2b\x65\x6e";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// SubjectPublicKeyInfo: the algorithm identifier and the bytes of the key. RFC 5280, section 4.1.2.7.
pub(crate) fn spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, []) = element(der, SEQUENCE)? else { return None };
    let (identifier, rest) = element(body, SEQUENCE)?;
    let ([0, key @ ..], []) = element(rest, BIT_STRING)? else { return None };
    Some((identifier, key))
}

/// RFC 8017, appendix A.1.1: modulus and exponent, both positive.
pub(crate) fn rsa(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, []) = element(der, SEQUENCE)? else { return None };
    let (n, rest) = element(body, INTEGER)?;
    let (e, []) = element(rest, INTEGER)? else { return None };
    let positive = |number: &[u8]| number.first().is_some_and(|top| top & 0x80 == 0);
    (positive(n) && positive(e)).then_some((n, e))
}

/// RFC 5280, section 4.1: SubjectPublicKeyInfo follows version, serial, signature, issuer, validity and subject. Nothing
/// of the certificate is believed but its key: the operator named the file, dates and signature say nothing to us.
pub(crate) fn certificate_key(der: &[u8]) -> Option<&[u8]> {
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

/// PKCS #8 (RFC 5958): the algorithm identifier, and what stands for the key. Attributes and a public key may follow.
pub(crate) fn pkcs8(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, []) = element(der, SEQUENCE)? else { return None };
    let ([0 | 1], rest) = element(body, INTEGER)? else { return None };
    let (identifier, rest) = element(rest, SEQUENCE)?;
    let (key, _) = element(rest, OCTET_STRING)?;
    Some((identifier, key))
}

/// RFC 8410, section 7: the 32 bytes of a private key on Curve25519.
pub(crate) fn curve_private(key: &[u8]) -> Option<&[u8; 32]> {
    let (seed, []) = element(key, OCTET_STRING)? else { return None };
    seed.try_into().ok()
}

/// RFC 5915: the scalar of a private key on P-256. Curve and public key may follow; they say nothing new.
pub(crate) fn p256_private(key: &[u8]) -> Option<&[u8; 32]> {
    let (body, []) = element(key, SEQUENCE)? else { return None };
    let ([1], rest) = element(body, INTEGER)? else { return None };
    let (scalar, _) = element(rest, OCTET_STRING)?;
    scalar.try_into().ok()
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

pub(crate) fn without_leading_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}
