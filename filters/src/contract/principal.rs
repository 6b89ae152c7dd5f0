//! The authenticated caller. To hold one is the proof that authentication passed.

use std::{fmt, sync::Arc};

use super::{Claims, KeyLimits};

/// Who calls. Built only from verified credentials; every text in it is fit for a header value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The method that proved it: `jwt.users`, `api_keys.developers`.
    pub method: Arc<str>,
    pub user_id: UserId,
    pub email: Option<String>,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    /// The id of the API key, where one was used.
    pub api_key: Option<Arc<str>>,
    /// The `jti` of the token, where it has one: envelopes are bound to it.
    pub token_id: Option<String>,
    /// When the token ends, in seconds since 1970: no key given for it lives longer.
    pub expires: Option<u64>,
    /// Of an API key, in place of those of rate limits.
    pub limits: KeyLimits,
    /// Of a token, what guards ask for.
    pub claims: Claims,
}

/// A user id. `7` and `"7"` are one user; the JSON form only decides how an envelope writes it back.
#[derive(Debug, Clone)]
pub struct UserId {
    text: String,
    number: bool,
}

/// An identity value that cannot go into a header as it is. Which one, never its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfitIdentity(pub &'static str);

/// Longer than any name, and short enough that all lists together fit a backend's head limit.
const MAX_IDENTITY_VALUE: usize = 256;
const MAX_IDENTITY_LIST: usize = 256;

impl UserId {
    pub fn string(text: impl Into<String>) -> Self {
        Self { text: text.into(), number: false }
    }
    pub fn number(number: impl fmt::Display) -> Self {
        Self { text: number.to_string(), number: true }
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The token carried it as a JSON number.
    pub fn is_number(&self) -> bool {
        self.number
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for UserId {}

impl Principal {
    /// Refuses what would be read differently behind a header: control characters, a list item with a comma, outer blanks.
    pub fn checked(self) -> Result<Self, UnfitIdentity> {
        fit(self.user_id.as_str(), "user id")?;
        if let Some(email) = &self.email {
            fit(email, "email")?;
        }
        for (list, name) in [(&self.roles, "roles"), (&self.permissions, "permissions")] {
            if list.len() > MAX_IDENTITY_LIST {
                return Err(UnfitIdentity(name));
            }
            for item in list {
                fit(item, name)?;
                if item.contains(',') {
                    return Err(UnfitIdentity(name));
                }
            }
        }
        Ok(self)
    }
}

fn fit(value: &str, name: &'static str) -> Result<(), UnfitIdentity> {
    let clean = !value.is_empty()
        && value.len() <= MAX_IDENTITY_VALUE
        && value.trim().len() == value.len()
        && !value.chars().any(char::is_control);
    if clean { Ok(()) } else { Err(UnfitIdentity(name)) }
}

impl fmt::Display for UnfitIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds a value that no header can carry", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(user: &str, roles: &[&str]) -> Principal {
        Principal {
            method: "jwt.users".into(),
            user_id: UserId::string(user),
            email: None,
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            permissions: Vec::new(),
            api_key: None,
            token_id: None,
            expires: None,
            limits: Default::default(),
            claims: Default::default(),
        }
    }

    #[test]
    fn what_a_header_would_change_is_refused() {
        assert!(principal("u1", &["admin", "größe"]).checked().is_ok());
        for user in ["", " u1", "u1\n", "u\u{0}1", "u1\r\nX-User-Roles: admin"] {
            assert_eq!(principal(user, &[]).checked(), Err(UnfitIdentity("user id")), "{user:?}");
        }
        assert_eq!(principal("u1", &["reader,admin"]).checked(), Err(UnfitIdentity("roles")));
    }

    #[test]
    fn a_number_and_its_text_are_one_user() {
        assert_eq!(UserId::number(7), UserId::string("7"));
    }
}
