//! Two readers of JSON and the library below them: the strict one accepts nothing that the others refuse.
#![no_main]

use gapura_filters::{
    crypto::is_json,
    json::{self, Unreadable},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let library = serde_json::from_slice::<serde_json::Value>(text);
    let recognised = is_json(text);
    match json::parse(text) {
        Ok(_) => assert!(recognised && library.is_ok()),
        Err(Unreadable::Syntax) => assert!(library.is_err()),
        Err(Unreadable::DuplicateMember | Unreadable::TooDeep) => {}
    }
    if library.is_ok() {
        assert!(recognised);
    }
});
