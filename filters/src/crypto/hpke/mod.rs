//! The profile `hpke`: RFC 9180 in base mode, with a header of our own in front, and a response under a key exported from the
//! request's context (the way of RFC 9458, section 4.4).
//!
//! ```text
//! request  = 0x01 ‖ len(kid) ‖ kid ‖ kem ‖ kdf ‖ aead ‖ iat ‖ id ‖ len(content_type) ‖ content_type ‖ enc ‖ ct
//! response = 0x01 ‖ iat ‖ id ‖ len(content_type) ‖ content_type ‖ response_nonce ‖ ct
//! ```
//!
//! The header goes into HPKE's `info`, the context of the exchange into the AAD: a message opens only as what it was sent as.

mod response;
#[cfg(test)]
mod rfc9180;
mod suite;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::{
    response::{NONCE_LEN, ResponseHeader, ResponseKeys, response_len},
    suite::{Aead, Recipient},
};
use super::{Curve, OpenError, PublicJwk};

const VERSION: u8 = 1;
const INFO_LABEL: &[u8] = b"gapura hpke v1\0";
pub const ID_LEN: usize = 16;
pub(super) const TAG: usize = 16;

/// What a request says in clear. All of it is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    pub kid: &'a str,
    pub curve: Curve,
    pub aead: Aead,
    /// Milliseconds since 1970.
    pub iat: u64,
    pub id: [u8; ID_LEN],
    /// Of the plaintext; empty where that is empty.
    pub content_type: &'a str,
}

/// What a request turned out to hold.
pub struct Opened {
    /// Where in the message the plaintext stands now.
    pub plaintext: Range<usize>,
    pub response: ResponseKeys,
}

impl<'a> Header<'a> {
    /// The header, and where it ends.
    pub fn read(message: &'a [u8]) -> Result<(Self, usize), OpenError> {
        let mut reader = Reader(message);
        if reader.take::<1>()? != [VERSION] {
            return Err(OpenError);
        }
        let kid = reader.text()?;
        let curve = suite::kem_of(u16::from_be_bytes(reader.take()?)).ok_or(OpenError)?;
        if u16::from_be_bytes(reader.take()?) != suite::KDF_HKDF_SHA256 {
            return Err(OpenError);
        }
        let aead = Aead::from_id(u16::from_be_bytes(reader.take()?)).ok_or(OpenError)?;
        let iat = u64::from_be_bytes(reader.take()?);
        let id = reader.take()?;
        let content_type = reader.text()?;
        Ok((Self { kid, curve, aead, iat, id, content_type }, message.len() - reader.0.len()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        text(self.kid, out);
        for id in [suite::kem_id(self.curve), suite::KDF_HKDF_SHA256, self.aead.id()] {
            out.extend_from_slice(&id.to_be_bytes());
        }
        out.extend_from_slice(&self.iat.to_be_bytes());
        out.extend_from_slice(&self.id);
        text(self.content_type, out);
    }
}

/// Opens a request in place. After an error the message holds no plaintext.
pub fn open(message: &mut [u8], key: Recipient<'_>, context: &[u8]) -> Result<Opened, OpenError> {
    let (header, start) = Header::read(message)?;
    let (curve, aead) = (header.curve, header.aead);
    if curve != key.curve() {
        return Err(OpenError);
    }
    let (head, rest) = message.split_at_mut(start);
    let (enc, ct) = rest.split_at_mut_checked(suite::enc_len(curve)).ok_or(OpenError)?;
    let len = ct.len().checked_sub(TAG).ok_or(OpenError)?;
    let secret = suite::receive(key, aead, enc, (&info(head), context), ct, response::EXPORT_LABEL)?;
    let start = start + enc.len();
    Ok(Opened { plaintext: start..start + len, response: ResponseKeys::new(aead, enc, secret) })
}

/// Seals a request: the client's side. The id must be fresh and random, and the header's texts at most 255 bytes long.
pub fn seal(
    plaintext: &[u8],
    header: &Header<'_>,
    key: &PublicJwk,
    context: &[u8],
) -> Result<(Vec<u8>, ResponseKeys), OpenError> {
    if key.curve() != Some(header.curve) {
        return Err(OpenError);
    }
    let mut out = Vec::new();
    header.write(&mut out);
    let info = info(&out);
    let sent = suite::send(key, header.aead, (&info, context), plaintext, response::EXPORT_LABEL)?;
    out.extend_from_slice(&sent.enc);
    out.extend_from_slice(&sent.ct);
    Ok((out, ResponseKeys::new(header.aead, &sent.enc, sent.exported)))
}

fn info(header: &[u8]) -> Vec<u8> {
    [INFO_LABEL, header].concat()
}

/// A text behind one byte of its length. Longer ones are cut, which no kid and no content type of ours is.
fn text(text: &str, out: &mut Vec<u8>) {
    let len = text.len().min(255);
    out.push(len as u8);
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const LEN: usize>(&mut self) -> Result<[u8; LEN], OpenError> {
        let (taken, rest) = self.0.split_first_chunk::<LEN>().ok_or(OpenError)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn text(&mut self) -> Result<&'a str, OpenError> {
        let [len] = self.take::<1>()?;
        let (text, rest) = self.0.split_at_checked(usize::from(len)).ok_or(OpenError)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| OpenError)
    }
}
