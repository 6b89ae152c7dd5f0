//! The strict reading of an HTTP/1 request head, before Pingora sees it (RFC 9112).
//!
//! Whatever gateways and backends have been known to read in two ways is refused here, whole and at once: a lenient reading
//! is a service to nobody but those who smuggle requests.

use gapura_filters::contract::{Code, Refusal};
use http::{HeaderValue, header::ALLOW};

use super::{connection::Framing, target};
use crate::http1::Chunks;

/// Bounds of a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    /// Request line and fields, in bytes.
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

/// A head that may go on, its length, and how far its request reaches.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) framing: Framing,
    /// What is to be read instead of the head, where a field must not be seen.
    pub(super) instead: Option<Vec<u8>>,
}

/// More than any method of the registry, and far less than a buffer.
const MAX_METHOD: usize = 32;
/// The methods that the gateway could pass on, for `Allow` (RFC 9110, section 10.2.1).
pub(crate) const PASSABLE: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// `Ok(None)`: more bytes are needed. `bytes` starts with the head; the first `known` of them were looked at before.
pub(super) fn read(bytes: &[u8], known: usize, limits: HeadLimits) -> Result<Option<Head>, Refusal> {
    let from = known.saturating_sub(3);
    let end = bytes[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at + 4);
    let seen = end.unwrap_or(bytes.len());
    if seen > limits.bytes {
        return Err(too_large(format!("the head is longer than {} bytes", limits.bytes)));
    }
    check_line_ends(&bytes[..seen], known.saturating_sub(1))?;
    match end {
        Some(len) => {
            let head = &bytes[..len];
            let (framing, upgrade) = framing(head, limits)?;
            let instead = (upgrade && !matches!(framing, Framing::Upgrade)).then(|| without_upgrade(head));
            Ok(Some(Head { len, framing, instead }))
        }
        None => Ok(None),
    }
}

/// CR only before LF, LF only behind CR, no NUL: checked on every byte as it comes, so that a head which can never become
/// right is not waited for.
fn check_line_ends(head: &[u8], from: usize) -> Result<(), Refusal> {
    for (at, byte) in head.iter().enumerate().skip(from) {
        match byte {
            b'\n' if at == 0 || head[at - 1] != b'\r' => return Err(malformed("a line ends with LF alone")),
            b'\r' if head.get(at + 1).is_some_and(|next| *next != b'\n') => return Err(malformed("CR stands alone")),
            0 => return Err(malformed("the head holds a NUL")),
            _ => {}
        }
    }
    Ok(())
}

/// Fields that decide how far a request reaches and whom it is for.
#[derive(Default)]
struct Decisive<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    coding: Option<&'a [u8]>,
    upgrade: Option<&'a [u8]>,
    /// `Connection` names `upgrade`.
    upgrades: bool,
}

/// Also whether there is an `Upgrade`.
fn framing(head: &[u8], limits: HeadLimits) -> Result<(Framing, bool), Refusal> {
    let mut lines =
        head[..head.len() - 4].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (method, target, minor) = request_line(lines.next().unwrap_or_default())?;
    let mut found = Decisive::default();
    for (count, line) in lines.enumerate() {
        if count >= limits.fields {
            return Err(too_large(format!("the head has more than {} fields", limits.fields)));
        }
        let (name, value) = field(line)?;
        let slot = match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => &mut found.host,
            14 if name.eq_ignore_ascii_case(b"content-length") => &mut found.length,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => &mut found.coding,
            7 if name.eq_ignore_ascii_case(b"upgrade") => &mut found.upgrade,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                let mut tokens = value.split(|byte| *byte == b',').map(without_blanks);
                found.upgrades |= tokens.any(|token| token.eq_ignore_ascii_case(b"upgrade"));
                continue;
            }
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(malformed("Host, Content-Length, Transfer-Encoding or Upgrade occurs twice"));
        }
    }
    target::check(method, target, found.host, minor).map_err(malformed)?;
    let framing = match (found.length, found.coding) {
        (Some(_), Some(_)) => return Err(malformed("both Content-Length and Transfer-Encoding")),
        // RFC 9112, section 6.1: a message of HTTP/1.0 with Transfer-Encoding has faulty framing.
        (None, Some(_)) if minor == 0 => return Err(malformed("Transfer-Encoding in HTTP/1.0")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked(Chunks::default()),
        (None, Some(_)) => return Err(malformed("a Transfer-Encoding other than chunked")),
        (Some(length), None) => match parse_length(length) {
            Some(length) => Framing::Length(length),
            None => return Err(malformed("a Content-Length that is no number")),
        },
        (None, None) if minor == 1 && is_tunnel(&found) => Framing::Upgrade,
        (None, None) => Framing::Length(0),
    };
    Ok((framing, found.upgrade.is_some()))
}

