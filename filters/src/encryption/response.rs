//! The response side of an encryption.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    request, response,
};

use super::{Encryption, Key, caller, envelope::Labels, fields, salt};
use crate::contract::{Code, Exchange, Refusal};

/// How the response of an exchange is to be sealed. Holds the exchange's passphrase, wiped when dropped.
pub struct Sealing(Option<Due>);

struct Due {
    key: Key,
    /// The timestamp that the key is bound to, with `user_timestamp`.
    bound: Option<u64>,
    /// The request was HEAD: its response has the length of a body, and none.
    length_only: bool,
}

impl Sealing {
    pub(super) fn due(key: Key, bound: Option<u64>, head: &request::Parts) -> Self {
        Self(Some(Due { key, bound, length_only: head.method == Method::HEAD }))
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
        let principal = caller(exchange)?;
        let labels = Labels {
            key_hash: &due.key.hash,
            timestamp: due.bound.unwrap_or(exchange.now.unix_ms),
            user_id: &principal.user_id,
            success: head.status.as_u16() < 400,
        };
        let described = described_len(head).filter(|len| *len as u64 <= self.max_response);
        fields::clean_response(&mut head.headers);
        let bodiless =
            head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let len = if bodiless {
            body.clear();
            return Ok(());
        } else if due.length_only {
            body.clear();
            match described {
                None => return Ok(()),
                Some(0) => 0,
                Some(len) => self.form.sealed_len(len, labels),
            }
        } else if body.is_empty() {
            0
        } else {
            *body = self.form.seal(body, &due.key.passphrase, salt(), labels).into();
            body.len()
        };
        if len > 0 {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        head.headers.insert(CONTENT_LENGTH, len.into());
        Ok(())
    }
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
