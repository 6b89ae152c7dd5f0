//! API keys: the gateway holds only keyed hashes of them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, DatabaseRef, is_token},
    secret::SecretRef,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, header::AUTHORIZATION};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{
    Asked, Denial, ForeignKeys, ForeignTables, HeldKeys, HeldTables, KeyTenure, Proven, Tenure, lockout::Claimed,
};
use crate::{
    contract::{KeyReader, Principal, UserId, advice},
    networks::Networks,
};

/// Longer than any key that anyone issues. A longer one is never looked up.
pub const MAX_API_KEY: usize = 1024;
/// Half of what SHA-256 takes; below, salt and hash of a leaked file can be searched together.
const SHORT_SALT: usize = 16;

/// One `[api_keys.NAME]`, compiled. Built once per policy, shared by its routes.
pub struct ApiKeysMethod {
    /// `api_keys.NAME`
    name: Arc<str>,
    header: HeaderName,
    header_as_written: String,
    scheme: Option<String>,
    salt: Option<SecretRef>,
    /// None where nothing here is hashed.
    salted: Option<Hmac<Sha256>>,
    keys: HashMap<Digest, Arc<Record>>,
    /// Those in a database.
    held: Option<Arc<HeldKeys>>,
    /// Those that a backend knows.
    foreign: Option<Arc<ForeignKeys>>,
    warnings: Vec<Fault>,
}

/// HMAC-SHA-256(salt, key).
pub(super) type Digest = [u8; 32];

/// Who presents a key, made when the policy is built.
pub(super) struct Record {
    digest: Digest,
    principal: Arc<Principal>,
    /// Milliseconds since 1970.
    expires: Option<i64>,
    /// None: from anywhere.
    addresses: Option<Networks>,
    revoked: bool,
    /// Uses that were not written yet, and when the last one was.
    used: AtomicU64,
    last_used: AtomicU64,
}

