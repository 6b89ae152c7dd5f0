//! Profile `cryptojs`: the founding format, AES-256-CBC under a passphrase of the caller's, in a JSON envelope.

use std::time::Duration;

use bytes::Bytes;
use gapura_config::{
    model::{self, EnvelopeFields, KeyDerivation, ResponseWrap},
    secret::Secret,
};
use subtle::ConstantTimeEq;

use super::super::{
    ReplayId,
    envelope::{self, Envelope, Form, Labels, Reading},
    results::Results,
    salt,
};
use crate::{
    contract::{Code, Now, Principal, Refusal},
    crypto::{self, Ciphertext, KeyHash, Passphrase},
};

pub(in crate::encryption) struct CryptoJs {
    /// Of the entry.
    name: String,
    master_key: Secret,
    key_derivation: KeyDerivation,
    max_age: Option<Duration>,
    response_wrap: ResponseWrap,
    fields: EnvelopeFields,
    form: Form,
}

/// A caller's key, for both directions of one exchange. The passphrase is wiped when dropped.
pub(in crate::encryption) struct Key {
    passphrase: Passphrase,
    hash: KeyHash,
    /// The timestamp that the key is bound to, with `user_timestamp`.
    bound: Option<u64>,
}

impl CryptoJs {
    pub(in crate::encryption) fn new(name: &str, config: &model::Encryption, master_key: Secret) -> Self {
        Self {
            name: name.to_owned(),
            master_key,
            key_derivation: config.key_derivation,
            max_age: config.max_age.get(),
            response_wrap: config.response_wrap,
            fields: config.fields.clone(),
            form: match config.response_wrap {
                ResponseWrap::Success => Form::wrapped(&config.fields),
                ResponseWrap::None => Form::bare(&config.fields),
            },
        }
    }

    pub(in crate::encryption) fn explain(&self) -> String {
        let derivation = match self.key_derivation {
            KeyDerivation::User => "user",
            KeyDerivation::UserTimestamp => "user_timestamp",
        };
        format!("profile cryptojs, key derived from {derivation}")
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

    pub(in crate::encryption) fn key_for(
        &self,
        principal: &Principal,
        timestamp: u64,
        results: &Results,
    ) -> Result<Key, Refusal> {
        let Some(email) = &principal.email else {
            results.key_mismatch.inc();
            return Err(key_refused("the caller has no email, so no key can be derived"));
        };
        let bound = match self.key_derivation {
            KeyDerivation::User => None,
            KeyDerivation::UserTimestamp => Some(timestamp),
        };
        let passphrase = crypto::passphrase(principal.user_id.as_str(), email, self.master_key.bytes(), bound);
        let hash = crypto::key_hash(passphrase.as_bytes());
        Ok(Key { passphrase, hash, bound })
    }

    /// Opens an envelope for its caller. The order of the checks is that of the contract: first what is cheap and in clear.
    /// The id is what the memory of replays has to be asked about next.
    pub(in crate::encryption) fn open(
        &self,
        envelope: Envelope<'_>,
        principal: &Principal,
        now: Now,
        results: &Results,
    ) -> Result<(Bytes, ReplayId, Key), Refusal> {
        let key = self.key_for(principal, envelope.timestamp, results)?;
        let own_user = envelope.user_id.as_bytes().ct_eq(principal.user_id.as_str().as_bytes());
        let own_key = envelope.key_hash.as_bytes().ct_eq(&key.hash[..]);
        if !bool::from(own_user & own_key) {
            results.key_mismatch.inc();
            let which =
                if bool::from(own_user) { "keyHash differs from the caller's" } else { "userId is not the caller's" };
            return Err(key_refused(which));
        }
        if self.max_age.is_some_and(|age| u128::from(now.unix_ms.abs_diff(envelope.timestamp)) > age.as_millis()) {
            results.expired.inc();
            return Err(Refusal::new(Code::EnvelopeExpired, "The envelope's timestamp is too far from the present."));
        }
        let opened =
            Ciphertext::decode(envelope.data.as_bytes()).map_err(|_| crypto::OpenError).and_then(|ciphertext| {
                let id = ciphertext.fingerprint(&self.name);
                ciphertext.open(key.passphrase.as_bytes()).map(|plaintext| (plaintext, id))
            });
        let Ok((plaintext, id)) = opened else {
            results.failed.inc();
            return Err(Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened."));
        };
        Ok((plaintext.into(), id, key))
    }

    pub(in crate::encryption) fn seal(&self, key: &Key, plaintext: &[u8], labels: ResponseLabels<'_>) -> Bytes {
        self.form.seal(plaintext, &key.passphrase, salt(), key.labels(labels)).into()
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

fn key_refused(why: &'static str) -> Refusal {
    Refusal::new(Code::KeyVerificationFailed, "The envelope's key or user id is not the caller's.").reason(why)
}
