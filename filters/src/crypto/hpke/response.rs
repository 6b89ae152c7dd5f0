//! The response of an `hpke` request: under a key that the request's context exports, so that only who sealed the request
//! can open it, and the gateway agrees on a key once an exchange.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use super::{Aead, ID_LEN, OpenError, Reader, TAG, VERSION, suite::Secret, text};
use crate::crypto::hkdf;

pub(super) const EXPORT_LABEL: &[u8] = b"gapura hpke response v1";
pub const NONCE_LEN: usize = 32;

/// What a response says in clear. All of it stands in its context, and so is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHeader<'a> {
    /// Milliseconds since 1970.
    pub iat: u64,
    pub id: [u8; ID_LEN],
    pub content_type: &'a str,
}

/// What both sides of one exchange know of its response. Wiped when dropped.
pub struct ResponseKeys {
    aead: Aead,
    enc: Vec<u8>,
    secret: Secret,
}

impl<'a> ResponseHeader<'a> {
    /// The header, and where it ends.
    pub fn read(message: &'a [u8]) -> Result<(Self, usize), OpenError> {
        let mut reader = Reader(message);
        if reader.take::<1>()? != [VERSION] {
            return Err(OpenError);
        }
        let header = Self { iat: u64::from_be_bytes(reader.take()?), id: reader.take()?, content_type: reader.text()? };
        Ok((header, message.len() - reader.0.len()))
    }

    pub(super) fn len(&self) -> usize {
        1 + 8 + ID_LEN + 1 + self.content_type.len()
    }
}

impl ResponseKeys {
    pub(super) fn new(aead: Aead, enc: &[u8], secret: Secret) -> Self {
        Self { aead, enc: enc.to_vec(), secret }
    }

    /// For a client that opens the response in another process: suite, encapsulated key, secret.
    pub fn parts(&self) -> (Aead, &[u8], &[u8; 32]) {
        (self.aead, &self.enc, &self.secret)
    }

    /// What [`Self::parts`] gave.
    pub fn of_parts(aead: Aead, enc: &[u8], secret: [u8; 32]) -> Self {
        Self::new(aead, enc, Secret::new(secret))
    }

    /// The nonce must be fresh and random: it alone makes key and nonce of the cipher new, where a request has several
    /// sealed members in its response.
    pub fn seal(
        &self,
        plaintext: &[u8],
        header: &ResponseHeader<'_>,
        nonce: [u8; NONCE_LEN],
        context: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(response_len(plaintext.len(), header));
        out.push(VERSION);
        out.extend_from_slice(&header.iat.to_be_bytes());
        out.extend_from_slice(&header.id);
        text(header.content_type, &mut out);
        out.extend_from_slice(&nonce);
        let start = out.len();
        // The cipher writes here what it reads there: clearing the room costs half of what a copy to encrypt in place would.
        out.resize(start + plaintext.len(), 0);
        let (key, nonce) = self.key(&nonce);
        let mut tag = [0; TAG];
        key.seal_out_of_place_scatter(nonce, Aad::from(context), plaintext, &mut out[start..], &[], &mut tag)
            .expect("a body is far below the limit of the cipher");
        out.extend_from_slice(&tag);
        out
    }

    /// Opens a response in place; where its plaintext stands. The client's side.
    pub fn open(&self, message: &mut [u8], context: &[u8]) -> Result<Range<usize>, OpenError> {
        let (_, start) = ResponseHeader::read(message)?;
        let (nonce, ct) = message[start..].split_first_chunk_mut::<NONCE_LEN>().ok_or(OpenError)?;
        let (key, nonce) = self.key(nonce);
        let len = key.open_in_place(nonce, Aad::from(context), ct).map_err(|_| OpenError)?.len();
        Ok(start + NONCE_LEN..start + NONCE_LEN + len)
    }

    fn key(&self, response_nonce: &[u8; NONCE_LEN]) -> (LessSafeKey, Nonce) {
        let prk = hkdf::extract(&[&self.enc[..], response_nonce].concat(), &[&self.secret[..]]);
        let key = prk.expand::<32>(&[b"key"]);
        let nonce = prk.expand::<12>(&[b"nonce"]);
        (self.aead.key(&key), Nonce::assume_unique_for_key(*nonce))
    }
}

/// The length of a sealed response, from the plaintext's length alone.
pub fn response_len(plaintext_len: usize, header: &ResponseHeader<'_>) -> usize {
    header.len() + NONCE_LEN + plaintext_len + TAG
}
