//! Target and host of an HTTP/1 request: one of each, and in agreement (RFC 9112, section 3.2).

use std::net::Ipv6Addr;

use http::Uri;

/// Origin form; absolute form where it names the host that `Host` names; `*` for OPTIONS (RFC 9112, section 3.2).
pub(super) fn check(method: &[u8], target: &[u8], host: Option<&[u8]>, minor: u8) -> Result<(), &'static str> {
    // A fragment is the client's own; the rest is what the library behind cannot hold, and would answer without a problem.
    let unfit = target.contains(&b'#') || Uri::try_from(target).is_err();
    if unfit || !target.iter().all(|byte| byte.is_ascii_graphic() && !b"<>\"".contains(byte)) {
        return Err("the target holds a character that must be encoded");
    }
    match host {
        Some(host) if is_authority(host) => {}
        Some(_) => return Err("the Host is not one"),
        None if minor == 0 => {}
        None => return Err("no Host in HTTP/1.1"),
    }
    match target.first() {
        Some(b'/') => return Ok(()),
        Some(b'*') if target.len() == 1 && method == b"OPTIONS" => return Ok(()),
        _ => {}
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let Some(rest) = rest else { return Err("the target is neither a path nor a URL") };
    let authority = &rest[..rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len())];
    match host {
        Some(host) if host.eq_ignore_ascii_case(authority) => Ok(()),
        _ => Err("the target names another host than Host"),
    }
}

/// `host`, `host:port`, `[v6]:port`. No user, no list, nothing empty (RFC 3986, section 3.2).
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let host_fits = if text.starts_with('[') {
        host.parse::<Ipv6Addr>().is_ok()
    } else {
        !host.is_empty() && host.len() <= 255 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    };
    host_fits && port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}
