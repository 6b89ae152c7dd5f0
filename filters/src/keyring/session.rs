//! Session keys: what a caller shares with the gateway for some minutes, derived anew for each message, stored nowhere.
//!
//! `HKDF-SHA-256(salt = "", ikm = the ring's secret, info = fields("gapura session key v2", kid, method, subject, token
//! id))`. The `kid` holds the end of the key's life (`NAME.id.EXPIRY`), so that the end is bound into the key and needs no
//! memory. The method is there because user ids are unique within their issuer only: to each his own `7`.

use std::{fmt, time::Duration};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Key, Keyring};
use crate::crypto::{fields, hkdf};

/// 32 bytes, wiped when dropped, absent from `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

/// Whom a session key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'h> {
    /// What proved the caller: `jwt.users`, `api_keys.developers`.
    pub method: &'h str,
    /// The user id, as text.
    pub subject: &'h str,
    /// The `jti` of the token, else empty.
    pub token_id: &'h str,
}

/// By how much the clock of the instance that gave a key may be ahead of this one's.
const AHEAD: Duration = Duration::from_secs(60);

impl Keyring {
    /// The key that a message names, for its caller. None: the name is none, its version opens nothing, its end is past, or
    /// further away than any key given by this configuration could have it.
    pub fn session_key(&self, kid: &str, holder: Holder<'_>, lifetime: Duration, now_ms: u64) -> Option<SessionKey> {
        let (version, expiry) = kid.rsplit_once('.')?;
        let expiry_ms = parse_expiry(expiry)?.checked_mul(1000)?;
        let furthest = now_ms.saturating_add(u64::try_from((lifetime + AHEAD).as_millis()).ok()?);
        if expiry_ms <= now_ms || expiry_ms > furthest {
            return None;
        }
        let Key::Secret(secret) = self.opening(version, now_ms)? else { return None };
        Some(SessionKey::derive(secret.bytes(), kid, holder))
    }

    /// A key to give to a caller, and its name. `expiry` is in seconds since 1970. None: the ring holds no secrets, or its active one
    /// is over.
    pub fn new_session_key(&self, holder: Holder<'_>, expiry: u64, now_ms: u64) -> Option<(String, SessionKey)> {
        let version = self.active()?;
        let Key::Secret(secret) = version.opening(now_ms)? else { return None };
        let kid = format!("{}.{expiry}", version.kid());
        let key = SessionKey::derive(secret.bytes(), &kid, holder);
        Some((kid, key))
    }
}

/// Decimal, one spelling of each number.
fn parse_expiry(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    digits.then(|| text.parse().ok()).flatten()
}

impl SessionKey {
    pub fn derive(secret: &[u8], kid: &str, holder: Holder<'_>) -> Self {
        let info = ["gapura session key v2", kid, holder.method, holder.subject, holder.token_id];
        Self(*hkdf::extract(&[], &[secret]).expand(&[&fields(info.map(str::as_bytes))]))
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}
