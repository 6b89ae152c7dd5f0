//! An upstream's response: head, framing, and a chunked body.
#![no_main]

use bytes::BytesMut;
use gapura::fuzzing::{Body, Chunks, response_head};
use http::{Method, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let method = if first & 1 == 0 { Method::GET } else { Method::HEAD };
    let Ok(Some((len, status, fields, framed))) = response_head(bytes, &method) else { return };
    assert!(len <= bytes.len() && (100..1000).contains(&status));
    let count = |name| fields.get_all(name).iter().count();
    let Ok((body, keep)) = framed else { return };
    match body {
        // With both, or with one twice, two readers could see two ends.
        Body::Length(_) | Body::Chunked => {
            assert_eq!(count(header::CONTENT_LENGTH) + count(header::TRANSFER_ENCODING), 1);
        }
        Body::UntilClose => assert!(!keep && count(header::CONTENT_LENGTH) + count(header::TRANSFER_ENCODING) == 0),
        Body::Done => {}
    }
    if body == Body::Chunked {
        let (mut chunks, mut buffer, mut data) = (Chunks::default(), BytesMut::from(&bytes[len..]), 0);
        while let Ok(Some(piece)) = chunks.decode(&mut buffer) {
            data += piece.len();
        }
        assert!(data <= bytes.len() - len);
    }
});
