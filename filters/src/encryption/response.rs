//! The response side of an encryption.

use std::fmt;

use bytes::Bytes;
use gapura_config::model::Profile;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};

use super::{
    Encryption, caller, fields,
    outer::{AES128GCM, Carrier, X_GAPURA_MAC},
    profiles::{
        aes128gcm,
        cryptojs::{self, ResponseLabels},
        hpke, jwe, jwe_rsa, strength,
    },
};
use crate::{
    contract::{Code, Exchange, Refusal},
    crypto::jwe::{Prepared, Unsealable},
};

/// How the response of an exchange is to be sealed. Holds the keys of the exchange, wiped when dropped.
pub struct Sealing(pub(super) Option<Due>);

pub(super) struct Due {
    pub(super) how: How,
    /// The request was HEAD: its response has the length of a body, and none.
    pub(super) length_only: bool,
}

/// The profile of the request, with what it needs for the response: a response is never sealed in another.
pub(super) enum How {
    CryptoJs(cryptojs::Key),
    Hpke(hpke::Reply),
    Aes128Gcm(aes128gcm::Reply),
    Jwe(jwe::Reply),
    JweRsa(jwe_rsa::Reply),
}

impl How {
    pub(super) fn strength(&self) -> u8 {
        strength(match self {
            Self::CryptoJs(_) => Profile::CryptoJs,
            Self::Hpke(_) => Profile::Hpke,
            Self::Aes128Gcm(_) => Profile::Aes128Gcm,
            Self::Jwe(_) => Profile::Jwe,
            Self::JweRsa(_) => Profile::JweRsa,
        })
    }

    /// The member that is sealed next. The formats without a context know of none.
    pub(super) fn set_part(&mut self, pointer: &str) {
        match self {
            Self::Hpke(reply) => reply.set_part(pointer),
            Self::Aes128Gcm(reply) => reply.set_part(pointer),
            Self::Jwe(reply) => reply.set_part(pointer),
            Self::CryptoJs(_) | Self::JweRsa(_) => {}
        }
    }
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
pub(super) enum Sealed {
    Body(Bytes),
    Length(usize),
}

/// What is to be sealed: a body, or the length of one that is not sent.
#[derive(Clone, Copy)]
pub(super) enum Plain<'b> {
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
        // An upstream has no say in it.
        head.headers.remove(X_GAPURA_MAC);
        self.seal_body(head, body, exchange)?;
        // Of what is sent, so that it comes last; of an empty body, too: then it is the status that it vouches for.
        if let Some(Sealing(Some(Due { how: How::CryptoJs(key), .. }))) = &exchange.sealing
            && let Some(value) = key.mac(head.status, body, exchange.now)
        {
            head.headers.insert(X_GAPURA_MAC, value);
        }
        Ok(())
    }

    fn seal_body(&self, head: &mut response::Parts, body: &mut Bytes, exchange: &Exchange) -> Result<(), Refusal> {
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
    pub(super) fn seal_as(
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
                let sealed = reply.seal(plain, content_type(head), head.status, exchange.now);
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(Carrier::Hpke.media_type()));
                Ok(sealed)
            }
            How::Aes128Gcm(reply) => {
                let sealed = reply.seal(plain, content_type(head), head.status, exchange.now);
                head.headers.insert(CONTENT_ENCODING, AES128GCM);
                Ok(sealed)
            }
            How::Jwe(reply) => {
                let prepared = reply.prepare(content_type(head), head.status.as_u16(), exchange.now);
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jose"));
                finish(prepared.map_err(unsealable)?, plain, None)
            }
            How::JweRsa(reply) => {
                let Some(jwe_rsa) = &self.jwe_rsa else { return Err(lost()) };
                let prepared = jwe_rsa.prepare(*reply, content_type(head), exchange.now).map_err(unsealable)?;
                let wrapper = jwe_rsa.wrapper();
                let media_type = if wrapper.is_some() { "application/json" } else { "application/jose" };
                head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
                finish(prepared, plain, wrapper)
            }
        }
    }
}

/// What the upstream says that its body is; empty where it does not.
fn content_type(head: &response::Parts) -> &str {
    head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A JWE, in a scheme's wrapper where it has one.
fn finish(prepared: Prepared, plain: Plain<'_>, wrapper: Option<(String, &'static str)>) -> Result<Sealed, Refusal> {
    let (before, behind) = wrapper.unwrap_or_default();
    Ok(match plain {
        Plain::Length(len) => Sealed::Length(before.len() + prepared.len(len) + behind.len()),
        Plain::Body(body) => {
            let message = prepared.finish(body).map_err(unsealable)?;
            Sealed::Body(if before.is_empty() { message.into() } else { [&before, &*message, behind].concat().into() })
        }
    })
}

/// The system has no randomness left: nothing else can fail here.
fn unsealable(_: Unsealable) -> Refusal {
    Refusal::new(Code::Internal, "The request cannot be served.").reason("a response could not be sealed")
}

/// Sealed in a profile that the entry does not have: cannot be, since the entry of an exchange never changes.
pub(super) fn lost() -> Refusal {
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
