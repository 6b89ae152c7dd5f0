//! Profile `cryptojs`: the founding format, AES-256-CBC under a passphrase of the caller's, in a JSON envelope.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    model::{self, EnvelopeFields, KeyDerivation, MacMode, ResponseWrap},
    secret::Secret,
};
use http::{HeaderMap, HeaderValue, StatusCode, request};
use subtle::ConstantTimeEq;

use super::super::{
    ReplayId,
    context::{Bound, MessageId},
    envelope::{self, Envelope, Form, Labels, Reading},
    outer::X_GAPURA_MAC,
    results::Results,
    salt,
};
use super::masters::Masters;
use crate::{
    contract::{Code, Exchange, Now, Principal, Refusal},
    crypto::{self, Ciphertext, KeyHash, Passphrase, mac},
    leases::missing,
};

pub(in crate::encryption) struct CryptoJs {
    /// Of the entry.
    name: String,
    masters: Masters,
    key_derivation: KeyDerivation,
    max_age: Option<Duration>,
    response_wrap: ResponseWrap,
    fields: EnvelopeFields,
    form: Form,
    /// Of a member.
    bare: Form,
    mac: MacMode,
}

/// A caller's key, for both directions of one exchange. The passphrase is wiped when dropped.
pub(in crate::encryption) struct Key {
    passphrase: Passphrase,
    hash: KeyHash,
    /// The timestamp that the key is bound to, with `user_timestamp`.
    bound: Option<u64>,
    /// The response carries a MAC, too.
    answers: Option<Answers>,
}

/// What the MAC of a response vouches for beside the response.
struct Answers {
    request: Bound,
    /// Of the request's MAC; empty where it had none.
    n: String,
}

/// `X-Gapura-Mac` of a request, of the right form.
pub(in crate::encryption) struct Proof {
    text: String,
    ts: u64,
    request: Bound,
}

impl Proof {
    /// The error is for the log.
    pub(in crate::encryption) fn read(
        headers: &HeaderMap,
        request: impl FnOnce() -> Bound,
    ) -> Result<Option<Self>, &'static str> {
        let mut values = headers.get_all(X_GAPURA_MAC).iter();
        let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
        let text = value.to_str().ok().filter(|_| more.is_none());
        let header = text.and_then(mac::Header::parse).ok_or("X-Gapura-Mac cannot be read")?;
        Ok(Some(Self { text: header.to_string(), ts: header.ts, request: request() }))
    }

    fn is_of(&self, key: &Key, body: &[u8]) -> bool {
        let covered = covered(&self.request, body, None);
        let header = mac::Header::parse(&self.text);
        header.is_some_and(|header| header.kid == mac::kid(&key.hash) && header.verify(&key.passphrase, covered))
    }

    fn n(&self) -> String {
        mac::Header::parse(&self.text).map(|header| header.n.to_owned()).unwrap_or_default()
    }
}

fn covered<'a>(request: &'a Bound, body: &'a [u8], answers: Option<(&'a str, &'a str)>) -> mac::Covered<'a> {
    mac::Covered {
        method: request.method(),
        authority: request.authority(),
        path: request.path(),
        query: request.query(),
        user_id: request.subject(),
        answers,
        body,
    }
}

impl CryptoJs {
    pub(in crate::encryption) fn new(name: &str, config: &model::Encryption, masters: Masters) -> Self {
        Self {
            name: name.to_owned(),
            masters,
            key_derivation: config.key_derivation,
            max_age: config.max_age.get(),
            response_wrap: config.response_wrap,
            fields: config.fields.clone(),
            form: match config.response_wrap {
                ResponseWrap::Success => Form::wrapped(&config.fields),
                ResponseWrap::None => Form::bare(&config.fields),
            },
            bare: Form::bare(&config.fields),
            mac: config.mac,
        }
    }

    pub(in crate::encryption) fn derivation(&self) -> KeyDerivation {
        self.key_derivation
    }

    pub(in crate::encryption) fn mac(&self) -> MacMode {
        self.mac
    }

    pub(in crate::encryption) fn explain(&self) -> String {
        let derivation = match self.key_derivation {
            KeyDerivation::User => "user",
            KeyDerivation::UserTimestamp => "user_timestamp",
        };
        let mac = match self.mac {
            MacMode::Off => "",
            MacMode::Optional => ", X-Gapura-Mac verified where it is sent",
            MacMode::Required => ", X-Gapura-Mac required",
        };
        format!("profile cryptojs, key derived from {derivation}{mac}")
    }

