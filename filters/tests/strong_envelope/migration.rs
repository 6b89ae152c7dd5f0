//! From the founding format to stronger ones: both are taken, nobody goes back, and one day it ends. And its MAC.

use gapura_filters::{
    contract::Code,
    crypto::{self, mac},
};
use serde_json::json;

use super::stage::*;

const JSON: &[u8] = b"{\"amount\":1}";
const BOTH: [&str; 3] = ["hpke", "aes128gcm", "cryptojs"];

#[track_caller]
fn code(outcome: Result<Passed, gapura_filters::contract::Refusal>) -> Option<Code> {
    outcome.err().map(|refusal| refusal.code)
}

#[test]
fn who_has_sent_a_strong_envelope_sends_no_weaker_one() {
    let stage = Stage::with(json!({ "profile": BOTH }));
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), None);
    assert_eq!(code(stage.send(&facts(), &[], b"")), None, "answered in the founding format");
    let (message, _) = stage.seal("hpke", JSON, &facts());
    assert_eq!(code(stage.post("hpke", &message)), None);
    let refusal = stage.post_founding(&stage.founding(JSON), None).err().expect("it is refused");
    assert_eq!(refusal.code, Code::EnvelopeRequired);
    assert!(refusal.detail.contains("hpke"), "{}", refusal.detail);
    assert_eq!(code(stage.send(&facts(), &[], b"")), Some(Code::EnvelopeRequired));
    assert_eq!(stage.counted("downgraded"), 2);
    // Equally strong is fine; and it is this caller's affair.
    let (message, _) = stage.seal("aes128gcm", JSON, &facts());
    assert_eq!(code(stage.post("aes128gcm", &message)), None);
    let other = gapura_filters::encryption::sender::Facts { user_id: "u2".into(), ..facts() };
    assert_eq!(code(stage.send(&other, &[], b"")), None);
}

/// Two issuers give different people the id `u1`: what one of them sends does not concern the other.
#[test]
fn the_lock_is_of_a_method_and_its_user() {
    let mut stage = Stage::with(json!({ "profile": BOTH }));
    let (message, _) = stage.seal("hpke", JSON, &facts());
    assert_eq!(code(stage.post("hpke", &message)), None);
    stage.method = "jwt.others";
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), None);
    stage.method = "jwt.users";
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), Some(Code::EnvelopeRequired));
}

/// Only what has proved itself locks: else anybody could lock a caller out of the founding format.
#[test]
fn what_does_not_open_locks_nothing() {
    let stage = Stage::with(json!({ "profile": BOTH }));
    let (mut message, _) = stage.seal("hpke", JSON, &facts());
    let end = message.len() - 1;
    message[end] ^= 1;
    assert_eq!(code(stage.post("hpke", &message)), Some(Code::DecryptionFailed));
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), None);
}

#[test]
fn the_lock_can_be_left_off() {
    let stage = Stage::with(json!({ "profile": BOTH, "downgrade_lock": false }));
    let (message, _) = stage.seal("hpke", JSON, &facts());
    assert_eq!(code(stage.post("hpke", &message)), None);
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), None);
}

#[test]
fn no_plaintext_after_an_envelope_of_a_strong_profile() {
    let stage = Stage::with(json!({ "required": false }));
    let plain = || stage.send(&facts(), &[("content-type", "text/plain")], b"hello");
    assert_eq!(code(plain()), None);
    let (message, _) = stage.seal("hpke", JSON, &facts());
    assert_eq!(code(stage.post("hpke", &message)), None);
    assert_eq!(code(plain()), Some(Code::EnvelopeRequired));
}

#[test]
fn the_founding_format_ends_with_its_day() {
    // The day of the stage's clock is 2026-11-18.
    for (day, passes) in [("2026-11-18", true), ("2026-11-17", false)] {
        let stage = Stage::with(json!({ "profile": BOTH, "accept_legacy_until": { "$__toml_private_datetime": day } }));
        let outcome = stage.post_founding(&stage.founding(JSON), None);
        if passes {
            assert_eq!(code(outcome), None);
            continue;
        }
        let refusal = outcome.err().expect("it is refused");
        assert_eq!(refusal.code, Code::EnvelopeRequired);
        assert_eq!(refusal.detail, "The profile cryptojs ended with 2026-11-17. Accepted here: hpke, aes128gcm.");
        assert_eq!(code(stage.send(&facts(), &[], b"")), Some(Code::EnvelopeRequired));
        assert_eq!(stage.counted("ended"), 2);
        // Nor does it go on in clear where plaintext may pass: its answer was sealed until that day.
        let lax =
            json!({ "profile": BOTH, "required": false, "accept_legacy_until": { "$__toml_private_datetime": day } });
        assert_eq!(code(Stage::with(lax).send(&facts(), &[], b"")), Some(Code::EnvelopeRequired));
        let (message, _) = stage.seal("hpke", JSON, &facts());
        assert_eq!(code(stage.post("hpke", &message)), None);
    }
}

