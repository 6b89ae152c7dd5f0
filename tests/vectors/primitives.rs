//! Wycheproof: what strong envelopes are made of, and stands in no JOSE suite.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use gapura_filters::crypto::{
    hkdf,
    jwe::{Enc, content},
};

use crate::{Outcomes, ciphers::bytes, list, suite, text};

/// Our own, which gives one block at most: of longer outputs the beginning, which does not depend on their length.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_hkdf_sha256() {
    let suite = suite("wycheproof/hkdf_sha256_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            if test["result"] != "valid" {
                // More than 255 blocks are asked for: nothing here can ask for more than one.
                outcomes.count("unsupported (size)");
                continue;
            }
            let prk = hkdf::extract(&bytes(text(test, "salt")), &[&bytes(text(test, "ikm"))]);
            let okm = prk.expand::<32>(&[&bytes(text(test, "info"))]);
            let expected = bytes(text(test, "okm"));
            let len = expected.len().min(32);
            outcomes.count("accepted");
            if okm[..len] != expected[..len] {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
        }
    }
    outcomes.judge("Wycheproof HKDF-SHA-256", &[]);
}

/// Content encryption as JWE has it.
fn contents(name: &str, file: &str, encs: &[(u64, Enc)]) {
    let suite = suite(file);
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        let size = group["keySize"].as_u64();
        let enc = encs.iter().find(|(bits, _)| size == Some(*bits)).map(|(_, enc)| *enc);
        for test in list(group, "tests") {
            let Some(enc) = enc else {
                outcomes.count("unsupported (key size)");
                continue;
            };
            let part = |name: &str| bytes(text(test, name));
            let opened = content::open(enc, &part("key"), &part("iv"), &part("aad"), part("ct"), &part("tag"));
            outcomes.count(if opened.is_some() { "accepted" } else { "refused" });
            // Other lengths of nonce and tag than those of RFC 7518 are valid in themselves, and no JWE.
            let ours = part("iv").len() == enc.iv_len() && part("tag").len() == enc.tag_len();
            if opened != (test["result"] == "valid" && ours).then(|| part("msg")) {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
            if test["result"] == "valid" && ours {
                let mut sealed = part("msg");
                let tag = content::seal(enc, &part("key"), &part("iv"), &part("aad"), &mut sealed);
                assert_eq!((sealed, tag), (part("ct"), Some(part("tag"))), "{name} {}", test["tcId"]);
            }
        }
    }
    outcomes.judge(name, &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_content_encryption() {
    contents("Wycheproof A128CBC-HS256", "wycheproof/a128cbc_hs256_test.json", &[(256, Enc::A128CbcHs256)]);
    contents("Wycheproof A256CBC-HS512", "wycheproof/a256cbc_hs512_test.json", &[(512, Enc::A256CbcHs512)]);
    let gcm = [(128, Enc::A128Gcm), (256, Enc::A256Gcm)];
    contents("Wycheproof AES-GCM, as JWE has it", "wycheproof/aes_gcm_test.json", &gcm);
}

/// One of the two ciphers of `hpke`.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_chacha20_poly1305() {
    let suite = suite("wycheproof/chacha20_poly1305_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes(text(test, "key"))).expect("a key");
            let Ok(nonce) = Nonce::try_assume_unique_for_key(&bytes(text(test, "iv"))) else {
                assert_ne!(test["result"], "valid", "{}", test["tcId"]);
                outcomes.count("refused");
                continue;
            };
            let mut content = [bytes(text(test, "ct")), bytes(text(test, "tag"))].concat();
            let opened = LessSafeKey::new(key).open_in_place(nonce, Aad::from(bytes(text(test, "aad"))), &mut content);
            let opened = opened.ok().map(|plaintext| plaintext.to_vec());
            outcomes.count(if opened.is_some() { "accepted" } else { "refused" });
            if opened != (test["result"] == "valid").then(|| bytes(text(test, "msg"))) {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
        }
    }
    outcomes.judge("Wycheproof ChaCha20-Poly1305", &[]);
}
