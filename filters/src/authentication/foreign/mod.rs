//! API keys that a backend issued, accepted unchanged: its own table is asked, or an endpoint of it, and what it said is remembered.
//!
//! Here stands what is asked, what an answer means, and for how long it counts. Who asks ([`KeyIssuer`]) knows sockets, and sees to it that a
//! key is asked about once however many requests wait, that questions are bounded, and that an outage costs nothing.

mod answer;
mod cache;
mod hash;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, DatabaseRef, KeyCache, KeyIntrospection, KeyLookup},
};
use http::HeaderValue;
use parking_lot::Mutex;
use zeroize::Zeroizing;

pub use self::answer::MAX_ROWS;
use self::{
    answer::{Paths, Verdict},
    cache::{Cache, Fate, Known},
    hash::Hashing,
};
use super::{Denial, api_keys::Record};

/// Who can be asked. Set by the adapter, as soon as a policy needs it.
pub trait KeyIssuer: Send + Sync {
    /// Begins to ask at once, whether or not anybody waits for it, and gives what comes to [`ForeignKeys::learn`]. False: there is no answer.
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = bool> + Send>>;
}

/// Whose key is this?
pub struct Question {
    pub keys: Arc<ForeignKeys>,
    /// Tells questions apart; of the key nothing can be read from it.
    pub digest: [u8; 32],
    /// When it was asked, in milliseconds since 1970.
    pub asked_ms: u64,
    key: Zeroizing<String>,
}

/// What goes out: a parameter of a statement, or a key to an endpoint.
pub enum Source {
    Lookup(KeyLookup),
    Introspection {
        config: KeyIntrospection,
        /// The gateway's own login.
        authorization: Option<HeaderValue>,
    },
}

/// The keys of one `[api_keys.NAME]` with a `lookup` or an `introspection`. As long as a policy needs it: a reload finds it as it was.
pub struct ForeignKeys {
    /// `api_keys.NAME`
    method: Arc<str>,
    pub source: Source,
    reading: Reading,
    terms: KeyCache,
    cache: Cache,
    issuer: OnceLock<Arc<dyn KeyIssuer>>,
    /// Why there was no answer yet. None: there was one, or none is needed before the first request.
    trouble: Mutex<Option<String>>,
}

#[derive(PartialEq, Eq)]
enum Reading {
    Rows(Hashing),
    Claims(Paths),
}

/// All of the process.
#[derive(Default)]
pub struct ForeignTables(Mutex<Vec<Weak<ForeignKeys>>>);

impl ForeignTables {
    /// Those of this table, as they are where nothing of it has changed. None where it has none.
    pub(super) fn of(
        &self,
        method: &Arc<str>,
        config: &model::ApiKeys,
    ) -> Result<Option<Arc<ForeignKeys>>, Vec<Fault>> {
        let Some(keys) = ForeignKeys::build(method, config)? else { return Ok(None) };
        let mut all = self.0.lock();
        all.retain(|keys| keys.strong_count() > 0);
        if let Some(known) = all.iter().filter_map(Weak::upgrade).find(|known| known.is_as(&keys)) {
            return Ok(Some(known));
        }
        let keys = Arc::new(keys);
        all.push(Arc::downgrade(&keys));
        Ok(Some(keys))
    }
}

impl ForeignKeys {
    fn build(method: &Arc<str>, config: &model::ApiKeys) -> Result<Option<Self>, Vec<Fault>> {
        let place = method.split('.').fold(Place::root(), |place, key| place.key(key));
        let (source, reading) = match (&config.lookup, &config.introspection) {
            (Some(lookup), _) => {
                let place = place.key("lookup");
                let salt = lookup.salt.as_ref().map(|salt| salt.read().map(|salt| salt.bytes().to_vec().into()));
                let salt = salt.transpose().map_err(|why| vec![unreadable(place.key("salt"), why)])?;
                // Its address is a secret: whether it can be read is known without connecting.
                lookup.database.read().map_err(|why| vec![unreadable(place.key("database"), why)])?;
                (Source::Lookup(lookup.clone()), Reading::Rows(Hashing::new(lookup, salt)))
            }
            (None, Some(introspection)) => {
                let place = place.key("introspection");
                let authorization = login(&place, introspection).map_err(|fault| vec![fault])?;
                let paths = Paths::compile(&introspection.claims).map_err(|(key, why)| {
                    let help = "write a name, a dotted path, or a JSON pointer";
                    vec![Fault::at(place.key("claims").key(key), why).help(help)]
                })?;
                (Source::Introspection { config: introspection.clone(), authorization }, Reading::Claims(paths))
            }
            (None, None) => return Ok(None),
        };
        // An endpoint is asked for the first time with the first key; a table can be tried before.
        let trouble = matches!(source, Source::Lookup(_)).then(|| "it was not asked yet".to_owned());
        Ok(Some(Self {
            method: Arc::clone(method),
            source,
            reading,
            terms: config.cache.clone(),
            cache: Cache::new(&config.cache),
            issuer: OnceLock::new(),
            trouble: Mutex::new(trouble),
        }))
    }

