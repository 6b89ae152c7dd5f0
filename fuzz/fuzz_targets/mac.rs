//! `X-Gapura-Mac`, the key ids of `aes128gcm` and the kids of session keys: what is read has one spelling.
#![no_main]

use gapura_filters::crypto::{SessionKid, aes128gcm::KeyId, mac::Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(header) = Header::parse(text) {
        assert_eq!(header.to_string(), text);
    }
    if let Some(key_id) = KeyId::parse(text) {
        assert_eq!(key_id.to_string(), text);
    }
    if let Some(kid) = SessionKid::parse(text) {
        assert_eq!(kid.to_string(), text);
    }
});
