//! Message encryption: opens request envelopes, seals responses.
//!
//! Before a message has proved itself, every refusal about the ciphertext is one text. The codes that do differ
//! (`KEY_VERIFICATION_FAILED`, `ENVELOPE_EXPIRED`) tell a sender only about members that it wrote in clear. So no work is
//! spent to make those refusals as slow as a decryption: their code says more than their time could. What takes equal time
//! is what comes after them, in [`crate::crypto`]: padding and content.

pub mod client;
pub mod context;
mod deliver;
mod downgrades;
pub mod envelope;
mod fields;
mod founding;
pub mod members;
mod migration;
mod outer;
mod partly;
pub mod partner;
mod profiles;
mod response;
mod results;
pub mod sender;
pub mod stream;
mod strong;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    model::{self, Profile, Replay},
};
use http::{HeaderValue, header, request, response as http_response};

pub use crate::replay::{Mark, MemoryReplays, ReplayId, ReplayStore, SharedReplays};
pub use downgrades::{CallerId, Downgrades, Known, SharedDowngrades};
pub use migration::ending;
pub use response::Sealing;

use self::{
    context::Bound,
    members::Pointer,
    migration::Legacy,
    outer::{Accepted, Carrier},
    profiles::{cryptojs::CryptoJs, jwe_rsa::JweRsa, masters::Masters},
    results::Results,
    strong::{Keys, Message, Terms},
};
use crate::{
    contract::{Code, Exchange, Filter, KeyReader, Now, Principal, Refusal, Services, Stage},
    crypto,
    keyring::{Keyring, Keyrings},
    metrics::Metrics,
};

/// How long an accepted envelope is remembered where `max_age = "off"` sets no end to its life.
const KEEP_WITHOUT_MAX_AGE: Duration = Duration::from_secs(600);

/// One `[encryption.NAME]`. Routes that name it share it.
pub struct Encryption {
    name: String,
    accepted: Accepted,
    cryptojs: Option<CryptoJs>,
    jwe_rsa: Option<JweRsa>,
    keys: Keys,
    terms: Terms,
    max_age: Option<Duration>,
    required: bool,
    replay: Replay,
    replays: ReplayStore,
    max_response: u64,
    results: Results,
    legacy: Option<Legacy>,
    /// Empty: whole bodies are messages.
    members: Vec<Pointer>,
    /// Bodies pass record by record: see [`stream`].
    stream: bool,
    /// None: there is nothing to lock.
    downgrades: Option<Arc<Downgrades>>,
}

impl Encryption {
    /// `rings` are all of the configuration.
    pub fn build(
        name: &str,
        config: &model::Encryption,
        rings: &Keyrings,
        services: &Services,
    ) -> Result<Self, Vec<Fault>> {
        let mut built =
            Self::reading(name, config, rings, (services.replays.clone(), &services.metrics, &services.keys))?;
        let lock = config.downgrade_lock && migration::has_levels(config);
        built.downgrades = lock.then(|| Arc::clone(&services.downgrades));
        Ok(built)
    }

    /// An entry that needs no keyring.
    pub fn new(
        name: &str,
        config: &model::Encryption,
        replays: ReplayStore,
        metrics: &Metrics,
    ) -> Result<Self, Vec<Fault>> {
        Self::with_rings(name, config, &Keyrings::new(), replays, metrics)
    }

    /// Reads the master key. Every fault at once, each at its place in the file.
    pub fn with_rings(
        name: &str,
        config: &model::Encryption,
        rings: &Keyrings,
        replays: ReplayStore,
        metrics: &Metrics,
    ) -> Result<Self, Vec<Fault>> {
        Self::reading(name, config, rings, (replays, metrics, &KeyReader::default()))
    }

