//! The request head as the upstream gets it.

use std::net::IpAddr;

use bytes::Bytes;
use gapura_filters::{
    authentication::Withheld,
    contract::{Origin, Principal},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{self, CONNECTION, COOKIE, FORWARDED, HOST},
    uri::PathAndQuery,
};
use ipnet::IpNet;
use pingora::http::RequestHeader;

use super::{
    listen::Facts,
    problem::{RequestId, X_REQUEST_ID},
    trace,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const X_USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
const X_USER_ROLES: HeaderName = HeaderName::from_static("x-user-roles");
const X_USER_PERMISSIONS: HeaderName = HeaderName::from_static("x-user-permissions");
const X_AUTH_METHOD: HeaderName = HeaderName::from_static("x-auth-method");

/// What only the gateway may say, and what is said to it alone: an application that knows envelopes would otherwise take from a
/// route without encryption what no filter has opened. The client's copies are dropped in every spelling that a backend may take for these
/// (CGI and its heirs turn both `-` and `_` into `_`).
const OURS: [&str; 8] = [
    "x-user-id",
    "x-user-email",
    "x-user-roles",
    "x-user-permissions",
    "x-auth-method",
    "x-request-id",
    "x-gapura-envelope",
    "x-gapura-mac",
];

/// Fields of one connection (RFC 9110, section 7.6.1), and what is sent only to ask for such.
const HOP_BY_HOP: [HeaderName; 7] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    HTTP2_SETTINGS,
];

/// Everything that the head of one exchange is edited with.
pub(super) struct Edits<'a> {
    pub(super) facts: &'a Facts,
    /// The peer is a trusted proxy.
    pub(super) trusted: bool,
    /// The canonical path with its query, where it differs from what was received.
    pub(super) target: &'a PathAndQuery,
    pub(super) host: &'a HeaderValue,
    pub(super) request_id: &'a RequestId,
    pub(super) principal: Option<&'a Principal>,
    pub(super) assertion: Option<&'a (HeaderName, HeaderValue)>,
    /// The field of assertions, which no client writes.
    pub(super) assertions_in: Option<&'a HeaderName>,
    pub(super) withheld: Option<&'a Withheld>,
}

impl Edits<'_> {
    /// All edits but those of framing, which belong to whoever sends the body.
    pub(super) fn apply(&self, head: &mut RequestHeader) {
        drop_nominated(head);
        for name in &HOP_BY_HOP {
            head.remove_header(name);
        }
        let dropped: Vec<HeaderName> = head.headers.keys().filter(|name| self.drops(name)).cloned().collect();
        for name in &dropped {
            head.remove_header(name);
        }
        for (name, values) in self.withheld.map(|withheld| withheld.edits(&head.headers)).unwrap_or_default() {
            head.remove_header(&name);
            for value in values {
                // Values of this type are always fit.
                let _ = head.append_header(name.clone(), value);
            }
        }
        join_cookies(head);
        head.set_uri(Uri::from(self.target.clone()));
        set(head, HOST, self.host.clone());
        self.forwarding(head);
        set(head, X_REQUEST_ID, self.request_id.value().clone());
        trace::set(head, self.request_id);
        if let Some(principal) = self.principal {
            identity(head, principal);
        }
        if let Some((name, value)) = self.assertion {
            set(head, name.clone(), value.clone());
        }
    }

    fn drops(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        if self.assertions_in.is_some_and(|ours| normal(name).eq(normal(ours.as_str()))) {
            return true;
        }
        // Nearly every name ends here.
        if !matches!(name.as_bytes()[0], b'x' | b'f') {
            return false;
        }
        // A trusted proxy writes its fields as they are spelt; another spelling came through it from a stranger.
        is_ours(name)
            || *name == FORWARDED
            || is_forwarding(name)
                && (!self.trusted || name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-'))
    }

    fn forwarding(&self, head: &mut RequestHeader) {
        let peer = self.facts.peer_ip().to_string();
        let mut chain = joined(&head.headers, &X_FORWARDED_FOR, b", ");
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(peer.as_bytes());
        if let Ok(chain) = HeaderValue::from_maybe_shared(Bytes::from(chain)) {
            set(head, X_FORWARDED_FOR, chain);
        }
        // A trusted proxy knows what the client spoke, and to whom.
        if !head.headers.contains_key(&X_FORWARDED_PROTO) {
            let proto = if self.facts.secure { "https" } else { "http" };
            set(head, X_FORWARDED_PROTO, HeaderValue::from_static(proto));
        }
        if !head.headers.contains_key(&X_FORWARDED_HOST) {
            set(head, X_FORWARDED_HOST, self.host.clone());
        }
    }
}

