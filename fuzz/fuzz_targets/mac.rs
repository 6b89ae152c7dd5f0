//! `X-Gapura-Mac` and the key ids of `aes128gcm`: what is read has one spelling.
#![no_main]

use gapura_filters::crypto::{aes128gcm::KeyId, mac::Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(header) = Header::parse(text) {
        assert_eq!(header.to_string(), text);
    }
    if let Some(key_id) = KeyId::parse(text) {
        assert_eq!(key_id.to_string(), text);
    }
});
