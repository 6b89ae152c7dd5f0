//! What all strong profiles have in common: keys, inner content type, age, replay.
//!
//! A profile says yes or no to a message as a whole. Until it has said yes, every refusal is one text, whatever was wrong; the
//! reason goes to the log only. What is checked here comes after that, and may be told.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use gapura_config::model::{self, KeyKind, Profile};
use http::{HeaderValue, header, request};
use sha2::{Digest, Sha256};

use super::{
    Encryption, ReplayId, Sealing,
    context::Bound,
    fields,
    profiles::{Opened, jwe, strength},
};
use crate::{
    contract::{Code, Exchange, Now, Principal, Refusal},
    crypto,
    keyring::{Key, Keyring, SessionKey, session::Holder},
};

/// The keys of an entry.
pub(super) struct Keys {
    /// At most one of each kind.
    rings: Vec<Arc<Keyring>>,
    session_key_lifetime: Duration,
}

/// What of an entry's settings holds for strong profiles.
pub(super) struct Terms {
    max_age: Duration,
    clock_skew: Duration,
    inner_types: Vec<String>,
}

/// A message before it is opened.
pub(super) struct Message<'m> {
    pub(super) bytes: Bytes,
    /// What the head says that the content is, for the profile that says it there.
    pub(super) content_type: &'m str,
    /// A binary message stands as text: in base64url.
    pub(super) encoded: bool,
    /// It stands in `X-Gapura-Envelope`: it has no content.
    pub(super) in_header: bool,
}

impl Message<'_> {
    /// A message without content.
    pub(super) fn of_header(text: &str) -> Self {
        Self { bytes: Bytes::copy_from_slice(text.as_bytes()), content_type: "", encoded: true, in_header: true }
    }

    /// The bytes of a binary message, to be decrypted where they were received: nobody else holds them.
    pub(super) fn binary(self) -> Result<BytesMut, Failure> {
        let bytes = if self.encoded {
            let decoded = URL_SAFE_NO_PAD.decode(self.bytes).map_err(|_| Failure("the message is not base64url"))?;
            Bytes::from(decoded)
        } else {
            self.bytes
        };
        Ok(BytesMut::from(bytes))
    }
}

/// Why a message does not open: for the log, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure(pub(super) &'static str);

/// Why a message was not opened.
#[derive(Debug)]
pub(super) enum Unopened {
    /// It does not open.
    Failed(Failure),
    /// Whoever has the key did not say: for the log.
    Away(String),
}

impl From<Failure> for Unopened {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Keys {
    pub(super) fn new(rings: Vec<Arc<Keyring>>, config: &model::Encryption) -> Self {
        Self { rings, session_key_lifetime: config.session_key_lifetime.get() }
    }

    pub(super) fn rings(&self) -> &[Arc<Keyring>] {
        &self.rings
    }

    /// The private key that a message names, if it opens now.
    pub(super) fn private(&self, kid: &str, now: Now) -> Option<&Key> {
        let rings = self.rings.iter().filter(|ring| ring.kind() != KeyKind::Secret);
        rings.filter_map(|ring| ring.opening(kid, now.unix_ms)).next()
    }

    /// The session key that a message names, of its caller.
    pub(super) fn session(&self, kid: &str, bound: &Bound, now: Now) -> Option<SessionKey> {
        let ring = self.rings.iter().find(|ring| ring.kind() == KeyKind::Secret)?;
        ring.session_key(kid, bound.holder(), self.session_key_lifetime, now.unix_ms)
    }
}

impl Keys {
    pub(super) fn session_key_lifetime(&self) -> Duration {
        self.session_key_lifetime
    }

    /// A key to give to a caller, and its name.
    pub(super) fn new_session(&self, holder: Holder<'_>, expiry: u64, now: Now) -> Option<(String, SessionKey)> {
        self.rings.iter().find_map(|ring| ring.new_session_key(holder, expiry, now.unix_ms))
    }
}

impl Terms {
    pub(super) fn new(config: &model::Encryption) -> Self {
        Self {
            // The rules of the configuration let no strong profile do without.
            max_age: config.max_age.get().unwrap_or(Duration::from_secs(300)),
            clock_skew: config.clock_skew.get(),
            inner_types: config.inner_types.clone(),
        }
    }

    pub(super) fn explain(&self) -> String {
        let (age, skew) = (self.max_age, self.clock_skew);
        format!("messages hold {}; max_age {age:?}, clock_skew {skew:?}", self.inner_types.join(" or "))
    }

    fn is_fresh(&self, iat: u64, now: Now) -> bool {
        let age = i128::from(now.unix_ms) - i128::from(iat);
        let ms = |period: Duration| i128::try_from(period.as_millis()).unwrap_or(i128::MAX);
        (-ms(self.clock_skew)..=ms(self.max_age)).contains(&age)
    }

    /// The whole time in which a message can be accepted. One that does not tell its age is remembered as the founding
    /// format's are.
    fn keep(&self, iat: Option<u64>) -> Duration {
        self.max_age.saturating_add(iat.map_or(self.max_age, |_| self.clock_skew))
    }