    fn is_as(&self, other: &Self) -> bool {
        let source = match (&self.source, &other.source) {
            (Source::Lookup(one), Source::Lookup(other)) => one == other,
            (
                Source::Introspection { config, authorization },
                Source::Introspection { config: other, authorization: login },
            ) => config == other && authorization == login,
            _ => false,
        };
        source && self.method == other.method && self.reading == other.reading && self.terms == other.terms
    }

    /// `api_keys.NAME`
    pub fn method(&self) -> &Arc<str> {
        &self.method
    }

    /// From now on this one is asked. False: somebody is already.
    pub fn served_by(&self, issuer: Arc<dyn KeyIssuer>) -> bool {
        self.issuer.set(issuer).is_ok()
    }

    /// The backend can be asked.
    pub fn reached(&self) {
        *self.trouble.lock() = None;
    }

    /// It cannot, before it ever could.
    pub fn unreachable(&self, why: &str) {
        if let Some(trouble) = self.trouble.lock().as_mut() {
            *trouble = why.to_owned();
        }
    }

    /// None once it could be asked; before, why not. An outage later makes nothing unready: the keys that are known stay good.
    pub fn missing(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.as_ref().map(|why| format!("{}: the backend's keys cannot be looked up yet: {why}", self.method))
    }

    /// What a question about this key sends: the parameter of the statement, or the key. None: it cannot be one of the backend's.
    fn parameter(&self, key: &str) -> Option<Zeroizing<String>> {
        match &self.reading {
            Reading::Rows(hashing) => hashing.parameter(key),
            Reading::Claims(_) => Some(Zeroizing::new(key.to_owned())),
        }
    }

    /// The columns that the rows of a lookup must have.
    pub fn columns(&self) -> Vec<&'static str> {
        let compared = match &self.reading {
            Reading::Rows(hashing) => hashing.columns(),
            Reading::Claims(_) => Vec::new(),
        };
        [vec!["id", "user_id"], compared].concat()
    }

    /// A parameter of the form that real ones have, for a statement that is only tried.
    pub fn sample(&self) -> Zeroizing<String> {
        self.parameter("0000000000000000").unwrap_or_else(|| Zeroizing::new("0".to_owned()))
    }

    /// `unanswered`: this request has asked, and there was no answer.
    pub(super) fn find(
        self: &Arc<Self>,
        key: &[u8],
        now_ms: u64,
        unanswered: bool,
    ) -> Result<Option<Arc<Record>>, Denial> {
        let Some(key) = str::from_utf8(key).ok().filter(|key| self.parameter_fits(key)) else { return Ok(None) };
        let digest = self.cache.digest(key.as_bytes());
        let question =
            || Question { keys: Arc::clone(self), digest, asked_ms: now_ms, key: Zeroizing::new(key.to_owned()) };
        match self.cache.recall(&digest, now_ms) {
            Known::Good(record) => Ok(Some(record)),
            Known::Ageing(record) => {
                // Nobody waits for it.
                drop(self.issuer.get().map(|issuer| issuer.ask(question())));
                Ok(Some(record))
            }
            Known::Unknown => Ok(None),
            Known::Unusable => {
                Err(Denial::Invalid("the backend's record of the API key cannot be used".into()).by(&self.method))
            }
            Known::Unreadable => Err(Denial::Unready(
                format!("{}: what the backend says of the API key cannot be used", self.method).into(),
            )),
            Known::Stale(record) if unanswered => Ok(Some(record)),
            Known::Nothing if unanswered => {
                Err(Denial::Unready(format!("{}: the backend cannot be asked for the API key", self.method).into()))
            }
            Known::Stale(_) | Known::Nothing => Err(Denial::Unasked(Box::new(question()))),
        }
    }

    /// Cheap, and without hashing: for each request.
    fn parameter_fits(&self, key: &str) -> bool {
        match &self.source {
            Source::Lookup(lookup) => lookup.find_by == model::FindBy::Hash || lookup.find_by.split(key).is_some(),
            Source::Introspection { .. } => true,
        }
    }

    /// What was said: rows, or one answer, each a JSON object. An error: that is no answer, and nothing has changed.
    pub fn learn(&self, question: &Question, said: &[Vec<u8>]) -> Result<bool, String> {
        let (key, digest, asked) = (question.key.as_str(), question.digest, question.asked_ms);
        let verdict = match (&self.reading, said) {
            (Reading::Rows(hashing), rows) => answer::of_rows((&self.method, digest), hashing, key, rows)?,
            (Reading::Claims(paths), [said]) => paths.read(&self.method, digest, said)?,
            (Reading::Claims(_), _) => return Err("that is not one answer".into()),
        };
        self.reached();
        match verdict {
            Verdict::Found(record) => {
                self.cache.good(digest, asked, record);
                return Ok(true);
            }
            Verdict::Unknown => self.cache.bad(digest, asked, Fate::Unknown),
            Verdict::Unusable(why) => {
                log::warn!("{}: a key of the backend is not taken: {why}", self.method);
                self.cache.bad(digest, asked, Fate::Unusable);
            }
        }
        Ok(false)
    }

    /// What was said of this key is no answer, and would be none if it were asked again at once.
    pub fn unreadable(&self, question: &Question, why: &str) {
        self.unreachable(why);
        self.cache.bad(question.digest, question.asked_ms, Fate::Unreadable);
    }

    /// `, and those that the backend knows by a query on env:BACKEND (sha256, by hash; answers count for 1m)`
    pub(super) fn explain(&self) -> String {
        let asked = match &self.source {
            Source::Lookup(KeyLookup { database, hash, find_by, .. }) => {
                format!("in {database} ({hash}, found by {find_by})")
            }
            Source::Introspection { config, .. } => format!("at {}", config.url),
        };
        let KeyCache { ttl, negative_ttl, stale, .. } = &self.terms;
        format!(
            "those that the backend knows {asked}: an answer counts for {ttl}, for {stale} more while there is none; that a key is \
             unknown, for {negative_ttl}"
        )
    }
}

