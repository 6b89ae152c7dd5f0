//! What a verified token says: until when it holds, for whom it is, and who calls.

use std::{sync::Arc, time::Duration};

use gapura_config::model;

use super::token::decode;
use crate::{
    authentication::Reason,
    contract::{Claim, Claims, Confirmation, Principal, UserId},
    json::{Json, Number, Object},
};

/// Where a claim stands in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimPath {
    /// A member of this whole name, else, where the name has dots, the way through nested objects: `realm_access.roles`.
    /// The whole name comes first, since namespaced claims are URLs: `https://example.com/roles`.
    Name(String),
    /// RFC 6901: `/resource_access/app/roles`.
    Pointer(Vec<String>),
}

/// The paths of one method.
#[derive(Debug, Clone)]
pub(super) struct ClaimPaths {
    pub(super) user_id: ClaimPath,
    pub(super) email: ClaimPath,
    pub(super) roles: ClaimPath,
    pub(super) permissions: ClaimPath,
    /// What guards ask for, under the names by which they do.
    pub(super) kept: Vec<(String, ClaimPath)>,
}

impl ClaimPath {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("the name of a claim is empty");
        }
        let Some(pointer) = text.strip_prefix('/') else { return Ok(Self::Name(text.to_owned())) };
        let segments = pointer.split('/').map(|segment| {
            let escaped = segment.replace("~0", "").replace("~1", "");
            if escaped.contains('~') {
                Err("`~` in a JSON pointer is written `~0`")
            } else {
                Ok(segment.replace("~1", "/").replace("~0", "~"))
            }
        });
        segments.collect::<Result<_, _>>().map(Self::Pointer)
    }

    fn find<'c>(&self, claims: &'c Object<'c>) -> Option<&'c Json<'c>> {
        match self {
            Self::Name(name) => claims.get(name).or_else(|| {
                let mut segments = name.split('.');
                let first = claims.get(segments.next()?)?;
                segments.try_fold(first, |value, segment| value.as_object()?.get(segment))
            }),
            Self::Pointer(segments) => {
                let (first, rest) = segments.split_first()?;
                rest.iter().try_fold(claims.get(first)?, |value, segment| match value {
                    Json::Object(object) => object.get(segment),
                    Json::Array(items) => items.get(index(segment)?),
                    _ => None,
                })
            }
        }
    }
}

/// RFC 6901, section 4: digits without a leading zero.
fn index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || !segment.starts_with('0');
    if canonical && segment.bytes().all(|b| b.is_ascii_digit()) { segment.parse().ok() } else { None }
}

/// The end of the year 9999. Beyond it stand milliseconds written for seconds, which would never expire.
const LAST_DATE: f64 = 253_402_300_799.0;

/// RFC 7519, section 2, NumericDate: seconds since 1970, fractions allowed. In milliseconds.
fn date(claims: &Object<'_>, name: &'static str) -> Result<Option<i64>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match value.as_number().map(Number::to_f64) {
        // Within the bounds the product is exact enough and far from the ends of i64.
        Some(seconds) if (0.0..=LAST_DATE).contains(&seconds) => Ok(Some((seconds * 1000.0) as i64)),
        _ => Err(format!("the token's `{name}` is no date in seconds").into()),
    }
}

/// While a token holds, leeway included: from the first instant to before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::authentication) struct Window {
    pub(in crate::authentication) from_ms: i64,
    pub(in crate::authentication) until_ms: i64,
}

impl Window {
    pub(super) fn contains(self, now_ms: u64) -> bool {
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.from_ms <= now && now < self.until_ms
    }
}

/// RFC 7519, sections 4.1.4 to 4.1.6. `exp` is required: a token for ever cannot be taken back.
pub(super) fn check_dates(
    claims: &Object<'_>,
    now_ms: u64,
    leeway: Duration,
    max_age: Option<Duration>,
) -> Result<Window, Reason> {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let leeway_ms = i64::try_from(leeway.as_millis()).unwrap_or(i64::MAX);
    let expires = date(claims, "exp")?.ok_or("the token has no `exp`")?;
    let mut window = Window { from_ms: i64::MIN, until_ms: expires.saturating_add(leeway_ms) };
    if now >= window.until_ms {
        return Err(format!("the token expired {} s ago", now.saturating_sub(expires) / 1000).into());
    }
    for (name, reason) in [("nbf", "the token is not valid yet"), ("iat", "the token was issued in the future")] {
        let Some(date) = date(claims, name)? else { continue };
        if date > now.saturating_add(leeway_ms) {
            return Err(reason.into());
        }
        window.from_ms = window.from_ms.max(date.saturating_sub(leeway_ms));
    }
    if let Some(max_age) = max_age {
        // The issuer's word on how long a token lasts is not ours: a stolen one with a far `exp` ends here.
        let issued = date(claims, "iat")?.ok_or("the token has no `iat`, and its age is limited")?;
        let max_age_ms = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        let until = issued.saturating_add(max_age_ms).saturating_add(leeway_ms);
        window.until_ms = window.until_ms.min(until);
        if now >= until {
            return Err(format!("the token was issued {} s ago", now.saturating_sub(issued) / 1000).into());
        }
    }
    Ok(window)
}

