//! The gateway's own answers: one place that writes a refusal to the wire (RFC 9457).

use std::{
    cell::RefCell,
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use gapura_filters::contract::{HeaderEdit, PROBLEM_JSON, Refusal};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::ResponseHeader;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names one exchange in answers, logs and the upstream. 128 random bits in hexadecimal, or what a trusted proxy chose.
#[derive(Clone)]
pub(crate) struct RequestId(HeaderValue);

pub(crate) fn request_id() -> RequestId {
    RequestId(hex(rand::random()))
}

/// 32 lowercase digits.
fn hex(bits: u128) -> HeaderValue {
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        let nibble = (bits >> (124 - 4 * at)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits fit a field")
}

impl RequestId {
    /// A trusted proxy's, where it fits into logs and fields as it is.
    pub(super) fn of_proxy(value: &HeaderValue) -> Option<Self> {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(byte);
        let text = value.as_bytes();
        (!text.is_empty() && text.len() <= 128 && text.iter().all(fits)).then(|| Self(value.clone()))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub(crate) fn value(&self) -> &HeaderValue {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The present as `Date` has it (RFC 9110, section 5.6.7). Written once a second and thread.
pub(crate) fn date() -> HeaderValue {
    thread_local! {
        static WRITTEN: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    WRITTEN.with_borrow_mut(|(written, value)| {
        if *written != second {
            *value = HeaderValue::try_from(httpdate::fmt_http_date(now)).expect("a date fits a field");
            *written = second;
        }
        value.clone()
    })
}

/// The fields of a problem, those of the refusal last: a refusal may carry several of one name (`WWW-Authenticate`).
pub(crate) fn describe(fields: &mut HeaderMap, refusal: &Refusal, request_id: &RequestId, length: usize) {
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    fields.insert(header::CONTENT_LENGTH, length.into());
    // What is refused now may be allowed a second later.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some problems belong to no route, and so to no preset.
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(header::DATE, date());
    fields.insert(X_REQUEST_ID, request_id.value().clone());
    for (name, value) in &refusal.headers {
        fields.append(name.clone(), value.clone());
    }
}

/// Pingora's response head, edited through its own methods: it keeps a map of spellings that must stay in step.
pub(super) struct Head<'a>(pub(super) &'a mut ResponseHeader);

impl HeaderEdit for Head<'_> {
    fn contains(&self, name: &HeaderName) -> bool {
        self.0.headers.contains_key(name)
    }
    fn only(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.headers.only(name)
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        // Names and values of the types here are always fit.
        let _ = self.0.insert_header(name.clone(), value);
    }
    fn unset(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_one_length_and_differ() {
        let (a, b) = (request_id(), request_id());
        assert!(a.as_str().len() == 32 && a.as_str() != b.as_str());
        assert_eq!(hex(0x0123_4567_89ab_cdef << 64), "0123456789abcdef0000000000000000");
    }

    #[test]
    fn a_proxys_id_is_taken_only_where_it_is_harmless() {
        let of = |text: &str| RequestId::of_proxy(&HeaderValue::from_str(text).unwrap()).is_some();
        assert!(of("5c1e9f0a-77") && of("a/b=:+."));
        assert!(!of("") && !of("a b") && !of("a\"b") && !of("{x}") && !of(&"a".repeat(129)));
    }
}
