//! The header `X-Gapura-Mac` of the profile `cryptojs`: encrypt-then-MAC for a format that has none. It binds a body to its
//! request, its caller and its time, and is verified before a byte is decrypted.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    KeyHash, Passphrase,
    fields::{decimal, fields},
    hkdf,
};

pub const HEADER: &str = "x-gapura-mac";
const LABEL: &str = "gapura mac v1";

/// What the header says: `v=1;kid=…;ts=…;n=…;mac=…`, in this order and no other spelling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The first 16 digits of the caller's `keyHash`.
    pub kid: &'a str,
    /// Milliseconds since 1970.
    pub ts: u64,
    /// 16 random bytes in base64url, the message's name.
    pub n: &'a str,
    mac: [u8; 32],
}

/// What a MAC covers beside the header's own parts.
#[derive(Clone, Copy)]
pub struct Covered<'a> {
    pub method: &'a str,
    pub authority: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub user_id: &'a str,
    /// The status and the request's `n`, where it is a response.
    pub answers: Option<(&'a str, &'a str)>,
    /// As it is sent: the envelope, not its content.
    pub body: &'a [u8],
}

impl<'a> Header<'a> {
    pub fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("v=1;kid=")?;
        let (kid, rest) = rest.split_once(";ts=")?;
        let (ts, rest) = rest.split_once(";n=")?;
        let (n, mac) = rest.split_once(";mac=")?;
        let hex = |text: &str, len| text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !hex(kid, 16) {
            return None;
        }
        <[u8; 16]>::try_from(URL_SAFE_NO_PAD.decode(n).ok()?).ok()?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?;
        Some(Self { kid, ts: decimal(ts)?, n, mac })
    }

    /// In constant time.
    pub fn verify(&self, passphrase: &Passphrase, covered: Covered<'_>) -> bool {
        mac(passphrase, self.kid, self.ts, self.n, covered).ct_eq(&self.mac).into()
    }

    /// The header for a message. `n` must be fresh and random.
    pub fn make(passphrase: &Passphrase, kid: &'a str, ts: u64, n: &'a str, covered: Covered<'_>) -> Self {
        Self { kid, ts, n, mac: mac(passphrase, kid, ts, n, covered) }
    }
}

impl fmt::Display for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=1;kid={};ts={};n={};mac={}", self.kid, self.ts, self.n, URL_SAFE_NO_PAD.encode(self.mac))
    }
}

/// Whose key it is, without telling the whole `keyHash` to whoever sees headers only.
pub fn kid(hash: &KeyHash) -> &str {
    // Hex is text.
    std::str::from_utf8(&hash[..16]).unwrap_or_default()
}

fn mac(passphrase: &Passphrase, kid: &str, ts: u64, n: &str, covered: Covered<'_>) -> [u8; 32] {
    let key = hkdf::extract(&[], &[passphrase.as_bytes()]).expand::<32>(&[LABEL.as_bytes()]);
    let digest = super::derive::hex(Sha256::digest(covered.body).as_ref());
    let digest = std::str::from_utf8(&digest).unwrap_or_default();
    let mut ts_text = itoa::Buffer::new();
    let direction = if covered.answers.is_some() { "response" } else { "request" };
    let Covered { method, authority, path, query, user_id, answers, .. } = covered;
    let ts = ts_text.format(ts);
    let request = [LABEL, direction, kid, method, authority, path, query, user_id, ts, n, digest];
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("HMAC takes a key of any length");
    hmac.update(&fields(request.map(str::as_bytes)));
    if let Some((status, request_n)) = answers {
        hmac.update(&fields([status, request_n].map(str::as_bytes)));
    }
    hmac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{key_hash, passphrase};

    const N: &str = "AAECAwQFBgcICQoLDA0ODw";

    fn covered(body: &[u8]) -> Covered<'_> {
        Covered {
            method: "POST",
            authority: "api.example.com",
            path: "/payments/1",
            query: "a=1",
            user_id: "7",
            answers: None,
            body,
        }
    }

    fn key() -> Passphrase {
        passphrase("7", "ada@example.com", b"master", None)
    }

    /// By Python's hmac and hashlib, from the words of the specification.
    #[test]
    fn is_what_the_specification_says() {
        let passphrase = key();
        let hash = key_hash(passphrase.as_bytes());
        let text = Header::make(&passphrase, kid(&hash), 1_795_000_000_000, N, covered(b"{}")).to_string();
        assert_eq!(
            text,
            "v=1;kid=35eed367e9cde33e;ts=1795000000000;n=AAECAwQFBgcICQoLDA0ODw;mac=xCuZFQ2KxdHAw7vddSh7jftxyKyBoOPFOw4XJ0U_BOI"
        );
        let response = Covered { answers: Some(("201", N)), ..covered(b"{}") };
        let text = Header::make(&passphrase, kid(&hash), 1_795_000_000_000, N, response).to_string();
        assert_eq!(
            text,
            "v=1;kid=35eed367e9cde33e;ts=1795000000000;n=AAECAwQFBgcICQoLDA0ODw;mac=NZ1Z4UggCkHVRGMsbEnUCSkfJ0q2zs2J1rjm3D1_1eQ"
        );
    }

    #[test]
    fn every_part_is_covered() {
        let passphrase = key();
        let hash = key_hash(passphrase.as_bytes());
        let header = Header::make(&passphrase, kid(&hash), 5, N, covered(b"{}"));
        assert!(header.verify(&passphrase, covered(b"{}")));
        let good = covered(b"{}");
        for other in [
            Covered { method: "PUT", ..good },
            Covered { authority: "api.example.org", ..good },
            Covered { path: "/payments/2", ..good },
            Covered { query: "", ..good },
            Covered { user_id: "8", ..good },
            Covered { body: b"{ }", ..good },
            Covered { answers: Some(("200", N)), ..good },
        ] {
            assert!(!header.verify(&passphrase, other));
        }
        assert!(!Header { ts: 6, ..header }.verify(&passphrase, good));
        assert!(!Header { n: "AAECAwQFBgcICQoLDA0OEA", ..header }.verify(&passphrase, good));
        assert!(!Header { kid: "0000000000000000", ..header }.verify(&passphrase, good));
        assert!(!header.verify(&super::super::passphrase("8", "ada@example.com", b"master", None), good));
    }

    #[test]
    fn a_header_has_one_spelling() {
        let passphrase = key();
        let hash = key_hash(passphrase.as_bytes());
        let text = Header::make(&passphrase, kid(&hash), 5, N, covered(b"")).to_string();
        assert_eq!(Header::parse(&text).map(|header| header.to_string()), Some(text.clone()));
        for (from, to) in [
            ("v=1;", "v=2;"),
            ("v=1;", "V=1;"),
            (";ts=5", ";ts=05"),
            (";ts=5", ";ts=+5"),
            (";ts=5", "; ts=5"),
            (";n=A", ";n=_A"),
            ("Dw;", "Dx;"),
            (";mac=", ";mac=A"),
            ("kid=", "kid=G"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            assert!(Header::parse(&other).is_none(), "{other}");
        }
        for cut in 0..text.len() {
            assert!(Header::parse(&text[..cut]).is_none(), "{cut}");
        }
        assert!(Header::parse(&format!("{text};")).is_none());
    }
}
