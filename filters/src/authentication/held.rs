//! API keys that a database holds. Somebody else reads it, again and again; here they are looked up, and nobody waits.
//!
//! All of them are in memory: a key that exists and one that does not are answered equally fast, a database that is down or slow
//! changes nothing, and no flood of guesses reaches it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gapura_config::model::DatabaseRef;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};

use super::api_keys::{Digest, Record, read_digest};
use crate::{
    contract::{KeyLimits, Principal, UserId},
    networks::Networks,
};

/// Of one table; some 500 bytes each. Beyond it new ones are not taken.
pub const MAX_HELD_KEYS: usize = 1_000_000;

/// The keys of one `[api_keys.NAME]` with a `database`. As long as a policy needs it: a reload finds it as it was.
pub struct HeldKeys {
    /// `api_keys.NAME`
    method: Arc<str>,
    database: DatabaseRef,
    /// None: they were not read yet.
    keys: RwLock<Option<Held>>,
    /// Why the last attempt to read them failed.
    trouble: Mutex<Option<String>>,
    followed: AtomicBool,
    /// Another one after each change.
    generation: AtomicU64,
}

#[derive(Default)]
struct Held {
    by_digest: HashMap<Digest, Arc<Record>>,
    by_id: HashMap<String, Digest>,
}

/// A key as the database has it. Instants are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldKey {
    pub id: String,
    /// Lowercase hex of HMAC-SHA-256(salt, key).
    pub hash: String,
    pub user_id: String,
    pub email: Option<String>,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    /// Only from these; empty: from anywhere.
    pub addresses: Vec<IpNet>,
    /// In place of those of rate limits.
    pub limits: KeyLimits,
    pub expires: Option<i64>,
    pub revoked: bool,
}

/// How often a key was used since it was asked last, and when it was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    pub id: String,
    pub count: u64,
    pub last_ms: u64,
}

/// All of the process.
#[derive(Default)]
pub struct HeldTables(Mutex<Vec<Weak<HeldKeys>>>);

impl HeldTables {
    /// The keys of this table in this database, none if it is new.
    pub fn of(&self, method: &Arc<str>, database: &DatabaseRef) -> Arc<HeldKeys> {
        let mut all = self.0.lock();
        all.retain(|keys| keys.strong_count() > 0);
        let same = |keys: &Arc<HeldKeys>| keys.method == *method && keys.database == *database;
        if let Some(known) = all.iter().filter_map(Weak::upgrade).find(same) {
            return known;
        }
        let keys = Arc::new(HeldKeys {
            method: Arc::clone(method),
            database: database.clone(),
            keys: RwLock::default(),
            trouble: Mutex::default(),
            followed: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        });
        all.push(Arc::downgrade(&keys));
        keys
    }

    /// Another one after each change of a key.
    pub fn generation(&self) -> u64 {
        let all = self.0.lock();
        let each = all.iter().filter_map(Weak::upgrade).map(|keys| keys.generation.load(Ordering::Acquire));
        each.fold(0, u64::wrapping_add)
    }
}

impl HeldKey {
    /// What is wrong with it, if anything is.
    pub fn check(&self) -> Result<(), String> {
        if self.id.is_empty() || self.id.len() > 256 || self.id.chars().any(char::is_control) {
            return Err("an id has 1 to 256 characters, and no control characters".into());
        }
        record(&"api_keys".into(), self).map(drop)
    }
}

impl HeldKeys {
    /// `api_keys.NAME`
    pub fn method(&self) -> &Arc<str> {
        &self.method
    }

    pub fn database(&self) -> &DatabaseRef {
        &self.database
    }

    /// From now on somebody reads the database. False: somebody does already.
    pub fn follow(&self) -> bool {
        !self.followed.swap(true, Ordering::Relaxed)
    }

