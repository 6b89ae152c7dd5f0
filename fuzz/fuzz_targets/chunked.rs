//! Chunk framing: what scans a request's body and what decodes a response's agree on every byte, whatever the pieces.
#![no_main]

use bytes::BytesMut;
use gapura::fuzzing::Chunks;
use libfuzzer_sys::fuzz_target;

/// Bytes of the body, where it ends.
fn scan(bytes: &[u8], step: usize) -> Result<Option<usize>, &'static str> {
    let (mut chunks, mut total) = (Chunks::default(), 0);
    for piece in bytes.chunks(step) {
        let taken = chunks.scan(piece)?;
        assert!(taken <= piece.len() && (taken == piece.len() || chunks.is_done()));
        total += taken;
    }
    Ok(chunks.is_done().then_some(total))
}

fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Option<usize>), &'static str> {
    let (mut chunks, mut buffer, mut data, mut fed) = (Chunks::default(), BytesMut::new(), Vec::new(), 0);
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        fed += piece.len();
        while let Some(bytes) = chunks.decode(&mut buffer)? {
            assert!(!bytes.is_empty());
            data.extend_from_slice(&bytes);
        }
    }
    Ok((data, chunks.is_done().then(|| fed - buffer.len())))
}

fuzz_target!(|input: &[u8]| {
    let Some((step, bytes)) = input.split_first() else { return };
    let step = 1 + usize::from(*step);
    let whole = scan(bytes, usize::MAX);
    assert_eq!(whole, scan(bytes, step));
    let decoded = decode(bytes, step);
    match (whole, decoded) {
        (Ok(end), Ok((data, theirs))) => {
            assert_eq!(end, theirs);
            if end.is_some() {
                // What a strict reader decoded, Pingora's reads the same.
                assert_eq!(data, by_httparse(bytes));
            }
        }
        (Err(a), Err(b)) => assert_eq!(a, b),
        other => panic!("{other:?}"),
    }
});

/// The data, sizes read by Pingora's parser.
fn by_httparse(bytes: &[u8]) -> Vec<u8> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        match httparse::parse_chunk_size(&bytes[at..]) {
            Ok(httparse::Status::Complete((_, 0))) => return data,
            Ok(httparse::Status::Complete((line, size))) => {
                at += line;
                let size = size as usize;
                data.extend_from_slice(&bytes[at..at + size]);
                at += size + 2;
            }
            other => panic!("the gate passes a chunk that Pingora's parser does not: {other:?}"),
        }
    }
}
