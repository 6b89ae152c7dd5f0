//! Session keys: what a caller's key delivery hands out, and what the gateway derives again from the caller and the kid. It
//! keeps no state of them.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{
    fields::{decimal, fields},
    hkdf,
};

const LABEL: &str = "gapura session key v1";

/// 32 bytes that one caller shares with the gateway until its kid expires. Wiped when dropped, absent from `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

/// `NAME.id.EXPIRY`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKid<'a> {
    pub ring: &'a str,
    /// The version of the ring.
    pub version: &'a str,
    /// Unix seconds.
    pub expiry: u64,
}

impl<'a> SessionKid<'a> {
    /// None where it has any other form. Neither names nor versions hold a dot, so that there is one way to read it.
    pub fn parse(kid: &'a str) -> Option<Self> {
        let mut parts = kid.split('.');
        let (ring, version, expiry) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || ring.is_empty() || version.is_empty() {
            return None;
        }
        Some(Self { ring, version, expiry: decimal(expiry)? })
    }
}

impl fmt::Display for SessionKid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.ring, self.version, self.expiry)
    }
}

impl SessionKey {
    /// From the version's secret, the kid as it is sent, and the caller.
    pub fn derive(secret: &[u8], kid: &str, subject: &str, token_id: &str) -> Self {
        let info = fields(&[LABEL, kid, subject, token_id]);
        Self(*hkdf::extract(&[], &[secret]).expand(&[&info]))
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::unhex;

    #[test]
    fn a_kid_has_three_parts_and_one_spelling() {
        let kid = "sessions.2026-11.1795000000";
        let parsed = SessionKid::parse(kid).expect("a kid");
        assert_eq!(parsed, SessionKid { ring: "sessions", version: "2026-11", expiry: 1_795_000_000 });
        assert_eq!(parsed.to_string(), kid);
        for bad in
            ["", "a.b", "a.b.", "a.b.01", "a.b.+1", "a..1", ".b.1", "a.b.1.2", "a.b.1 ", "a.b.99999999999999999999"]
        {
            assert_eq!(SessionKid::parse(bad), None, "{bad:?}");
        }
    }

    /// By Python's hmac, from the words of the specification.
    #[test]
    fn is_what_the_specification_says() {
        let key = SessionKey::derive(&[b's'; 32], "sessions.2026-11.1795000000", "7", "jti-1");
        assert_eq!(key.as_bytes()[..], unhex("1c30a196742f9659ce75d4edf857961aa6812f2694f1896ddcb478b27e7939f3"));
    }

    #[test]
    fn every_input_makes_another_key() {
        let key =
            |secret: &str, kid, subject, token| *SessionKey::derive(secret.as_bytes(), kid, subject, token).as_bytes();
        let one = key("s", "r.v.1", "u", "t");
        assert_eq!(one, key("s", "r.v.1", "u", "t"));
        for other in [
            key("S", "r.v.1", "u", "t"),
            key("s", "r.v.2", "u", "t"),
            key("s", "r.v.1", "U", "t"),
            key("s", "r.v.1", "u", ""),
            key("s", "r.v.1", "ut", ""),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", SessionKey::from_bytes([7; 32])), "SessionKey(…)");
    }
}
