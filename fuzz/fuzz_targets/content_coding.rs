//! The codings of an upstream's answer come off, or are refused; never more than the limit comes out.
#![no_main]

use bytes::Bytes;
use gapura::fuzzing::decode;
use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};
use libfuzzer_sys::fuzz_target;

const MAX: u64 = 64 * 1024;

fuzz_target!(|input: (u8, Vec<u8>)| {
    let codings =
        ["gzip", "deflate", "br", "identity", "gzip, br", "deflate, gzip", "br, deflate, identity", "x-gzip,,"];
    let coding = codings[usize::from(input.0) % codings.len()];
    let fields = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
    let body = Bytes::from(input.1);
    let plain = decode(&fields, body.clone(), MAX);
    if coding == "identity" {
        assert_eq!(plain, Ok(body));
    } else if let Ok(plain) = plain {
        assert!(plain.len() as u64 <= MAX);
    }
});
