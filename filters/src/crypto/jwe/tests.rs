//! Messages of this library and of RFC 7516, whole and damaged.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{crypto::Curve, keyring::AgreementKey};

fn open(text: &str, key: OpeningKey<'_>) -> Result<Vec<u8>, String> {
    let message = Compact::split(text.as_bytes()).map_err(|why| why.to_string())?;
    let json = message.header().map_err(|why| why.to_string())?;
    let header = Header::read(&json).map_err(|why| why.to_string())?;
    message.open(&header, key).map_err(|Unopened| "unopened".into())
}

/// Every way to seal, with the key that opens.
fn each(check: impl Fn(Enc, SealingKey<'_>, OpeningKey<'_>)) {
    let bytes = [7; 64];
    let pairs = [Curve::X25519, Curve::P256].map(|curve| AgreementKey::new(curve, &[9; 32]).unwrap());
    for enc in Enc::ALL {
        let direct = &bytes[..enc.key_len()];
        check(enc, SealingKey::Direct(direct), OpeningKey::Direct(direct));
        for len in [16, 32] {
            check(enc, SealingKey::Wrapping(&bytes[..len]), OpeningKey::Wrapping(&bytes[..len]));
        }
        for pair in &pairs {
            check(enc, SealingKey::Agreement(&pair.public), OpeningKey::Agreement(&pair.private));
        }
    }
}

#[test]
fn what_is_sealed_opens_and_has_the_length_foretold() {
    for plaintext in [&b""[..], b"{}", &[b'x'; 15], &[b'x'; 16], &[b'x'; 5000]] {
        each(|enc, seal, key| {
            let prepared = Prepared::new(enc, seal, &json!({ "kid": "a.1" })).unwrap();
            let foretold = prepared.len(plaintext.len());
            let message = prepared.finish(plaintext).unwrap();
            assert_eq!(message.len(), foretold);
            assert_eq!(open(&message, key).unwrap(), plaintext);
        });
    }
}

#[test]
fn any_changed_character_is_refused() {
    each(|enc, seal, key| {
        let message = super::seal(enc, seal, &json!({ "kid": "a.1" }), b"{\"amount\":1}").unwrap();
        for at in 0..message.len() {
            let mut changed = message.clone().into_bytes();
            // Another character of the alphabet, which a lenient decoder would take for the same in the spare bits.
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(open(&changed, key).is_err(), "{at} of {message}");
        }
        for damaged in [format!("{message}."), format!("{message}="), message[..message.len() - 2].to_owned()] {
            assert!(open(&damaged, key).is_err(), "{damaged}");
        }
    });
}

#[test]
fn a_key_is_never_used_as_another_kind() {
    let secret = [7; 32];
    let pair = AgreementKey::new(Curve::X25519, &[9; 32]).unwrap();
    let other = AgreementKey::new(Curve::P256, &[9; 32]).unwrap();
    let keys = [
        OpeningKey::Direct(&secret),
        OpeningKey::Wrapping(&secret),
        OpeningKey::Agreement(&pair.private),
        OpeningKey::Agreement(&other.private),
    ];
    let seals = [
        SealingKey::Direct(&secret),
        SealingKey::Wrapping(&secret),
        SealingKey::Agreement(&pair.public),
        SealingKey::Agreement(&other.public),
    ];
    for (i, seal) in seals.into_iter().enumerate() {
        let message = super::seal(Enc::A256Gcm, seal, &json!({}), b"1").unwrap();
        for (j, key) in keys.into_iter().enumerate() {
            assert_eq!(open(&message, key).is_ok(), i == j, "{i} {j}");
        }
    }
}

fn header(json: &str) -> Result<(), &'static str> {
    Header::read(json.as_bytes()).map(drop).map_err(|Malformed(why)| why)
}