/// The exact `iss`, where there is one.
pub(in crate::authentication) fn issuer<'c>(claims: &'c Object<'_>) -> Result<Option<&'c str>, Reason> {
    match claims.get("iss") {
        None => Ok(None),
        Some(Json::String(issuer)) => Ok(Some(issuer)),
        Some(_) => Err("the token's `iss` is no string".into()),
    }
}

/// When it was issued, in milliseconds since 1970.
pub(super) fn issued(claims: &Object<'_>) -> Result<Option<i64>, Reason> {
    date(claims, "iat")
}

/// RFC 7519, section 4.1.7. Another type could not be told from a revoked one.
pub(super) fn jti<'c>(claims: &'c Object<'_>) -> Result<Option<&'c str>, Reason> {
    match claims.get("jti") {
        None => Ok(None),
        Some(Json::String(jti)) => Ok(Some(jti)),
        Some(_) => Err("the token's `jti` is no string".into()),
    }
}

/// RFC 7519, section 4.1.3: one string or a list. Where no audience is configured, any token passes.
pub(super) fn check_audience(claims: &Object<'_>, accepted: &[String]) -> Result<(), Reason> {
    if accepted.is_empty() {
        return Ok(());
    }
    let ours = |audience: &str| accepted.iter().any(|a| a == audience);
    let fits = match claims.get("aud") {
        None => return Err("the token has no `aud`".into()),
        Some(Json::String(audience)) => ours(audience),
        Some(Json::Array(list)) => {
            let list = list.iter().map(Json::as_str).collect::<Option<Vec<_>>>();
            list.ok_or("the token's `aud` is no list of strings")?.into_iter().any(ours)
        }
        Some(_) => return Err("the token's `aud` is neither a string nor a list".into()),
    };
    if fits { Ok(()) } else { Err("the token is for another audience".into()) }
}

/// A claim that must be there, with this value or with any.
#[derive(Debug, Clone)]
pub(super) struct Required {
    name: String,
    path: ClaimPath,
    value: Option<String>,
}

impl Required {
    pub(super) fn parse(name: &str, value: &str) -> Result<Self, &'static str> {
        let value = (value != "*").then(|| value.to_owned());
        Ok(Self { name: name.to_owned(), path: ClaimPath::parse(name)?, value })
    }

    pub(super) fn check(&self, claims: &Object<'_>) -> Result<(), Reason> {
        match (self.path.find(claims), &self.value) {
            (None | Some(Json::Null), _) => Err(format!("the token has no claim `{}`", self.name).into()),
            (Some(_), None) => Ok(()),
            (Some(Json::Array(items)), Some(wanted)) if items.iter().any(|item| is_text(item, wanted)) => Ok(()),
            (Some(claim), Some(wanted)) if is_text(claim, wanted) => Ok(()),
            _ => Err(format!("the token's claim `{}` has not the required value", self.name).into()),
        }
    }

    /// `tenant = "acme"`
    pub(super) fn explain(&self) -> String {
        format!("{} = {:?}", self.name, self.value.as_deref().unwrap_or("*"))
    }
}

/// Whether a single value is this text, as JSON writes it. A fraction has more than one spelling, so it is never equal.
fn is_text(value: &Json<'_>, wanted: &str) -> bool {
    match value {
        Json::String(text) => text == wanted,
        Json::Bool(truth) => wanted == if *truth { "true" } else { "false" },
        Json::Number(Number::Unsigned(number)) => number.to_string() == wanted,
        Json::Number(Number::Negative(number)) => number.to_string() == wanted,
        _ => false,
    }
}

