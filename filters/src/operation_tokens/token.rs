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
    contract::{KeyReader, Lease, Services, advice},
    json::{self, Json, Number},
    leases::over_text,
    replay::{ReplayId, ReplayStore},
    signing::{Jws, LocalKey, SharedKey, Signer, of_service, random_id},
};

/// One `[operation_tokens.NAME]`, compiled. Shared by the routes that give tokens out and the one that takes them.
pub struct OperationTokens {
    /// `operation_tokens.NAME`
    name: String,
    /// The first signs; what any of them has signed is taken.
    keys: Vec<Jws>,
    /// What they are held on, where a key service lent them.
    leases: Box<[Arc<dyn Lease>]>,
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
    /// The table: several may share a key pair.
    aud: &'a str,
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
    ) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("operation_tokens").key(name);
        let header = config.header.parse().map_err(|_| {
            vec![Fault::at(place.key("header"), "this is not a header name").help("write \"X-Operation-Token\"")]
        })?;
        let name = format!("operation_tokens.{name}");
        let reader = services.keys.anew();
        let keys = keys(&place, config, (&name, &reader))?;
        let result = |result: &str| services.metrics.operation_tokens.with_label_values(&[&name, result]);
        Ok(Self {
            keys,
            leases: reader.leases().into(),
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
        let claims =
            Claims { aud: &self.name, sub: user_id, route: &self.route, txn: &hash(transaction), exp_ms, jti: &jti };
        // The upstream may have answered long after the request came.
        let over = self.leases.iter().find(|lease| lease.is_over());
        let token = match (over, self.keys.first()) {
            (Some(over), _) => Err(over_text(over.name())),
            (None, Some(key)) => key.sign(&claims).await,
            (None, None) => Err("there is no key".to_owned()),
        };
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
        let Some(claims) = self.signed(token).await? else {
            return Ok(Err("the operation token was never given out for this"));
        };
        Ok(self.read(&claims, &terms))
    }

    /// The claims, if one of the keys has signed them. That a key cannot be asked says nothing about the others.
    async fn signed(&self, token: &str) -> Result<Option<Vec<u8>>, String> {
        let mut said = Ok(None);
        for key in &self.keys {
            match key.verify(token).await {
                Ok(None) => {}
                Ok(claims) => return Ok(claims),
                Err(why) => said = Err(why),
            }
        }
        said
    }

    fn read(&self, claims: &[u8], terms: &Terms<'_>) -> Result<Spent, &'static str> {
        let claims = json::parse_object(claims).map_err(|_| "the operation token cannot be read")?;
        let text = |name: &str| claims.get(name).and_then(Json::as_str).ok_or("the operation token lacks a claim");
        let Some(Json::Number(Number::Unsigned(until_ms))) = claims.get("exp_ms") else {
            return Err("the operation token has no end");
        };
        if text("aud")? != self.name {
            return Err("the operation token is of another table");
        }
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
    pub fn leases(&self) -> &[Arc<dyn Lease>] {
        &self.leases
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

    /// `operation_tokens.payment in x-operation-token, 900s, ES256 (HS256 is taken, too)`
    pub(super) fn explain(&self) -> String {
        let algorithms: Vec<_> = self.keys.iter().map(|key| key.key().algorithm()).collect();
        let (first, others) = algorithms.split_first().unwrap_or((&"", &[]));
        let others = if others.is_empty() { String::new() } else { format!(" (taken, too: {})", others.join(", ")) };
        format!("{} in {}, {}s, {first}{others}", self.name, self.header, self.lifetime_ms / 1000)
    }
}

fn keys(
    table: &Place,
    config: &model::OperationToken,
    (name, reader): (&str, &KeyReader),
) -> Result<Vec<Jws>, Vec<Fault>> {
    let one = config.key.iter().map(|reference| (table.key("key"), reference));
    let several = config.keys.iter().enumerate().map(|(i, reference)| (table.key("keys").index(i), reference));
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for (place, reference) in one.chain(several) {
        match signer(place, reference, (name, reader)) {
            Ok(key) => keys.push(Jws::new(key, TYP)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

/// A private key in PEM says itself how it signs (text may stand before it: RFC 7468, section 2); anything else is a secret. What a key
/// of a service signs is verified here all the same.
fn signer(place: Place, reference: &SecretRef, (name, reader): (&str, &KeyReader)) -> Result<Arc<dyn Signer>, Fault> {
    if let Some(found) = of_service(reader, reference) {
        let help = "name a key of ECC_NIST_P256 or RSA_2048 to RSA_4096, for SIGN_VERIFY";
        return found.map_err(|why| {
            let help = advice(reference, &why, help);
            Fault::at(place, why).help(help)
        });
    }
    let key = reader.read(reference).map_err(|why| {
        let help = advice(reference, &why, "set the variable or name a readable file that holds the key");
        Fault::at(place.clone(), why).help(help)
    })?;
    const PEM: &[u8] = b"-----BEGIN ";
    if key.bytes().windows(PEM.len()).any(|part| part == PEM) {
        return match LocalKey::from_pem(key.bytes()) {
            Ok(key) => Ok(Arc::new(key)),
            Err(why) => Err(Fault::at(place, format!("`{reference}` cannot sign: {why}")).help(KEY_HELP)),
        };
    }
    if key.bytes().len() < MIN_KEY {
        let fault = Fault::at(place, format!("`{reference}` has fewer than {MIN_KEY} bytes"));
        return Err(fault.help("`openssl rand -hex 32` makes one"));
    }
    Ok(Arc::new(SharedKey::new(key.bytes(), name)))
}

const KEY_HELP: &str = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one";

/// With HS256 some 450 bytes, with RSA of 8192 bits 1400 more; and a user id may have 256.
const MAX_TOKEN: usize = 4096;
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
