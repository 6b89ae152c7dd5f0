//! W3C Trace Context: a valid `traceparent` passes on as it is, since the gateway reports no span of its own that could
//! stand between; without one a trace begins here.

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use super::problem::RequestId;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

pub(super) fn set(head: &mut RequestHeader, request_id: &RequestId) {
    let mut values = head.headers.get_all(TRACEPARENT).iter();
    if let (Some(value), None) = (values.next(), values.next())
        && is_valid(value.as_bytes())
    {
        return;
    }
    // `tracestate` has no meaning without the trace that it is of (section 3.3.1.4).
    head.remove_header(&TRACESTATE);
    if let Ok(value) = HeaderValue::try_from(begin(request_id)) {
        let _ = head.insert_header(TRACEPARENT, value);
    }
}

/// A new trace: its id is the request id, where that has the form of one, so that either finds the other in a log.
/// Sampling is left to the backends.
fn begin(request_id: &RequestId) -> String {
    let id = request_id.as_str();
    let fits = id.len() == 32 && id.bytes().all(is_digit) && id.bytes().any(|digit| digit != b'0');
    let trace = if fits { id.to_owned() } else { format!("{:032x}", rand::random::<u128>().max(1)) };
    format!("00-{trace}-{:016x}-00", rand::random::<u64>().max(1))
}

/// `version-trace-parent-flags`; the version may be one that is yet to come (section 3.2.2).
fn is_valid(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b'-');
    let mut part = |len: usize| parts.next().filter(|part| part.len() == len && part.iter().copied().all(is_digit));
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (part(2), part(32), part(16), part(2)) else {
        return false;
    };
    let is_zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    let more = parts.next().is_some();
    version != b"ff" && !is_zero(trace) && !is_zero(parent) && (version != b"00" || !more)
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::problem::request_id;

    #[test]
    fn only_valid_parents_pass() {
        assert!(is_valid(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(is_valid(b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
        for wrong in [
            &b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"[..],
            b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"00-00000000000000000000000000000000-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            b"",
        ] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
        let id = request_id();
        assert!(is_valid(begin(&id).as_bytes()) && begin(&id).contains(id.as_str()));
    }
}