    fn takes(&self, content_type: &str) -> bool {
        let essence = essence(content_type);
        self.inner_types.iter().any(|taken| taken.eq_ignore_ascii_case(essence))
    }
}

impl Encryption {
    /// Opens a message of a strong profile; then the head is that of its content.
    pub(super) async fn open_strong(
        &self,
        profile: Profile,
        message: Message<'_>,
        bound: Bound,
        now: Now,
    ) -> Result<Opened, Refusal> {
        let in_header = message.in_header;
        let principal = bound.principal();
        self.refuse_downgrade(&principal, strength(profile)).await?;
        let opened = self.open_as(profile, message, bound, now).await.map_err(|unopened| match unopened {
            Unopened::Failed(Failure(why)) => self.failed(why),
            // No fault of the message, so it tells nothing of it.
            Unopened::Away(why) => {
                Refusal::new(Code::Overloaded, "The envelope cannot be opened at the moment.").reason(why)
            }
        })?;
        if in_header && !opened.plaintext.is_empty() {
            return Err(self.failed("the message in X-Gapura-Envelope has content"));
        }
        self.check_content(&opened)?;
        self.accept(profile, &principal, &opened, now).await?;
        Ok(opened)
    }

    /// Age and replay of a message that has proved itself.
    pub(super) async fn accept(
        &self,
        profile: Profile,
        principal: &Principal,
        opened: &Opened,
        now: Now,
    ) -> Result<(), Refusal> {
        if opened.iat.is_some_and(|iat| !self.terms.is_fresh(iat, now)) {
            self.results.expired.inc();
            return Err(Refusal::new(Code::EnvelopeExpired, "The envelope's time is too far from the present."));
        }
        // By the user id alone: a message names no method, so that whoever has its user id from another presents it again.
        // `jwe-rsa` binds a message to no caller at all.
        let caller = if profile == Profile::JweRsa { "" } else { principal.user_id.as_str() };
        let name = self.replay_id(caller, &opened.unique);
        self.refuse_replay(name, self.terms.keep(opened.iat), now).await?;
        self.results.accepted(profile);
        self.note_strength(principal, strength(profile), now).await;
        Ok(())
    }

    async fn open_as(
        &self,
        profile: Profile,
        message: Message<'_>,
        bound: Bound,
        now: Now,
    ) -> Result<Opened, Unopened> {
        Ok(match profile {
            Profile::Hpke => self.open_hpke(message, bound, now)?,
            Profile::Aes128Gcm => self.open_aes128gcm(message, bound, now)?,
            Profile::Jwe => jwe::open(&message, bound, &self.keys, now)?,
            Profile::JweRsa => match &self.jwe_rsa {
                Some(jwe_rsa) => jwe_rsa.open(&message, &self.keys, now).await?,
                None => return Err(Failure("the profile is not listed").into()),
            },
            Profile::CryptoJs => return Err(Failure("the founding format is opened elsewhere").into()),
        })
    }

    /// One text for whatever is wrong with a message that has not proved itself.
    pub(super) fn failed(&self, why: &'static str) -> Refusal {
        self.results.failed.inc();
        Refusal::new(Code::DecryptionFailed, "The envelope cannot be opened.").reason(why)
    }

    fn check_content(&self, opened: &Opened) -> Result<(), Refusal> {
        match (opened.plaintext.is_empty(), opened.content_type.is_empty()) {
            (true, true) => return Ok(()),
            (true, false) => return Err(self.failed("the message names the type of content that it has not")),
            (false, true) => return Err(self.failed("the message does not say what its content is")),
            (false, false) => {}
        }
        self.check_type(&opened.content_type)?;
        if is_json_type(&opened.content_type) && !crypto::is_json(&opened.plaintext) {
            return Err(self.failed("the content is not the JSON that the message says it is"));
        }
        Ok(())
    }

    /// Of a message that has proved itself.
    pub(super) fn check_type(&self, content_type: &str) -> Result<(), Refusal> {
        if self.terms.takes(content_type) {
            return Ok(());
        }
        self.results.failed.inc();
        let detail = "The envelope holds a content type that this route does not take.";
        Err(Refusal::new(Code::ContentTypeUnsupported, detail))
    }

    /// A message's name in the memory of replays.
    pub(super) fn replay_id(&self, caller: &str, unique: &[u8]) -> ReplayId {
        let name = [b"gapura replay v1", self.name.as_bytes(), caller.as_bytes(), unique];
        let digest: [u8; 32] = Sha256::digest(crypto::fields(name)).into();
        let mut id = ReplayId::default();
        id.copy_from_slice(&digest[..16]);
        id
    }

    /// Puts what was opened into the place of the message.
    pub(super) fn unwrap_into(
        &self,
        opened: Opened,
        head: &mut request::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        exchange.sealing = Some(Sealing::due(opened.sealing, head));
        fields::clean_request(&mut head.headers);
        head.headers.remove(header::CONTENT_TYPE);
        if !opened.content_type.is_empty() {
            let value = HeaderValue::try_from(opened.content_type);
            let value = value.map_err(|_| self.failed("the content type cannot stand in a header"))?;
            head.headers.insert(header::CONTENT_TYPE, value);
        }
        *body = opened.plaintext;
        Ok(())
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// `application/json`, and what RFC 6839, section 3.1, makes of it.
fn is_json_type(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}
