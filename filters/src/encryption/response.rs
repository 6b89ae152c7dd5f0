//! The response side of an encryption.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};

use super::{
    Encryption, caller, fields,
    outer::{AES128GCM, Carrier},
    profiles::{
        aes128gcm,
        cryptojs::{self, ResponseLabels},
        hpke,
    },
};
use crate::contract::{Code, Exchange, Refusal};

/// How the response of an exchange is to be sealed. Holds the keys of the exchange, wiped when dropped.
pub struct Sealing(Option<Due>);

struct Due {
    how: How,
    /// The request was HEAD: its response has the length of a body, and none.
    length_only: bool,
}

/// The profile of the request, with what it needs for the response: a response is never sealed in another.
pub(super) enum How {
    CryptoJs(cryptojs::Key),
    Hpke(hpke::Reply),
    Aes128Gcm(aes128gcm::Reply),
}

impl Sealing {
    pub(super) fn due(how: How, head: &request::Parts) -> Self {
        Self(Some(Due { how, length_only: head.method == Method::HEAD }))
    }

    /// The request was plaintext on an entry that allows it: so is the response.
    pub(super) fn not_due() -> Self {
        Self(None)
    }

    /// Whether the response is to be sealed.
    pub fn is_due(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_due() { "Sealing(due)" } else { "Sealing(not due)" })
    }
}

/// A sealed body, or of one that is not sent its length.
enum Sealed {
    Body(Bytes),
    Length(usize),
}

/// What is to be sealed: a body, or the length of one that is not sent.
#[derive(Clone, Copy)]
enum Plain<'b> {
    Body(&'b [u8]),
    Length(usize),
}

impl Encryption {
    /// See [`crate::contract::Filter::on_response_body`].
    pub(super) fn seal_response(
        &self,
        head: &mut response::Parts,
        body: &mut Bytes,
        exchange: &Exchange,
    ) -> Result<(), Refusal> {
        // Without this note the request did not pass through this filter. Its response must not leave in clear.
        let Some(Sealing(sealing)) = &exchange.sealing else {
            return Err(Refusal::new(Code::Internal, "The request cannot be served.")
                .reason("a response on an encrypted route without a decision about its sealing"));
        };
        let Some(due) = sealing else { return Ok(()) };
        let described = described_len(head).filter(|len| *len as u64 <= self.max_response);
        fields::clean_response(&mut head.headers);
        let bodiless =
            head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let plain = if bodiless {
            body.clear();
            return Ok(());
        } else if due.length_only {
            body.clear();
            match described {
                None => return Ok(()),
                Some(len) => Plain::Length(len),
            }
        } else {
            Plain::Body(body)
        };
        let len = match plain {
            Plain::Body([]) | Plain::Length(0) => 0,
            plain => match self.seal_as(&due.how, plain, head, exchange)? {
                Sealed::Body(sealed) => {
                    *body = sealed;
                    body.len()
                }
                Sealed::Length(len) => len,
            },
        };
        head.headers.insert(CONTENT_LENGTH, len.into());
        Ok(())
    }

    /// Seals in one profile, and says in the head what the body is now.
    fn seal_as(
        &self,
        how: &How,
        plain: Plain<'_>,
        head: &mut response::Parts,
        exchange: &Exchange,
    ) -> Result<Sealed, Refusal> {
        match how {
            How::CryptoJs(key) => {
                let Some(cryptojs) = &self.cryptojs else { return Err(lost()) };
                let principal = caller(exchange)?;
                let success = head.status.as_u16() < 400;
                let labels = ResponseLabels { principal: &principal, now: exchange.now, success };
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(match plain {
                    Plain::Body(body) => Sealed::Body(cryptojs.seal(key, body, labels)),
                    Plain::Length(len) => Sealed::Length(cryptojs.sealed_len(key, len, labels)),
                })
            }
            How::Hpke(reply) => {
                let content_type = content_type(head);
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(Carrier::Hpke.media_type()));
                Ok(match plain {
                    Plain::Body(body) => Sealed::Body(reply.seal(body, &content_type, head.status, exchange.now)),
                    Plain::Length(len) => Sealed::Length(reply.sealed_len(len, &content_type)),
                })
            }
            How::Aes128Gcm(reply) => {
                let content_type = content_type(head);
                head.headers.insert(CONTENT_ENCODING, AES128GCM);
                head.headers.insert(CONTENT_TYPE, content_type_value(&content_type));
                Ok(match plain {
                    Plain::Body(body) => Sealed::Body(reply.seal(body, &content_type, head.status, exchange.now)),
                    Plain::Length(len) => Sealed::Length(reply.sealed_len(len, exchange.now)),
                })
            }
        }
    }
}

/// Of an upstream that does not say what its body is, or says it at such length that no message carries it (RFC 9110,
/// section 8.3).
const UNKNOWN: &str = "application/octet-stream";

/// What the content is, in the words of the upstream.
fn content_type(head: &response::Parts) -> String {
    let mut values = head.headers.get_all(CONTENT_TYPE).iter();
    match (values.next().map(HeaderValue::to_str), values.next()) {
        (Some(Ok(text)), None) if (1..=255).contains(&text.len()) => text.to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn content_type_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(UNKNOWN))
}

/// Sealed in a profile that the entry does not have: cannot be, since the entry of an exchange never changes.
fn lost() -> Refusal {
    Refusal::new(Code::Internal, "The request cannot be served.").reason("a response in a profile that is not listed")
}

/// The length of the plaintext as a HEAD response tells it; unknown where the upstream would compress it.
fn described_len(head: &response::Parts) -> Option<usize> {
    if fields::is_coded(&head.headers) {
        return None;
    }
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) if length.as_bytes().iter().all(u8::is_ascii_digit) => length.to_str().ok()?.parse().ok(),
        _ => None,
    }
}