/// What stands in `hash`, as `gapura keys hash` prints it: lowercase hex of HMAC-SHA-256(salt, key).
pub fn api_key_hash(salt: &[u8], key: &[u8]) -> String {
    use std::fmt::Write;

    let Ok(salted) = Hmac::<Sha256>::new_from_slice(salt) else { return String::new() };
    digest(&salted, key).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn digest(salted: &Hmac<Sha256>, key: &[u8]) -> Digest {
    let mut mac = salted.clone();
    mac.update(key);
    mac.finalize().into_bytes().into()
}

impl ApiKeysMethod {
    /// The record of a key, expired or not, among those that are in memory whole.
    ///
    /// The table is searched by the digest. How long that takes depends on the digest alone, which nobody without the salt
    /// can predict or steer, so it tells nothing about a stored key; the comparison takes constant time all the same.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<KeyTenure>, Denial> {
        if key.is_empty() || key.len() > MAX_API_KEY {
            return Ok(None);
        }
        let Some(salted) = &self.salted else { return Ok(None) };
        let digest = digest(salted, key);
        let (found, held) = match (self.keys.get(&digest), &self.held) {
            (None, Some(held)) => {
                let unread = || Denial::Unready(format!("{}: the keys were not read yet", self.name).into());
                (held.find(&digest).ok_or_else(unread)?, Some(held))
            }
            (found, _) => (found.cloned(), None),
        };
        let found = found.filter(|record| bool::from(record.digest.ct_eq(&digest)));
        Ok(found.map(|record| KeyTenure { record, held: held.cloned() }))
    }

    /// The record of a key that a backend knows.
    pub(super) fn find_foreign(&self, key: &[u8], asked: &Asked<'_>) -> Result<Option<KeyTenure>, Denial> {
        match &self.foreign {
            Some(foreign) if !key.is_empty() && key.len() <= MAX_API_KEY => {
                let found = foreign.find(key, asked.now_ms, asked.unanswered)?;
                Ok(found.map(|record| KeyTenure { record, held: None }))
            }
            _ => Ok(None),
        }
    }

    /// The keys of a backend.
    pub(super) fn foreign(&self) -> Option<&Arc<ForeignKeys>> {
        self.foreign.as_ref()
    }

    /// With those that a backend knows, where it has such.
    pub(super) fn asking(mut self, tables: &ForeignTables, config: &model::ApiKeys) -> Result<Self, Vec<Fault>> {
        self.foreign = tables.of(&self.name, config)?;
        Ok(self)
    }

    /// The keys of a database.
    pub(super) fn held(&self) -> Option<&Arc<HeldKeys>> {
        self.held.as_ref()
    }

    /// With the keys of its database, where it has one.
    pub(super) fn holding(mut self, tables: &HeldTables, database: Option<&DatabaseRef>) -> Result<Self, Vec<Fault>> {
        let Some(database) = database else { return Ok(self) };
        database.check().map_err(|why| {
            let place = self.name.split('.').fold(Place::root(), |place, key| place.key(key)).key("database");
            let help = "write \"sqlite:/path\" in a folder that exists, or set the variable or name a readable file that holds postgres://…";
            vec![Fault::at(place, why).help(help)]
        })?;
        self.held = Some(tables.of(&self.name, database));
        Ok(self)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }
    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }
    /// With the operator's capitals, for people.
    pub(super) fn header_as_written(&self) -> &str {
        &self.header_as_written
    }
    pub(super) fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }
    pub(super) fn is_bearer(&self) -> bool {
        let of_tokens = |scheme: &str| ["Bearer", "DPoP"].iter().any(|token| scheme.eq_ignore_ascii_case(token));
        self.header == AUTHORIZATION && self.scheme().is_some_and(of_tokens)
    }
    pub(super) fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// `api_keys.developers: 3 keys in Authorization with scheme ApiKey, salt env:API_KEY_SALT`
    pub(super) fn explain(&self) -> String {
        let scheme = self.scheme().map(|scheme| format!(" with scheme {scheme}")).unwrap_or_default();
        let (count, header) = (self.keys.len(), &self.header_as_written);
        let keys = if count == 1 { "key" } else { "keys" };
        let held = self.held.as_ref().map(|held| format!(", and those of {}", held.database())).unwrap_or_default();
        let foreign = self.foreign.as_ref().map(|foreign| format!("; {}", foreign.explain())).unwrap_or_default();
        let salt = self.salt.as_ref().map(|salt| format!(", salt {salt}")).unwrap_or_default();
        format!("{}: {count} {keys}{held} in {header}{scheme}{salt}{foreign}", self.name)
    }

    pub(super) fn build(name: &str, config: &model::ApiKeys, reader: &KeyReader) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("api_keys").key(name);
        let method: Arc<str> = format!("api_keys.{name}").into();
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());

        let header = HeaderName::from_bytes(config.header.as_bytes()).map_err(|_| {
            faults.push(Fault::at(place.key("header"), "no header has such a name").help("write one as \"X-Api-Key\""));
        });
        if config.scheme.as_deref().is_some_and(|scheme| !is_token(scheme)) {
            let fault = Fault::at(place.key("scheme"), "no authentication scheme has such a name");
            faults.push(
                fault.help(
                    "write one word as \"ApiKey\", or remove the key: the whole header value is then the API key",
                ),
            );
        }
        let salted =
            config.salt.as_ref().map(|salt| read_salt(&place.key("salt"), (salt, reader), &mut warnings)).transpose();
        let salted = salted.map_err(|fault| faults.push(fault));
        let keys = read_keys(&place.key("keys"), &method, &config.keys).map_err(|found| faults.extend(found));

        match (header, salted, keys) {
            (Ok(header), Ok(salted), Ok(keys)) if faults.is_empty() => Ok(Self {
                name: method,
                header,
                header_as_written: config.header.clone(),
                scheme: config.scheme.clone(),
                salt: config.salt.clone(),
                salted,
                keys,
                held: None,
                foreign: None,
                warnings,
            }),
            _ => Err(faults),
        }
    }
}

impl Record {
    pub(super) fn held(
        digest: Digest,
        principal: Principal,
        expires: Option<i64>,
        addresses: Option<Networks>,
        revoked: bool,
    ) -> Self {
        let (used, last_used) = Default::default();
        Self { digest, principal: Arc::new(principal), expires, addresses, revoked, used, last_used }
    }

    /// The caller, without an allocation. `from` is the client's address, where one is known.
    pub(super) fn principal(&self, now_ms: u64, from: Option<IpAddr>) -> Result<Arc<Principal>, Denial> {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        if self.revoked {
            return Err(Denial::Invalid("the API key is revoked".into()));
        }
        if self.expires.is_some_and(|at| now >= at) {
            return Err(Denial::Invalid("the API key is expired".into()));
        }
        if let Some(addresses) = &self.addresses
            && !from.is_some_and(|from| addresses.contains(from))
        {
            // A stolen key, perhaps. To whoever has it there it is an unknown one: not counted, it would tell that it is good elsewhere.
            let claimed = self.principal.api_key.as_deref().map(|id| Claimed::new(&self.principal.method, id));
            return Err(Denial::Guess("the API key is not for this address".into(), claimed));
        }
        self.add_usage(1, now_ms);
        Ok(self.principal.clone())
    }

    /// The caller, by this method of this rank.
    pub(super) fn proof(
        tenure: KeyTenure,
        rank: usize,
        method: &ApiKeysMethod,
        asked: &Asked<'_>,
    ) -> Result<Proven, Denial> {
        let caller = tenure.record.principal(asked.now_ms, asked.from);
        caller.map(|caller| (rank, caller, Tenure::Key(tenure))).map_err(|denial| denial.by(method.name()))
    }

