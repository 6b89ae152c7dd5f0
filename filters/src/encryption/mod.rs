//! Message encryption: opens request envelopes, seals responses.
//!
//! Before a message has proved itself, every refusal about the ciphertext is one text. The codes that do differ
//! (`KEY_VERIFICATION_FAILED`, `ENVELOPE_EXPIRED`) tell a sender only about members that it wrote in clear. So no work is
//! spent to make those refusals as slow as a decryption: their code says more than their time could. What takes equal time
//! is what comes after them, in [`crate::crypto`]: padding and content.

pub mod client;
pub mod envelope;
mod fields;
pub mod members;
mod replay;
mod response;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    model::{self, EnvelopeFields, KeyDerivation, Replay, ResponseWrap},
    secret::Secret,
};
use http::{HeaderValue, header, request, response as http_response};
use prometheus::IntCounter;
use subtle::ConstantTimeEq;

pub use replay::{Mark, MemoryReplays, ReplayId, ReplayStore, SharedReplays};
pub use response::Sealing;

use self::envelope::{Envelope, Form, Reading};
use crate::{
    contract::{Code, Exchange, Filter, Now, Principal, Refusal, Services, Stage},
    crypto::{self, Ciphertext, KeyHash, Passphrase},
    metrics::Metrics,
};

/// How long an accepted envelope is remembered where `max_age = "off"` sets no end to its life.
const KEEP_WITHOUT_MAX_AGE: Duration = Duration::from_secs(600);

/// One `[encryption.NAME]`. Routes that name it share it.
pub struct Encryption {
    name: String,
    master_key: Secret,
    key_derivation: KeyDerivation,
    max_age: Option<Duration>,
    required: bool,
    replay: Replay,
    replays: ReplayStore,
    response_wrap: ResponseWrap,
    fields: EnvelopeFields,
    form: Form,
    max_response: u64,
    results: Results,
}

/// `gapura_decryptions_total` of this entry, by result.
struct Results {
    opened: IntCounter,
    not_envelope: IntCounter,
    key_mismatch: IntCounter,
    expired: IntCounter,
    failed: IntCounter,
    replayed: IntCounter,
    plaintext: IntCounter,
}

impl Encryption {
    pub fn build(name: &str, config: &model::Encryption, services: &Services) -> Result<Self, Vec<Fault>> {
        Self::new(name, config, services.replays.clone(), &services.metrics)
    }

