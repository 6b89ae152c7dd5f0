//! API keys in SQLite or PostgreSQL, by one code path: statements that both understand.
//!
//! Each change counts a version up, in the transaction of the change, and writes it into the rows that changed. A gateway asks for
//! the version twice a second, and for the rows above the one that it knows (`follow`). Times are milliseconds since 1970; lists
//! are joined by commas, which no entry has; what is absent is empty or 0.

mod follow;

use std::{fmt, path::Path, sync::Once, time::Duration};

use gapura_config::model::DatabaseRef;
use gapura_filters::authentication::{HeldKey, Usage};
use sqlx::{
    AnyPool, Row,
    any::{AnyConnectOptions, AnyPoolOptions, AnyRow},
};

pub(crate) use self::follow::follow;

/// A database with the tables in it.
pub(crate) struct Database {
    pool: AnyPool,
}

/// What cannot be done, for the operator: never an address with its password.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key with what only people ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    pub(crate) key: HeldKey,
    pub(crate) created: i64,
    /// 0: never.
    pub(crate) last_used: i64,
    pub(crate) usage_count: i64,
}

/// To get a connection, and the longest that anybody waits for another writer.
const PATIENCE: Duration = Duration::from_secs(5);

const SCHEMA: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS gapura_api_keys (
       id TEXT PRIMARY KEY, method TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, email TEXT NOT NULL,
       roles TEXT NOT NULL, permissions TEXT NOT NULL, addresses TEXT NOT NULL, created BIGINT NOT NULL,
       expires BIGINT NOT NULL, revoked BIGINT NOT NULL, changed BIGINT NOT NULL, limits TEXT NOT NULL DEFAULT '',
       last_used BIGINT NOT NULL DEFAULT 0, usage_count BIGINT NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS gapura_version (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)",
    "INSERT INTO gapura_version (one, version) VALUES (1, 0) ON CONFLICT (one) DO NOTHING",
];

/// Columns that a table of an earlier version has not: a statement that fails without it, and what adds it.
const ADDED: [[&str; 2]; 1] = [[
    "SELECT limits FROM gapura_api_keys WHERE 1 = 0",
    "ALTER TABLE gapura_api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT ''",
]];

const COLUMNS: &str = "id, hash, user_id, email, roles, permissions, addresses, limits, created, expires, revoked, last_used, usage_count";