    /// The keys that changed; with `whole`, all there are. What is wrong with those that are not taken.
    pub fn apply(&self, changed: &[HeldKey], whole: bool) -> Vec<String> {
        let mut keys = self.keys.write();
        let mut before = keys.take().unwrap_or_default();
        let mut held = if whole { Held::default() } else { std::mem::take(&mut before) };
        let mut wrong = Vec::new();
        for key in changed {
            let old = held.by_id.remove(&key.id).and_then(|digest| held.by_digest.remove(&digest));
            let old = old.or_else(|| before.by_digest.get(before.by_id.get(&key.id)?).cloned());
            if held.by_id.len() >= MAX_HELD_KEYS {
                wrong.push(format!("more than {MAX_HELD_KEYS} keys"));
                break;
            }
            match record(&self.method, key) {
                Ok((digest, record)) => {
                    if let Some(old) = old {
                        record.continue_usage(&old);
                    }
                    held.by_id.insert(key.id.clone(), digest);
                    held.by_digest.insert(digest, Arc::new(record));
                }
                Err(why) => wrong.push(format!("the key {:?}: {why}", key.id)),
            }
        }
        *keys = Some(held);
        if whole || !changed.is_empty() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        *self.trouble.lock() = None;
        wrong
    }

    /// They could not be read: what is here stays.
    pub fn failed(&self, why: &str) {
        *self.trouble.lock() = Some(why.to_owned());
    }

    /// None once they were read; before, what there is to say about it.
    pub fn missing(&self) -> Option<String> {
        if self.keys.read().is_some() {
            return None;
        }
        let why = self.trouble.lock().clone().unwrap_or_else(|| "they are being read".into());
        Some(format!("{}: no keys yet: {why}", self.method))
    }

    /// Keys of this table, revoked ones too.
    pub fn count(&self) -> usize {
        self.keys.read().as_ref().map_or(0, |held| held.by_id.len())
    }

    /// What there is to write of uses, and forgets it here.
    pub fn take_usage(&self) -> Vec<Usage> {
        let keys = self.keys.read();
        let records =
            keys.iter().flat_map(|held| held.by_id.iter().map(|(id, digest)| (id, held.by_digest.get(digest))));
        records
            .filter_map(|(id, record)| {
                let (count, last_ms) = record?.take_usage()?;
                Some(Usage { id: id.clone(), count, last_ms })
            })
            .collect()
    }

    /// It could not be written.
    pub fn give_back(&self, usage: &[Usage]) {
        let keys = self.keys.read();
        let Some(held) = keys.as_ref() else { return };
        for Usage { id, count, last_ms } in usage {
            if let Some(record) = held.by_id.get(id).and_then(|digest| held.by_digest.get(digest)) {
                record.add_usage(*count, *last_ms);
            }
        }
    }

    /// None: the keys were not read yet.
    pub(super) fn find(&self, digest: &Digest) -> Option<Option<Arc<Record>>> {
        let keys = self.keys.read();
        keys.as_ref().map(|held| held.by_digest.get(digest).cloned())
    }
}

/// No key and no address in it.
impl fmt::Debug for HeldKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.method, self.database)
    }
}

fn record(method: &Arc<str>, key: &HeldKey) -> Result<(Digest, Record), String> {
    let digest = read_digest(&key.hash).ok_or("its hash is none")?;
    let principal = Principal {
        method: Arc::clone(method),
        user_id: UserId::string(&key.user_id),
        email: key.email.clone(),
        roles: key.roles.clone(),
        permissions: key.permissions.clone(),
        api_key: Some(key.id.as_str().into()),
        token_id: None,
        expires: None,
        limits: key.limits.clone(),
        claims: Default::default(),
    };
    let principal = principal.checked().map_err(|unfit| unfit.to_string())?;
    let addresses = (!key.addresses.is_empty()).then(|| Networks::new(&key.addresses));
    Ok((digest, Record::held(digest, principal, key.expires, addresses, key.revoked)))
}
