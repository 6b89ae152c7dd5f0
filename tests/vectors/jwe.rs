//! Wycheproof and RFC 7520: encryption, and what it is made of.

use ::base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    agreement::{self, UnparsedPublicKey},
    key_wrap::{AES_128, AES_256, AesKek, KeyWrap as _},
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use gapura_filters::{
    crypto::{
        Curve, PublicJwk,
        jwe::{Alg, Compact, Enc, Header, OpeningKey},
    },
    json,
    keyring::AgreementKey,
};
use serde_json::Value;

use crate::{Outcomes, ciphers::bytes, list, suite, text};

const UNSUPPORTED: [&str; 11] = [
    "RSA1_5",
    "RSA-OAEP",
    "A192KW",
    "A128GCMKW",
    "A192GCMKW",
    "A256GCMKW",
    "ECDH-ES+A192KW",
    "PBES2-HS512+A256KW",
    "A192GCM",
    "A192CBC-HS384",
    "P-384",
];

fn base64url(key: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text(key, name)).expect("a key's members are base64url")
}

/// A key as the gateway holds it. None: of a kind that it does not take.
enum Held {
    Secret(Vec<u8>),
    Rsa(Box<OaepPrivateDecryptingKey>),
    Pair(Box<AgreementKey>),
}

fn held(key: &Value) -> Option<Held> {
    let scalar = |key: &Value| -> Option<[u8; 32]> { base64url(key, "d").try_into().ok() };
    match (text(key, "kty"), key["crv"].as_str()) {
        ("oct", _) => Some(Held::Secret(base64url(key, "k"))),
        ("EC", Some("P-256")) => AgreementKey::new(Curve::P256, &scalar(key)?).map(Box::new).map(Held::Pair),
        ("OKP", Some("X25519")) => AgreementKey::new(Curve::X25519, &scalar(key)?).map(Box::new).map(Held::Pair),
        ("RSA", _) => OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(&pkcs8(key)).ok()?)
            .ok()
            .map(Box::new)
            .map(Held::Rsa),
        _ => None,
    }
}

/// RFC 8017, appendix A.1.2, in PKCS #8: the form that the library reads.
fn pkcs8(key: &Value) -> Vec<u8> {
    let element = |tag: u8, content: Vec<u8>| {
        let length = content.len();
        let mut der = vec![tag, 0x82, (length >> 8) as u8, length as u8];
        if length < 256 {
            der = if length < 128 { vec![tag, length as u8] } else { vec![tag, 0x81, length as u8] };
        }
        der.extend(content);
        der
    };
    let integer = |mut number: Vec<u8>| {
        if number.first().is_some_and(|top| top & 0x80 != 0) {
            number.insert(0, 0);
        }
        element(2, number)
    };
    let mut numbers = integer(vec![0]);
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        numbers.extend(integer(base64url(key, name)));
    }
    let algorithm = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".to_vec();
    element(0x30, [integer(vec![0]), algorithm, element(4, element(0x30, numbers))].concat())
}

/// As a route whose operator lists the key's own algorithm would have it.
fn open(key: &Value, message: &str) -> Result<Vec<u8>, String> {
    let compact = Compact::split(message.as_bytes()).map_err(|why| why.to_string())?;
    let json = compact.header().map_err(|why| why.to_string())?;
    let header = Header::read(&json).map_err(|why| why.to_string())?;
    // For `dir` the cookbook's key names the content encryption.
    if key["alg"].as_str().is_some_and(|alg| alg != header.alg.name() && Enc::named(alg) != Some(header.enc)) {
        return Err("another algorithm than the key's".into());
    }
    let held = held(key).ok_or("no such key")?;
    let key = match (&held, header.alg) {
        (Held::Secret(secret), Alg::Dir) => OpeningKey::Direct(secret),
        (Held::Secret(secret), _) => OpeningKey::Wrapping(secret),
        (Held::Rsa(key), _) => OpeningKey::Rsa(key),
        (Held::Pair(pair), _) => OpeningKey::Agreement(&pair.private),
    };
    compact.open(&header, key).map_err(|_| "unopened".into())
}

/// What its header or its key names and the gateway does not have.
fn is_unsupported(key: &Value, message: &str) -> bool {
    let header = message.split('.').next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok()).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    let names = [&header["alg"], &header["enc"], &key["crv"], &header["epk"]["crv"]];
    names.into_iter().any(|name| name.as_str().is_some_and(|name| UNSUPPORTED.contains(&name)))
        || header.get("zip").is_some()
}

