//! What clients ask keys with: the query that names a request, and the body with their public key.
#![no_main]

use std::borrow::Cow;

use gapura::fuzzing::asked_for;
use gapura_filters::{
    crypto::jwe::{Compact, Enc, SealingKey, seal},
    delivery::Asked,
    target::canonical_path,
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Asked { public_key: Some(key) }) = Asked::read(bytes) {
        let again = json!({ "public_key": key.members() }).to_string();
        let again = Asked::read(again.as_bytes()).map(|asked| asked.public_key);
        assert_eq!(again.ok().flatten().as_ref(), Some(&key));
        // With some keys nothing can be agreed on. With the others there is a message.
        if let Ok(sealed) = seal(Enc::A256Gcm, SealingKey::Agreement(&key), &json!({}), b"{}") {
            assert!(Compact::split(sealed.as_bytes()).is_ok());
        }
    }
    let Ok(query) = str::from_utf8(bytes) else { return };
    if let Some((path, method)) = asked_for(query) {
        assert_eq!(canonical_path(&path).ok(), Some(Cow::Borrowed(&*path)), "a path that is not canonical");
        let encoded: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(asked_for(&format!("method={method}&path={encoded}")), Some((path, method)));
    }
});
