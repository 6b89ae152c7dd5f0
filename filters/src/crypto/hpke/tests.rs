use proptest::prelude::*;

use super::*;
use crate::keyring::AgreementKey;

const SUITES: [(Curve, Aead); 4] = [
    (Curve::X25519, Aead::Aes256Gcm),
    (Curve::X25519, Aead::ChaCha20Poly1305),
    (Curve::P256, Aead::Aes256Gcm),
    (Curve::P256, Aead::ChaCha20Poly1305),
];

fn key(curve: Curve) -> AgreementKey {
    AgreementKey::new(curve, &[7; 32]).expect("a key")
}

fn header(curve: Curve, aead: Aead) -> Header<'static> {
    Header { kid: "bodies.2026-11", curve, aead, iat: 1_795_000_000_123, id: [5; 16], content_type: "application/json" }
}

fn opened(message: &[u8], key: &AgreementKey, context: &[u8]) -> Result<(Vec<u8>, ResponseKeys), OpenError> {
    let mut message = message.to_vec();
    let opened = open(&mut message, key.into(), context)?;
    Ok((message[opened.plaintext].to_vec(), opened.response))
}

#[test]
fn what_a_client_seals_the_gateway_opens_and_answers() {
    for (curve, aead) in SUITES {
        let header = header(curve, aead);
        let (message, client) = seal(b"{\"a\":1}", &header, &key(curve).public, b"context").expect("sealed");
        assert_eq!(Header::read(&message).map(|(header, _)| header), Ok(header));
        let (plaintext, gateway) = opened(&message, &key(curve), b"context").expect("opens");
        assert_eq!(plaintext, b"{\"a\":1}");
        let answer = ResponseHeader { iat: 9, id: [6; 16], content_type: "application/json" };
        let mut sealed = gateway.seal(b"[]", &answer, [1; 32], b"response context");
        assert_eq!(sealed.len(), response_len(2, &answer));
        assert_eq!(ResponseHeader::read(&sealed).map(|(header, _)| header), Ok(answer));
        let mut tampered = sealed.clone();
        assert!(client.open(&mut tampered, b"another context").is_err());
        let plaintext = client.open(&mut sealed, b"response context").expect("opens");
        assert_eq!(&sealed[plaintext], b"[]");
    }
}

#[test]
fn the_header_is_laid_out_as_specified() {
    let header = header(Curve::X25519, Aead::Aes256Gcm);
    let (message, _) = seal(b"", &header, &key(Curve::X25519).public, b"").expect("sealed");
    let mut expected = vec![1, 14];
    expected.extend_from_slice(b"bodies.2026-11");
    expected.extend_from_slice(&[0, 0x20, 0, 1, 0, 2]);
    expected.extend_from_slice(&1_795_000_000_123_u64.to_be_bytes());
    expected.extend_from_slice(&[5; 16]);
    expected.push(16);
    expected.extend_from_slice(b"application/json");
    assert!(message.starts_with(&expected));
    assert_eq!(message.len(), expected.len() + 32 + TAG);
}

/// A second implementation opens what ours seals, and exports the same. (What ours opens, ours has sealed: see above.)
#[test]
fn agrees_with_another_implementation() {
    use ::hpke::{
        Deserializable, Kem, OpModeR, Serializable,
        aead::{Aead as Cipher, AesGcm256, ChaCha20Poly1305},
        kdf::HkdfSha256,
        kem::{DhP256HkdfSha256, X25519HkdfSha256},
        setup_receiver,
    };

    fn theirs<A: Cipher, K: Kem>(ours: &AgreementKey, aead: Aead) {
        let private = K::PrivateKey::from_bytes(&ours.scalar[..]).expect("a key");
        assert_eq!(K::sk_to_pk(&private).to_bytes()[..], *ours.public.agreement_bytes());
        let sent = suite::send(&ours.public, aead, (b"info", b"aad"), b"plaintext", b"label").expect("sealed");
        let enc = K::EncappedKey::from_bytes(&sent.enc).expect("a point");
        let mut context = setup_receiver::<A, HkdfSha256, K>(&OpModeR::Base, &private, &enc, b"info").expect("agrees");
        assert_eq!(context.open(&sent.ct, b"aad").expect("opens"), b"plaintext");
        let mut exported = [0; 32];
        context.export(b"label", &mut exported).expect("short enough");
        assert_eq!(exported, *sent.exported);
    }

    for seed in 1..20 {
        let [x25519, p256] =
            [Curve::X25519, Curve::P256].map(|curve| AgreementKey::new(curve, &[seed; 32]).expect("a key"));
        theirs::<AesGcm256, X25519HkdfSha256>(&x25519, Aead::Aes256Gcm);
        theirs::<ChaCha20Poly1305, X25519HkdfSha256>(&x25519, Aead::ChaCha20Poly1305);
        theirs::<AesGcm256, DhP256HkdfSha256>(&p256, Aead::Aes256Gcm);
        theirs::<ChaCha20Poly1305, DhP256HkdfSha256>(&p256, Aead::ChaCha20Poly1305);
    }
}

