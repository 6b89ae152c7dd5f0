//! Where credentials stand in a request head beside headers of their own: in a cookie, among WebSocket subprotocols; and
//! what of them does not go on to an upstream.

use gapura_config::model::TokenSource;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{COOKIE, SEC_WEBSOCKET_PROTOCOL},
};

use super::Reason;

/// The subprotocol before a token: browsers can send no header of their own with a WebSocket handshake, but
/// `new WebSocket(url, ["bearer", token])`.
pub const BEARER_PROTOCOL: &str = "bearer";

/// The token that a request carries there. None: it carries none. Of two, which one an upstream would read is anyone's
/// guess, so they are refused.
pub(super) fn token<'h>(source: &TokenSource, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Reason> {
    match source {
        TokenSource::Header => Ok(None),
        TokenSource::Cookie(name) => {
            let mut values = cookies(headers).filter(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value);
            match (values.next(), values.next()) {
                (_, Some(_)) => Err(format!("the cookie `{name}` occurs more than once").into()),
                (value, None) => Ok(value),
            }
        }
        TokenSource::WebsocketProtocol => {
            let mut offered = protocols(headers);
            if !offered.any(is_bearer) {
                return Ok(None);
            }
            let token = offered.next().ok_or("the subprotocol `bearer` is not followed by a token")?;
            if offered.any(is_bearer) {
                return Err("the subprotocol `bearer` occurs more than once".into());
            }
            Ok(Some(token))
        }
    }
}

/// Names and values of all cookies. HTTP/2 may split them over several fields (RFC 9113, section 8.2.3). A part without `=`
/// is a name whose value is empty: present, and no token.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';')).map(cookie)
}

fn cookie(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|byte| *byte == b'=') {
        Some(at) => (part[..at].trim_ascii(), part[at + 1..].trim_ascii()),
        None => (part.trim_ascii(), b""),
    }
}

/// RFC 6455, section 11.3.4: a list, in one field or several.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Subprotocols are compared exactly.
fn is_bearer(protocol: &[u8]) -> bool {
    protocol == BEARER_PROTOCOL.as_bytes()
}

/// What of a route's credentials stays behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Withheld {
    pub(super) headers: Vec<HeaderName>,
    pub(super) cookies: Vec<String>,
    /// `bearer` and the token after it. Always: an upstream that chose the token for its subprotocol would send it back.
    pub(super) protocol: bool,
}

impl Withheld {
    /// And a header of the gateway's own.
    pub fn add(&mut self, header: HeaderName) {
        self.headers.push(header);
    }

    /// Fields to replace, each with the values that stay; without values it goes. Fields not named stay as they are.
    pub fn edits(&self, headers: &HeaderMap) -> Vec<(HeaderName, Vec<HeaderValue>)> {
        let mut edits = Vec::new();
        for name in self.headers.iter().filter(|name| headers.contains_key(*name)) {
            edits.push((name.clone(), Vec::new()));
        }
        let held = |name: &[u8]| self.cookies.iter().any(|cookie| cookie.as_bytes() == name);
        if !self.cookies.is_empty() && cookies(headers).any(|(name, _)| held(name)) {
            let fields = headers.get_all(COOKIE).iter().filter_map(|value| {
                let parts = value.as_bytes().split(|byte| *byte == b';');
                let kept: Vec<&[u8]> = parts.filter(|part| !held(cookie(part).0)).map(<[u8]>::trim_ascii).collect();
                joined(&kept, b"; ")
            });
            edits.push((COOKIE, fields.collect()));
        }
        if self.offers_bearer(headers) {
            let mut offered = protocols(headers);
            let mut kept = Vec::new();
            while let Some(protocol) = offered.next() {
                if is_bearer(protocol) {
                    let _token = offered.next();
                } else {
                    kept.push(protocol);
                }
            }
            edits.push((SEC_WEBSOCKET_PROTOCOL, joined(&kept, b", ").into_iter().collect()));
        }
        edits
    }

    /// A client that offered subprotocols breaks off where none is chosen (WHATWG WebSockets, section 4.1). The upstream was
    /// not offered `bearer`; where it chooses nothing else, this is what the gateway answers.
    pub fn offers_bearer(&self, headers: &HeaderMap) -> bool {
        self.protocol && protocols(headers).any(is_bearer)
    }

    /// For people.
    pub fn explain(&self) -> Vec<String> {
        let headers = self.headers.iter().map(ToString::to_string);
        let cookies = self.cookies.iter().map(|name| format!("the cookie {name}"));
        let protocol = self.protocol.then(|| "bearer and the token in sec-websocket-protocol".to_owned());
        headers.chain(cookies).chain(protocol).collect()
    }
}

/// None where nothing is left. The parts come out of a field, so they are fit for one.
fn joined(parts: &[&[u8]], separator: &[u8]) -> Option<HeaderValue> {
    let text = parts.join(separator);
    if text.is_empty() { None } else { HeaderValue::from_bytes(&text).ok() }
}
