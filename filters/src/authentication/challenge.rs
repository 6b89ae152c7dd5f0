//! `WWW-Authenticate`: what a caller may present (RFC 9110, section 11.6.1).

use gapura_config::model::{Binding, TokenSource};
use http::{HeaderValue, header::AUTHORIZATION};

use super::{ApiKeysMethod, Dpop, JwtMethod, Method, dpop::Wrong};

/// Written once per route; a refusal only clones them.
#[derive(Debug)]
pub(super) struct Challenges {
    missing: Vec<HeaderValue>,
    invalid: Vec<HeaderValue>,
}

impl Challenges {
    pub(super) fn new(methods: &[Method], dpop: Option<&Dpop>) -> Self {
        let (mut missing, mut invalid) = (Vec::new(), Vec::new());
        for method in methods {
            // RFC 9449, section 7.1: where a bound token is asked for, how to present it.
            if let (Method::Jwt(method), Some(dpop)) = (method, dpop)
                && matches!(method.binding(), Binding::Dpop | Binding::Any)
                && *method.source() == TokenSource::Header
            {
                for (list, wrong) in [(&mut missing, None), (&mut invalid, Some(Wrong::Token))] {
                    add(list, dpop.challenge(wrong));
                }
                if method.binding() == Binding::Dpop {
                    continue;
                }
            }
            let plain = match method {
                Method::Jwt(method) => bearer(method),
                // No scheme is registered for it: what is asked for is a certificate in the handshake.
                Method::Mtls(_) => "Certificate realm=\"gapura\"".to_owned(),
                Method::ApiKeys(method) => api_key(method),
            };
            // RFC 6750, section 3.1: the error stands only where a credential was presented.
            let wrong = if matches!(method, Method::Jwt(_)) {
                format!("{plain}, error=\"invalid_token\"")
            } else {
                plain.clone()
            };
            push(&mut missing, &plain);
            push(&mut invalid, &wrong);
        }
        Self { missing, invalid }
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = &HeaderValue> {
        self.missing.iter()
    }

    pub(super) fn invalid(&self) -> impl Iterator<Item = &HeaderValue> {
        self.invalid.iter()
    }
}

const BEARER: &str = "Bearer realm=\"gapura\"";

/// As a key in a header of its own: the parameter tells where the token goes.
fn bearer(method: &JwtMethod) -> String {
    match method.source() {
        TokenSource::Header => BEARER.to_owned(),
        TokenSource::Cookie(name) => format!("{BEARER}, cookie=\"{name}\""),
        TokenSource::WebsocketProtocol => format!("{BEARER}, header=\"Sec-WebSocket-Protocol\""),
    }
}

/// A key in a header of its own has no registered scheme; the parameter tells where it goes.
fn api_key(method: &ApiKeysMethod) -> String {
    let scheme = method.scheme().unwrap_or("ApiKey");
    if method.scheme().is_some() && *method.header() == AUTHORIZATION {
        format!("{scheme} realm=\"gapura\"")
    } else {
        format!("{scheme} realm=\"gapura\", header=\"{}\"", method.header_as_written())
    }
}

/// Scheme and header are tokens, checked when they were read; so the value is always fit.
fn push(list: &mut Vec<HeaderValue>, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        add(list, value);
    }
}

fn add(list: &mut Vec<HeaderValue>, value: HeaderValue) {
    if !list.contains(&value) {
        list.push(value);
    }
}
