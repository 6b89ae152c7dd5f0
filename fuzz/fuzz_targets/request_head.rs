//! The strict reading of a request head: it may be fed in pieces, and Pingora's parser reads on from what it lets pass.
#![no_main]

use gapura::fuzzing::{Framed, head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = head(bytes, 0);
    // Piece by piece, as bytes arrive: the outcome is the same, but for which rule is seen broken first.
    let step = bytes.first().map_or(1, |byte| 1 + usize::from(*byte) % 7);
    let (mut known, mut piecewise) = (0, Ok(None));
    for end in (step..).step_by(step).map(|end| end.min(bytes.len())) {
        piecewise = head(&bytes[..end], known);
        known = end;
        if !matches!(piecewise, Ok(None)) || end == bytes.len() {
            break;
        }
    }
    match (&whole, &piecewise) {
        (Ok(whole), Ok(piecewise)) => assert_eq!(whole, piecewise),
        (Err(_), Err(_)) => {}
        other => panic!("whole or in pieces of {step}: {other:?}"),
    }
    let Ok(Some((len, framed))) = whole else { return };
    assert!(bytes[..len].ends_with(b"\r\n\r\n"));


    // What passes is one message for the parser behind the gate as well, of the same length and framing.
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(theirs)) => assert_eq!(len, theirs),
        other => panic!("the gate passes what Pingora's parser does not: {other:?}"),
    }
    assert!(request.path.is_some_and(|target| target.parse::<http::Uri>().is_ok()), "{:?}", request.path);
    let values = |name: &str| {
        request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
            .collect::<Vec<_>>()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1 && values("host").len() <= 1);
    match framed {
        Framed::Chunked => assert!(codings[0].eq_ignore_ascii_case(b"chunked"), "{codings:?}"),
        Framed::Length(0) if lengths.is_empty() => assert!(codings.is_empty()),
        Framed::Length(length) => {
            let theirs = std::str::from_utf8(lengths[0]).expect("digits").parse::<u64>().expect("a length");
            assert_eq!(length, theirs);
        }
        Framed::Open => assert!(lengths.is_empty() && codings.is_empty() && !values("upgrade").is_empty()),
    }
});
