//! Profile `jwe-rsa` and its presets.

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use gapura_filters::{
    contract::Code,
    crypto::jwe::{Compact, Enc, Header, OpeningKey, SealingKey, seal},
    keyring::{Key, Keyring},
};
use serde_json::{Value, json};

use super::stage::{NOW, Stage, key_file, told};

const BODY: &[u8] = br#"{"pan":"4242"}"#;

fn stage(preset: Option<&str>) -> Stage {
    let mut settings = json!({
        "profile": "jwe-rsa", "keyrings": ["partners"],
        "response_key": key_file("rsa_other.pub.pem"), "response_kid": "theirs",
    });
    if let Some(preset) = preset {
        settings["preset"] = preset.into();
    }
    Stage::new(settings)
}

fn public_key(file: &str) -> OaepPublicEncryptingKey {
    let text = std::fs::read_to_string(key_file(file).trim_start_matches("file:")).unwrap();
    let (_, body) = text.split_once("-----BEGIN PUBLIC KEY-----").unwrap();
    let body: String = body.split("-----END").next().unwrap().split_whitespace().collect();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, body).unwrap();
    OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).unwrap()).unwrap()
}

/// The partner's private key.
fn partner() -> Keyring {
    let ring =
        json!({ "kind": "rsa", "versions": [{ "id": "1", "key": key_file("rsa_other.key"), "state": "active" }] });
    Keyring::build("theirs", &serde_json::from_value(ring).unwrap()).unwrap()
}

fn open(message: &str) -> (Value, Vec<u8>) {
    let ring = partner();
    let Some(Key::Rsa(key)) = ring.opening("theirs.1", NOW) else { panic!("an RSA key") };
    let compact = Compact::split(message.as_bytes()).unwrap();
    let json = compact.header().unwrap();
    let header = Header::read(&json).unwrap();
    (serde_json::from_slice(&json).unwrap(), compact.open(&header, OpeningKey::Rsa(&key.private)).unwrap())
}

fn sealed(enc: Enc, header: Value, body: &[u8]) -> String {
    seal(enc, SealingKey::Rsa(&public_key("rsa.pub.pem")), &header, body).unwrap()
}

#[test]
fn bare_and_in_both_wrappers_it_passes_and_is_answered_alike() {
    let of = |preset: Option<&str>, message: String| match preset {
        None => ("application/jose", message),
        Some("visa-mle") => ("application/json", json!({ "encData": message }).to_string()),
        Some(_) => ("application/json", json!({ "encryptedData": message }).to_string()),
    };
    for (preset, enc, iat) in [
        (None, Enc::A256Gcm, json!(NOW)),
        (None, Enc::A128Gcm, json!(NOW.to_string())),
        (Some("visa-mle"), Enc::A128Gcm, json!(NOW.to_string())),
        (Some("mastercard"), Enc::A256Gcm, Value::Null),
    ] {
        let mut stage = stage(preset);
        let mut header = json!({ "kid": "partners.1", "typ": "JOSE", "cty": "application/json" });
        if !iat.is_null() {
            header["iat"] = iat;
        }
        let (content_type, body) = of(preset, sealed(enc, header, BODY));
        let mut passed = stage.post(content_type, body.clone()).unwrap();
        assert_eq!(&passed.body[..], BODY);
        assert_eq!(passed.head.headers["content-type"], "application/json");
        let (headers, answer) = stage.answer(&mut passed, 200, "application/json", b"{\"ok\":1}");
        assert_eq!(headers["content-type"], content_type);
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let message = match preset {
            None => answer,
            Some(_) => {
                let object: Value = serde_json::from_str(&answer).unwrap();
                let member = if preset == Some("visa-mle") { "encData" } else { "encryptedData" };
                assert_eq!(object.as_object().unwrap().len(), 1);
                object[member].as_str().unwrap().to_owned()
            }
        };
        let (header, plaintext) = open(&message);
        assert_eq!(plaintext, b"{\"ok\":1}");
        assert_eq!((header["kid"].as_str(), header["enc"].as_str()), (Some("theirs"), Some(enc.name())));
        assert_eq!(header["iat"].is_u64(), preset != Some("mastercard"), "{header}");
        assert_eq!(told(stage.post(content_type, body.clone())).0, Code::EnvelopeReplayed, "{preset:?}");
        assert_eq!(stage.opened("jwe-rsa"), 1);
        // The scheme binds it to no caller: whoever caught it has no better luck.
        stage.user = "mallory";
        assert_eq!(told(stage.post(content_type, body)).0, Code::EnvelopeReplayed, "{preset:?}");
    }
}

