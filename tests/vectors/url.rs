//! The URL suite of the web platform: every text in it as a request target.

use gapura_filters::target::{canonical_path, check_query};
use serde_json::Value;

use crate::{Outcomes, suite};

/// What a path may not be once it is canonical, whoever reads it.
fn check(given: &str, canonical: &str) {
    assert!(canonical.starts_with('/'), "{given:?}: {canonical:?}");
    assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic()), "{given:?}: {canonical:?}");
    for wrong in ["\\", ";", "#", "?", "//", "%2f", "%5c", "%00", "%3b", "%2e"] {
        assert!(
            !canonical.to_ascii_lowercase().contains(wrong) || wrong == "?",
            "{given:?}: {canonical:?} has {wrong}"
        );
    }
    assert!(canonical.split('/').all(|segment| segment != "." && segment != ".."), "{given:?}: {canonical:?}");
    let again =
        canonical_path(canonical).unwrap_or_else(|why| panic!("{given:?}: {canonical:?} is refused: {}", why.0));
    assert_eq!(again, canonical, "{given:?}: not a fixed point");
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    ["input", "base", "href", "pathname", "search", "hash"].into_iter().filter_map(|name| value[name].as_str())
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn every_text_as_a_target() {
    let suite = suite("wpt_urltestdata.json");
    let mut outcomes = Outcomes::default();
    for case in suite.as_array().expect("a list").iter().filter(|case| case.is_object()) {
        for text in strings(case).flat_map(|text| [text.to_owned(), format!("/{text}"), format!("/a/../{text}")]) {
            let (path, query) = text.split_once('?').map_or((text.as_str(), None), |(path, query)| (path, Some(query)));
            match canonical_path(path) {
                Ok(canonical) => {
                    check(path, &canonical);
                    outcomes.count("paths accepted");
                }
                Err(why) => {
                    assert!(!why.0.is_empty());
                    outcomes.count("paths refused");
                }
            }
            if let Some(query) = query {
                outcomes.count(if check_query(query).is_ok() { "queries accepted" } else { "queries refused" });
            }
        }
    }
    outcomes.judge("URL suite, as targets", &[]);
}

/// Where both a browser and the gateway take a URL, they name the same path: what was authorised is what was meant.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn same_path_as_a_browser() {
    let suite = suite("wpt_urltestdata.json");
    let mut outcomes = Outcomes::default();
    for case in suite.as_array().expect("a list").iter().filter(|case| case.is_object()) {
        let (Some(input), Some(pathname)) = (case["input"].as_str(), case["pathname"].as_str()) else { continue };
        let Some(path) = origin_form(input) else { continue };
        let Ok(canonical) = canonical_path(path) else {
            outcomes.count("refused");
            continue;
        };
        outcomes.count("accepted");
        if decoded(&canonical) != decoded(pathname) {
            outcomes.differs(input, format!("the gateway has {canonical:?}, a browser {pathname:?}"));
        }
    }
    outcomes.judge("URL suite, against browsers", &[]);
}

/// The path as a client writes it into a request line, of a URL that has one.
fn origin_form(input: &str) -> Option<&str> {
    let rest = input.strip_prefix("http://").or_else(|| input.strip_prefix("https://"))?;
    let path = &rest[rest.find('/')?..];
    Some(&path[..path.find(['?', '#']).unwrap_or(path.len())])
}

/// Encodings taken off: a browser encodes more characters than the gateway does, and neither decodes the others.
fn decoded(path: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (path.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        match hex.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}