fn set(head: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Names and values of these types are always fit.
    let _ = head.insert_header(name, value);
}

/// What `Connection` names goes no further, nor does it itself. `Host` is not the client's to remove.
fn drop_nominated(head: &mut RequestHeader) {
    if !head.headers.contains_key(CONNECTION) {
        return;
    }
    let values = head.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok());
    let names: Vec<HeaderName> = names.filter(|name| *name != HOST && *name != header::CONTENT_LENGTH).collect();
    for name in &names {
        head.remove_header(name);
    }
    head.remove_header(&CONNECTION);
}

/// Whether a name becomes one of [`OURS`] when every character that is no letter or digit becomes `-`.
fn is_ours(name: &str) -> bool {
    OURS.iter().any(|ours| normal(name).eq(ours.bytes()))
}

fn is_forwarding(name: &str) -> bool {
    const PREFIX: &str = "x-forwarded";
    name.len() >= PREFIX.len() && normal(name).take(PREFIX.len()).eq(PREFIX.bytes())
}

fn normal(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' })
}

/// Values are UTF-8, which a `HeaderValue` of bytes carries as it is.
fn identity(head: &mut RequestHeader, principal: &Principal) {
    let mut put = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes())
            && !text.is_empty()
        {
            set(head, name, value);
        }
    };
    put(X_USER_ID, principal.user_id.as_str());
    put(X_USER_EMAIL, principal.email.as_deref().unwrap_or_default());
    put(X_USER_ROLES, &principal.roles.join(","));
    put(X_USER_PERMISSIONS, &principal.permissions.join(","));
    put(X_AUTH_METHOD, &principal.method);
}

/// All values of a field as one. In bytes: a value that is no text hides only itself, not its neighbours.
fn joined(fields: &HeaderMap, name: &HeaderName, by: &[u8]) -> Vec<u8> {
    let values: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    values.join(by)
}

/// RFC 9113, section 8.2.3: HTTP/2 may split a cookie field; HTTP/1.1 has one.
fn join_cookies(head: &mut RequestHeader) {
    if head.headers.get_all(COOKIE).iter().nth(1).is_some()
        && let Ok(cookie) = HeaderValue::from_maybe_shared(Bytes::from(joined(&head.headers, &COOKIE, b"; ")))
    {
        set(head, COOKIE, cookie);
    }
}

/// Whether what a peer says of others is believed.
pub(super) fn is_trusted(peer: IpAddr, proxies: &[IpNet]) -> bool {
    proxies.iter().any(|network| network.contains(&peer))
}

/// Where the client takes itself to be. A trusted proxy knows what it was asked for; what it says in more than one way, or in none
/// that can be read, it does not say.
pub(super) fn origin(head: &RequestHeader, host: &HeaderValue, trusted: bool, secure: bool) -> Origin {
    let said = |name: &HeaderName| {
        let mut values = head.headers.get_all(name).iter();
        values.next().filter(|value| trusted && values.next().is_none() && !value.as_bytes().contains(&b','))
    };
    let https = match said(&X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(proto) if proto.eq_ignore_ascii_case(b"https") => true,
        Some(proto) if proto.eq_ignore_ascii_case(b"http") => false,
        _ => secure,
    };
    Origin { https, authority: said(&X_FORWARDED_HOST).unwrap_or(host).clone() }
}

