//! Presets of response headers, so that a backend need not set them.

use http::{HeaderName, HeaderValue, header};

use crate::contract::{Exchange, Filter, HeaderEdit, Stage};
use gapura_config::model::SecurityHeaders as Preset;

/// The preset of one route.
pub struct SecurityHeaders {
    preset: Preset,
}

/// A field, its value, and whether it replaces what the upstream sent.
struct Field(HeaderName, HeaderValue, Wins);

#[derive(PartialEq)]
enum Wins {
    Upstream,
    Preset,
}

/// `nosniff` is the only value there is, so whatever else an upstream sent is wrong; everything else an upstream may know better.
static COMMON: [Field; 5] = [
    Field(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"), Wins::Preset),
    Field(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
        Wins::Upstream,
    ),
    Field(
        HeaderName::from_static("x-permitted-cross-domain-policies"),
        HeaderValue::from_static("none"),
        Wins::Upstream,
    ),
    // Browsers' old filter could itself be used to leak; OWASP says to switch it off.
    Field(header::X_XSS_PROTECTION, HeaderValue::from_static("0"), Wins::Upstream),
    Field(
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
        Wins::Upstream,
    ),
];

/// An answer that no browser renders, frames or keeps.
static API: [Field; 4] = [
    Field(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        Wins::Upstream,
    ),
    Field(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"), Wins::Upstream),
    Field(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"), Wins::Upstream),
    Field(header::CACHE_CONTROL, HeaderValue::from_static("no-store"), Wins::Upstream),
];

/// A page: its own origin's scripts, framed by nobody else.
static WEB: [Field; 4] = [
    Field(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'self'; object-src 'none'; base-uri 'self'; frame-ancestors 'self'"),
        Wins::Upstream,
    ),
    Field(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"), Wins::Upstream),
    Field(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"), Wins::Upstream),
    Field(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
        Wins::Upstream,
    ),
];

/// Two years. Only over TLS: RFC 6797, section 7.2.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

impl SecurityHeaders {
    /// None for `off`.
    pub fn build(preset: Preset) -> Option<Self> {
        (preset != Preset::Off).then_some(Self { preset })
    }

    fn fields(&self) -> impl Iterator<Item = &'static Field> {
        COMMON.iter().chain(if self.preset == Preset::Web { &WEB } else { &API })
    }
}

impl Filter for SecurityHeaders {
    fn stage(&self) -> Stage {
        Stage::ResponseHeaders
    }

    fn explain(&self) -> Vec<String> {
        let name = if self.preset == Preset::Web { "web" } else { "api" };
        let fields: Vec<&str> = self.fields().map(|field| field.0.as_str()).collect();
        vec![
            format!("security headers `{name}`: {}, over TLS strict-transport-security", fields.join(", ")),
            "removes server and x-powered-by".into(),
        ]
    }

    fn on_response_headers<H: HeaderEdit>(&self, headers: &mut H, exchange: &mut Exchange) {
        for Field(name, value, wins) in self.fields() {
            if *wins == Wins::Preset || !headers.contains(name) {
                headers.set(name, value.clone());
            }
        }
        if exchange.secure && !headers.contains(&header::STRICT_TRANSPORT_SECURITY) {
            headers.set(&header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        // What runs behind the gateway is nobody's business.
        headers.unset(&header::SERVER);
        headers.unset(&HeaderName::from_static("x-powered-by"));
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use http::HeaderMap;

    use super::*;
    use crate::contract::Now;

    fn apply(preset: Preset, secure: bool, headers: &mut HeaderMap) {
        let now = Now { monotonic: Duration::ZERO, unix_ms: 0 };
        let mut exchange = Exchange::new(now, Ipv4Addr::LOCALHOST.into());
        exchange.secure = secure;
        if let Some(filter) = SecurityHeaders::build(preset) {
            filter.on_response_headers(headers, &mut exchange);
        }
    }

    #[test]
    fn upstream_values_are_kept_unless_the_preset_must_win() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src https:"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("sniff"));
        headers.insert(header::SERVER, HeaderValue::from_static("uvicorn"));
        apply(Preset::Api, true, &mut headers);
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "default-src https:");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::STRICT_TRANSPORT_SECURITY], HSTS);
        assert!(!headers.contains_key(header::SERVER));
    }

    #[test]
    fn strict_transport_security_is_never_sent_in_the_clear() {
        let mut headers = HeaderMap::new();
        apply(Preset::Web, false, &mut headers);
        assert!(!headers.contains_key(header::STRICT_TRANSPORT_SECURITY));
        assert_eq!(headers[header::X_FRAME_OPTIONS], "SAMEORIGIN");
    }

    #[test]
    fn off_changes_nothing() {
        let mut headers = HeaderMap::new();
        headers.insert(header::SERVER, HeaderValue::from_static("uvicorn"));
        apply(Preset::Off, true, &mut headers);
        assert_eq!(headers.len(), 1);
    }
}
