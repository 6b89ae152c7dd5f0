//! Tokens of the gateway's own: compact JWS (RFC 7515), and the keys that sign them.
//!
//! A key may be elsewhere (a service that signs and never shows it), so signing is asked for and waited for; with a key in this
//! process there is nothing to wait for.

mod local;
mod service;

use std::{future::Future, pin::Pin, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

pub use self::{
    local::{LocalKey, MAX_KEY, SharedKey},
    service::of_service,
};

/// What a key says when it is asked; why it cannot, for the log.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// A key that signs and verifies, wherever it is.
pub trait Signer: Send + Sync {
    /// As RFC 7518 names it.
    fn algorithm(&self) -> &'static str;
    /// Names the key to verifiers; the same as long as the key is.
    fn kid(&self) -> &str;
    /// The public part for verifiers, as one JSON object (RFC 7517). None: there is none.
    fn public_jwk(&self) -> Option<&str>;
    fn sign<'a>(&'a self, message: &'a [u8]) -> Answer<'a, Vec<u8>>;
    /// Whether the signature is of this key. What cannot be one is none.
    fn verify<'a>(&'a self, message: &'a [u8], signature: &'a [u8]) -> Answer<'a, bool>;
}

/// A key, and the header that all its tokens of one kind have, encoded once.
#[derive(Clone)]
pub struct Jws {
    key: Arc<dyn Signer>,
    header: String,
}

impl Jws {
    /// `typ` tells tokens of one kind from those of any other (RFC 8725, section 3.11).
    pub fn new(key: Arc<dyn Signer>, typ: &str) -> Self {
        let header = serde_json::json!({"alg": key.algorithm(), "kid": key.kid(), "typ": typ}).to_string();
        Self { header: URL_SAFE_NO_PAD.encode(header), key }
    }

    pub fn key(&self) -> &Arc<dyn Signer> {
        &self.key
    }

    pub async fn sign(&self, claims: &impl serde::Serialize) -> Result<String, String> {
        let claims = serde_json::to_vec(claims).map_err(|why| why.to_string())?;
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 100);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.sign(token.as_bytes()).await?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// The claims of a token that [`Self::sign`] made. Its header must be ours, byte for byte: nothing in a token says how it
    /// is to be verified.
    pub async fn verify(&self, token: &str) -> Result<Option<Vec<u8>>, String> {
        let Some((signed, signature)) = token.rsplit_once('.') else { return Ok(None) };
        let Some(claims) = signed.strip_prefix(&*self.header).and_then(|rest| rest.strip_prefix('.')) else {
            return Ok(None);
        };
        let (Ok(signature), Ok(claims)) = (URL_SAFE_NO_PAD.decode(signature), URL_SAFE_NO_PAD.decode(claims)) else {
            return Ok(None);
        };
        Ok(self.key.verify(signed.as_bytes(), &signature).await?.then_some(claims))
    }
}

/// 128 random bits, as a token's id.
pub fn random_id() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())
}
