//! New keys, in the form in which `[keyrings.NAME]` reads them.

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der},
    rsa::{KeySize, PrivateDecryptingKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_config::model::KeyKind;
use zeroize::Zeroizing;

/// PKCS #8 around a key of X25519 (RFC 8410, section 7).
const X25519: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";
/// PKCS #8 around a key of P-256 (RFC 5915, section 3), before the scalar and before the point.
const P256: &[u8] =
    b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
                      \x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
const P256_POINT: &[u8] = b"\xa1\x44\x03\x42\x00";

/// PEM for key pairs, a line of hexadecimal digits for a secret. The error: the library has no randomness left.
pub fn generate(kind: KeyKind) -> Result<Zeroizing<String>, String> {
    let failed = |_| "no key could be made".to_owned();
    match kind {
        KeyKind::Secret => {
            let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
            let mut text = Zeroizing::new(String::with_capacity(65));
            for byte in bytes.iter() {
                for digit in [byte >> 4, byte & 15] {
                    text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
                }
            }
            text.push('\n');
            Ok(text)
        }
        KeyKind::X25519 => {
            let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
            Ok(pem(&Zeroizing::new([X25519, &bytes[..]].concat())))
        }
        KeyKind::P256 => {
            let key = PrivateKey::generate(&ECDH_P256).map_err(failed)?;
            let scalar: EcPrivateKeyBin<'_> = key.as_be_bytes().map_err(failed)?;
            let point = key.compute_public_key().map_err(failed)?;
            Ok(pem(&Zeroizing::new([P256, scalar.as_ref(), P256_POINT, point.as_ref()].concat())))
        }
        KeyKind::Rsa => {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(failed)?;
            let der: Pkcs8V1Der<'_> = key.as_der().map_err(failed)?;
            Ok(pem(der.as_ref()))
        }
    }
}

/// RFC 7468.
fn pem(der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(String::with_capacity(base64.len() + 96));
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::keyring::Keyring;

    #[test]
    fn what_is_made_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [KeyKind::X25519, KeyKind::P256, KeyKind::Rsa, KeyKind::Secret] {
            let path = folder.path().join(kind.name());
            std::fs::write(&path, generate(kind).unwrap().as_bytes()).unwrap();
            let key = format!("file:{}", path.display());
            let ring = json!({ "kind": kind.name(), "versions": [{ "id": "a", "key": key, "state": "active" }] });
            let ring = Keyring::build("ring", &serde_json::from_value(ring).unwrap());
            assert!(ring.is_ok_and(|ring| ring.active().is_some()), "{}", kind.name());
            assert_ne!(generate(kind).unwrap(), generate(kind).unwrap());
        }
    }
}