/// Those cases of a suite that are messages.
fn messages(name: &str, file: &str, explained: &[(&str, &str)]) {
    let suite = suite(file);
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        let key = &group["private"];
        for test in list(group, "tests") {
            let Some(message) = test["jwe"].as_str() else { continue };
            let opened = open(key, message);
            let unsupported = is_unsupported(key, message);
            outcomes.count(match (&opened, unsupported) {
                (Ok(_), _) => "accepted",
                (Err(_), true) => "unsupported (refused)",
                (Err(_), false) => "refused",
            });
            let valid = test["result"] == "valid";
            let right = match &opened {
                Ok(plaintext) => valid && !unsupported && test["pt"].as_str().is_none_or(|pt| *plaintext == bytes(pt)),
                Err(_) => !valid || unsupported,
            };
            if !right {
                outcomes.differs(&test["tcId"], format!("`{}` gives {opened:?}", text(test, "comment")));
            }
        }
    }
    assert!(!outcomes.counts.is_empty(), "{name} has no message");
    outcomes.judge(name, explained);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_json_web_encryption() {
    messages("Wycheproof JSON Web Encryption", "wycheproof/json_web_encryption_test.json", &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_json_web_crypto() {
    messages("Wycheproof JSON Web Crypto, JWE", "wycheproof/json_web_crypto_test.json", &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn rfc_7520_encryption() {
    const EXAMPLES: [&str; 14] = [
        "jwe/5_1.key_encryption_using_rsa_v15_and_aes-hmac-sha2",
        "jwe/5_2.key_encryption_using_rsa-oaep_with_aes-gcm",
        "jwe/5_3.key_wrap_using_pbes2-aes-keywrap_with-aes-cbc-hmac-sha2",
        "jwe/5_4.key_agreement_with_key_wrapping_using_ecdh-es_and_aes-keywrap_with_aes-gcm",
        "jwe/5_5.key_agreement_using_ecdh-es_with_aes-cbc-hmac-sha2",
        "jwe/5_6.direct_encryption_using_aes-gcm",
        "jwe/5_7.key_wrap_using_aes-gcm_keywrap_with_aes-cbc-hmac-sha2",
        "jwe/5_8.key_wrap_using_aes-keywrap_with_aes-gcm",
        "jwe/5_9.compressed_content",
        "jwe/5_10.including_additional_authentication_data",
        "jwe/5_11.protecting_specific_header_fields",
        "jwe/5_12.protecting_content_only",
        "jwe/5_13.encrypting_to_multiple_recipients",
        "curve25519/ecdh-es",
    ];
    let mut outcomes = Outcomes::default();
    for name in EXAMPLES {
        let example = suite(&format!("rfc7520/{name}.json"));
        let input = &example["input"];
        let Some(compact) = example["output"]["compact"].as_str() else {
            // Several recipients, or members outside of what is authenticated: only the compact form is taken.
            assert!(Compact::split(example["output"]["json"].to_string().as_bytes()).is_err(), "{name}");
            outcomes.count("unsupported (JSON serialization)");
            continue;
        };
        let key = &input["key"];
        let opened = if key.is_object() { open(key, compact) } else { Err("a password is no key".into()) };
        if is_unsupported(key, compact) {
            outcomes.count("unsupported (refused)");
            assert!(opened.is_err(), "{name}");
            continue;
        }
        outcomes.count(if opened.is_ok() { "accepted" } else { "refused" });
        if opened.as_deref() != Ok(text(input, "plaintext").as_bytes()) {
            outcomes.differs(name, format!("{opened:?}"));
        }
        let changed = format!("{}A", &compact[..compact.len() - 1]);
        assert!(changed == compact || open(key, &changed).is_err(), "{name}");
    }
    // Section 6: a signed token within an encrypted one. RSA-OAEP is with SHA-1 there.
    let nested = suite("rfc7520/6.nesting_signatures_and_encryption.json");
    let message = text(&nested["encrypt"]["output"], "compact");
    let key = &nested["encrypt"]["input"]["key"];
    assert!(is_unsupported(key, message) && open(key, message).is_err());
    outcomes.count("unsupported (refused)");
    outcomes.judge("RFC 7520 and RFC 8037, JWE", &[]);
}

/// Public keys as clients send them, agreed on as JWE does.
fn agreements(name: &str, file: &str, curve: Curve, explained: &[(&str, &str)]) {
    let suite = suite(file);
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            let mut public = test["public"].clone();
            public.as_object_mut().map(|members| members.remove("kid"));
            let public = public.to_string();
            let public = json::parse_object(public.as_bytes()).ok().and_then(|key| PublicJwk::of_curve(&key));
            let scalar = test["private"]["d"].as_str().and_then(|d| URL_SAFE_NO_PAD.decode(d).ok());
            let scalar: Option<[u8; 32]> = scalar.and_then(|scalar| scalar.try_into().ok());
            let pair = scalar.and_then(|scalar| AgreementKey::new(curve, &scalar));
            let shared = pair.zip(public.filter(|public| public.curve() == Some(curve))).and_then(|(pair, public)| {
                let public = UnparsedPublicKey::new(curve.algorithm(), public.agreement_bytes());
                agreement::agree(&pair.private, public, (), |secret| Ok(secret.to_vec())).ok()
            });
            outcomes.count(if shared.is_some() { "accepted" } else { "refused" });
            let expected = bytes(text(test, "shared"));
            let right = match (&shared, text(test, "result")) {
                // Zeros are what a point of small order agrees on; on P-256 they are a coordinate like any other.
                (Some(shared), "valid" | "acceptable") => {
                    *shared == expected && (curve == Curve::P256 || expected.iter().any(|byte| *byte != 0))
                }
                // Where the suite leaves the choice, refusing is right as well.
                (None, "invalid" | "acceptable") => true,
                _ => false,
            };
            if !right {
                outcomes.differs(&test["tcId"], format!("`{}`: agreed {}", text(test, "comment"), shared.is_some()));
            }
        }
    }
    outcomes.judge(name, explained);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_x25519_jwk() {
    agreements("Wycheproof X25519 in JWK", "wycheproof/x25519_jwk_test.json", Curve::X25519, &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_ecdh_p256_jwk() {
    agreements("Wycheproof ECDH P-256 in JWK", "wycheproof/ecdh_secp256r1_webcrypto_test.json", Curve::P256, &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_aes_wrap() {
    let suite = suite("wycheproof/aes_wrap_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        for test in list(group, "tests") {
            let (key, wrapped) = (bytes(text(test, "key")), bytes(text(test, "ct")));
            let cipher = match key.len() {
                16 => &AES_128,
                32 => &AES_256,
                _ => {
                    outcomes.count("unsupported");
                    continue;
                }
            };
            let mut room = vec![0; wrapped.len()];
            let kek = AesKek::new(cipher, &key).expect("a key of its length");
            let unwrapped = kek.unwrap(&wrapped, &mut room).ok().map(|key| key.to_vec());
            outcomes.count(if unwrapped.is_some() { "accepted" } else { "refused" });
            let expected = (test["result"] == "valid").then(|| bytes(text(test, "msg")));
            if unwrapped != expected && test["result"] != "acceptable" {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
        }
    }
    outcomes.judge("Wycheproof AES Key Wrap", &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_aes_gcm() {
    let suite = suite("wycheproof/aes_gcm_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        let algorithm = match (group["keySize"].as_u64(), group["ivSize"].as_u64(), group["tagSize"].as_u64()) {
            (Some(128), Some(96), Some(128)) => &AES_128_GCM,
            (Some(256), Some(96), Some(128)) => &AES_256_GCM,
            _ => {
                list(group, "tests").iter().for_each(|_| outcomes.count("unsupported"));
                continue;
            }
        };
        for test in list(group, "tests") {
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &bytes(text(test, "key"))).expect("a key"));
            let nonce = Nonce::try_assume_unique_for_key(&bytes(text(test, "iv"))).expect("12 bytes");
            let mut content = [bytes(text(test, "ct")), bytes(text(test, "tag"))].concat();
            let opened = key.open_in_place(nonce, Aad::from(bytes(text(test, "aad"))), &mut content);
            let opened = opened.ok().map(|plaintext| plaintext.to_vec());
            outcomes.count(if opened.is_some() { "accepted" } else { "refused" });
            if opened != (test["result"] == "valid").then(|| bytes(text(test, "msg"))) {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
        }
    }
    outcomes.judge("Wycheproof AES-GCM", &[]);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_rsa_oaep_sha256() {
    let suite = suite("wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json");
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        let der = bytes(group["privateKeyPkcs8"].as_str().expect("a key in PKCS #8"));
        let key = OaepPrivateDecryptingKey::new(PrivateDecryptingKey::from_pkcs8(&der).expect("a key")).expect("a key");
        for test in list(group, "tests") {
            if !text(test, "label").is_empty() {
                // JWE has none.
                outcomes.count("unsupported (label)");
                continue;
            }
            let mut room = vec![0; key.min_output_size()];
            let opened = key.decrypt(&OAEP_SHA256_MGF1SHA256, &bytes(text(test, "ct")), &mut room, None);
            let opened = opened.ok().map(|plaintext| plaintext.to_vec());
            outcomes.count(if opened.is_some() { "accepted" } else { "refused" });
            let expected = (test["result"] == "valid").then(|| bytes(text(test, "msg")));
            if opened != expected && test["result"] != "acceptable" {
                outcomes.differs(&test["tcId"], format!("`{}`", text(test, "comment")));
            }
        }
    }
    outcomes.judge("Wycheproof RSA-OAEP with SHA-256", &[]);
}
