//! The one table of refusals: what a client reads when the gateway itself says no (RFC 9457).

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, StatusCode};

macro_rules! table {
    ($($variant:ident $code:literal $status:literal $title:literal;)*) => {
        /// A kind of refusal. Its name, status and title are part of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($variant,)* }

        impl Code {
            /// Every row, for documentation, metrics and tests.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }
            pub const fn status(self) -> StatusCode {
                let status = match self { $(Self::$variant => $status,)* };
                match StatusCode::from_u16(status) {
                    Ok(status) => status,
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }
        }
    };
}

table! {
    RouteNotFound         "ROUTE_NOT_FOUND"          404 "No route matches this path";
    MethodNotAllowed      "METHOD_NOT_ALLOWED"       405 "This path does not take this method";
    CredentialsMissing    "CREDENTIALS_MISSING"      401 "Credentials are required";
    CredentialsInvalid    "CREDENTIALS_INVALID"      401 "The credentials are not valid";
    PermissionDenied      "PERMISSION_DENIED"        403 "The caller may not do this";
    RateLimited           "RATE_LIMITED"             429 "Too many requests";
    BodyTooLarge          "BODY_TOO_LARGE"           413 "The request body is too large";
    EnvelopeRequired      "ENVELOPE_REQUIRED"        400 "An encrypted envelope is required";
    KeyVerificationFailed "KEY_VERIFICATION_FAILED"  400 "The envelope's key is not the caller's";
    EnvelopeExpired       "ENVELOPE_EXPIRED"         400 "The envelope is too old or too new";
    EnvelopeReplayed      "ENVELOPE_REPLAYED"        409 "The envelope was received before";
    DecryptionFailed      "DECRYPTION_FAILED"        400 "The envelope cannot be opened";
    ContentTypeUnsupported "CONTENT_TYPE_UNSUPPORTED" 415 "The content type is not supported";
    RequestMalformed      "REQUEST_MALFORMED"        400 "The request cannot be read";
    HeadTooLarge          "HEAD_TOO_LARGE"           431 "The request head is too large";
    RequestTimeout        "REQUEST_TIMEOUT"          408 "The request took too long to arrive";
    UpstreamUnavailable   "UPSTREAM_UNAVAILABLE"     502 "The service behind the gateway cannot be reached";
    UpstreamTimeout       "UPSTREAM_TIMEOUT"         504 "The service behind the gateway did not answer in time";
    Overloaded            "OVERLOADED"               503 "The gateway is overloaded";
    Internal              "INTERNAL"                 500 "The gateway failed";
}

/// A request is refused, or an exchange cannot go on: what the client reads, and apart from it what the log says.
#[derive(Debug)]
pub struct Refusal {
    pub code: Code,
    /// For the client. Never a secret, key material, plaintext or upstream internals.
    pub detail: Cow<'static, str>,
    /// For the operator's log only. Never a secret, key material or plaintext.
    pub reason: Cow<'static, str>,
    /// `WWW-Authenticate`, `Allow`, `Retry-After` and the like.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal that tells client and log the same.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        Self { code, reason: detail.clone(), detail, headers: Vec::new() }
    }
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The body, `application/problem+json`. The one place where a problem is written.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Problem<'a> {
            r#type: &'a str,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            request_id: &'a str,
        }
        let kind = format!("urn:gapura:problem:{}", self.code.name().to_ascii_lowercase().replace('_', "-"));
        let problem = Problem {
            r#type: &kind,
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: &self.detail,
            code: self.code.name(),
            request_id,
        };
        serde_json::to_vec(&problem).unwrap_or_default()
    }
}

pub const PROBLEM_JSON: &str = "application/problem+json";
