//! `Salted__` ciphertexts: opened, they are JSON; sealed again under their own salt, they are the same text.
#![no_main]

use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_filters::crypto::{self, Ciphertext};
use libfuzzer_sys::fuzz_target;

const PASSPHRASE: &[u8] = b"4a6d";

fn check(text: &[u8]) {
    let Ok(ciphertext) = Ciphertext::decode(text) else {
        assert!(crypto::open(text, PASSPHRASE).is_err());
        return;
    };
    let bytes = STANDARD.decode(text).expect("it was decoded");
    if let Ok(plaintext) = ciphertext.open_locally(PASSPHRASE) {
        let mut again = Vec::new();
        crypto::seal(&plaintext, PASSPHRASE, bytes[8..16].try_into().expect("eight bytes"), &mut again);
        assert_eq!(again, text);
        assert_eq!(crypto::open(text, PASSPHRASE).ok(), crypto::is_json(&plaintext).then_some(plaintext));
    } else {
        assert!(crypto::open(text, PASSPHRASE).is_err());
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // Behind the prefix and the base64, where the blocks are.
    check(STANDARD.encode([b"Salted__", bytes].concat()).as_bytes());
    // And what was sealed opens.
    let mut sealed = Vec::new();
    crypto::seal(bytes, PASSPHRASE, [7; 8], &mut sealed);
    assert_eq!(sealed.len(), crypto::sealed_len(bytes.len()));
    assert_eq!(Ciphertext::decode(&sealed).and_then(|sealed| sealed.open_locally(PASSPHRASE)).as_deref(), Ok(bytes));
});
