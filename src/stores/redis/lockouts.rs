//! Failed authentications of all instances, counted together: one script call for each failure.
//!
//! In an outage each instance counts for itself. What it has locked it holds, and what Redis has locked holds where it was told.

use std::time::Duration;

use gapura_filters::authentication::{Failed, LockoutKey, LockoutTerms};
use redis::{ErrorKind, RedisError};
use sha2::{Digest, Sha256};

use super::{counters::Script, hex, road::Road, servers::Servers, terms::micros};

/// Failures are few, and one script decides about an address and an identity: in a Cluster all records stand in one slot.
const TAG: &str = "lockouts";

pub(super) struct Lockouts {
    fail: Script,
}

impl Lockouts {
    pub(super) fn new() -> Self {
        Self { fail: Script::new(include_str!("lockout.lua")) }
    }

    /// None: there is no answer.
    pub(super) async fn fail(
        &self,
        servers: &Servers,
        address: &LockoutKey,
        identity: Option<&LockoutKey>,
        terms: &LockoutTerms,
    ) -> Option<Failed> {
        let mut keys = vec![key("address", address)];
        keys.extend(identity.map(|identity| key("identity", identity)));
        let LockoutTerms { failures, window, duration, max_duration } = *terms;
        let times = [window, duration, max_duration].map(micros);
        let arguments: Vec<String> =
            [u64::from(failures)].into_iter().chain(times).map(|number| number.to_string()).collect();
        let question = async |connection: Road| {
            let [locked, begins, watched]: [i64; 3] =
                self.fail.run::<Vec<i64>>(connection, &keys, &arguments).await?.try_into().map_err(|_| {
                    RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered with something else"))
                })?;
            Ok(Failed { locked: lasting(locked), begins: begins == 1, watched: lasting(watched) })
        };
        servers.ask(TAG, question).await.ok()
    }
}

/// Some time, in µs.
fn lasting(time: i64) -> Option<Duration> {
    u64::try_from(time).ok().filter(|time| *time > 0).map(Duration::from_micros)
}

/// Hashed, as keys of counters are: an address is personal data.
fn key(kind: &str, key: &LockoutKey) -> String {
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(key).finalize();
    hex(&format!("gapura:{{{TAG}}}:{kind}:"), &hash[..16])
}