    /// Reads the master key. Every fault at once, each at its place in the file.
    pub fn new(
        name: &str,
        config: &model::Encryption,
        replays: ReplayStore,
        metrics: &Metrics,
    ) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("encryption").key(name);
        let mut faults = member_faults(&config.fields, &place.key("fields"));
        let model::Profile::CryptoJs = config.profile;
        let master_key = config.master_key.read().map_err(|why| {
            faults.push(Fault::at(place.key("master_key"), why).help("set it before the gateway starts or reloads"));
        });
        let (Ok(master_key), true) = (master_key, faults.is_empty()) else { return Err(faults) };
        let result = |result: &str| metrics.decryptions.with_label_values(&[name, result]);
        Ok(Self {
            name: name.to_owned(),
            master_key,
            key_derivation: config.key_derivation,
            max_age: config.max_age.get(),
            required: config.required,
            replay: config.replay,
            replays,
            response_wrap: config.response_wrap,
            fields: config.fields.clone(),
            form: match config.response_wrap {
                ResponseWrap::Success => Form::wrapped(&config.fields),
                ResponseWrap::None => Form::bare(&config.fields),
            },
            max_response: config.max_response.bytes(),
            results: Results {
                opened: result("opened"),
                not_envelope: result("not_envelope"),
                key_mismatch: result("key_mismatch"),
                expired: result("expired"),
                failed: result("failed"),
                replayed: result("replayed"),
                plaintext: result("plaintext"),
            },
        })
    }

    /// How long an accepted envelope is remembered. It may be accepted from `max_age` before its timestamp until `max_age`
    /// after it, so that this is the shortest time that covers its whole life.
    fn keep(&self) -> Duration {
        self.max_age.map_or(KEEP_WITHOUT_MAX_AGE, |age| age.saturating_mul(2))
    }

    fn key_for(&self, principal: &Principal, timestamp: u64) -> Result<Key, Refusal> {
        let Some(email) = &principal.email else {
            self.results.key_mismatch.inc();
            return Err(key_refused("the caller has no email, so no key can be derived"));
        };
        let bound = match self.key_derivation {
            KeyDerivation::User => None,
            KeyDerivation::UserTimestamp => Some(timestamp),
        };
        let passphrase = crypto::passphrase(principal.user_id.as_str(), email, self.master_key.bytes(), bound);
        let hash = crypto::key_hash(passphrase.as_bytes());
        Ok(Key { passphrase, hash })
    }

    /// Opens an envelope for its caller. The order of the checks is that of the contract: first what is cheap and in clear.
    async fn open(&self, envelope: Envelope<'_>, principal: &Principal, now: Now) -> Result<(Bytes, Key), Refusal> {
        let key = self.key_for(principal, envelope.timestamp)?;
        let own_user = envelope.user_id.as_bytes().ct_eq(principal.user_id.as_str().as_bytes());
        let own_key = envelope.key_hash.as_bytes().ct_eq(&key.hash[..]);
        if !bool::from(own_user & own_key) {
            self.results.key_mismatch.inc();
            let which =
                if bool::from(own_user) { "keyHash differs from the caller's" } else { "userId is not the caller's" };
            return Err(key_refused(which));
        }
        if self.max_age.is_some_and(|age| u128::from(now.unix_ms.abs_diff(envelope.timestamp)) > age.as_millis()) {
            self.results.expired.inc();
            return Err(Refusal::new(Code::EnvelopeExpired, "The envelope's timestamp is too far from the present."));
        }
        let opened =
            Ciphertext::decode(envelope.data.as_bytes()).map_err(|_| crypto::OpenError).and_then(|ciphertext| {
                let id = ciphertext.fingerprint(&self.name);
                ciphertext.open(key.passphrase.as_bytes()).map(|plaintext| (plaintext, id))
            });
        let Ok((plaintext, id)) = opened else {
            self.results.failed.inc();
            return Err(Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened."));
        };
        self.refuse_replay(id, now).await?;
        self.results.opened.inc();
        Ok((plaintext.into(), key))
    }

    /// Marked only once the message has opened: rubbish must not fill the memory.
    async fn refuse_replay(&self, id: ReplayId, now: Now) -> Result<(), Refusal> {
        if self.replay == Replay::Off {
            return Ok(());
        }
        match self.replays.check_and_mark(id, self.keep(), now).await {
            Mark::New => Ok(()),
            Mark::Seen => {
                self.results.replayed.inc();
                Err(Refusal::new(Code::EnvelopeReplayed, "The same envelope was accepted before."))
            }
            Mark::Refused(why) => {
                Err(Refusal::new(Code::Overloaded, "The gateway cannot accept envelopes at the moment.").reason(why))
            }
        }
    }

    fn not_envelope(&self, why: &'static str) -> Refusal {
        self.results.not_envelope.inc();
        Refusal::new(Code::EnvelopeRequired, "The body must be an encrypted envelope.").reason(why)
    }
}

/// A caller's key, for both directions of one exchange.
struct Key {
    passphrase: Passphrase,
    hash: KeyHash,
}

impl Filter for Encryption {
    fn stage(&self) -> Stage {
        Stage::Decryption
    }

    fn needs_body(&self) -> bool {
        true
    }

    fn max_response(&self) -> Option<u64> {
        Some(self.max_response)
    }

    fn explain(&self) -> Vec<String> {
        let derivation = match self.key_derivation {
            KeyDerivation::User => "user",
            KeyDerivation::UserTimestamp => "user_timestamp",
        };
        let age = self.max_age.map_or("off".to_owned(), |age| format!("{age:?}"));
        let replay = match self.replay {
            Replay::Reject => format!("rejected, remembered for {:?}", self.keep()),
            Replay::Off => "accepted".to_owned(),
        };
        let wrap = match self.response_wrap {
            ResponseWrap::Success => "in {\"success\", \"data\"}",
            ResponseWrap::None => "bare",
        };
        vec![
            format!("encryption.{}: profile cryptojs, key derived from {derivation}, max_age {age}", self.name),
            format!("replays {replay}; plaintext bodies {}", if self.required { "refused" } else { "pass" }),
            format!("responses sealed {wrap}, up to {} bytes", self.max_response),
        ]
    }