#[test]
fn headers_are_read_strictly() {
    let epk = r#""epk":{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    for good in [
        r#"{"alg":"dir","enc":"A256GCM"}"#.to_owned(),
        r#"{"alg":"A256KW","enc":"A256CBC-HS512","kid":"a","cty":"JWT","typ":"JWE","x":1}"#.into(),
        format!(r#"{{"alg":"ECDH-ES","enc":"A128GCM",{epk},"apu":"QQ","apv":""}}"#),
    ] {
        assert_eq!(header(&good), Ok(()), "{good}");
    }
    for (bad, why) in [
        (r#"{"alg":"dir","enc":"A256GCM","crit":["x"]}"#.to_owned(), "`crit`"),
        (r#"{"alg":"dir","enc":"A256GCM","crit":[]}"#.into(), "`crit`"),
        (r#"{"alg":"dir","enc":"A256GCM","zip":"DEF"}"#.into(), "`zip`"),
        (r#"{"alg":"RSA1_5","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":"PBES2-HS256+A128KW","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":"A256GCMKW","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":"none","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":"DIR","enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"enc":"A256GCM"}"#.into(), "`alg`"),
        (r#"{"alg":7,"enc":"A256GCM"}"#.into(), "must be a string"),
        (r#"{"alg":"dir","enc":"A192GCM"}"#.into(), "`enc`"),
        (r#"{"alg":"dir"}"#.into(), "`enc`"),
        (r#"{"alg":"dir","enc":"A256GCM","kid":7}"#.into(), "must be a string"),
        (r#"{"alg":"dir","enc":"A256GCM","alg":"dir"}"#.into(), "strict JSON"),
        (r#"{"alg":"dir","enc":"A256GCM","x":{"y":1,"y":1}}"#.into(), "strict JSON"),
        (r#"[{"alg":"dir"}]"#.into(), "strict JSON"),
        (r#"{"alg":"ECDH-ES","enc":"A256GCM"}"#.into(), "`epk`"),
        (r#"{"alg":"ECDH-ES","enc":"A256GCM","epk":7}"#.into(), "`epk`"),
        (format!(r#"{{"alg":"dir","enc":"A256GCM",{epk}}}"#), "`epk`"),
        (format!(r#"{{"alg":"ECDH-ES","enc":"A256GCM",{epk},"apu":"Q"}}"#), "`apu`"),
        (format!(r#"{{"alg":"ECDH-ES","enc":"A256GCM",{epk},"apu":"QR"}}"#), "`apu`"),
        (format!(r#"{{"alg":"dir","enc":"A256GCM","kid":"{}"}}"#, "k".repeat(257)), "`kid`"),
    ] {
        assert!(header(&bad).is_err_and(|said| said.contains(why)), "{bad}: {:?}", header(&bad));
    }
}

#[test]
fn forms_are_five_parts_within_bounds() {
    for text in ["", "a.b.c.d", "a.b.c"] {
        assert!(Compact::split(text.as_bytes()).is_err(), "{text}");
    }
    assert!(Compact::split(b"....").is_ok());
    assert!(Compact::split(format!("{}....", "A".repeat(MAX_HEADER)).as_bytes()).is_ok());
    assert!(Compact::split(format!("{}....", "A".repeat(MAX_HEADER + 1)).as_bytes()).is_err());
    assert!(Compact::split(format!(".{}...", "A".repeat(685)).as_bytes()).is_err());
}

#[test]
fn a_sixth_part_never_opens() {
    let key = [7; 32];
    let message = super::seal(Enc::A256Gcm, SealingKey::Direct(&key), &json!({}), b"content").unwrap();
    let open = |text: &str| {
        let message = Compact::split(text.as_bytes()).expect("it looks like one");
        let json = message.header().expect("its header is whole");
        message.open(&Header::read(&json).expect("and good"), OpeningKey::Direct(&key))
    };
    assert_eq!(open(&message).as_deref(), Ok(&b"content"[..]));
    let tag = message.rfind('.').unwrap();
    for dots in [format!("{message}."), format!(".{message}")[1..].replacen("..", "...", 1), {
        let mut text = message.clone();
        text.insert(tag, '.');
        text
    }] {
        assert_ne!(dots, message);
        assert_eq!(open(&dots), Err(super::Unopened));
    }
}

/// X25519 points of small order: the agreed secret would be zeros, known to all.
#[test]
fn points_that_agree_on_nothing_are_refused() {
    let pair = AgreementKey::new(Curve::X25519, &[9; 32]).unwrap();
    let p256 = AgreementKey::new(Curve::P256, &[9; 32]).unwrap();
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one] {
        let sealed =
            super::seal(Enc::A256Gcm, SealingKey::Agreement(&crate::crypto::PublicJwk::X25519(point)), &json!({}), b"");
        assert_eq!(sealed, Err(Unsealable));
        let purpose = agreement::Purpose { alg: Alg::EcdhEs, enc: Enc::A256Gcm, apu: &[], apv: &[] };
        assert!(agreement::agree(&pair.private, &crate::crypto::PublicJwk::X25519(point), purpose).is_none());
    }
    // Not on the curve.
    let mut point = [4; 65];
    point[1..].fill(1);
    let purpose = agreement::Purpose { alg: Alg::EcdhEs, enc: Enc::A256Gcm, apu: &[], apv: &[] };
    assert!(agreement::agree(&p256.private, &crate::crypto::PublicJwk::P256(point), purpose).is_none());
}

proptest! {
    #[test]
    fn no_text_panics(text in "[A-Za-z0-9_.=-]{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = [7; 32];
        for text in [text.as_bytes(), &bytes] {
            if let Ok(message) = Compact::split(text)
                && let Ok(json) = message.header()
                && let Ok(header) = Header::read(&json)
            {
                prop_assert!(message.open(&header, OpeningKey::Wrapping(&key)).is_err());
            }
            let _ = Header::read(text);
        }
    }
}
