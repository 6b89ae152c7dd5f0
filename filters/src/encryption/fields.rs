//! Header fields that describe a body, on both sides of an encryption.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::outer::{X_GAPURA_ENVELOPE, X_GAPURA_MAC};

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
const DIGEST: HeaderName = HeaderName::from_static("digest");
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// A body is certain to come. A chunked one, or one over HTTP/2, may yet turn out empty.
pub(super) fn declares_body(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes().iter().any(|digit| *digit != b'0'))
}

/// Another content coding than `identity`, in any of its fields.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"))
}

/// This one content coding, and no other around it.
pub(super) fn is_coded_as(headers: &HeaderMap, coding: &HeaderValue) -> bool {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(coding.as_bytes())
}

/// As it was sent; empty where it was not, or not as text.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// This media type with any parameters, stated once.
pub(super) fn is_media_type(headers: &HeaderMap, media_type: &str) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes())
}

/// `application/json`, and what RFC 6839, section 3.1, makes of it.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let essence = content_type(headers).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

/// Takes from a request what describes the sealed body, or asks for a part of a response that can only be sealed whole.
pub(super) fn clean_request(headers: &mut HeaderMap) {
    for name in [CONTENT_DIGEST, REPR_DIGEST, DIGEST, CONTENT_MD5, CONTENT_ENCODING, header::RANGE, header::IF_RANGE] {
        headers.remove(name);
    }
    // Backends that read header fields as variables take `X_Gapura_Envelope` for the same name.
    let own = |name: &HeaderName| {
        let dashed = name.as_str().bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' });
        [X_GAPURA_ENVELOPE, X_GAPURA_MAC].iter().any(|own| dashed.clone().eq(own.as_str().bytes()))
    };
    let spelled: Vec<HeaderName> = headers.keys().filter(|name| own(name)).cloned().collect();
    for name in spelled {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Takes from a response what describes its plaintext. A hash of it (`ETag`, the digests) would let whoever reads along
/// outside TLS test guesses offline, and would not fit what is sent. A length would be wrong.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    for name in [
        CONTENT_DIGEST,
        REPR_DIGEST,
        DIGEST,
        CONTENT_MD5,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        header::ETAG,
        header::ACCEPT_RANGES,
        header::CONTENT_RANGE,
        header::TRANSFER_ENCODING,
        header::TRAILER,
    ] {
        headers.remove(name);
    }
}