    /// Refuses by the head alone what its body could not make good, so that the body need not be read.
    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        caller(exchange)?;
        if fields::declares_body(&head.headers) {
            self.refuse_unreadable(head)?;
        }
        Ok(())
    }

    /// Opens the body, or lets pass what may; notes in the exchange how the response is to be sealed.
    ///
    /// `exchange.now` must be the time at which the body was complete: a time from before would let a slowly sent replay
    /// outlive the memory of its original.
    async fn on_request_body(
        &self,
        head: &mut request::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        let principal = caller(exchange)?;
        if body.is_empty() {
            // Derived before any upstream is contacted: a response that cannot be sealed must not come to be.
            let timestamp = exchange.now.unix_ms;
            let key = self.key_for(&principal, timestamp)?;
            exchange.sealing = Some(Sealing::due(key, self.bound(timestamp), head));
            fields::clean_request(&mut head.headers);
            return Ok(());
        }
        self.refuse_unreadable(head)?;
        let envelope = match envelope::read(body, &self.fields) {
            Reading::Envelope(envelope) => envelope,
            Reading::Other(_) if !self.required => {
                self.results.plaintext.inc();
                exchange.sealing = Some(Sealing::not_due());
                fields::clean_request(&mut head.headers);
                return Ok(());
            }
            Reading::Broken(why) | Reading::Other(why) => return Err(self.not_envelope(why)),
        };
        // Without `required` the content type was not looked at before, as plaintext may have any.
        self.refuse_content_type(head)?;
        let timestamp = envelope.timestamp;
        let (plaintext, key) = self.open(envelope, &principal, exchange.now).await?;
        *body = plaintext;
        exchange.sealing = Some(Sealing::due(key, self.bound(timestamp), head));
        fields::clean_request(&mut head.headers);
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(())
    }

    /// Seals the response. `body` is the whole decoded body; for HEAD it is empty, and a `Content-Length` that the upstream
    /// sent becomes that of the sealed body, which the adapter must then leave as it is.
    async fn on_response_body(
        &self,
        head: &mut http_response::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        self.seal_response(head, body, exchange)
    }
}

impl Encryption {
    /// With `user_timestamp` a response carries the timestamp that its key was derived with.
    fn bound(&self, timestamp: u64) -> Option<u64> {
        (self.key_derivation == KeyDerivation::UserTimestamp).then_some(timestamp)
    }

    fn refuse_unreadable(&self, head: &request::Parts) -> Result<(), Refusal> {
        // A compressed body cannot be looked at, and its coding would not pass on: it could only arrive broken.
        if fields::is_coded(&head.headers) {
            self.results.not_envelope.inc();
            return Err(Refusal::new(
                Code::ContentTypeUnsupported,
                "A body on this route must not have a content encoding.",
            )
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
        }
        if self.required { self.refuse_content_type(head) } else { Ok(()) }
    }

    fn refuse_content_type(&self, head: &request::Parts) -> Result<(), Refusal> {
        if fields::is_json(&head.headers) {
            return Ok(());
        }
        self.results.not_envelope.inc();
        // RFC 9110, section 15.5.16: `Accept` says what would have been taken.
        Err(Refusal::new(Code::ContentTypeUnsupported, "The content type must be application/json.")
            .header(header::ACCEPT, HeaderValue::from_static("application/json")))
    }
}

fn caller(exchange: &Exchange) -> Result<Arc<Principal>, Refusal> {
    // The policy puts no encryption on a public route. If it did, there would be no key: fail closed.
    exchange.principal.clone().ok_or_else(|| {
        Refusal::new(Code::Internal, "The request cannot be served.").reason("encryption without a caller")
    })
}

fn key_refused(why: &'static str) -> Refusal {
    Refusal::new(Code::KeyVerificationFailed, "The envelope's key or user id is not the caller's.").reason(why)
}

fn member_faults(fields: &EnvelopeFields, place: &Place) -> Vec<Fault> {
    let members = [
        ("data", &fields.data),
        ("key_hash", &fields.key_hash),
        ("timestamp", &fields.timestamp),
        ("user_id", &fields.user_id),
    ];
    let mut faults = Vec::new();
    for (i, (key, name)) in members.iter().enumerate() {
        if name.is_empty() {
            faults.push(Fault::at(place.key(key), "a member of an envelope needs a name"));
        } else if let Some((other, _)) = members[..i].iter().find(|(_, earlier)| earlier == name) {
            faults.push(Fault::at(place.key(key), format!("`{key}` and `{other}` are both named `{name}`")));
        }
    }
    faults
}

fn salt() -> [u8; crypto::SALT_LEN] {
    // rand's thread generator: ChaCha12, seeded by the operating system and again every 64 KiB.
    rand::random()
}