    /// How its responses stand.
    pub(in crate::encryption) fn explain_wrap(&self) -> &'static str {
        match self.response_wrap {
            ResponseWrap::Success => "in {\"success\", \"data\"}",
            ResponseWrap::None => "bare",
        }
    }

    pub(in crate::encryption) fn read<'b>(&self, body: &'b [u8]) -> Reading<'b> {
        envelope::read(body, &self.fields)
    }

    pub(in crate::encryption) fn masters(&self) -> &Masters {
        &self.masters
    }

    /// The caller's key under the master key that is given out.
    pub(in crate::encryption) fn key_for(
        &self,
        principal: &Principal,
        timestamp: u64,
        now: Now,
        results: &Results,
    ) -> Result<Key, Refusal> {
        let email = email(principal, results)?;
        let key = self.masters.active(now.unix_ms).map(|master| self.derive(principal, email, timestamp, master));
        key.ok_or_else(|| missing().reason("no master key is active"))
    }

    /// The caller's key under the master key that this holds for. All are derived, whichever it is.
    fn key_that(
        &self,
        principal: &Principal,
        timestamp: u64,
        now: Now,
        results: &Results,
        holds: impl Fn(&Key) -> bool,
    ) -> Result<Option<Key>, Refusal> {
        let email = email(principal, results)?;
        let keys = self.masters.opening(now.unix_ms).map(|master| self.derive(principal, email, timestamp, master));
        Ok(keys.fold(None, |found, key| if holds(&key) { Some(key) } else { found }))
    }

    fn derive(&self, principal: &Principal, email: &str, timestamp: u64, master: &Secret) -> Key {
        let bound = match self.key_derivation {
            KeyDerivation::User => None,
            KeyDerivation::UserTimestamp => Some(timestamp),
        };
        let passphrase = crypto::passphrase(principal.user_id.as_str(), email, master.bytes(), bound);
        let hash = crypto::key_hash(passphrase.as_bytes());
        Key { passphrase, hash, bound, answers: None }
    }

    /// The key of a request without an envelope. Where it has a MAC, that must hold.
    pub(in crate::encryption) fn key_alone(
        &self,
        proof: Option<Proof>,
        head: &request::Parts,
        exchange: &Exchange,
        principal: &Arc<Principal>,
        results: &Results,
    ) -> Result<Key, Refusal> {
        let Some(proof) = proof else {
            let mut key = self.key_for(principal, exchange.now.unix_ms, exchange.now, results)?;
            if self.mac == MacMode::Required {
                let request = Bound::new(head, exchange, Arc::clone(principal));
                key.answers = Some(Answers { request, n: String::new() });
            }
            return Ok(key);
        };
        let key = self.key_that(principal, proof.ts, exchange.now, results, |key| proof.is_of(key, &[]))?;
        let mut key = key.ok_or_else(|| mac_refused(results))?;
        self.check_age(proof.ts, exchange.now, results)?;
        key.answers = Some(Answers { n: proof.n(), request: proof.request });
        Ok(key)
    }

    fn check_age(&self, time: u64, now: Now, results: &Results) -> Result<(), Refusal> {
        if self.max_age.is_none_or(|age| u128::from(now.unix_ms.abs_diff(time)) <= age.as_millis()) {
            return Ok(());
        }
        results.expired.inc();
        Err(Refusal::new(Code::EnvelopeExpired, "The envelope's timestamp is too far from the present."))
    }

    /// Opens an envelope for its caller. The order of the checks is that of the contract: first what is cheap and in clear.
    /// The id is what the memory of replays has to be asked about next.
    pub(in crate::encryption) fn open(
        &self,
        envelope: Envelope<'_>,
        (body, proof): (&[u8], Option<Proof>),
        principal: &Principal,
        now: Now,
        results: &Results,
    ) -> Result<(Bytes, ReplayId, Key), Refusal> {
        let own_user = envelope.user_id.as_bytes().ct_eq(principal.user_id.as_str().as_bytes());
        let is_own = |key: &Key| envelope.key_hash.as_bytes().ct_eq(&key.hash[..]).into();
        let key = self.key_that(principal, envelope.timestamp, now, results, is_own)?;
        let (Some(mut key), true) = (key, bool::from(own_user)) else {
            results.key_mismatch.inc();
            let which =
                if bool::from(own_user) { "keyHash differs from the caller's" } else { "userId is not the caller's" };
            return Err(key_refused(which));
        };
        if proof.as_ref().is_some_and(|proof| !proof.is_of(&key, body)) {
            return Err(mac_refused(results));
        }
        self.check_age(proof.as_ref().map_or(envelope.timestamp, |proof| proof.ts), now, results)?;
        let opened =
            Ciphertext::decode(envelope.data.as_bytes()).map_err(|_| crypto::OpenError).and_then(|ciphertext| {
                let id = ciphertext.fingerprint(&self.name);
                ciphertext.open(key.passphrase.as_bytes()).map(|plaintext| (plaintext, id))
            });
        let Ok((plaintext, id)) = opened else {
            results.failed.inc();
            return Err(Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened."));
        };
        key.answers = proof.map(|proof| Answers { n: proof.n(), request: proof.request });
        Ok((plaintext.into(), id, key))
    }

    pub(in crate::encryption) fn seal(&self, key: &Key, plaintext: &[u8], labels: ResponseLabels<'_>) -> Bytes {
        self.form.seal(plaintext, &key.passphrase, salt(), key.labels(labels)).into()
    }

    /// The object that stands in place of a member.
    pub(in crate::encryption) fn seal_member(&self, key: &Key, value: &[u8], labels: ResponseLabels<'_>) -> Vec<u8> {
        self.bare.seal(value, &key.passphrase, salt(), key.labels(labels))
    }

    /// The length of what [`Self::seal`] would return for a plaintext of this length.
    pub(in crate::encryption) fn sealed_len(&self, key: &Key, len: usize, labels: ResponseLabels<'_>) -> usize {
        self.form.sealed_len(len, key.labels(labels))
    }
}