/// Any bit, anywhere; any cut; any other context, key or suite.
#[test]
fn nothing_else_opens() {
    for (curve, aead) in SUITES {
        let (message, _) = seal(b"{}", &header(curve, aead), &key(curve).public, b"context").expect("sealed");
        for at in 0..message.len() {
            let mut other = message.clone();
            other[at] ^= 0x01;
            assert!(opened(&other, &key(curve), b"context").is_err(), "bit at {at}");
            assert!(opened(&message[..at], &key(curve), b"context").is_err(), "cut at {at}");
        }
        assert!(opened(&[&message[..], b"x"].concat(), &key(curve), b"context").is_err());
        assert!(opened(&message, &key(curve), b"contexT").is_err());
        let stranger = AgreementKey::new(curve, &[8; 32]).expect("a key");
        assert!(opened(&message, &stranger, b"context").is_err());
        let other = if curve == Curve::X25519 { Curve::P256 } else { Curve::X25519 };
        assert!(opened(&message, &key(other), b"context").is_err());
    }
}

#[test]
fn no_response_opens_with_a_bit_changed() {
    let (message, client) =
        seal(b"{}", &header(Curve::X25519, Aead::Aes256Gcm), &key(Curve::X25519).public, b"c").expect("sealed");
    let (_, gateway) = opened(&message, &key(Curve::X25519), b"c").expect("opens");
    let answer = ResponseHeader { iat: 9, id: [6; 16], content_type: "a/b" };
    let sealed = gateway.seal(b"[]", &answer, [1; 32], b"r");
    // What stands before the nonce is bound by the context, which the caller builds from it.
    for at in answer.len()..sealed.len() {
        let mut other = sealed.clone();
        other[at] ^= 1;
        assert!(client.open(&mut other, b"r").is_err(), "bit at {at}");
    }
    for cut in 0..sealed.len() {
        assert!(client.open(&mut sealed[..cut].to_vec(), b"r").is_err(), "cut at {cut}");
    }
}

/// A point of small order makes a shared secret that everybody knows.
#[test]
fn points_that_agree_on_nothing_are_refused() {
    let (message, _) =
        seal(b"{}", &header(Curve::X25519, Aead::Aes256Gcm), &key(Curve::X25519).public, b"c").expect("sealed");
    let (_, start) = Header::read(&message).expect("a header");
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let mut other = message.clone();
        other[start..start + 32].copy_from_slice(&point);
        assert!(opened(&other, &key(Curve::X25519), b"c").is_err());
    }
}

#[test]
fn what_does_not_open_leaves_no_plaintext() {
    let plaintext = [b'p'; 64];
    let (mut message, _) =
        seal(&plaintext, &header(Curve::X25519, Aead::Aes256Gcm), &key(Curve::X25519).public, b"c").expect("sealed");
    let end = message.len() - 1;
    message[end] ^= 1;
    assert!(open(&mut message, (&key(Curve::X25519)).into(), b"c").is_err());
    assert!(!message.windows(8).any(|window| window == [b'p'; 8]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut message = bytes.clone();
        prop_assert!(open(&mut message, (&key(Curve::X25519)).into(), b"c").is_err());
        let mut message = [&[1, 1, b'k', 0, 0x20, 0, 1, 0, 2][..], &bytes].concat();
        prop_assert!(open(&mut message, (&key(Curve::X25519)).into(), b"c").is_err());
        let _ = ResponseHeader::read(&bytes);
    }

    #[test]
    fn a_header_reads_as_it_was_written(
        kid in "[a-z.]{0,255}", content_type in "[a-z/]{0,255}", iat: u64, id: [u8; 16], rest in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let header = Header { kid: &kid, curve: Curve::P256, aead: Aead::Aes256Gcm, iat, id, content_type: &content_type };
        let mut bytes = Vec::new();
        header.write(&mut bytes);
        let end = bytes.len();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(Header::read(&bytes), Ok((header, end)));
    }
}
