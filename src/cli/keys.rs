//! `gapura keys create / list / revoke / rotate / import`: keys in the database of an `[api_keys.NAME]`.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use gapura_config::{
    model::{ApiKeys, DatabaseRef, Kms, Named, RateLimit},
    units::Period,
};
use gapura_filters::{
    authentication::{HeldKey, NewKey, api_key_hash},
    contract::KeyLimits,
};
use ipnet::IpNet;
use rand::Rng as _;
use serde::Deserialize;
use serde_json::json;

use super::{Exit, check, print, seal};
use crate::stores::sql::{Database, End, Listed};

#[derive(Debug, clap::Args)]
pub(super) struct Table {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "gapura.toml")]
    config: PathBuf,
    /// The NAME of the `[api_keys.NAME]`, where several have a `database`.
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    table: Table,
    /// The user that the key stands for.
    #[arg(long, value_name = "ID")]
    user_id: String,
    /// The user's email address; body encryption needs it.
    #[arg(long)]
    email: Option<String>,
    /// What a route may ask for in `roles`. Repeatable.
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,
    /// What a route may ask for in `permissions`. Repeatable.
    #[arg(long = "permission", value_name = "NAME")]
    permissions: Vec<String>,
    /// Only clients in this network may use it. Repeatable.
    #[arg(long = "allow", value_name = "CIDR")]
    addresses: Vec<IpNet>,
    /// A limit of its own in place of that of `[rate_limits.NAME]`: api=5000. Repeatable.
    #[arg(long = "limit", value_name = "NAME=N")]
    limits: Vec<KeyLimits>,
    /// How long it is good: 90d, 12h. Without it, always.
    #[arg(long, value_name = "PERIOD")]
    ttl: Option<Period>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    table: Table,
    /// The id of the key: what stands between the first two `_` of it.
    id: String,
    /// How long the old key stays good beside the new one.
    #[arg(long, value_name = "PERIOD", default_value = "24h")]
    overlap: Period,
}

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    table: Table,
    /// The id of the key.
    id: String,
}

/// Why a command ends without having done anything.
struct Failure(Exit, String);

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self(Exit::why(&why), why)
    }
}

impl From<crate::stores::sql::Trouble> for Failure {
    fn from(why: crate::stores::sql::Trouble) -> Self {
        Self(Exit::Environment, why.to_string())
    }
}

pub(super) fn create(options: &Create) -> ExitCode {
    run(&options.table, async |open| {
        let now = now();
        let ends = |ttl: Period| now.saturating_add(i64::try_from(ttl.get().as_millis()).unwrap_or(i64::MAX));
        let (text, new) = open.new_key(HeldKey {
            user_id: options.user_id.clone(),
            email: options.email.clone(),
            roles: options.roles.clone(),
            permissions: options.permissions.clone(),
            addresses: options.addresses.clone(),
            limits: open.limits(options.limits.iter().flat_map(KeyLimits::iter))?,
            expires: options.ttl.map(ends),
            ..HeldKey::default()
        })?;
        open.database.change(&open.method, &[new], &[]).await?;
        Ok(format!("{text}\n"))
    })
}

pub(super) fn list(table: &Table) -> ExitCode {
    run(table, async |open| {
        let now = now();
        let keys = open.database.changed(&open.method, -1).await?;
        let line = |Listed { key, created, last_used, usage_count }: &Listed| {
            let state = match key.expires {
                _ if key.revoked => "revoked",
                Some(end) if end <= now => "expired",
                _ => "good",
            };
            let addresses: Vec<String> = key.addresses.iter().map(IpNet::to_string).collect();
            let limits: BTreeMap<&str, u64> = key.limits.iter().collect();
            let line = json!({
                "id": key.id, "state": state, "user_id": key.user_id, "email": key.email, "roles": key.roles,
                "permissions": key.permissions, "addresses": addresses, "limits": limits, "created": created / 1000,
                "expires": key.expires.map(|end| end / 1000),
                "last_used": (*last_used > 0).then_some(last_used / 1000), "usage_count": usage_count,
            });
            format!("{line}\n")
        };
        Ok(keys.iter().map(line).collect())
    })
}

pub(super) fn revoke(options: &Revoke) -> ExitCode {
    run(&options.table, async |open| {
        let found = open.find(&options.id).await?;
        open.database.change(&open.method, &[], &[(&found.key.id, End::Revoked)]).await?;
        Ok(format!("revoked {}\n", found.key.id))
    })
}

pub(super) fn rotate(options: &Rotate) -> ExitCode {
    run(&options.table, async |open| {
        let Listed { key: old, .. } = open.find(&options.id).await?;
        if old.revoked {
            return Err(format!("the key `{}` is revoked; make a new one by `gapura keys create`", old.id).into());
        }
        let overlap = i64::try_from(options.overlap.get().as_millis()).unwrap_or(i64::MAX);
        let end = now().saturating_add(overlap);
        // An old key never lives longer because it is rotated.
        let end = old.expires.map_or(end, |expires| expires.min(end));
        let (text, new) = open.new_key(old.clone())?;
        open.database.change(&open.method, &[new], &[(&old.id, End::At(end))]).await?;
        Ok(format!("{text}\n"))
    })
}