/// What a response carries beside the ciphertext and the key's hash.
#[derive(Clone, Copy)]
pub(in crate::encryption) struct ResponseLabels<'a> {
    pub(in crate::encryption) principal: &'a Principal,
    pub(in crate::encryption) now: Now,
    pub(in crate::encryption) success: bool,
}

impl Key {
    /// For the caller whose key it is. Hexadecimal digits are text.
    pub(in crate::encryption) fn passphrase_text(&self) -> &str {
        std::str::from_utf8(self.passphrase.as_bytes()).unwrap_or_default()
    }

    pub(in crate::encryption) fn hash_text(&self) -> &str {
        std::str::from_utf8(&self.hash).unwrap_or_default()
    }

    /// The name that the request's MAC gave to its message.
    pub(in crate::encryption) fn request_n(&self) -> Option<&str> {
        self.answers.as_ref().map(|answers| answers.n.as_str()).filter(|n| !n.is_empty())
    }

    /// The MAC of a response, where it carries one.
    pub(in crate::encryption) fn mac(&self, status: StatusCode, body: &[u8], now: Now) -> Option<HeaderValue> {
        let Answers { request, n } = self.answers.as_ref()?;
        let covered = covered(request, body, Some((status.as_str(), n)));
        let fresh = MessageId::fresh().text();
        let header = mac::Header::make(&self.passphrase, mac::kid(&self.hash), now.unix_ms, &fresh, covered);
        HeaderValue::try_from(header.to_string()).ok()
    }

    /// With `user_timestamp` a response carries the timestamp that its key was derived with.
    fn labels<'a>(&'a self, labels: ResponseLabels<'a>) -> Labels<'a> {
        Labels {
            key_hash: &self.hash,
            timestamp: self.bound.unwrap_or(labels.now.unix_ms),
            user_id: &labels.principal.user_id,
            success: labels.success,
        }
    }
}

fn email<'p>(principal: &'p Principal, results: &Results) -> Result<&'p str, Refusal> {
    principal.email.as_deref().ok_or_else(|| {
        results.key_mismatch.inc();
        key_refused("the caller has no email, so no key can be derived")
    })
}

fn mac_refused(results: &Results) -> Refusal {
    results.failed.inc();
    Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened.").reason("X-Gapura-Mac does not hold")
}

fn key_refused(why: &'static str) -> Refusal {
    Refusal::new(Code::KeyVerificationFailed, "The envelope's key or user id is not the caller's.").reason(why)
}