impl Database {
    /// Connects, and makes what is missing: the file of SQLite, the tables.
    pub(crate) async fn open(reference: &DatabaseRef) -> Result<Self, Trouble> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let mut address = reference.read().map_err(Trouble)?;
        let sqlite = address.strip_prefix("sqlite:").map(|path| path.trim_start_matches("//").to_owned());
        if let Some(path) = &sqlite {
            private_file(Path::new(path)).map_err(|why| Trouble(format!("`{reference}` cannot be made: {why}")))?;
            address = format!("sqlite:{path}");
        } else {
            // rustls is built with two providers in this process, so one has to be chosen; the first choice stands.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let trouble = |why: &sqlx::Error| Trouble(format!("`{reference}`: {}", spelled(why, &address)));
        let options: AnyConnectOptions = address.parse().map_err(|why| trouble(&why))?;
        let is_sqlite = sqlite.is_some();
        let pool = AnyPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_sqlite {
                        // Readers and one writer do not wait for each other, and writers wait in turn.
                        sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await?;
                        sqlx::query("PRAGMA busy_timeout = 5000").execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(|why| trouble(&why))?;
        for statement in SCHEMA {
            sqlx::query(statement).execute(&pool).await.map_err(|why| trouble(&why))?;
        }
        for [asks, adds] in ADDED {
            if sqlx::query(asks).execute(&pool).await.is_ok() {
                continue;
            }
            let added = sqlx::query(adds).execute(&pool).await;
            // Another instance may have been first.
            if sqlx::query(asks).execute(&pool).await.is_err() {
                added.map_err(|why| trouble(&why))?;
            }
        }
        Ok(Self { pool })
    }

    /// Of the last change.
    pub(crate) async fn version(&self) -> Result<i64, Trouble> {
        let row = sqlx::query("SELECT version FROM gapura_version").fetch_one(&self.pool).await?;
        Ok(row.try_get(0)?)
    }

    /// The keys of a method that changed after a version, all of them after a negative one.
    pub(crate) async fn changed(&self, method: &str, after: i64) -> Result<Vec<Listed>, Trouble> {
        let statement =
            format!("SELECT {COLUMNS} FROM gapura_api_keys WHERE method = $1 AND changed > $2 ORDER BY created, id");
        let rows = sqlx::query(&statement).bind(method.to_owned()).bind(after).fetch_all(&self.pool).await?;
        rows.iter().map(listed).collect()
    }

    pub(crate) async fn find(&self, method: &str, id: &str) -> Result<Option<Listed>, Trouble> {
        let statement = format!("SELECT {COLUMNS} FROM gapura_api_keys WHERE method = $1 AND id = $2");
        let query = sqlx::query(&statement).bind(method.to_owned()).bind(id.to_owned());
        query.fetch_optional(&self.pool).await?.as_ref().map(listed).transpose()
    }

    /// Writes new keys, and gives others another end, in one step: all of it or nothing.
    pub(crate) async fn change(&self, method: &str, new: &[Listed], ended: &[(&str, End)]) -> Result<(), Trouble> {
        let mut transaction = self.pool.begin().await?;
        let count = "UPDATE gapura_version SET version = version + 1 RETURNING version";
        let version: i64 = sqlx::query(count).fetch_one(&mut *transaction).await?.try_get(0)?;
        for Listed { key, created, .. } in new {
            let statement = "INSERT INTO gapura_api_keys
                (id, method, hash, user_id, email, roles, permissions, addresses, limits, created, expires, revoked, changed)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
            let addresses: Vec<String> = key.addresses.iter().map(ToString::to_string).collect();
            let insert = sqlx::query(statement)
                .bind(key.id.clone())
                .bind(method.to_owned())
                .bind(key.hash.clone())
                .bind(key.user_id.clone())
                .bind(key.email.clone().unwrap_or_default())
                .bind(key.roles.join(","))
                .bind(key.permissions.join(","))
                .bind(addresses.join(","))
                .bind(key.limits.to_string())
                .bind(*created)
                .bind(key.expires.unwrap_or(0))
                .bind(i64::from(key.revoked))
                .bind(version);
            insert.execute(&mut *transaction).await?;
        }
        for (id, end) in ended {
            let (column, value) = match end {
                End::Revoked => ("revoked", 1),
                End::At(instant) => ("expires", *instant),
            };
            let statement =
                format!("UPDATE gapura_api_keys SET {column} = $1, changed = $2 WHERE method = $3 AND id = $4");
            let update =
                sqlx::query(&statement).bind(value).bind(version).bind(method.to_owned()).bind((*id).to_owned());
            update.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Adds uses, all in one step. It is no change that a gateway has to learn of.
    pub(crate) async fn used(&self, method: &str, usage: &[Usage]) -> Result<(), Trouble> {
        let mut transaction = self.pool.begin().await?;
        for Usage { id, count, last_ms } in usage {
            let statement = "UPDATE gapura_api_keys SET usage_count = usage_count + $1,
                last_used = CASE WHEN last_used > $2 THEN last_used ELSE $2 END WHERE method = $3 AND id = $4";
            let update = sqlx::query(statement)
                .bind(i64::try_from(*count).unwrap_or(i64::MAX))
                .bind(i64::try_from(*last_ms).unwrap_or(i64::MAX))
                .bind(method.to_owned())
                .bind(id.clone());
            update.execute(&mut *transaction).await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(crate) async fn close(self) {
        self.pool.close().await;
    }
}

/// How a key ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Revoked,
    /// Milliseconds since 1970.
    At(i64),
}

impl From<sqlx::Error> for Trouble {
    /// Statements and values are ours; what the database says of them holds no address.
    fn from(why: sqlx::Error) -> Self {
        Self(why.to_string())
    }
}

fn listed(row: &AnyRow) -> Result<Listed, Trouble> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let number = |column: &str| row.try_get::<i64, _>(column);
    let list = |joined: String| -> Vec<String> {
        joined.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let id = text("id")?;
    let networks: Result<Vec<_>, _> = list(text("addresses")?).iter().map(|network| network.parse()).collect();
    let addresses = networks.map_err(|_| Trouble(format!("the key {id:?}: an address of it is none")))?;
    let limits = text("limits")?.parse().map_err(|why| Trouble(format!("the key {id:?}: {why}")))?;
    let key = HeldKey {
        id,
        hash: text("hash")?,
        user_id: text("user_id")?,
        email: Some(text("email")?).filter(|email| !email.is_empty()),
        roles: list(text("roles")?),
        permissions: list(text("permissions")?),
        addresses,
        limits,
        expires: Some(number("expires")?).filter(|instant| *instant != 0),
        revoked: number("revoked")? != 0,
    };
    let (created, last_used, usage_count) = (number("created")?, number("last_used")?, number("usage_count")?);
    Ok(Listed { key, created, last_used, usage_count })
}

/// Hashes are no keys, but they are nobody's business either.
fn private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Drivers may repeat an address.
fn spelled(why: &sqlx::Error, address: &str) -> String {
    let password = address.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')?.0.split_once(':'));
    match password {
        Some((_, password)) if !password.is_empty() => why.to_string().replace(password, "…"),
        _ => why.to_string(),
    }
}
