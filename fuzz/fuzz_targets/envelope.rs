//! The JSON of a body envelope: what is read as one has one meaning, and reads the same when it is written again.
#![no_main]

use gapura_config::model::{EnvelopeFields, KeyDerivation};
use gapura_filters::{
    encryption::{
        client::{self, Identity},
        envelope::{self, Reading},
    },
    json::{self, Json},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let fields = EnvelopeFields::default();
    let identity =
        Identity { user_id: "u1", email: "a@b.c", master_key: b"key", key_derivation: KeyDerivation::UserTimestamp };
    assert!(client::open_envelope(body, identity).is_err());
    let Reading::Envelope(envelope) = envelope::read(body, &fields) else { return };
    // The strict reader sees the same members, where it reads so deep a text at all.
    if let Ok(object) = json::parse_object(body) {
        assert_eq!(object.get("encryptedData").and_then(Json::as_str), Some(&*envelope.data));
        assert_eq!(object.get("keyHash").and_then(Json::as_str), Some(&*envelope.key_hash));
    }
    let again = serde_json::json!({
        "encryptedData": envelope.data, "keyHash": envelope.key_hash, "timestamp": envelope.timestamp, "userId": envelope.user_id,
    });
    assert_eq!(envelope::read(again.to_string().as_bytes(), &fields), Reading::Envelope(envelope));
});