impl Question {
    /// What is sent.
    pub fn parameter(&self) -> Zeroizing<String> {
        self.keys.parameter(&self.key).unwrap_or_default()
    }

    /// Asks, and waits for the answer. False: there is none.
    pub(super) async fn ask(self) -> bool {
        match self.keys.issuer.get().cloned() {
            Some(issuer) => issuer.ask(self).await,
            None => false,
        }
    }
}

impl Source {
    /// Where a lookup goes.
    pub fn database(&self) -> Option<&DatabaseRef> {
        match self {
            Self::Lookup(lookup) => Some(&lookup.database),
            Self::Introspection { .. } => None,
        }
    }
}

/// No key in it.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a question for {}", self.keys.method)
    }
}

/// No key and no login in it.
impl fmt::Debug for ForeignKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.method, self.explain())
    }
}

fn unreadable(place: Place, why: String) -> Fault {
    Fault::at(place, why).help("set the variable or name a readable file")
}

/// RFC 6749, section 2.3.1: both are form-encoded before they are joined.
fn login(place: &Place, config: &KeyIntrospection) -> Result<Option<HeaderValue>, Fault> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let secret = |key: &str, reference: &gapura_config::secret::SecretRef| {
        reference.read().map_err(|why| unreadable(place.key(key), why))
    };
    let (key, text) = match (&config.client_id, &config.client_secret, &config.bearer) {
        (Some(id), Some(password), _) => {
            let password = secret("client_secret", password)?;
            let pair = Zeroizing::new(format!(
                "{}:{}",
                form_encoded(id.as_bytes()).as_str(),
                form_encoded(password.bytes()).as_str()
            ));
            ("client_secret", format!("Basic {}", STANDARD.encode(pair.as_bytes())))
        }
        (_, _, Some(bearer)) => {
            let bearer = secret("bearer", bearer)?;
            ("bearer", format!("Bearer {}", String::from_utf8_lossy(bearer.bytes())))
        }
        _ => return Ok(None),
    };
    let text = Zeroizing::new(text);
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Fault::at(place.key(key), "no header can carry this").help("write it without control characters")
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// `application/x-www-form-urlencoded`, one value.
pub fn form_encoded(value: &[u8]) -> Zeroizing<String> {
    use fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 3));
    for &byte in value {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            // Writing into a String does not fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}
