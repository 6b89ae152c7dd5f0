//! Who calls, as a token that the gateway signs: an upstream that verifies it need not trust whoever can reach it.
//!
//! Each is for one request: its method, its target and its id stand in it, so one that leaks from an upstream's log says nothing
//! about any other request. A signature is therefore never used twice.

use std::sync::Arc;

use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    model::IdentityAssertion,
};
use http::{HeaderName, HeaderValue, request};
use prometheus::IntCounter;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    contract::{Code, Exchange, Filter, Principal, Refusal, Services, Stage, advice},
    signing::{Jws, LocalKey, Signer, of_service, random_id},
};

/// Where verifiers find the keys, on every public listener and on the admin one.
pub const KEYS_PATH: &str = "/.well-known/gapura/assertion-keys";
/// RFC 8725, section 3.11: no token of an issuer passes for one of these, and none of these for a token.
const TYP: &str = "gapura-assertion+jwt";

/// `[identity_assertion]`, compiled.
pub struct Assertions {
    jws: Jws,
    issuer: String,
    audience: Option<String>,
    lifetime: u64,
    header: HeaderName,
    /// The key set that is published (RFC 7517).
    keys: Bytes,
    signed: IntCounter,
    failed: IntCounter,
}

/// The assertions of one route.
pub struct Assertion {
    all: Arc<Assertions>,
    audience: String,
    route: Arc<str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    jti: &'a str,
    #[serde(flatten)]
    caller: Option<Caller<'a>>,
    route: &'a str,
    request_id: &'a str,
    /// Of the request, as the upstream gets it.
    htm: &'a str,
    /// base64url of SHA-256 of path and query.
    target_sha256: &'a str,
}

/// Absent on public routes: the request came through the gateway, and from anybody.
#[derive(Serialize)]
struct Caller<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    roles: &'a [String],
    permissions: &'a [String],
    auth_method: &'a str,
}

impl<'a> Caller<'a> {
    fn of(principal: &'a Principal) -> Self {
        Self {
            sub: principal.user_id.as_str(),
            email: principal.email.as_deref(),
            roles: &principal.roles,
            permissions: &principal.permissions,
            auth_method: &principal.method,
        }
    }
}

impl Assertions {
    pub fn build(config: &IdentityAssertion, services: &Services) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("identity_assertion");
        let (mut keys, mut faults) = (Vec::<Arc<dyn Signer>>::new(), Vec::new());
        for (i, reference) in config.keys.iter().enumerate() {
            let at = place.key("keys").index(i);
            let local = || {
                let pem = services.keys.read(reference)?;
                let key = LocalKey::from_pem(pem.bytes()).map_err(|why| format!("`{reference}` cannot sign: {why}"))?;
                Ok(Arc::new(key) as Arc<dyn Signer>)
            };
            let read = of_service(&services.keys, reference).unwrap_or_else(local);
            match read {
                Ok(key) if keys.iter().any(|known| known.kid() == key.kid()) => {
                    faults.push(
                        Fault::at(at, format!("`{reference}` holds a key that stands in the list already"))
                            .help("remove it"),
                    );
                }
                Ok(key) => keys.push(key),
                Err(why) => {
                    let help = advice(reference, &why, KEY_HELP);
                    faults.push(Fault::at(at, why).help(help));
                }
            }
        }
        let jwks: Vec<&str> = keys.iter().filter_map(|key| key.public_jwk()).collect();
        let jwks = Bytes::from(format!(r#"{{"keys":[{}]}}"#, jwks.join(",")));
        let (Some(first), Ok(header), true) = (keys.first(), config.header.parse(), faults.is_empty()) else {
            return Err(faults);
        };
        let result = |result: &str| services.metrics.assertions.with_label_values(&[result]);
        Ok(Self {
            jws: Jws::new(Arc::clone(first), TYP),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            lifetime: config.lifetime.get().as_secs(),
            header,
            keys: jwks,
            signed: result("signed"),
            failed: result("failed"),
        })
    }

    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    pub fn keys(&self) -> &Bytes {
        &self.keys
    }
}

const KEY_HELP: &str = "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one";

impl Assertion {
    /// `upstream` is the audience where the configuration names none.
    pub fn new(all: &Arc<Assertions>, upstream: &str, route: &str) -> Self {
        let audience = all.audience.clone().unwrap_or_else(|| upstream.to_owned());
        Self { all: Arc::clone(all), audience, route: route.into() }
    }

    async fn token(&self, head: &request::Parts, exchange: &Exchange) -> Result<HeaderValue, String> {
        let (iat, jti) = (exchange.now.unix_ms / 1000, random_id());
        let target = base64_sha256(exchange.target.as_str());
        let claims = Claims {
            iss: &self.all.issuer,
            aud: &self.audience,
            iat,
            exp: iat + self.all.lifetime,
            jti: &jti,
            caller: exchange.principal.as_deref().map(Caller::of),
            route: &self.route,
            request_id: exchange.request_id.to_str().unwrap_or_default(),
            htm: head.method.as_str(),
            target_sha256: &target,
        };
        let token = self.all.jws.sign(&claims).await?;
        HeaderValue::try_from(token).map_err(|why| why.to_string())
    }
}

fn base64_sha256(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

impl Filter for Assertion {
    fn stage(&self) -> Stage {
        Stage::Assertion
    }

    fn explain(&self) -> Vec<String> {
        let Assertions { jws, issuer, lifetime, header, .. } = &*self.all;
        let algorithm = jws.key().algorithm();
        vec![format!(
            "{header}: {algorithm}, issuer {issuer}, audience {}, {lifetime}s, for this request alone",
            self.audience
        )]
    }

    async fn on_forward(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        match self.token(head, exchange).await {
            Ok(token) => {
                self.all.signed.inc();
                exchange.assertion = Some((self.all.header.clone(), token));
                Ok(())
            }
            // An upstream that asks for one would refuse the request; one that does not must not be reached without.
            Err(why) => {
                self.all.failed.inc();
                let refusal = Refusal::new(Code::Overloaded, "The request cannot be vouched for at the moment.");
                Err(refusal.reason(format!("no assertion can be signed: {why}")))
            }
        }
    }
}
