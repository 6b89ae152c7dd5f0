//! Tokens and API keys as their issuers make them.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::gateway::{API_KEY_SALT, JWT_SECRET};

pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The claims of a token, of which every one can be replaced or removed.
#[derive(Clone)]
pub struct Token(Value);

impl Token {
    pub fn new(user_id: impl Into<Value>) -> Self {
        let now = now_ms() / 1000;
        Self(json!({"sub": user_id.into(), "iat": now, "exp": now + 300}))
    }

    /// A caller with everything that routes of the tests may ask for.
    pub fn alice() -> Self {
        Self::new("u-1001")
            .with("email", "alice@example.com")
            .with("roles", json!(["admin", "clerk"]))
            .with("permissions", json!(["PAYMENT_PROCESS", "PAYMENT_READ"]))
    }

    #[must_use]
    pub fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.0[claim] = value.into();
        self
    }

    #[must_use]
    pub fn without(mut self, claim: &str) -> Self {
        self.0.as_object_mut().unwrap().remove(claim);
        self
    }

    /// Signed by HS256 with the tests' secret.
    pub fn sign(&self) -> String {
        self.sign_with(JWT_SECRET)
    }

    pub fn sign_with(&self, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &self.0, &key).unwrap()
    }

    /// The value of `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.sign())
    }
}

/// The `Authorization` of [`Token::alice`].
pub fn token() -> String {
    Token::alice().bearer()
}

/// What the configuration stores of an API key.
pub fn key_hash(key: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(API_KEY_SALT.as_bytes()).unwrap();
    mac.update(key.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