/// The caller's address: from the right, past every trusted proxy. What stands left of the first stranger is hearsay.
pub(super) fn client_ip(peer: IpAddr, fields: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, proxies) {
        return peer;
    }
    let chain = if fields.contains_key(&X_FORWARDED_FOR) {
        let chain = joined(fields, &X_FORWARDED_FOR, b",");
        chain.split(is_comma).map(|hop| address(str::from_utf8(hop).ok()?.trim())).collect::<Vec<_>>()
    } else {
        let chain = joined(fields, &FORWARDED, b",");
        chain.split(is_comma).map(|hop| forwarded_for(str::from_utf8(hop).ok()?)).collect()
    };
    let mut client = peer;
    for hop in chain.into_iter().rev() {
        // A hop that is no address hides everything behind it.
        let Some(ip) = hop else { return client };
        client = ip;
        if !is_trusted(ip, proxies) {
            return client;
        }
    }
    client
}

fn is_comma(byte: &u8) -> bool {
    *byte == b','
}

/// RFC 7239, section 4: `for=192.0.2.1`, `for="[2001:db8::1]:4711"` within the elements of one hop.
fn forwarded_for(hop: &str) -> Option<IpAddr> {
    let pairs = hop.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value);
    address(values.next()?.trim_matches('"'))
}

/// An address, with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|at| at.ip()));
    let ip = ip.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_our_names_is_ours() {
        for name in
            ["x-user-id", "x_user_id", "x.user.id", "x-user_id", "x-auth-method", "x~request~id", "x_gapura_mac"]
        {
            assert!(is_ours(name), "{name}");
        }
        for name in ["x-user-ids", "x-user", "user-id", "x-userid", "xx-user-id"] {
            assert!(!is_ours(name), "{name}");
        }
        assert!(
            is_forwarding("x-forwarded-for") && is_forwarding("x_forwarded_prefix") && is_forwarding("x-forwarded")
        );
        assert!(!is_forwarding("x-forward"));
    }

    #[test]
    fn only_a_trusted_proxy_says_what_was_asked_for() {
        let of = |trusted: bool, secure: bool, fields: &[(&'static str, &'static str)]| {
            let mut head = RequestHeader::build("GET", b"/", None).unwrap();
            for (name, value) in fields {
                head.append_header(*name, *value).unwrap();
            }
            let Origin { https, authority } = origin(&head, &HeaderValue::from_static("here"), trusted, secure);
            (https, authority.to_str().unwrap().to_owned())
        };
        let said = [("x-forwarded-proto", "https"), ("x-forwarded-host", "api.test")];
        assert_eq!(of(false, false, &said), (false, "here".into()));
        assert_eq!(of(true, false, &said), (true, "api.test".into()));
        assert_eq!(of(true, true, &[("x-forwarded-proto", "http")]), (false, "here".into()));
        let twice =
            [("x-forwarded-host", "a.test"), ("x-forwarded-host", "b.test"), ("x-forwarded-proto", "https, http")];
        assert_eq!(of(true, true, &twice), (true, "here".into()));
        assert_eq!(of(true, false, &[("x-forwarded-proto", "ftp")]), (false, "here".into()));
    }

    fn client(peer: &str, fields: &[(&'static str, &str)]) -> String {
        let proxies: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).into();
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client_ip(peer.parse().unwrap(), &map, &proxies).to_string()
    }

    #[test]
    fn strangers_are_not_believed_about_themselves() {
        assert_eq!(client("192.0.2.1", &[("x-forwarded-for", "198.51.100.7")]), "192.0.2.1");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "6.6.6.6, 198.51.100.7, 10.2.2.2")]), "198.51.100.7");
        assert_eq!(
            client("10.1.1.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7")]),
            "198.51.100.7"
        );
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "198.51.100.7, unknown")]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "6.6.6.6\u{e9}, 198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "10.3.3.3")]), "10.3.3.3");
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "::ffff:198.51.100.7")]), "198.51.100.7");
        assert_eq!(client("fd00::1", &[("forwarded", "for=6.6.6.6;by=x, for=\"[2001:db8::1]:4711\"")]), "2001:db8::1");
        assert_eq!(client("10.1.1.1", &[("forwarded", "for=_hidden")]), "10.1.1.1");
    }
}
