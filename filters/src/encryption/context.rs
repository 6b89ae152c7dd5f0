//! What a message is for: a strong profile binds it to the very request it came in, so that nobody can send it elsewhere.
//!
//! Every field has its length before it, so that no two requests have one context. The bytes go into the authentication of
//! the message (as associated data or into its key); JWE carries the fields as members and has them compared.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::Profile;
use http::{Method, StatusCode, request, uri::PathAndQuery};

pub use crate::crypto::fields;
use crate::{
    contract::{Exchange, Principal},
    keyring::session::Holder,
};

/// The request that a message came in, and its caller. An exchange has one, for both directions.
#[derive(Debug, Clone)]
pub struct Bound {
    method: Method,
    authority: Box<str>,
    /// Canonical path, and the query as sent.
    target: PathAndQuery,
    principal: Arc<Principal>,
    /// The JSON pointer of the member that holds the message; empty for a whole body.
    pub part: String,
}

/// What a message says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Label<'a> {
    pub profile: Profile,
    /// As the request has it, in both directions.
    pub kid: &'a str,
    /// Milliseconds since 1970.
    pub iat: u64,
    pub id: &'a MessageId,
    /// The inner content type; empty for a message without content.
    pub content_type: &'a str,
}

/// What a response answers.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: StatusCode,
    /// The id of the request's message.
    pub request: &'a MessageId,
}

const LABEL: &str = "gapura context v1";

impl Bound {
    pub fn new(head: &request::Parts, exchange: &Exchange, principal: Arc<Principal>) -> Self {
        Self {
            method: head.method.clone(),
            authority: authority(exchange),
            target: exchange.target.clone(),
            principal,
            part: String::new(),
        }
    }

    pub fn method(&self) -> &str {
        self.method.as_str()
    }
    /// Lower case, without the port that its scheme has anyway.
    pub fn authority(&self) -> &str {
        &self.authority
    }
    pub fn path(&self) -> &str {
        self.target.path()
    }
    pub fn query(&self) -> &str {
        self.target.query().unwrap_or_default()
    }
    pub fn subject(&self) -> &str {
        self.principal.user_id.as_str()
    }
    pub fn token_id(&self) -> &str {
        self.principal.token_id.as_deref().unwrap_or_default()
    }
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal)
    }
    /// Whose session keys are taken.
    pub fn holder(&self) -> Holder<'_> {
        Holder { method: &self.principal.method, subject: self.subject(), token_id: self.token_id() }
    }

    /// The context of a request.
    pub fn request(&self, label: Label<'_>) -> Vec<u8> {
        self.joined("request", label, None)
    }

    /// The context of its response.
    pub fn response(&self, label: Label<'_>, answer: Answer<'_>) -> Vec<u8> {
        self.joined("response", label, Some(answer))
    }

    fn joined(&self, direction: &str, label: Label<'_>, answer: Option<Answer<'_>>) -> Vec<u8> {
        let mut digits = itoa::Buffer::new();
        let id = label.id.text();
        let of_request = [
            LABEL,
            direction,
            label.profile.name(),
            label.kid,
            self.method(),
            self.authority(),
            self.path(),
            self.query(),
            self.subject(),
            self.token_id(),
            digits.format(label.iat),
            &id,
            label.content_type,
            &self.part,
        ];
        let answered = answer.map(|answer| (answer.status, answer.request.text()));
        let of_response = answered.as_ref().map(|(status, request)| [status.as_str(), request.as_str()]);
        fields(of_request.into_iter().chain(of_response.into_iter().flatten()).map(str::as_bytes))
    }
}

/// RFC 9110, section 4.2.3: case and the port of the scheme say nothing.
fn authority(exchange: &Exchange) -> Box<str> {
    // The adapter lets no other characters pass.
    let mut authority = exchange.authority.to_str().unwrap_or_default().to_ascii_lowercase();
    let port = if exchange.secure { ":443" } else { ":80" };
    if authority.ends_with(port) {
        authority.truncate(authority.len() - port.len());
    }
    authority.into()
}

/// The id of one message: 16 random bytes of its sender's, on the wire in base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    pub fn fresh() -> Self {
        // rand's thread generator: ChaCha12, seeded by the operating system and again every 64 KiB.
        Self(rand::random())
    }

    /// 22 characters, the one spelling of these bytes.
    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 22 {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::contract::{Now, UserId};

    fn bound(authority: &'static str, secure: bool) -> Bound {
        let now = Now { monotonic: Default::default(), unix_ms: 0 };
        let mut exchange = Exchange::new(now, [127, 0, 0, 1].into());
        exchange.authority = HeaderValue::from_static(authority);
        exchange.secure = secure;
        exchange.target = PathAndQuery::from_static("/payments/1?a=b&c");
        let principal = Principal {
            method: "jwt.users".into(),
            user_id: UserId::number(7),
            email: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: Some("t-1".into()),
            limits: Default::default(),
            claims: Default::default(),
        };
        let head = http::Request::post("/x").body(()).unwrap().into_parts().0;
        Bound::new(&head, &exchange, principal.into())
    }

    #[test]
    fn the_bytes_are_these() {
        let bound = bound("API.Example:443", true);
        let id = MessageId(*b"0123456789abcdef");
        let label =
            Label { profile: Profile::CryptoJs, kid: "bodies.1", iat: 1_700_000_000_000, id: &id, content_type: "a/b" };
        let mut expected = Vec::new();
        for field in [
            "gapura context v1",
            "request",
            "cryptojs",
            "bodies.1",
            "POST",
            "api.example",
            "/payments/1",
            "a=b&c",
            "7",
            "t-1",
            "1700000000000",
            "MDEyMzQ1Njc4OWFiY2RlZg",
            "a/b",
            "",
        ] {
            expected.extend((field.len() as u32).to_be_bytes());
            expected.extend(field.as_bytes());
        }
        assert_eq!(bound.request(label), expected);
        let answer = Answer { status: StatusCode::CREATED, request: &MessageId([0; 16]) };
        let tail = b"\0\0\0\x03201\0\0\0\x16AAAAAAAAAAAAAAAAAAAAAA";
        assert!(bound.response(label, answer).ends_with(tail));
    }

    #[test]
    fn only_the_schemes_own_port_is_removed() {
        for (given, secure, expected) in [
            ("api.example:443", true, "api.example"),
            ("api.example:443", false, "api.example:443"),
            ("api.example:80", false, "api.example"),
            ("api.example:8443", true, "api.example:8443"),
            ("[::1]:443", true, "[::1]"),
            ("[2001:db8::443]", true, "[2001:db8::443]"),
            ("", true, ""),
        ] {
            assert_eq!(bound(given, secure).authority(), expected, "{given}");
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = MessageId::fresh();
        assert_eq!(MessageId::parse(&id.text()), Some(id));
        for text in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAA=", "+AAAAAAAAAAAAAAAAAAAAA"]
        {
            assert_eq!(MessageId::parse(text), None, "{text}");
        }
    }
}
