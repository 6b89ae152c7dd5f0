//! What an operation token is: who may do what, with which transaction, until when.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::{
    fault::{Fault, Place},
    model::{self, IssuedFor, UsedFor},
    secret::SecretRef,
};
use http::{HeaderName, HeaderValue};
use prometheus::IntCounter;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    contract::Services,
    json::{self, Json, Number},
    replay::{ReplayId, ReplayStore},
    signing::{Jws, SharedKey, Signer, of_service, random_id},
};

/// One `[operation_tokens.NAME]`, compiled. Shared by the routes that give tokens out and the one that takes them.
pub struct OperationTokens {
    /// `operation_tokens.NAME`
    name: String,
    jws: Jws,
    /// The route that takes them.
    route: String,
    lifetime_ms: u64,
    header: HeaderName,
    issued_for: Option<IssuedFor>,
    used_for: Option<UsedFor>,
    replays: ReplayStore,
    issued: IntCounter,
    unissued: IntCounter,
    used: IntCounter,
    missing: IntCounter,
    invalid: IntCounter,
    replayed: IntCounter,
}

const MIN_KEY: usize = 32;
const TYP: &str = "gapura-operation+jwt";

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    /// The route that takes it.
    route: &'a str,
    /// SHA-256 of the transaction.
    txn: &'a str,
    /// In milliseconds: a token of a second must not last two.
    exp_ms: u64,
    jti: &'a str,
}

/// What a request holds a token to.
pub(super) struct Terms<'a> {
    pub(super) user_id: &'a str,
    pub(super) transaction: &'a str,
    pub(super) now_ms: u64,
}

/// A token that is good, and under which name it is remembered once it is used.
pub(super) struct Spent {
    pub(super) id: ReplayId,
    pub(super) until_ms: u64,
}

impl OperationTokens {
    pub(super) fn build(
        name: &str,
        config: &model::OperationToken,
        route: &str,
        services: &Services,
    ) -> Result<Self, Fault> {
        let place = Place::root().key("operation_tokens").key(name);
        let at = place.key("key");
        let key = signing_key(&config.key, &format!("operation_tokens.{name}"), services)
            .map_err(|(why, help)| Fault::at(at, why).help(help))?;
        let header = config.header.parse().map_err(|_| {
            Fault::at(place.key("header"), "this is not a header name").help("write \"X-Operation-Token\"")
        })?;
        let name = format!("operation_tokens.{name}");
        let result = |result: &str| services.metrics.operation_tokens.with_label_values(&[&name, result]);
        Ok(Self {
            jws: Jws::new(key, TYP),
            route: route.to_owned(),
            lifetime_ms: u64::try_from(config.lifetime.get().as_millis()).unwrap_or(u64::MAX),
            header,
            issued_for: config.issued_for.clone(),
            used_for: config.used_for.clone(),
            replays: services.replays.clone(),
            issued: result("issued"),
            unissued: result("unissued"),
            used: result("used"),
            missing: result("missing"),
            invalid: result("invalid"),
            replayed: result("replayed"),
            name,
        })
    }

    /// Why none could be made is for the log.
    pub(super) async fn issue(&self, user_id: &str, transaction: &str, now_ms: u64) -> Result<HeaderValue, String> {
        let jti = random_id();
        let exp_ms = now_ms.saturating_add(self.lifetime_ms);
        let claims = Claims { sub: user_id, route: &self.route, txn: &hash(transaction), exp_ms, jti: &jti };
        let token = self.jws.sign(&claims).await;
        let token = token.and_then(|token| HeaderValue::try_from(token).map_err(|why| why.to_string()));
        if token.is_ok() {
            self.issued.inc()
        } else {
            self.unissued.inc()
        }
        token
    }