impl ClaimPaths {
    pub(super) fn user_id(&self, claims: &Object<'_>) -> Option<UserId> {
        match self.user_id.find(claims)? {
            Json::String(text) => Some(UserId::string(text.as_ref())),
            Json::Number(Number::Unsigned(number)) => Some(UserId::number(number)),
            Json::Number(Number::Negative(number)) => Some(UserId::number(number)),
            // A fraction, or more digits than 64 bits hold: rounding would make two users one.
            _ => None,
        }
    }

    pub(super) fn principal(&self, method: &Arc<str>, claims: &Object<'_>) -> Result<Principal, Reason> {
        if self.user_id.find(claims).is_none() {
            return Err("the token has no user id".into());
        }
        let user_id = self.user_id(claims).ok_or("the token's user id is neither a string nor a whole number")?;
        let email = match self.email.find(claims) {
            None => None,
            Some(Json::String(text)) => Some(text.to_string()),
            Some(_) => return Err("the token's email is no string".into()),
        };
        let principal = Principal {
            method: method.clone(),
            user_id,
            email,
            roles: names(self.roles.find(claims))
                .ok_or("the token's roles are neither a list of strings nor a string")?,
            permissions: names(self.permissions.find(claims))
                .ok_or("the token's permissions are neither a list of strings nor a string")?,
            api_key: None,
            // Of another type it is no id: only what was revoked by it would be refused for that.
            token_id: jti(claims).ok().flatten().map(str::to_owned),
            expires: date(claims, "exp").ok().flatten().and_then(|ms| u64::try_from(ms / 1000).ok()),
            limits: Default::default(),
            claims: (self.kept.iter())
                .filter_map(|(name, path)| Some((name.clone(), kept(path.find(claims)?)?)))
                .collect::<Claims>()
                .bound_to(confirmation(claims)?),
        };
        principal.checked().map_err(|unfit| format!("the token's {unfit}").into())
    }
}

/// RFC 7800: what the token is bound to. A way of binding that is not known cannot be checked, and a token that says it is bound
/// is never taken for one that is not.
fn confirmation(claims: &Object<'_>) -> Result<Confirmation, Reason> {
    let Some(bound) = claims.get("cnf") else { return Ok(Confirmation::default()) };
    let bound = bound.as_object().ok_or("the token's `cnf` is no object")?;
    let mut confirmation = Confirmation::default();
    for (member, value) in bound.iter() {
        let thumbprint = value.as_str().and_then(|text| decode(text.as_bytes())?.try_into().ok());
        let thumbprint = Some(thumbprint.ok_or("the token's `cnf` holds what is no SHA-256")?);
        match member {
            "x5t#S256" => confirmation.certificate = thumbprint,
            "jkt" => confirmation.key = thumbprint,
            _ => return Err("the token is bound in a way that cannot be checked (`cnf`)".into()),
        }
    }
    if confirmation == Confirmation::default() {
        return Err("the token's `cnf` is empty".into());
    }
    Ok(confirmation)
}

/// As guards compare it. None: an object, null, or a number that has more than one spelling.
fn kept(value: &Json<'_>) -> Option<Claim> {
    match value {
        Json::Bool(truth) => Some(Claim::Bool(*truth)),
        Json::Array(items) => items.iter().map(text).collect::<Option<_>>().map(Claim::List),
        single => text(single).map(Claim::Text),
    }
}

fn text(value: &Json<'_>) -> Option<String> {
    match value {
        Json::String(text) => Some(text.to_string()),
        Json::Number(Number::Unsigned(number)) => Some(number.to_string()),
        Json::Number(Number::Negative(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// A list of strings, or one string with blanks between the names, as `scope` has it (RFC 6749, section 3.3).
fn names(value: Option<&Json<'_>>) -> Option<Vec<String>> {
    match value {
        None => Some(Vec::new()),
        Some(Json::String(text)) => Some(text.split(' ').filter(|name| !name.is_empty()).map(str::to_owned).collect()),
        Some(Json::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    }
}

/// Every path, or what is wrong with which.
pub(super) fn compile(claims: &model::Claims) -> Result<ClaimPaths, Vec<(&'static str, &'static str)>> {
    let mut wrong = Vec::new();
    let mut path = |name, text: &str| {
        ClaimPath::parse(text).unwrap_or_else(|why| {
            wrong.push((name, why));
            ClaimPath::Pointer(Vec::new())
        })
    };
    let paths = ClaimPaths {
        user_id: path("user_id", &claims.user_id),
        email: path("email", &claims.email),
        roles: path("roles", &claims.roles),
        permissions: path("permissions", &claims.permissions),
        kept: Vec::new(),
    };
    if wrong.is_empty() { Ok(paths) } else { Err(wrong) }
}