fn passphrase() -> crypto::Passphrase {
    crypto::passphrase("u1", EMAIL, MASTER_KEY.as_bytes(), None)
}

const N: &str = "AAECAwQFBgcICQoLDA0ODw";

fn covered(body: &[u8]) -> mac::Covered<'_> {
    mac::Covered {
        method: "POST",
        authority: "api.example.com",
        path: "/payments/1",
        query: "a=1",
        user_id: "u1",
        answers: None,
        body,
    }
}

fn signed(covered: mac::Covered<'_>, ts: u64, n: &str) -> String {
    let hash = crypto::key_hash(passphrase().as_bytes());
    mac::Header::make(&passphrase(), mac::kid(&hash), ts, n, covered).to_string()
}

#[test]
fn a_mac_binds_an_envelope_and_its_response() {
    for mode in ["optional", "required"] {
        let stage = Stage::with(json!({ "profile": "cryptojs", "keyrings": [], "mac": mode }));
        let body = stage.founding(JSON);
        let header = signed(covered(body.as_bytes()), NOW, N);
        let mut passed = stage.post_founding(&body, Some(&header)).expect("it passes");
        assert_eq!(passed.body, JSON);
        assert!(!passed.head.headers.contains_key("x-gapura-mac"));
        let (headers, answer) = stage.answer(&mut passed, 201, &[("x-gapura-mac", "forged")], b"{}");
        let value = headers["x-gapura-mac"].to_str().unwrap();
        let answered = mac::Header::parse(value).expect("a MAC");
        let of = |status, body| mac::Covered { answers: Some((status, N)), ..covered(body) };
        assert!(answered.verify(&passphrase(), of("201", &answer)));
        assert!(!answered.verify(&passphrase(), of("200", &answer)));
        assert!(!answered.verify(&passphrase(), of("201", b"{}")));
    }
}

#[test]
fn a_mac_that_does_not_hold_is_refused_before_anything_is_opened() {
    let stage = Stage::with(json!({ "profile": "cryptojs", "keyrings": [], "mac": "optional" }));
    let body = stage.founding(JSON);
    let good = covered(body.as_bytes());
    for header in [
        signed(mac::Covered { method: "PUT", ..good }, NOW, N),
        signed(mac::Covered { authority: "other", ..good }, NOW, N),
        signed(mac::Covered { path: "/payments/2", ..good }, NOW, N),
        signed(mac::Covered { query: "", ..good }, NOW, N),
        signed(mac::Covered { user_id: "u2", ..good }, NOW, N),
        signed(mac::Covered { body: b"{}", ..good }, NOW, N),
        signed(mac::Covered { answers: Some(("200", N)), ..good }, NOW, N),
        "v=1".into(),
        String::new(),
    ] {
        assert_eq!(code(stage.post_founding(&body, Some(&header))), Some(Code::DecryptionFailed), "{header}");
    }
    // Its time counts, not that of the envelope, which nothing vouches for.
    let old = signed(good, NOW - 300_001, N);
    assert_eq!(code(stage.post_founding(&body, Some(&old))), Some(Code::EnvelopeExpired));
    assert_eq!(code(stage.post_founding(&body, Some(&signed(good, NOW, N)))), None);
    // The same name again, around another envelope.
    let body = stage.founding(JSON);
    let again = signed(covered(body.as_bytes()), NOW, N);
    assert_eq!(code(stage.post_founding(&body, Some(&again))), Some(Code::EnvelopeReplayed));
    // Who can make MACs makes them.
    assert_eq!(code(stage.post_founding(&body, None)), Some(Code::EnvelopeRequired));
    assert_eq!(stage.counted("downgraded"), 1);
}

#[test]
fn a_mac_may_be_asked_for() {
    let stage = Stage::with(json!({ "profile": "cryptojs", "keyrings": [], "mac": "required" }));
    assert_eq!(code(stage.post_founding(&stage.founding(JSON), None)), Some(Code::EnvelopeRequired));
    // There is no envelope that one could be asked for; the response has its own all the same.
    let mut passed = stage.send(&facts(), &[], b"").expect("it passes");
    let (headers, answer) = stage.answer(&mut passed, 200, &[], b"{}");
    let answered = mac::Header::parse(headers["x-gapura-mac"].to_str().unwrap()).expect("a MAC");
    assert!(answered.verify(&passphrase(), mac::Covered { answers: Some(("200", "")), ..covered(&answer) }));
}
