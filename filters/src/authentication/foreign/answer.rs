//! What a backend's answer says: whose the key is, and until when.

use std::sync::Arc;

use gapura_config::model;

use super::hash::Hashing;
use crate::{
    authentication::{
        api_keys::{Digest, Record},
        jwt::{ClaimPath, names},
    },
    contract::{Principal, UserId},
    instant,
    json::{self, Json, Number, Object},
};

/// Of one key. A part of a key that finds more rows names nobody.
pub const MAX_ROWS: usize = 16;
/// A row is a caller.
const MAX_ROW: usize = 64 * 1024;

/// What an answer comes to.
pub(super) enum Verdict {
    /// Revoked and expired ones, too.
    Found(Record),
    Unknown,
    /// The backend has it, but as a caller it cannot be taken: why, for the log.
    Unusable(String),
}

/// Rows of a lookup, each a JSON object of its columns. An error: this is no answer.
pub(super) fn of_rows(
    (method, digest): (&Arc<str>, Digest),
    hashing: &Hashing,
    key: &str,
    rows: &[Vec<u8>],
) -> Result<Verdict, String> {
    // None of this is an outage: whoever knows such a part of a key must not be able to feign one.
    if rows.len() > MAX_ROWS {
        return Ok(Verdict::Unusable(format!("more than {MAX_ROWS} rows are found for one key")));
    }
    if rows.iter().any(|row| row.len() > MAX_ROW) {
        return Ok(Verdict::Unusable(format!("a row has more than {MAX_ROW} bytes")));
    }
    let mut found = None;
    for row in rows {
        let row = json::parse_object(row).map_err(|why| format!("a row cannot be read: {why}"))?;
        // All of them are compared, whichever fits.
        match hashing.fits(key, present(&row, "hash"), present(&row, "salt")) {
            Ok(false) => {}
            Ok(true) if found.is_some() => return Ok(Verdict::Unusable("two rows are of one key".into())),
            Ok(true) => found = Some(record(method, digest, &row)),
            Err(why) => return Ok(Verdict::Unusable(format!("of a row {why}"))),
        }
    }
    Ok(match found {
        None => Verdict::Unknown,
        Some(Ok(record)) => Verdict::Found(record),
        Some(Err(why)) => Verdict::Unusable(why),
    })
}

fn record(method: &Arc<str>, digest: Digest, row: &Object<'_>) -> Result<Record, String> {
    let id = present(row, "id").and_then(text).ok_or("the row's `id` is missing, or no text or whole number")?;
    let user_id = present(row, "user_id").and_then(user_id);
    let principal = Principal {
        method: Arc::clone(method),
        user_id: user_id.ok_or("the row's `user_id` is missing, or no text or whole number")?,
        email: match present(row, "email") {
            None => None,
            Some(Json::String(email)) if email.is_empty() => None,
            Some(Json::String(email)) => Some(email.to_string()),
            Some(_) => return Err("the row's `email` is no text".into()),
        },
        roles: list(present(row, "roles")).ok_or("the row's `roles` are no list of names")?,
        permissions: list(present(row, "permissions")).ok_or("the row's `permissions` are no list of names")?,
        api_key: Some(id.into()),
        token_id: None,
        limits: Default::default(),
        claims: Default::default(),
    };
    let principal = principal.checked().map_err(|unfit| format!("the row's {unfit}"))?;
    let active = match row.get("active") {
        None => true,
        Some(Json::Bool(active)) => *active,
        Some(Json::Number(Number::Unsigned(number))) => *number == 1,
        // Not known to be active.
        Some(Json::Null) => false,
        Some(_) => return Err("the row's `active` is neither true nor false".into()),
    };
    let expires = match present(row, "expires") {
        None => None,
        Some(when) => Some(end(when).ok_or("the row's `expires` is no instant")?),
    };
    Ok(Record::held(digest, principal, expires, None, !active))
}

fn present<'o>(row: &'o Object<'o>, name: &str) -> Option<&'o Json<'o>> {
    row.get(name).filter(|value| **value != Json::Null)
}

fn text(value: &Json<'_>) -> Option<String> {
    user_id(value).map(|id| id.as_str().to_owned()).filter(|text| !text.is_empty() && text.len() <= 256)
}

fn user_id(value: &Json<'_>) -> Option<UserId> {
    match value {
        Json::String(text) => Some(UserId::string(text.as_ref())),
        Json::Number(Number::Unsigned(number)) => Some(UserId::number(number)),
        Json::Number(Number::Negative(number)) => Some(UserId::number(number)),
        _ => None,
    }
}

