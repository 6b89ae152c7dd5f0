//! A ring of master keys: each envelope, member and MAC is of one version, and its answer of the same.

use gapura_config::model::KeyDerivation;
use gapura_filters::{
    contract::Code,
    crypto::{self, mac},
    encryption::client::{self, Identity},
};
use serde_json::{Value, json};

use super::stage::*;

/// `old` retires at the end of the day of the stage's clock.
fn stage(settings: Value) -> Stage {
    let mut all = json!({ "profile": "cryptojs", "keyrings": [], "master_keys": "masters" });
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Stage::with(all)
}

fn identity(master_key: &str) -> Identity<'_> {
    Identity { user_id: "u1", email: EMAIL, master_key: master_key.as_bytes(), key_derivation: KeyDerivation::User }
}

fn opens(sealed: &[u8], master_key: &str) -> bool {
    client::open_envelope(sealed, identity(master_key)).is_ok()
}

#[test]
fn an_answer_is_under_the_key_of_its_request() {
    let stage = stage(json!({}));
    for (own, other) in [MASTERS, [MASTERS[1], MASTERS[0]]].map(|[own, other]| (own, other)) {
        let body = client::seal_request(b"{}", identity(own), NOW);
        let mut passed = stage.post_founding(&body, None).expect("it passes");
        let (_, answer) = stage.answer(&mut passed, 200, &[("content-type", "application/json")], b"{}");
        assert!(opens(&answer, own) && !opens(&answer, other));
    }
    // Nothing tells which key the client has: what is given out.
    let mut passed = stage.send(&facts(), &[], b"").expect("it passes");
    let (_, answer) = stage.answer(&mut passed, 200, &[], b"{}");
    assert!(opens(&answer, MASTERS[1]));
    let third = client::seal_request(b"{}", identity("a third master key, of nobody at all"), NOW);
    assert_eq!(stage.post_founding(&third, None).err().map(|r| r.code), Some(Code::KeyVerificationFailed));
}

#[test]
fn a_version_ends_at_its_instant() {
    let mut stage = stage(json!({}));
    stage.now = NOW + 86_400_000;
    for (master_key, code) in [(MASTERS[0], Some(Code::KeyVerificationFailed)), (MASTERS[1], None)] {
        let body = client::seal_request(b"{}", identity(master_key), stage.now);
        assert_eq!(stage.post_founding(&body, None).err().map(|refusal| refusal.code), code);
    }
}

#[test]
fn a_mac_tells_the_version_of_a_request_without_a_body() {
    const N: &str = "AAECAwQFBgcICQoLDA0ODw";
    let stage = stage(json!({ "mac": "optional" }));
    let covered = mac::Covered {
        method: "POST",
        authority: "api.example.com",
        path: "/payments/1",
        query: "a=1",
        user_id: "u1",
        answers: None,
        body: b"",
    };
    for (at, master_key) in MASTERS.into_iter().enumerate() {
        let passphrase = crypto::passphrase("u1", EMAIL, master_key.as_bytes(), None);
        let hash = crypto::key_hash(passphrase.as_bytes());
        let n = N.replace("Dw", if at == 0 { "Dw" } else { "EA" });
        let header = mac::Header::make(&passphrase, mac::kid(&hash), NOW, &n, covered).to_string();
        let mut passed = stage.send(&facts(), &[("x-gapura-mac", &header)], b"").expect("it passes");
        let (headers, answer) = stage.answer(&mut passed, 200, &[], b"{}");
        assert!(opens(&answer, master_key));
        let answered = mac::Header::parse(headers["x-gapura-mac"].to_str().unwrap()).expect("a MAC");
        assert!(answered.verify(&passphrase, mac::Covered { answers: Some(("200", &n)), body: &answer, ..covered }));
        // One version's name over another's MAC.
        let other = crypto::passphrase("u1", EMAIL, MASTERS[1 - at].as_bytes(), None);
        let forged = mac::Header::make(&other, mac::kid(&hash), NOW, &n, covered).to_string();
        let outcome = stage.send(&facts(), &[("x-gapura-mac", &forged)], b"");
        assert_eq!(outcome.err().map(|refusal| refusal.code), Some(Code::DecryptionFailed));
    }
}

#[test]
fn members_are_answered_under_the_key_of_the_first() {
    const CLEAR: [(&str, &str); 1] = [("content-type", "application/json")];
    let stage = stage(json!({ "members": ["/card"] }));
    for master_key in MASTERS {
        let envelope = client::seal_request(b"\"4111\"", identity(master_key), NOW);
        let body = format!("{{\"card\":{envelope}}}");
        let mut passed = stage.send(&facts(), &CLEAR, body.as_bytes()).expect("it passes");
        assert_eq!(passed.body, &b"{\"card\":\"4111\"}"[..]);
        let (_, sealed) = stage.answer(&mut passed, 200, &CLEAR, b"{\"card\":1}");
        let answer: Value = serde_json::from_slice(&sealed).unwrap();
        assert!(opens(answer["card"].to_string().as_bytes(), master_key));
    }
}