#[test]
fn a_request_without_a_body_is_answered_to_the_partners_key() {
    for (preset, enc) in [(None, "A256GCM"), (Some("visa-mle"), "A128GCM"), (Some("mastercard"), "A256GCM")] {
        let stage = stage(preset);
        let mut passed = stage.send(&[], "").unwrap();
        let (_, answer) = stage.answer(&mut passed, 200, "application/json", b"{}");
        let text = String::from_utf8(answer.to_vec()).unwrap();
        let message = text.split('"').find(|part| part.matches('.').count() == 4).unwrap();
        assert_eq!(open(message).0["enc"], enc);
    }
}

#[test]
fn whatever_is_wrong_with_a_message_reads_the_same() {
    let stage = stage(None);
    let header = || json!({ "kid": "partners.1", "iat": NOW });
    let good = sealed(Enc::A256Gcm, header(), BODY);
    let with = |name: &str, value: Value| {
        let mut header = header();
        header[name] = value;
        sealed(Enc::A256Gcm, header, BODY)
    };
    let mut bad = vec![
        with("kid", json!("partners.2")),
        with("kid", json!("theirs")),
        with("zip", json!("DEF")),
        with("crit", json!(["iat"])),
        with("x5u", json!("https://evil.example")),
        with("iat", json!(1.5)),
        with("iat", json!("now")),
        sealed(Enc::A256Gcm, json!({ "kid": "partners.1" }), BODY),
        sealed(Enc::A256Gcm, json!({ "iat": NOW }), BODY),
        sealed(Enc::A256CbcHs512, header(), BODY),
        sealed(Enc::A256Gcm, header(), b"{"),
        seal(Enc::A256Gcm, SealingKey::Rsa(&public_key("rsa_other.pub.pem")), &header(), BODY).unwrap(),
        seal(Enc::A256Gcm, SealingKey::Wrapping(&[7; 32]), &header(), BODY).unwrap(),
        seal(Enc::A256Gcm, SealingKey::Direct(&[7; 32]), &header(), BODY).unwrap(),
    ];
    // An encrypted key that does not decrypt, or is of another length, is like any other wrong key.
    let parts: Vec<&str> = good.split('.').collect();
    for key in [String::new(), "AAAA".into(), "A".repeat(parts[1].len()), parts[1][..parts[1].len() - 4].to_owned()] {
        bad.push(format!("{}.{key}.{}.{}.{}", parts[0], parts[2], parts[3], parts[4]));
    }
    let mut seen: Option<(Code, String)> = None;
    for message in bad {
        let told = told(stage.post("application/jose", message.clone()));
        assert_eq!(told.0, Code::DecryptionFailed, "{message}");
        assert_eq!(seen.get_or_insert(told.clone()), &told, "{message}");
    }
    let old = sealed(Enc::A256Gcm, json!({ "kid": "partners.1", "iat": NOW - 300_001 }), BODY);
    assert_eq!(told(stage.post("application/jose", old)).0, Code::EnvelopeExpired);
    assert!(stage.post("application/jose", good).is_ok());
}

#[test]
fn a_wrapper_holds_one_member_and_nothing_else() {
    let stage = stage(Some("visa-mle"));
    let message = sealed(Enc::A128Gcm, json!({ "kid": "partners.1", "iat": NOW }), BODY);
    for body in [
        json!({ "encryptedData": message }).to_string(),
        json!({ "encData": message, "more": 1 }).to_string(),
        json!({ "encData": [message] }).to_string(),
        format!(r#"{{"encData":"{message}","encData":"{message}"}}"#),
        message.clone(),
        "{}".into(),
    ] {
        assert_eq!(told(stage.post("application/json", body)).0, Code::EnvelopeRequired);
    }
    assert_eq!(told(stage.post("application/jose", message)).0, Code::ContentTypeUnsupported);
}

#[test]
fn beside_jwe_the_algorithm_tells_them_apart() {
    let settings = json!({
        "profile": ["jwe-rsa", "jwe"], "keyrings": ["partners", "points"], "response_key": key_file("rsa_other.pub.pem"),
    });
    let stage = Stage::new(settings);
    let rsa = sealed(Enc::A256Gcm, json!({ "kid": "partners.1", "iat": NOW }), BODY);
    let mut passed = stage.post("application/jose", rsa).unwrap();
    let (_, answer) = stage.answer(&mut passed, 200, "application/json", b"{}");
    assert_eq!(open(std::str::from_utf8(&answer).unwrap()).1, b"{}");
    let version = stage.ring("points").active().unwrap();
    let mut ctx = stage.ctx();
    ctx["rpk"] = version.public().unwrap().members().into();
    let header = json!({ "kid": version.kid(), "cty": "application/json", "ctx": ctx });
    let jwe = seal(Enc::A256Gcm, SealingKey::Agreement(version.public().unwrap()), &header, BODY).unwrap();
    assert!(stage.post("application/jose", jwe).is_ok());
    assert_eq!((stage.opened("jwe"), stage.opened("jwe-rsa")), (1, 1));
}
