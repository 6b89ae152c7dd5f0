//! Removes the content codings of an upstream that compresses all the same.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};

/// More codings than this on one answer is no compression.
const MAX_CODINGS: usize = 4;

/// The body without its codings (RFC 9110, section 8.4), at most `max` bytes of it: a small answer may be the bomb of a
/// backend that fell.
pub(super) fn decode(fields: &HeaderMap, mut body: Bytes, max: u64) -> Result<Bytes, String> {
    let values = fields.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let codings: Vec<&str> =
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|coding| !coding.is_empty()).collect();
    if codings.len() > MAX_CODINGS {
        return Err("the answer has too many content codings".into());
    }
    // In the order in which they were applied: the last is the outermost.
    for coding in codings.iter().rev() {
        body = match coding.to_ascii_lowercase().as_str() {
            "identity" => body,
            "gzip" | "x-gzip" => read(MultiGzDecoder::new(&body[..]), max)?,
            // RFC 9110, section 8.4.1.2: some send it without the zlib wrapper.
            "deflate" => match read(ZlibDecoder::new(&body[..]), max) {
                Ok(plain) => plain,
                Err(_) => read(DeflateDecoder::new(&body[..]), max)?,
            },
            "br" => read(brotli::Decompressor::new(&body[..], 4096), max)?,
            _ => return Err("the answer has a content coding that the gateway cannot remove".into()),
        };
    }
    Ok(body)
}

fn read(decoder: impl Read, max: u64) -> Result<Bytes, String> {
    let mut plain = Vec::new();
    decoder.take(max.saturating_add(1)).read_to_end(&mut plain).map_err(|_| "the answer's compression is broken")?;
    if plain.len() as u64 > max { Err(format!("the answer is larger than {max} bytes")) } else { Ok(plain.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn coded(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())])
    }

    #[test]
    fn codings_come_off_in_reverse() {
        assert_eq!(decode(&coded("gzip, gzip"), gzip(&gzip(b"plain")), 100).unwrap(), "plain");
        assert_eq!(decode(&coded("identity"), "plain".into(), 100).unwrap(), "plain");
        assert_eq!(decode(&HeaderMap::new(), "plain".into(), 100).unwrap(), "plain");
    }

    #[test]
    fn bombs_and_rubbish_are_refused() {
        assert!(decode(&coded("gzip"), gzip(&vec![0; 1 << 20]), 1000).is_err());
        assert!(decode(&coded("gzip"), "plain".into(), 1000).is_err());
        assert!(decode(&coded("zstd"), "plain".into(), 1000).is_err());
        assert!(decode(&coded("gzip,gzip,gzip,gzip,gzip"), gzip(b""), 1000).is_err());
    }
}
