//! `X-Gapura-Mac`, the key ids of `aes128gcm`, the ids of messages: what is read has one spelling.
#![no_main]

use gapura_filters::{
    crypto::{aes128gcm::KeyId, mac::Header},
    encryption::context::MessageId,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(header) = Header::parse(text) {
        assert_eq!(header.to_string(), text);
    }
    if let Some(key_id) = KeyId::parse(text) {
        assert_eq!(key_id.to_string(), text);
    }
    if let Some(id) = MessageId::parse(text) {
        assert_eq!(id.text(), text);
    }
});