/// A list; or a text: a JSON list, or names between commas or blanks.
fn list(value: Option<&Json<'_>>) -> Option<Vec<String>> {
    match value {
        Some(Json::String(text)) if text.starts_with('[') => match json::parse(text.as_bytes()).ok()? {
            list @ Json::Array(_) => names(Some(&list)),
            _ => None,
        },
        Some(Json::String(text)) => {
            Some(text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect())
        }
        other => names(other),
    }
}

/// Milliseconds since 1970, of seconds, or of a date and time, in UTC where it has no offset.
fn end(value: &Json<'_>) -> Option<i64> {
    /// The year 9999: beyond it stand milliseconds written for seconds.
    const LAST: f64 = 253_402_300_799.0;
    match value {
        Json::Number(number) => {
            let seconds = number.to_f64();
            (0.0..=LAST).contains(&seconds).then_some((seconds * 1000.0) as i64)
        }
        Json::String(text) => {
            // ISO 8601 as databases write it: `2027-01-01 00:00:00.123+00`, of which TOML wants the minutes of the offset.
            let short = text.len() > 3 && matches!(text.as_bytes()[text.len() - 3], b'+' | b'-') && text.contains(':');
            let text = if short { format!("{text}:00") } else { text.to_string() };
            let with = |text: &str| text.parse().ok().as_ref().and_then(instant::unix_ms);
            with(&text).or_else(|| with(&format!("{text}Z")))
        }
        _ => None,
    }
}

/// Where an answer of an endpoint has the identity.
#[derive(PartialEq, Eq)]
pub(super) struct Paths {
    id: ClaimPath,
    user_id: ClaimPath,
    email: ClaimPath,
    roles: ClaimPath,
    permissions: ClaimPath,
}

impl Paths {
    /// Or the key that is wrong, and why.
    pub(super) fn compile(claims: &model::IntrospectionClaims) -> Result<Self, (&'static str, &'static str)> {
        let path = |name, text: &str| ClaimPath::parse(text).map_err(|why| (name, why));
        Ok(Self {
            id: path("id", &claims.id)?,
            user_id: path("user_id", &claims.user_id)?,
            email: path("email", &claims.email)?,
            roles: path("roles", &claims.roles)?,
            permissions: path("permissions", &claims.permissions)?,
        })
    }

    /// RFC 7662, section 2.2. An error: this is no answer.
    pub(super) fn read(&self, method: &Arc<str>, digest: Digest, answer: &[u8]) -> Result<Verdict, String> {
        let answer = json::parse_object(answer).map_err(|why| format!("the answer cannot be read: {why}"))?;
        match answer.get("active") {
            Some(Json::Bool(true)) => {}
            Some(Json::Bool(false)) => return Ok(Verdict::Unknown),
            _ => return Err("the answer says neither `active: true` nor `active: false`".into()),
        }
        Ok(self.record(method, digest, &answer).map_or_else(Verdict::Unusable, Verdict::Found))
    }

    fn record(&self, method: &Arc<str>, digest: Digest, answer: &Object<'_>) -> Result<Record, String> {
        let principal = Principal {
            method: Arc::clone(method),
            user_id: self.user_id.find(answer).and_then(user_id).ok_or("the answer has no user id")?,
            email: match self.email.find(answer) {
                None | Some(Json::Null) => None,
                Some(Json::String(email)) => Some(email.to_string()),
                Some(_) => return Err("the answer's email is no text".into()),
            },
            roles: names(self.roles.find(answer)).ok_or("the answer's roles are no list of names")?,
            permissions: names(self.permissions.find(answer)).ok_or("the answer's permissions are no list of names")?,
            api_key: Some(self.id.find(answer).and_then(text).ok_or("the answer has no id of the key")?.into()),
            token_id: None,
            limits: Default::default(),
            claims: Default::default(),
        };
        let principal = principal.checked().map_err(|unfit| format!("the answer's {unfit}"))?;
        let expires = match answer.get("exp") {
            None | Some(Json::Null) => None,
            Some(when @ Json::Number(_)) => Some(end(when).ok_or("the answer's `exp` is no instant")?),
            Some(_) => return Err("the answer's `exp` is no number".into()),
        };
        Ok(Record::held(digest, principal, expires, None, false))
    }
}