/// A key of another issuer, by its hash.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Imported {
    id: String,
    hash: String,
    user_id: String,
    email: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    permissions: Vec<String>,
    #[serde(default)]
    addresses: Vec<IpNet>,
    #[serde(default)]
    limits: BTreeMap<String, u64>,
    /// Seconds since 1970.
    expires: Option<i64>,
}

pub(super) fn import(table: &Table) -> ExitCode {
    run(table, async |open| {
        let mut text = String::new();
        let read = io::stdin().lock().take(256 << 20).read_to_string(&mut text);
        read.map_err(|why| format!("standard input cannot be read: {why}"))?;
        let mut keys = Vec::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let one: Imported = serde_json::from_str(line).map_err(|why| format!("line {}: {why}", at + 1))?;
            let Imported { id, hash, user_id, email, roles, permissions, addresses, limits, expires } = one;
            let expires = expires.map(|seconds| seconds.saturating_mul(1000));
            let limits = open.limits(limits.iter().map(|(rule, limit)| (rule.as_str(), *limit)));
            let limits = limits.map_err(|why| format!("line {}: {why}", at + 1))?;
            let revoked = false;
            let key = HeldKey { id, hash, user_id, email, roles, permissions, addresses, limits, expires, revoked };
            key.check().map_err(|why| format!("line {}: {why}", at + 1))?;
            keys.push(Listed { key, created: now(), ..Listed::default() });
        }
        open.database.change(&open.method, &keys, &[]).await?;
        Ok(format!("imported {}\n", keys.len()))
    })
}

/// A table and its database.
struct Open {
    /// `api_keys.NAME`
    method: String,
    database: Database,
    config: ApiKeys,
    rate_limits: Named<RateLimit>,
    kms: Kms,
}

impl Open {
    /// The text of a new key, and what is kept of it. Id and hash are given here.
    fn new_key(&self, key: HeldKey) -> Result<(String, Listed), Failure> {
        let mut random = rand::rng();
        let NewKey { id, text } = NewKey::make(|below| random.random_range(0..below));
        let salt = self.config.salt.as_ref().ok_or_else(|| format!("`[{}]` has no `salt`", self.method))?;
        let salt = seal::keys(&self.kms)?.read(salt)?;
        let key = HeldKey { id, hash: api_key_hash(salt.bytes(), text.as_bytes()), revoked: false, ..key };
        key.check()?;
        Ok((text, Listed { key, created: now(), ..Listed::default() }))
    }

    /// Held to the rules of the configuration, as those of its own keys are.
    fn limits<'l>(&self, limits: impl Iterator<Item = (&'l str, u64)>) -> Result<KeyLimits, String> {
        let mut checked = BTreeMap::new();
        for (name, limit) in limits {
            let rule = self.rate_limits.get(name).ok_or_else(|| format!("there is no `[rate_limits.{name}]`"))?;
            rule.takes_of_a_key(name, limit).map_err(|(why, instead)| format!("{why}; {instead}"))?;
            if checked.insert(name.to_owned(), limit).is_some() {
                return Err(format!("`{name}` has two limits"));
            }
        }
        Ok(checked.into_iter().collect())
    }

    async fn find(&self, id: &str) -> Result<Listed, Failure> {
        let found = self.database.find(&self.method, id).await?;
        found.ok_or_else(|| format!("`[{}]` has no key with the id `{}`", self.method, id.escape_debug()).into())
    }
}

fn run(table: &Table, act: impl AsyncFnOnce(&Open) -> Result<String, Failure>) -> ExitCode {
    let loaded = match check::load(&table.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return Exit::Environment.with(&why.to_string()),
    };
    let done = runtime.block_on(async {
        let (name, config, reference) = choose(&loaded.config.api_keys, table.table.as_deref())?;
        let open = Open {
            method: format!("api_keys.{name}"),
            database: Database::open(reference).await?,
            config: config.clone(),
            rate_limits: loaded.config.rate_limits.clone(),
            kms: loaded.config.kms.clone(),
        };
        let done = act(&open).await;
        open.database.close().await;
        done
    });
    match done {
        Ok(text) => print(text.as_bytes()),
        Err(Failure(exit, why)) => exit.with(&why),
    }
}

type Chosen<'c> = (&'c str, &'c ApiKeys, &'c DatabaseRef);

fn choose<'c>(
    tables: impl IntoIterator<Item = (&'c String, &'c ApiKeys)>,
    wanted: Option<&str>,
) -> Result<Chosen<'c>, String> {
    let with = tables.into_iter().filter_map(|(name, config)| Some((name.as_str(), config, config.database.as_ref()?)));
    let all: Vec<Chosen<'c>> = with.collect();
    match (wanted, all.as_slice()) {
        (Some(wanted), all) => (all.iter().find(|(name, ..)| *name == wanted).copied())
            .ok_or_else(|| format!("there is no `[api_keys.{wanted}]` with a `database`")),
        (None, [only]) => Ok(*only),
        (None, []) => Err("no `[api_keys.NAME]` has a `database`; add `database = \"sqlite:keys.db\"` to one".into()),
        (None, _) => Err("several `[api_keys.NAME]` have a `database`; name one by --table".into()),
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
