//! Compact JWE of strangers: nothing opens but what was sealed, with any key, and a header is read the same way twice.
#![no_main]

use gapura_filters::{
    crypto::{
        Curve,
        jwe::{Compact, Enc, Header, OpeningKey, SealingKey, seal},
    },
    keyring::AgreementKey,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As the header's JSON, which a stranger writes as freely as the whole.
    let _ = Header::read(bytes);
    let message = seal(Enc::A256Gcm, SealingKey::Wrapping(&[7; 32]), &serde_json::json!({ "kid": "k" }), bytes);
    let message = message.expect("sealed");
    assert_eq!(open(message.as_bytes(), OpeningKey::Wrapping(&[7; 32])).as_deref(), Some(bytes));
    let pair = AgreementKey::new(Curve::X25519, &[7; 32]).expect("a key");
    for key in [OpeningKey::Direct(&[7; 32]), OpeningKey::Wrapping(&[7; 32]), OpeningKey::Agreement(&pair.private)] {
        assert_eq!(open(bytes, key), None);
    }
});

fn open(message: &[u8], key: OpeningKey<'_>) -> Option<Vec<u8>> {
    let compact = Compact::split(message).ok()?;
    let json = compact.header().ok()?;
    let header = Header::read(&json).ok()?;
    assert_eq!(Header::read(&json).map(|again| again.alg), Ok(header.alg));
    compact.open(&header, key).ok()
}