    /// The record of the same key among these, as it is now; None as long as they were not read.
    pub(super) fn found_in(&self, held: &HeldKeys) -> Option<Option<Arc<Self>>> {
        held.find(&self.digest)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// Milliseconds since 1970.
    pub(super) fn expires(&self) -> Option<i64> {
        self.expires
    }

    pub(super) fn add_usage(&self, count: u64, last_ms: u64) {
        self.used.fetch_add(count, Ordering::Relaxed);
        self.last_used.fetch_max(last_ms, Ordering::Relaxed);
    }

    /// What was not written yet.
    pub(super) fn take_usage(&self) -> Option<(u64, u64)> {
        match self.used.swap(0, Ordering::Relaxed) {
            0 => None,
            used => Some((used, self.last_used.load(Ordering::Relaxed))),
        }
    }

    /// In the place of another record of the same key.
    pub(super) fn continue_usage(&self, before: &Self) {
        if let Some((used, last)) = before.take_usage() {
            self.add_usage(used, last);
        }
    }
}

/// No digest in it.
impl fmt::Debug for ApiKeysMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain())
    }
}

fn read_salt(
    place: &Place,
    (reference, reader): (&SecretRef, &KeyReader),
    warnings: &mut Vec<Fault>,
) -> Result<Hmac<Sha256>, Fault> {
    let help = "set the variable or name a readable file; `openssl rand -hex 32` makes a salt";
    let salt = reader.read(reference).map_err(|why| {
        let help = advice(reference, &why, help);
        Fault::at(place.clone(), why).help(help)
    })?;
    if salt.bytes().len() < SHORT_SALT {
        warnings.push(Fault::warning(place.clone(), format!("the salt has fewer than {SHORT_SALT} bytes")).help(help));
    }
    Hmac::new_from_slice(salt.bytes()).map_err(|_| Fault::at(place.clone(), "the salt cannot be used").help(help))
}

fn read_keys(
    place: &Place,
    method: &Arc<str>,
    keys: &[model::ApiKey],
) -> Result<HashMap<Digest, Arc<Record>>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut records = HashMap::with_capacity(keys.len());
    let mut ids = HashSet::new();
    for (at, key) in keys.iter().enumerate() {
        let place = place.index(at);
        if !ids.insert(key.id.as_str()) {
            faults.push(
                Fault::at(place.key("id"), format!("the id `{}` is taken", key.id)).help("give each key its own id"),
            );
        }
        match read_key(&place, method, key) {
            Err(found) => faults.extend(found),
            Ok(record) => {
                if records.insert(record.digest, Arc::new(record)).is_some() {
                    let fault = Fault::at(place.key("hash"), "another key has this hash");
                    faults.push(fault.help("a key belongs to one caller; give each caller its own"));
                }
            }
        }
    }
    if faults.is_empty() { Ok(records) } else { Err(faults) }
}

fn read_key(place: &Place, method: &Arc<str>, key: &model::ApiKey) -> Result<Record, Vec<Fault>> {
    let mut faults = Vec::new();
    let digest = read_digest(&key.hash);
    if digest.is_none() {
        let fault = Fault::at(place.key("hash"), "no hash: it has 64 digits of lowercase hex");
        faults.push(fault.help("`gapura keys hash` prints it"));
    }
    if key.id.is_empty() {
        faults.push(Fault::at(place.key("id"), "the id is empty").help("name the key; the name is not secret"));
    }
    let expires = key.expires.as_ref().map(crate::instant::unix_ms);
    if expires == Some(None) {
        let fault = Fault::at(place.key("expires"), "without an offset this is no instant");
        faults.push(fault.help("write one as 2027-01-01T00:00:00Z"));
    }
    let principal = Principal {
        method: method.clone(),
        user_id: UserId::string(&key.user_id),
        email: key.email.clone(),
        roles: key.roles.clone(),
        permissions: key.permissions.clone(),
        api_key: Some(key.id.as_str().into()),
        token_id: None,
        limits: Default::default(),
        claims: Default::default(),
    };
    let principal = principal.checked().map_err(|unfit| {
        let fault = Fault::at(place.clone(), format!("the key's {unfit}"));
        faults
            .push(fault.help("no control characters, outer blanks or empty texts; no commas in roles and permissions"));
    });
    match (digest, principal) {
        (Some(digest), Ok(principal)) if faults.is_empty() => {
            let addresses = key.allow.as_deref().map(Networks::new);
            Ok(Record::held(digest, principal, expires.flatten(), addresses, false))
        }
        _ => Err(faults),
    }
}

pub(super) fn read_digest(hex: &str) -> Option<Digest> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect();
    bytes?.try_into().ok()
}
