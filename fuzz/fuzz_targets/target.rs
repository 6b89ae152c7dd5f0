//! Canonical path and query: a fixed point, in which nothing is left that two readers could take for two paths.
#![no_main]

use gapura_filters::target::{canonical_path, check_query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    if query.is_some_and(|query| check_query(query).is_ok()) {
        assert!(query.is_some_and(|query| query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')));
    }
    let Ok(canonical) = canonical_path(path) else { return };
    assert!(canonical.starts_with('/') && canonical.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!canonical.contains(['\\', ';', '#']) && !canonical.contains("//"));
    assert!(canonical.split('/').all(|segment| segment != "." && segment != ".."));
    for part in canonical.split('%').skip(1) {
        let byte = u8::from_str_radix(&part[..2], 16).expect("two digits");
        assert!(!part[..2].bytes().any(|digit| digit.is_ascii_lowercase()), "{canonical}");
        assert!(!byte.is_ascii_alphanumeric() && !b"-._~/\\;\0".contains(&byte), "{canonical}");
    }
    assert_eq!(canonical_path(&canonical).as_deref(), Ok(&*canonical));
    // A reader who decodes once more finds no way up.
    let once_more = canonical.to_ascii_lowercase().replace("%25", "%").replace("%2e", ".");
    assert!(once_more.split('/').all(|segment| segment != "." && segment != ".."), "{canonical}");
});
