//! Wycheproof: what body envelopes and API keys are made of.

use aes::cipher::{Array, BlockModeDecrypt, KeyIvInit};
use gapura_filters::{authentication::api_key_hash, crypto};

use crate::{Outcomes, list, suite, text};

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal")).collect()
}

/// The unpadding, behind the block cipher that envelopes use: AES-256 only.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_aes_cbc_pkcs5() {
    let suite = suite("wycheproof/aes_cbc_pkcs5_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            if group["keySize"] != 256 {
                outcomes.count("unsupported");
                continue;
            }
            let (key, iv, mut ct) = (bytes(text(test, "key")), bytes(text(test, "iv")), bytes(text(test, "ct")));
            let (key, iv) = (key.as_slice().try_into().expect("32 bytes"), iv.as_slice().try_into().expect("16 bytes"));
            let (blocks, rest) = Array::slice_as_chunks_mut(&mut ct);
            cbc::Decryptor::<aes::Aes256>::new(key, iv).decrypt_blocks(blocks);
            let whole = rest.is_empty();
            let opened = ct.last_chunk().filter(|_| whole).and_then(|last| {
                let (good, padding) = crypto::unpad(last);
                bool::from(good).then(|| &ct[..ct.len() - usize::from(padding)])
            });
            outcomes.count(if opened.is_some() { "accepted" } else { "refused" });
            let plaintext = bytes(text(test, "msg"));
            if opened != (test["result"] == "valid").then_some(&plaintext[..]) {
                outcomes.differs(&test["tcId"], format!("opened: {}", opened.is_some()));
            }
        }
    }
    outcomes.judge("Wycheproof AES-CBC-PKCS5", &[]);
}

/// `hash` of an API key is HMAC-SHA-256 under the salt. A truncated tag is compared as far as it goes.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_hmac_sha256_as_api_key_hash() {
    let suite = suite("wycheproof/hmac_sha256_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            let hash = api_key_hash(&bytes(text(test, "key")), &bytes(text(test, "msg")));
            let tag = text(test, "tag");
            let fits = !tag.is_empty() && hash.starts_with(tag);
            outcomes.count(if fits { "accepted" } else { "refused" });
            if fits != (test["result"] == "valid") {
                outcomes.differs(&test["tcId"], format!("fits: {fits}"));
            }
        }
    }
    outcomes.judge("Wycheproof HMAC-SHA-256", &[]);
}
