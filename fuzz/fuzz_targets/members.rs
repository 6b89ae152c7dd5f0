//! Members by their JSON pointers: what is found is what the library finds, and all else stays as it is.
#![no_main]

use std::borrow::Cow;

use gapura_filters::{
    crypto::is_json,
    encryption::members::{Pointer, find, replace},
    json,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    // Pointers, one a line; a zero; the text.
    let Some(split) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (Ok(lines), text) = (str::from_utf8(&bytes[..split]), &bytes[split + 1..]) else { return };
    let mut pointers: Vec<Pointer> = Vec::new();
    for pointer in lines.split('\n').take(8).filter_map(|line| Pointer::parse(line).ok()) {
        // As the configuration has it: none within another.
        if !pointers.iter().any(|other| other.holds(&pointer) || pointer.holds(other)) {
            pointers.push(pointer);
        }
    }
    if !is_json(text) {
        return;
    }
    let strict = json::parse(text).is_ok();
    let Ok(places) = find(text, &pointers) else {
        assert!(!strict, "a name stands twice, and the strict reader takes it");
        return;
    };
    // The last of equal names is what the library keeps; and it does not read everything that is JSON.
    if let (Ok(library), true) = (serde_json::from_slice::<Value>(text), strict) {
        for (pointer, place) in pointers.iter().zip(&places) {
            let found = place.clone().map(|place| serde_json::from_slice(&text[place]).expect("a whole value"));
            assert_eq!(found.as_ref(), library.pointer(pointer.as_str()), "{}", pointer.as_str());
        }
    }
    let put = |value: &dyn Fn(&[u8]) -> Vec<u8>| {
        let found = places.iter().flatten();
        replace(text, found.map(|place| (place.clone(), Cow::Owned(value(&text[place.clone()])))).collect())
    };
    assert_eq!(put(&<[u8]>::to_vec), text);
    let replaced = put(&|_| b"[7]".to_vec());
    assert!(is_json(&replaced));
    for (before, after) in places.iter().zip(find(&replaced, &pointers).expect("no name is new")) {
        assert_eq!(before.is_some(), after.is_some());
        assert!(after.is_none_or(|place| &replaced[place] == b"[7]"));
    }
});
