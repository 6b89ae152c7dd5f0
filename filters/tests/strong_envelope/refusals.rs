//! What does not pass, and that it looks the same whatever was wrong.

use gapura_filters::{contract::Code, encryption::sender::Facts};

use super::stage::*;

const JSON: &[u8] = b"{\"amount\":1}";

/// The message of these facts, sent in the request that is told.
#[track_caller]
fn refused(stage: &Stage, profile: &str, sealed_for: &Facts, what: &str) {
    let (message, _) = stage.seal(profile, JSON, sealed_for);
    let refusal = stage.post(profile, &message).err().unwrap_or_else(|| panic!("{profile}: {what} passed"));
    uniform(&refusal, what);
}

#[track_caller]
fn uniform(refusal: &gapura_filters::contract::Refusal, what: &str) {
    let expected = gapura_filters::contract::Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened.");
    assert_eq!(refusal.body("id"), expected.body("id"), "{what}");
    assert!(refusal.headers.is_empty());
}

/// Each field of the context, one at a time.
#[test]
fn a_message_for_another_request_is_refused() {
    let stage = Stage::new();
    let change = |change: fn(&mut Facts)| {
        let mut facts = facts();
        change(&mut facts);
        facts
    };
    for profile in PROFILES {
        for (what, other) in [
            ("method", change(|facts| facts.method = "PUT".into())),
            ("authority", change(|facts| facts.authority = "api.example.org".into())),
            ("port", change(|facts| facts.authority = "api.example.com:8443".into())),
            ("path", change(|facts| facts.target = "/payments/2?a=1".into())),
            ("query", change(|facts| facts.target = "/payments/1?a=2".into())),
            ("no query", change(|facts| facts.target = "/payments/1".into())),
            ("subject", change(|facts| facts.user_id = "u2".into())),
            ("token", change(|facts| facts.token_id = "t-2".into())),
            ("part", change(|facts| facts.part = "/card".into())),
        ] {
            refused(&stage, profile, &other, what);
        }
        // The same authority in other words.
        let same = change(|facts| facts.authority = "API.example.com:443".into());
        let (message, _) = stage.seal(profile, JSON, &same);
        assert!(stage.post(profile, &message).is_ok());
    }
}

#[test]
fn every_bit_counts() {
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, _) = stage.seal(profile, JSON, &facts());
        for at in 0..message.len() {
            // RFC 8188: of a message in one record the size of records says nothing. It is still the same message.
            if profile == "aes128gcm" && (16..20).contains(&at) {
                continue;
            }
            let mut other = message.clone();
            other[at] ^= 1;
            let refusal = stage.post(profile, &other).err().unwrap_or_else(|| panic!("{profile}: bit at {at} passed"));
            uniform(&refusal, &format!("{profile}: bit at {at}"));
        }
        for cut in [1, 20, message.len() / 2, message.len() - 1] {
            let refusal = stage.post(profile, &message[..cut]).err().expect("it is refused");
            uniform(&refusal, &format!("{profile}: cut at {cut}"));
        }
        // It was none of those that were refused: now it passes.
        assert!(stage.post(profile, &message).is_ok());
    }
}

/// The content type of `aes128gcm` stands in the head only, and is bound all the same.
#[test]
fn another_content_type_is_another_message() {
    let stage = Stage::with(serde_json::json!({ "inner_types": ["application/json", "text/plain"] }));
    let (message, _) = stage.seal("aes128gcm", JSON, &facts());
    let fields = [("content-type", "text/plain"), ("content-encoding", "aes128gcm")];
    uniform(&stage.send(&facts(), &fields, &message).err().expect("it is refused"), "content type");
}

#[test]
fn keys_of_others_and_keys_that_are_over_do_not_open() {
    use gapura_filters::{crypto::hpke::Aead, encryption::sender::Key};
    let stage = Stage::new();
    let facts = facts();
    let seconds = NOW / 1000;
    for (what, (kid, key)) in [
        ("another caller's", stage.session("u2", "t-1", seconds + 600)),
        ("another token's", stage.session("u1", "t-2", seconds + 600)),
        ("past", stage.session("u1", "t-1", seconds)),
        ("too far ahead", stage.session("u1", "t-1", seconds + 15 * 60 + 61)),
    ] {
        let (message, _) = facts.seal(JSON, "application/json", &Key::Session { kid: &kid, key: &key }, NOW).unwrap();
        uniform(&stage.post("aes128gcm", &message).err().expect("it is refused"), what);
    }
    for kid in ["bodies.2026-10", "sessions.2026-11", "", "bodies"] {
        let key = Key::Public { kid, key: stage.public(), aead: Aead::ChaCha20Poly1305 };
        let (message, _) = facts.seal(JSON, "application/json", &key, NOW).unwrap();
        uniform(&stage.post("hpke", &message).err().expect("it is refused"), kid);
    }
}

