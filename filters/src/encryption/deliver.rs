//! What an entry gives its callers: a session key, and of the founding format their own passphrase.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::{KeyDerivation, KeyKind};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Encryption, profiles::cryptojs::CryptoJs};
use crate::{
    contract::{Now, Principal, Refusal},
    delivery::Given,
    keyring::session::Holder,
};

impl Encryption {
    /// What callers may get, for `gapura explain`.
    pub fn gives(&self, now_ms: u64) -> Vec<&'static str> {
        let sessions = self.keys.rings().iter().any(|ring| ring.kind() == KeyKind::Secret);
        let over = self.legacy.as_ref().is_some_and(|legacy| legacy.is_over(now_ms));
        let of_caller = |cryptojs: &CryptoJs| cryptojs.derivation() == KeyDerivation::User;
        let founding = !over && self.cryptojs.as_ref().is_some_and(of_caller);
        let gifts = [(sessions, "a session key"), (founding, "the caller's own passphrase")];
        gifts.into_iter().filter(|(given, _)| *given).map(|(_, what)| what).collect()
    }

    /// None: this entry has nothing to give, as its keys are public or bound to each envelope's time.
    /// `until_ms` is when the caller's credentials end, in milliseconds since 1970: no key lives longer.
    pub fn give(&self, principal: &Principal, until_ms: Option<i64>, now: Now) -> Result<Option<Given>, Refusal> {
        let subject = principal.user_id.as_str();
        let token_id = principal.token_id.as_deref().unwrap_or_default();
        let lifetime = now.unix_ms / 1000 + self.keys.session_key_lifetime().as_secs();
        let end = until_ms.and_then(|end| u64::try_from(end / 1000).ok());
        let expires = end.map_or(lifetime, |end| end.min(lifetime));
        let session = self.keys.new_session(Holder { method: &principal.method, subject, token_id }, expires, now);
        let over = self.legacy.as_ref().is_some_and(|legacy| legacy.is_over(now.unix_ms));
        let founding = self.cryptojs.as_ref().filter(|_| !over);
        let founding = founding.filter(|cryptojs| cryptojs.derivation() == KeyDerivation::User);
        // Whoever has no email has no passphrase, and may still have a session key.
        let founding = match founding {
            Some(cryptojs) if session.is_none() || principal.email.is_some() => {
                Some(cryptojs.key_for(principal, now.unix_ms, now, &self.results)?)
            }
            _ => None,
        };
        if session.is_none() && founding.is_none() {
            return Ok(None);
        }
        let names: Vec<&str> = self.accepted.profiles.iter().map(|profile| profile.name()).collect();
        let mut open: Map<String, Value> = Map::new();
        open.insert("subject".into(), subject.into());
        open.insert("token_id".into(), token_id.into());
        open.insert("encryption".into(), self.name.as_str().into());
        open.insert("profiles".into(), names.into());
        open.insert("expires".into(), expires.into());
        let session_key = session.map(|(kid, key)| {
            open.insert("kid".into(), kid.into());
            Zeroizing::new(URL_SAFE_NO_PAD.encode(key.bytes()))
        });
        let passphrase = founding.map(|key| {
            open.insert("key_hash".into(), key.hash_text().into());
            Zeroizing::new(key.passphrase_text().to_owned())
        });
        Ok(Some(Given { open, session_key, passphrase }))
    }
}