    fn reading(
        name: &str,
        config: &model::Encryption,
        rings: &Keyrings,
        (replays, metrics, keys): (ReplayStore, &Metrics, &KeyReader),
    ) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("encryption").key(name);
        let mut faults = envelope::member_faults(&config.fields, &place.key("fields"));
        let cryptojs = cryptojs(name, config, &place, (rings, keys)).map_err(|found| faults.extend(found));
        let rings = own_rings(config, rings, &place).map_err(|found| faults.extend(found));
        let jwe_rsa = config.profile.contains(Profile::JweRsa).then(|| JweRsa::new(config, &place)).transpose();
        let jwe_rsa = jwe_rsa.map_err(|fault| faults.push(fault));
        let (Ok(cryptojs), Ok(jwe_rsa), Ok(rings), true) = (cryptojs, jwe_rsa, rings, faults.is_empty()) else {
            return Err(faults);
        };
        let members = partly::pointers(&config.members, &place)?;
        let accepted = Accepted::new(config.profile.listed(), config.preset);
        let results = Results::new(name, &accepted.profiles, metrics);
        if config.stream {
            results.expect_streams();
        }
        Ok(Self {
            name: name.to_owned(),
            cryptojs,
            jwe_rsa,
            keys: Keys::new(rings, config),
            terms: Terms::new(config),
            max_age: config.max_age.get(),
            required: config.required,
            replay: config.replay,
            replays,
            max_response: config.max_response.bytes(),
            results,
            legacy: config.accept_legacy_until.as_ref().and_then(Legacy::new),
            members,
            stream: config.stream,
            downgrades: None,
            accepted,
        })
    }

    /// How long an accepted envelope is remembered. It may be accepted from `max_age` before its timestamp until `max_age`
    /// after it, so that this is the shortest time that covers its whole life.
    fn keep(&self) -> Duration {
        self.max_age.map_or(KEEP_WITHOUT_MAX_AGE, |age| age.saturating_mul(2))
    }

    /// Marked only once the message has opened: rubbish must not fill the memory.
    async fn refuse_replay(&self, id: ReplayId, keep: Duration, now: Now) -> Result<(), Refusal> {
        if self.replay == Replay::Off {
            return Ok(());
        }
        match self.replays.check_and_mark(id, keep, now).await {
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

fn cryptojs(
    name: &str,
    config: &model::Encryption,
    place: &Place,
    (rings, keys): (&Keyrings, &KeyReader),
) -> Result<Option<CryptoJs>, Vec<Fault>> {
    if !config.profile.contains(Profile::CryptoJs) {
        return Ok(None);
    }
    Ok(Some(CryptoJs::new(name, config, Masters::new(config, rings, place, keys)?)))
}

/// The rings that an entry names. One that could not be loaded has its own faults, without which nothing more is to be said.
fn own_rings(config: &model::Encryption, rings: &Keyrings, place: &Place) -> Result<Vec<Arc<Keyring>>, Vec<Fault>> {
    let (mut own, mut faults) = (Vec::new(), Vec::new());
    for (at, name) in config.keyrings.iter().enumerate() {
        match rings.get(name) {
            Some(Some(ring)) => own.push(Arc::clone(ring)),
            Some(None) => return Err(faults),
            None => {
                faults.push(Fault::at(place.key("keyrings").index(at), format!("there is no `[keyrings.{name}]`")));
            }
        }
    }
    if faults.is_empty() { Ok(own) } else { Err(faults) }
}

impl Filter for Encryption {
    fn stage(&self) -> Stage {
        Stage::Decryption
    }

    /// One that streams is driven by the adapter itself.
    fn needs_body(&self) -> bool {
        !self.stream
    }

    fn max_response(&self) -> Option<u64> {
        (!self.stream).then_some(self.max_response)
    }

    fn explain(&self) -> Vec<String> {
        let age = self.max_age.map_or("off".to_owned(), |age| format!("{age:?}"));
        let replay = match self.replay {
            Replay::Reject => format!("rejected, remembered for {:?}", self.keep()),
            Replay::Off => "accepted".to_owned(),
        };
        let mut lines = Vec::new();
        if self.accepted.profiles.iter().any(|profile| profile.is_strong()) {
            let names: Vec<&str> = self.accepted.profiles.iter().map(|profile| profile.name()).collect();
            lines.push(format!("encryption.{}: profiles {}; {}", self.name, names.join(", "), self.terms.explain()));
        }
        if let Some(cryptojs) = &self.cryptojs {
            lines.push(format!("encryption.{}: {}, max_age {age}", self.name, cryptojs.explain()));
        }
        lines.extend(self.jwe_rsa.as_ref().map(JweRsa::explain));
        if !self.members.is_empty() {
            let members: Vec<&str> = self.members.iter().map(Pointer::as_str).collect();
            lines.push(format!("of JSON bodies the members {} only", members.join(", ")));
        }
        if self.downgrades.is_some() {
            lines.push("who has sent a stronger envelope sends no weaker one".to_owned());
        }
        let master_keys = self.cryptojs.as_ref().and_then(|cryptojs| cryptojs.masters().ring());
        lines.extend(self.keys.rings().iter().map(|ring| ring.explain()));
        lines.extend(master_keys.map(|ring| format!("master keys: {}", ring.explain())));
        lines.push(format!("replays {replay}; plaintext bodies {}", if self.required { "refused" } else { "pass" }));
        let wrap = self.cryptojs.as_ref().map_or("as the request was", |cryptojs| cryptojs.explain_wrap());
        lines.push(match self.stream {
            true => "bodies of any length pass record by record, both ways".to_owned(),
            false => format!("responses sealed {wrap}, up to {} bytes", self.max_response),
        });
        // Last: `gapura explain` says behind it what the clock says to that.
        if let Some(legacy) = &self.legacy {
            lines.push(format!("cryptojs is accepted to the end of {} (UTC)", legacy.day()));
        }
        lines
    }

    /// Refuses by the head alone what its body could not make good, so that the body need not be read.
    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        caller(exchange)?;
        let header = outer::header(&head.headers).map_err(|why| self.not_envelope(why))?;
        if fields::declares_body(&head.headers) {
            if !self.members.is_empty() {
                return self.refuse_no_json(head);
            }
            if header.is_some() {
                return Err(self.not_envelope("a request with both a body and X-Gapura-Envelope"));
            }
            if self.stream {
                return self.refuse_uncoded(head);
            }
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
        let header = outer::header(&head.headers).map_err(|why| self.not_envelope(why))?;
        if !self.members.is_empty() && !body.is_empty() {
            return self.open_members(head, body, exchange, &principal).await;
        }
        match (header, body.is_empty()) {
            (Some((name, message)), true) => {
                let profile = self.accepted.of_header(name, message.as_bytes());
                let why = "X-Gapura-Envelope names a profile that has no such message here";
                let profile = profile.ok_or_else(|| self.not_envelope(why))?;
                let message = Message::of_header(message);
                let bound = Bound::new(head, exchange, principal);
                let opened = self.open_strong(profile, message, bound, exchange.now).await?;
                self.unwrap_into(opened, head, body, exchange)
            }
            (Some(_), false) => Err(self.not_envelope("a request with both a body and X-Gapura-Envelope")),
            (None, true) => self.without_message(head, exchange, &principal).await,
            (None, false) => match self.strong_body(head, body) {
                Some((profile, message)) => {
                    let content_type = fields::content_type(&head.headers);
                    let message = Message { bytes: message, content_type, encoded: false, in_header: false };
                    let bound = Bound::new(head, exchange, principal);
                    let opened = self.open_strong(profile, message, bound, exchange.now).await?;
                    self.unwrap_into(opened, head, body, exchange)
                }
                None => self.open_json(head, body, exchange, &principal).await,
            },
        }
    }

    /// Seals the response. `body` is the whole decoded body; for HEAD it is empty, and a `Content-Length` that the upstream
    /// sent becomes that of the sealed body, which the adapter must then leave as it is.
    async fn on_response_body(
        &self,
        head: &mut http_response::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        if self.members.is_empty() {
            self.seal_response(head, body, exchange)
        } else {
            self.seal_members(head, body, exchange)
        }
    }
}

impl Encryption {
    /// The message of a strong profile, by what the body looks like. None: it is none, or of the founding format.
    /// The body is taken for it: a message is decrypted in place where nobody else holds its bytes.
    fn strong_body(&self, head: &request::Parts, body: &mut Bytes) -> Option<(Profile, Bytes)> {
        let profile = match self.accepted.of_body(&head.headers)? {
            Carrier::Hpke => Profile::Hpke,
            Carrier::Coded => Profile::Aes128Gcm,
            Carrier::Jose => self.accepted.of_jwe(body)?,
            Carrier::Json => {
                let message = match self.jwe_rsa.as_ref()?.unwrap(body)? {
                    Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
                    Cow::Owned(text) => text.into(),
                };
                return Some((Profile::JweRsa, message));
            }
        };
        Some((profile, std::mem::take(body)))
    }

    fn refuse_unreadable(&self, head: &request::Parts) -> Result<(), Refusal> {
        // A compressed body cannot be looked at, and its coding would not pass on: it could only arrive broken.
        if fields::is_coded(&head.headers) && self.accepted.of_body(&head.headers) != Some(Carrier::Coded) {
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
        if self.accepted.of_body(&head.headers).is_some() {
            return Ok(());
        }
        self.results.not_envelope.inc();
        let detail = format!("The content type must be {}.", self.accepted.media_types());
        Err(Refusal::new(Code::ContentTypeUnsupported, detail).header(header::ACCEPT, self.accepted.accept()))
    }
}

fn caller(exchange: &Exchange) -> Result<Arc<Principal>, Refusal> {
    // The policy puts no encryption on a public route. If it did, there would be no key: fail closed.
    exchange.principal.clone().ok_or_else(|| {
        Refusal::new(Code::Internal, "The request cannot be served.").reason("encryption without a caller")
    })
}

fn salt() -> [u8; crypto::SALT_LEN] {
    // rand's thread generator: ChaCha12, seeded by the operating system and again every 64 KiB.
    rand::random()
}
