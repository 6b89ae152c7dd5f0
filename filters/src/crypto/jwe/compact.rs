//! The form of a message: five parts, and a header that is read strictly.

use std::fmt;

use super::{Alg, Enc, decode};
use crate::{
    crypto::PublicJwk,
    json::{self, Json, Object},
};

/// Of the header as it is sent. It is parsed before anything is proven, so it is kept small.
pub const MAX_HEADER: usize = 8 * 1024;
/// An RSA ciphertext of 4096 bits, in base64url.
const MAX_ENCRYPTED_KEY: usize = 684;
/// A `kid` is compared, never used as a path or in a query; still it is bounded.
const MAX_KID: usize = 256;

/// The five parts of a message, as sent. Nothing in it is decoded.
#[derive(Clone, Copy)]
pub struct Compact<'m> {
    /// What is authenticated along with the content: the very characters.
    pub(super) protected: &'m [u8],
    pub(super) encrypted_key: &'m [u8],
    pub(super) iv: &'m [u8],
    pub(super) ciphertext: &'m [u8],
    pub(super) tag: &'m [u8],
}

/// A header of which every member that means something to this library is understood. Others are left to the caller.
#[derive(Debug)]
pub struct Header<'h> {
    pub alg: Alg,
    pub enc: Enc,
    /// The sender's public key, where keys are agreed on.
    pub(super) epk: Option<PublicJwk>,
    pub(super) apu: Vec<u8>,
    pub(super) apv: Vec<u8>,
    members: Object<'h>,
}

const FEW_PARTS: Malformed = Malformed("it has not five parts");

/// Why a text is no message: for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl<'m> Compact<'m> {
    /// Takes a text apart. The caller bounds its length. What has more than five parts has a dot in its ciphertext, and no
    /// base64url has one: it never opens.
    pub fn split(text: &'m [u8]) -> Result<Self, Malformed> {
        let mut parts = text.splitn(4, |byte| *byte == b'.');
        let mut part = || parts.next().ok_or(FEW_PARTS);
        let (protected, encrypted_key, iv, rest) = (part()?, part()?, part()?, part()?);
        // The tag is short: found from the end, the dot before it costs no second look at a large ciphertext.
        let dot = rest.iter().rposition(|byte| *byte == b'.').ok_or(FEW_PARTS)?;
        let (ciphertext, tag) = (&rest[..dot], &rest[dot + 1..]);
        if protected.len() > MAX_HEADER {
            return Err(Malformed("its header is longer than 8 KiB"));
        }
        if encrypted_key.len() > MAX_ENCRYPTED_KEY || iv.len() > 32 || tag.len() > 64 {
            return Err(Malformed("a part of it is longer than any algorithm has it"));
        }
        Ok(Self { protected, encrypted_key, iv, ciphertext, tag })
    }

    /// What is encrypted, as sent: initialisation vector, ciphertext, tag.
    pub fn content(&self) -> [&'m [u8]; 3] {
        [self.iv, self.ciphertext, self.tag]
    }

    /// The content encryption key, encrypted: for whoever unwraps it elsewhere.
    pub fn encrypted_key(&self) -> Result<Vec<u8>, Malformed> {
        decode(self.encrypted_key).ok_or(Malformed("its encrypted key is not canonical base64url"))
    }

    /// The JSON of the header, for [`Header::read`].
    pub fn header(&self) -> Result<Vec<u8>, Malformed> {
        decode(self.protected).ok_or(Malformed("its header is not canonical base64url"))
    }
}

impl<'h> Header<'h> {
    pub fn read(json: &'h [u8]) -> Result<Self, Malformed> {
        let members = json::parse_object(json).map_err(|_| Malformed("its header is not strict JSON"))?;
        for (name, why) in [
            // Extensions that must be understood: none is.
            ("crit", "its header has `crit`"),
            ("zip", "its header has `zip`"),
            ("b64", "its header has `b64`"),
        ] {
            if members.contains(name) {
                return Err(Malformed(why));
            }
        }
        let text = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.as_ref())),
            Some(_) => Err(Malformed("a member of its header that must be a string is none")),
        };
        let alg = text("alg")?.and_then(Alg::named).ok_or(Malformed("its `alg` is not accepted"))?;
        let enc = text("enc")?.and_then(Enc::named).ok_or(Malformed("its `enc` is not accepted"))?;
        if text("kid")?.is_some_and(|kid| kid.len() > MAX_KID) {
            return Err(Malformed("its `kid` is longer than 256 bytes"));
        }
        text("cty")?;
        text("typ")?;
        let party = |name: &str| match text(name)? {
            None => Ok(Vec::new()),
            Some(party) => decode(party.as_bytes()).ok_or(Malformed("its `apu` or `apv` is not canonical base64url")),
        };
        let (apu, apv) = (party("apu")?, party("apv")?);
        let epk = match members.get("epk") {
            Some(Json::Object(key)) if alg.agrees() => {
                Some(PublicJwk::of_curve(key).ok_or(Malformed("its `epk` is no public key on X25519 or P-256"))?)
            }
            None if !alg.agrees() => None,
            _ => return Err(Malformed("its `epk` does not go with its `alg`")),
        };
        Ok(Self { alg, enc, epk, apu, apv, members })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Json::as_str)
    }
    pub fn kid(&self) -> Option<&str> {
        self.text("kid")
    }
    /// All members, those too that were read.
    pub fn members(&self) -> &Object<'h> {
        &self.members
    }
}

/// Never a part of the message.
impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} characters", self.ciphertext.len())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