/// The one upgrade that is passed on: to WebSocket, and of a request that has no body. Pingora takes any `Upgrade` for one,
/// and what follows it for a tunnel.
fn is_tunnel(found: &Decisive<'_>) -> bool {
    found.upgrades && found.upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// An upgrade that is not passed on may be ignored (RFC 9110, section 7.8).
fn without_upgrade(head: &[u8]) -> Vec<u8> {
    let is_upgrade = |line: &&[u8]| line.len() > 7 && line[..7].eq_ignore_ascii_case(b"upgrade") && line[7] == b':';
    let lines = head.split_inclusive(|byte| *byte == b'\n').filter(|line| !is_upgrade(line));
    lines.flatten().copied().collect()
}

/// Method, target and minor version, apart by one space each.
fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], u8), Refusal> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("the request line is not `method target version`"));
    };
    // Methods are case-sensitive, and no registered one has a lower-case letter: `get` is a probe for lax parsers.
    let fit = |byte: &u8| is_token(*byte) && !byte.is_ascii_lowercase();
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(fit) {
        return Err(malformed("the method is not one"));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err(malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
    };
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(Refusal::new(Code::MethodNotAllowed, "This gateway passes neither CONNECT nor TRACE on.")
            .header(ALLOW, HeaderValue::from_static(PASSABLE)));
    }
    Ok((method, target, minor))
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(malformed("a field continues on the next line"));
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(malformed("a field has no colon"));
    };
    let (name, value) = (&line[..colon], without_blanks(&line[colon + 1..]));
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(malformed("a field name is not one"));
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(malformed("a field value holds a control character"));
    }
    Ok((name, value))
}

/// RFC 9110, section 5.6.3: spaces and tabs, and no other character that a library may take for white space.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits only, without the sign that Rust's own parser takes.
fn parse_length(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal::new(Code::RequestMalformed, "The request does not follow HTTP/1.1.").reason(reason)
}

