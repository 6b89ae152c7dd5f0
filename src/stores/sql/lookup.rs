//! A query of the operator's on a table of a backend. It is only read, and what is read is told as JSON, one object for each row.
//!
//! The query stands in one of ours: so it is one statement that reads, whatever it says, and gives few rows; and PostgreSQL itself writes its
//! types (instants, lists, identifiers) as JSON.

use std::{str::FromStr, time::Duration};

use gapura_config::model::KeyLookup;
use gapura_filters::authentication::MAX_ROWS;
use serde_json::{Map, Value};
use sqlx::{
    Column as _, Executor as _, PgPool, Row as _, SqlitePool, TypeInfo as _, ValueRef as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

use super::spelled;

pub(crate) struct Lookup {
    pool: Pool,
    query: String,
    within: Duration,
}

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// Why there are no rows.
#[derive(Debug)]
pub(crate) enum NoRows {
    /// The statement is at fault.
    Query(String),
    /// The database is.
    Unreachable(String),
}

impl Lookup {
    /// Connects when it is asked first. The error never holds the address.
    pub(crate) fn new(config: &KeyLookup) -> Result<Self, String> {
        let address = config.database.read()?;
        let (most, within) = (config.max_concurrent, config.timeout.get());
        let trouble = |why: sqlx::Error| format!("`{}`: {}", config.database, spelled(&why, &address));
        let pool = if address.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(&address).map_err(trouble)?;
            let options =
                options.read_only(true).create_if_missing(false).busy_timeout(within).pragma("query_only", "ON");
            Pool::Sqlite(
                SqlitePoolOptions::new().max_connections(most).acquire_timeout(within).connect_lazy_with(options),
            )
        } else {
            // rustls is built with two providers in this process, so one has to be chosen; the first choice stands.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
            let options = PgConnectOptions::from_str(&address).map_err(trouble)?;
            Pool::Postgres(
                PgPoolOptions::new().max_connections(most).acquire_timeout(within).connect_lazy_with(options),
            )
        };
        Ok(Self { pool, query: config.query.clone(), within })
    }

    /// Whether the statement can be run as the gateway runs it, and gives these columns.
    pub(crate) async fn attempt(&self, columns: &[&str], sample: &str) -> Result<(), NoRows> {
        let columns: Vec<String> = columns.iter().map(|name| format!("q.{name}")).collect();
        let statement = format!("SELECT {} FROM (\n{}\n) AS q LIMIT 0", columns.join(", "), self.query);
        match &self.pool {
            Pool::Postgres(pool) => self.postgres(pool, &statement, sample).await.map(drop),
            Pool::Sqlite(pool) => sqlite(pool, &statement, sample).await.map(drop),
        }
    }

    /// The rows for this parameter, each the text of a JSON object.
    pub(crate) async fn ask(&self, parameter: &str) -> Result<Vec<Vec<u8>>, NoRows> {
        let limit = MAX_ROWS + 1;
        Ok(match &self.pool {
            Pool::Postgres(pool) => {
                let statement = format!("SELECT row_to_json(q)::text FROM (\n{}\n) AS q LIMIT {limit}", self.query);
                self.postgres(pool, &statement, parameter).await?
            }
            Pool::Sqlite(pool) => {
                let statement = format!("SELECT q.* FROM (\n{}\n) AS q LIMIT {limit}", self.query);
                sqlite(pool, &statement, parameter).await?.iter().map(object).collect()
            }
        })
    }

    /// In a transaction that cannot write, and ends on the server as it does here. Unnamed statements and settings of the transaction alone
    /// pass a pooler between, too.
    async fn postgres(&self, pool: &PgPool, statement: &str, parameter: &str) -> Result<Vec<Vec<u8>>, NoRows> {
        let mut transaction = pool.begin().await.map_err(NoRows::from)?;
        let terms =
            format!("SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {}", self.within.as_millis().max(1));
        (&mut *transaction).execute(terms.as_str()).await.map_err(NoRows::from)?;
        let asked = sqlx::query(statement).bind(parameter).persistent(false).fetch_all(&mut *transaction).await;
        let rows = match asked {
            Ok(rows) => rows,
            // It was not the key that the statement is for: no text of the kind that it takes (SQLSTATE 22, data exception).
            Err(sqlx::Error::Database(why)) if why.code().is_some_and(|code| code.starts_with("22")) => Vec::new(),
            Err(why) => return Err(why.into()),
        };
        transaction.rollback().await.map_err(NoRows::from)?;
        Ok(rows.iter().filter_map(|row| row.try_get::<String, _>(0).ok().map(String::into_bytes)).collect())
    }
}

async fn sqlite(pool: &SqlitePool, statement: &str, parameter: &str) -> Result<Vec<SqliteRow>, NoRows> {
    Ok(sqlx::query(statement).bind(parameter).persistent(false).fetch_all(pool).await?)
}

/// As [`Lookup::ask`] tells rows. A column of bytes is written as PostgreSQL writes one.
fn object(row: &SqliteRow) -> Vec<u8> {
    let columns = row.columns().iter().map(|column| {
        let at = column.ordinal();
        let kind = row
            .try_get_raw(at)
            .map(|value| if value.is_null() { String::new() } else { value.type_info().name().to_owned() });
        let value = match kind.as_deref() {
            Ok("INTEGER") => row.try_get_unchecked::<i64, _>(at).map(Value::from),
            Ok("REAL") => row.try_get_unchecked::<f64, _>(at).map(Value::from),
            Ok("TEXT") => row.try_get_unchecked::<String, _>(at).map(Value::from),
            Ok("BLOB") => {
                let hex = |octets: Vec<u8>| {
                    octets.iter().fold("\\x".to_owned(), |text, octet| text + &format!("{octet:02x}"))
                };
                row.try_get_unchecked::<Vec<u8>, _>(at).map(|octets| Value::from(hex(octets)))
            }
            _ => Ok(Value::Null),
        };
        // Text of another encoding is of no type that a caller may have: so the row is not used.
        (column.name().to_owned(), value.unwrap_or_else(|_| Value::Array(Vec::new())))
    });
    Value::Object(columns.collect::<Map<_, _>>()).to_string().into_bytes()
}

impl From<sqlx::Error> for NoRows {
    fn from(why: sqlx::Error) -> Self {
        let sqlx::Error::Database(said) = &why else {
            // Drivers repeat no address here: they have parsed it.
            return Self::Unreachable(why.to_string());
        };
        let code = said.code().unwrap_or_default();
        // PostgreSQL: syntax error or access rule violation, not supported, invalid transaction state (a write); SQLite: SQLITE_ERROR, SQLITE_READONLY.
        let statement = code.len() == 5 && ["42", "0A", "25"].contains(&&code[..2]) || code == "1" || code == "8";
        if statement { Self::Query(said.message().to_owned()) } else { Self::Unreachable(said.message().to_owned()) }
    }
}