/// Different people may have one user id, each from an issuer of his own.
#[test]
fn a_method_shares_nothing_with_another() {
    let mut stage = Stage::new();
    let own = stage.seal("aes128gcm", JSON, &facts()).0;
    let public = stage.seal("hpke", JSON, &facts()).0;
    stage.method = "api_keys.developers";
    uniform(&stage.post("aes128gcm", &own).err().expect("it is refused"), "another method's");
    // Its own does; and what was for a user id passes once, whoever has this id.
    let (message, _) = stage.seal("aes128gcm", JSON, &facts());
    assert!(stage.post("aes128gcm", &message).is_ok());
    assert!(stage.post("hpke", &public).is_ok());
    stage.method = "jwt.users";
    assert_eq!(stage.post("hpke", &public).err().map(|refusal| refusal.code), Some(Code::EnvelopeReplayed));
    assert!(stage.post("aes128gcm", &own).is_ok());
}

#[test]
fn the_content_must_be_what_it_is_said_to_be() {
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, _) = stage.seal_as(profile, b"{\"amount\":", "application/json", &facts(), NOW);
        uniform(&stage.post(profile, &message).err().expect("it is refused"), "no JSON");
    }
    let (message, _) = stage.seal_as("hpke", b"a,b", "text/csv", &facts(), NOW);
    assert_eq!(stage.post("hpke", &message).err().map(|refusal| refusal.code), Some(Code::ContentTypeUnsupported));
    let (message, _) = stage.seal_as("hpke", JSON, "application/json", &facts(), NOW);
    let refusal = stage.get("hpke", &message).err().expect("content has no place in a head");
    uniform(&refusal, "content in the head");
}

#[test]
fn age_is_told_only_of_what_has_proved_itself() {
    let stage = Stage::new();
    for profile in PROFILES {
        for (iat, passes) in
            [(NOW - 300_000, true), (NOW - 300_001, false), (NOW + 60_000, true), (NOW + 60_001, false), (0, false)]
        {
            let (mut message, _) = stage.seal_as(profile, JSON, "application/json", &facts(), iat);
            let outcome = stage.post(profile, &message).map_err(|refusal| refusal.code);
            assert_eq!(outcome.err(), (!passes).then_some(Code::EnvelopeExpired), "{profile} {iat}");
            let end = message.len() - 1;
            message[end] ^= 1;
            uniform(&stage.post(profile, &message).err().expect("it is refused"), "old and changed");
        }
    }
}

#[test]
fn a_message_passes_once() {
    let stage = Stage::new();
    for profile in PROFILES {
        let (message, _) = stage.seal(profile, JSON, &facts());
        assert!(stage.post(profile, &message).is_ok());
        assert_eq!(stage.post(profile, &message).err().map(|refusal| refusal.code), Some(Code::EnvelopeReplayed));
    }
    assert_eq!(stage.counted("replayed"), 2);
}

#[test]
fn what_is_no_message_is_asked_to_be_one() {
    let stage = Stage::new();
    let code =
        |fields: &[(&str, &str)], body: &[u8]| stage.send(&facts(), fields, body).err().map(|refusal| refusal.code);
    assert_eq!(code(&[("content-type", "application/json")], JSON), Some(Code::ContentTypeUnsupported));
    assert_eq!(code(&[], b""), Some(Code::EnvelopeRequired));
    assert_eq!(code(&[("x-gapura-envelope", "hpke")], b""), Some(Code::EnvelopeRequired));
    assert_eq!(code(&[("x-gapura-envelope", "cryptojs=x")], b""), Some(Code::EnvelopeRequired));
    assert_eq!(
        code(&[("x-gapura-envelope", "hpke=x"), ("x-gapura-envelope", "hpke=x")], b""),
        Some(Code::EnvelopeRequired)
    );
    let both = [("content-type", "application/vnd.gapura.hpke"), ("x-gapura-envelope", "hpke=x")];
    assert_eq!(code(&both, JSON), Some(Code::EnvelopeRequired));
    for coding in ["gzip", "aes128gcm, gzip", "gzip, aes128gcm"] {
        let fields = [("content-type", "application/json"), ("content-encoding", coding)];
        assert_eq!(code(&fields, JSON), Some(Code::ContentTypeUnsupported), "{coding}");
    }
    for value in ["hpke=", "hpke=!", "hpke=AQ==", "aes128gcm=AA"] {
        uniform(&stage.send(&facts(), &[("x-gapura-envelope", value)], b"").err().expect("it is refused"), value);
    }
}