fn too_large(reason: String) -> Refusal {
    Refusal::new(Code::HeadTooLarge, "The request head is larger than the gateway accepts.").reason(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, fields: 4 };

    fn outcome(head: &str) -> Result<Option<(usize, String)>, &'static str> {
        read(head.as_bytes(), 0, LIMITS)
            .map(|found| found.map(|head| (head.len, format!("{:?}", head.framing))))
            .map_err(|refusal| refusal.code.name())
    }

    #[test]
    fn good_heads_say_how_far_they_reach() {
        let get = "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n";
        for (head, framing) in [
            (get, "Length(0)"),
            ("GET / HTTP/1.0\r\n\r\n", "Length(0)"),
            ("GET http://X:80/a HTTP/1.1\r\nHost: x:80\r\n\r\n", "Length(0)"),
            ("OPTIONS * HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", "Length(0)"),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 007\r\n\r\n", "Length(7)"),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: a, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", "Upgrade"),
            ("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n", "Length(0)"),
            ("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "Length(0)"),
        ] {
            assert_eq!(outcome(head), Ok(Some((head.len(), framing.to_owned()))), "{head:?}");
            let with_body = format!("{head}rest");
            assert_eq!(outcome(&with_body), Ok(Some((head.len(), framing.to_owned()))), "{head:?}");
        }
        let chunked = outcome("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap().unwrap();
        assert!(chunked.1.starts_with("Chunked"));
        for cut in 0..get.len() {
            assert_eq!(outcome(&get[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let with = |field: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n");
        let line = |line: &str| format!("{line}\r\nHost: x\r\n\r\n");
        let host = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n");
        let mut heads: Vec<String> = Vec::new();
        heads.extend(
            [
                "Content-Length: 3\r\nContent-Length: 3",
                "Content-Length: 3, 3",
                "Content-Length: +3",
                "Content-Length: -1",
                "Content-Length: 0x3",
                "Content-Length:",
                "Content-Length: 99999999999999999999",
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: gzip, chunked",
                "Transfer-Encoding: identity",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: xchunked",
                "Transfer-Encoding: \u{b}chunked",
                "X : y",
                "X\u{1}: y",
                ": y",
                "X",
                "X: a\r\n b",
                "X: a\rb",
                "X: a\u{7f}",
                "X: a\u{c}",
                "X:\u{c}a",
                "X: a\nY: b",
                "Host: x",
            ]
            .map(with),
        );
        heads.extend(
            [
                "GET  / HTTP/1.1",
                "GET /",
                "GET / HTTP/2.0",
                "GET / HTTP/0.9",
                "GET / http/1.1",
                "get / HTTP/1.1",
                "G@T / HTTP/1.1",
                "GET t HTTP/1.1",
                "GET * HTTP/1.1",
                "GET x:80 HTTP/1.1",
                "GET /#f HTTP/1.1",
                "GET /a\tb HTTP/1.1",
                "GET /\u{7f} HTTP/1.1",
                "GET /é HTTP/1.1",
                "GET /< HTTP/1.1",
                "GET /` HTTP/1.1",
                "GET /?\"> HTTP/1.1",
                "GET http://y/ HTTP/1.1",
                "GET ftp://x/ HTTP/1.1",
                " GET / HTTP/1.1",
            ]
            .map(line),
        );
        heads.extend(
            [
                "X: y",
                "Host:",
                "Host: a b",
                "Host: a,b",
                "Host: a/b",
                "Host: a?b",
                "Host: a@b",
                "Host: a:b",
                "Host: a:99999",
                "Host: é",
                "Host: [::1",
            ]
            .map(host),
        );
        heads.push("POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".into());
        heads.push("GET / HTTP/1.1\nHost: x\n\n".into());
        heads.push("GET / HTTP/1.1\r\nHost: x\0\r\n\r\n".into());
        for head in heads {
            assert_eq!(outcome(&head), Err("REQUEST_MALFORMED"), "{head:?}");
        }
        assert_eq!(outcome(&line("CONNECT x:80 HTTP/1.1")), Err("METHOD_NOT_ALLOWED"));
        assert_eq!(outcome(&line("TRACE / HTTP/1.1")), Err("METHOD_NOT_ALLOWED"));
    }

    #[test]
    fn an_upgrade_that_is_not_passed_on_is_not_seen() {
        let head = "GET / HTTP/1.1\r\nUPGRADE: h2c\r\nHost: x\r\nUpgrade-Insecure-Requests: 1\r\n\r\n";
        let instead = read(head.as_bytes(), 0, LIMITS).unwrap().unwrap().instead.unwrap();
        assert_eq!(instead, b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade-Insecure-Requests: 1\r\n\r\n");
        let tunnel = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert!(read(tunnel.as_bytes(), 0, LIMITS).unwrap().unwrap().instead.is_none());
    }

    #[test]
    fn bounds_hold_before_the_head_is_complete() {
        assert_eq!(outcome(&format!("GET /{}", "a".repeat(2000))), Err("HEAD_TOO_LARGE"));
        assert_eq!(
            outcome(&format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(5))),
            Err("HEAD_TOO_LARGE")
        );
        // A head that can never become right is refused at its first wrong byte.
        assert_eq!(outcome("GET / HTTP/1.1\n"), Err("REQUEST_MALFORMED"));
    }
}