    /// Whether a token is good for this request; the outer error is one of the key, the inner one says what is wrong.
    pub(super) async fn check(&self, token: &str, terms: Terms<'_>) -> Result<Result<Spent, &'static str>, String> {
        if token.len() > MAX_TOKEN {
            return Ok(Err("the operation token is too long"));
        }
        let Some(claims) = self.jws.verify(token).await? else {
            return Ok(Err("the operation token was never given out for this"));
        };
        Ok(self.read(&claims, &terms))
    }

    fn read(&self, claims: &[u8], terms: &Terms<'_>) -> Result<Spent, &'static str> {
        let claims = json::parse_object(claims).map_err(|_| "the operation token cannot be read")?;
        let text = |name: &str| claims.get(name).and_then(Json::as_str).ok_or("the operation token lacks a claim");
        let Some(Json::Number(Number::Unsigned(until_ms))) = claims.get("exp_ms") else {
            return Err("the operation token has no end");
        };
        if *until_ms <= terms.now_ms {
            return Err("the operation token has ended");
        }
        if text("sub")? != terms.user_id {
            return Err("the operation token is another caller's");
        }
        if text("route")? != self.route {
            return Err("the operation token is for another route");
        }
        if !bool::from(text("txn")?.as_bytes().ct_eq(hash(terms.transaction).as_bytes())) {
            return Err("the operation token is for another transaction");
        }
        let mut digest = Sha256::new();
        digest.update(&self.name);
        digest.update(b"\0");
        digest.update(text("jti")?);
        let mut id = ReplayId::default();
        id.copy_from_slice(&digest.finalize()[..16]);
        Ok(Spent { id, until_ms: *until_ms })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
    pub fn header(&self) -> &HeaderName {
        &self.header
    }
    pub(super) fn issued_for(&self) -> Option<&IssuedFor> {
        self.issued_for.as_ref()
    }
    pub(super) fn used_for(&self) -> Option<&UsedFor> {
        self.used_for.as_ref()
    }
    pub(super) fn replays(&self) -> &ReplayStore {
        &self.replays
    }
    pub(super) fn unissued(&self) {
        self.unissued.inc();
    }
    pub(super) fn used(&self) {
        self.used.inc();
    }
    pub(super) fn missing(&self) {
        self.missing.inc();
    }
    pub(super) fn invalid(&self) {
        self.invalid.inc();
    }
    pub(super) fn replayed(&self) {
        self.replayed.inc();
    }

    /// `operation_tokens.payment in x-operation-token, 900s`
    pub(super) fn explain(&self) -> String {
        format!("{} in {}, {}s", self.name, self.header, self.lifetime_ms / 1000)
    }
}

/// What is wrong with it, and what to do.
type Unfit = (String, &'static str);

/// A secret of this process, or a key pair that a key service keeps: then tokens are verified here all the same.
fn signing_key(reference: &SecretRef, purpose: &str, services: &Services) -> Result<Arc<dyn Signer>, Unfit> {
    const HELP: &str = "set the variable or name a readable file that holds the key";
    if let Some(found) = of_service(&services.keys, reference) {
        return found.map_err(|why| (why, "name a key of ECC_NIST_P256 or RSA_2048 to RSA_4096, for SIGN_VERIFY"));
    }
    let key = services.keys.read(reference).map_err(|why| (why, HELP))?;
    if key.bytes().len() < MIN_KEY {
        return Err((format!("`{reference}` has fewer than {MIN_KEY} bytes"), "`openssl rand -hex 32` makes one"));
    }
    Ok(Arc::new(SharedKey::new(key.bytes(), purpose)))
}

/// Ours have some 400 bytes, and a user id may have 256 more.
const MAX_TOKEN: usize = 2048;
/// Of a transaction in a response.
const MAX_TRANSACTION: usize = 1024;

/// A transaction may be of any length, and is nothing that a token should show.
fn hash(transaction: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(transaction))
}

/// The text or the whole number at a pointer (RFC 6901) into a JSON body.
pub(super) fn pointed_at(body: &[u8], pointer: &str) -> Option<String> {
    let value = json::parse(body).ok()?;
    let mut segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    let found = segments.try_fold(&value, |value, segment| match value {
        Json::Object(object) => object.get(&segment),
        Json::Array(items) => {
            let canonical = segment == "0" || !segment.starts_with('0') && segment.bytes().all(|b| b.is_ascii_digit());
            items.get(segment.parse::<usize>().ok().filter(|_| canonical)?)
        }
        _ => None,
    })?;
    let text = match found {
        Json::String(text) => text.to_string(),
        Json::Number(Number::Unsigned(number)) => number.to_string(),
        Json::Number(Number::Negative(number)) => number.to_string(),
        _ => return None,
    };
    (text.len() <= MAX_TRANSACTION).then_some(text)
}
