//! Who calls: JWT and API keys.
//!
//! A route lists methods; any one of them lets a caller in. Three rules keep that from being a weakness: a credential that
//! is present but bad never falls through to another method, nor to anonymous; every presented credential must be good;
//! and the credential itself, never its failure, says which method it is for.

mod api_keys;
mod asking;
mod challenge;
mod conflicts;
mod denial;
mod foreign;
mod held;
mod instant;
mod jwt;
mod key_format;
mod lockout;
mod presented;
mod revocations;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, TokenSource},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, request};

pub use self::{
    api_keys::{ApiKeysMethod, MAX_API_KEY, api_key_hash},
    foreign::{ForeignKeys, ForeignTables, KeyIssuer, MAX_ROWS, Question, Source as ForeignSource, form_encoded},
    held::{HeldKey, HeldKeys, HeldTables, MAX_HELD_KEYS, Usage},
    jwt::{JwtMethod, KeySet, KeySets, KeySource, Location, Taken},
    key_format::NewKey,
    lockout::{Failed, Key as LockoutKey, Lockout, LockoutDoor, Lockouts, SharedLockouts, Terms as LockoutTerms},
    presented::{BEARER_PROTOCOL, Withheld},
    revocations::{Full, MAX_NAME, MAX_REVOCATIONS, Revocation, Revocations},
};
use self::{
    challenge::Challenges,
    denial::{Denial, Denied, Reason},
    jwt::Token,
};
use crate::contract::{Code, Exchange, Filter, Principal, Refusal, Stage};

/// A `[jwt.NAME]` or `[api_keys.NAME]`, compiled. Built once per policy; a clone shares it.
#[derive(Debug, Clone)]
pub enum Method {
    Jwt(Arc<JwtMethod>),
    ApiKeys(Arc<ApiKeysMethod>),
}

impl Method {
    pub fn jwt(name: &str, config: &model::Jwt, key_sets: &KeySets) -> Result<Self, Vec<Fault>> {
        JwtMethod::build(name, config, key_sets).map(|method| Self::Jwt(Arc::new(method)))
    }

    /// With what all methods share.
    pub fn jwt_with(name: &str, config: &model::Jwt, shared: &Shared) -> Result<Self, Vec<Fault>> {
        let method = JwtMethod::build(name, config, &shared.key_sets)?;
        Ok(Self::Jwt(Arc::new(method.keeping(&shared.kept).heeding(&shared.revocations))))
    }

    pub fn api_keys(name: &str, config: &model::ApiKeys) -> Result<Self, Vec<Fault>> {
        ApiKeysMethod::build(name, config).map(|method| Self::ApiKeys(Arc::new(method)))
    }

    /// With the keys of its database, where it has one.
    pub fn api_keys_with(name: &str, config: &model::ApiKeys, shared: &Shared) -> Result<Self, Vec<Fault>> {
        let method = ApiKeysMethod::build(name, config)?;
        let method = method.holding(&shared.held_keys, config.database.as_ref());
        Ok(Self::ApiKeys(Arc::new(method.asking(&shared.foreign_keys, config)?)))
    }

    /// As routes name it and principals carry it: `jwt.users`, `api_keys.developers`.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Jwt(method) => method.name(),
            Self::ApiKeys(method) => method.name(),
        }
    }

    /// What works and yet should be changed: a short secret, say.
    pub fn warnings(&self) -> &[Fault] {
        match self {
            Self::Jwt(method) => method.warnings(),
            Self::ApiKeys(method) => method.warnings(),
        }
    }

    fn explain(&self) -> String {
        match self {
            Self::Jwt(method) => method.explain(),
            Self::ApiKeys(method) => method.explain(),
        }
    }
}

/// What the methods of a policy share.
#[derive(Clone, Default)]
pub struct Shared {
    pub key_sets: Arc<KeySets>,
    pub revocations: Arc<Revocations>,
    pub held_keys: Arc<HeldTables>,
    pub foreign_keys: Arc<ForeignTables>,
    /// Claims that guards ask for, named as in `claims`: principals keep them.
    pub kept: BTreeSet<String>,
}

/// The authentication of one route.
pub struct Authentication {
    /// In the order of the route's `auth`: of several good credentials the first gives the identity.
    methods: Vec<Method>,
    /// Every header that can carry a credential here, each once.
    headers: Vec<HeaderName>,
    /// Every other place of a token here, each once.
    sources: Vec<TokenSource>,
    challenges: Challenges,
    /// Told of guesses.
    lockout: Option<Arc<Lockout>>,
}

/// When, in milliseconds since 1970, from which address, and whether a backend was asked in vain.
type Asked = (u64, Option<IpAddr>, bool);

/// A good credential: the rank of its method, and the caller.
type Proof = (usize, Arc<Principal>);

/// No key in it.
impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.methods).finish()
    }
}

impl Authentication {
    /// `place` is that of the route's `auth`. Methods between which a credential could not choose are faults.
    pub fn new(place: &Place, methods: Vec<Method>) -> Result<Self, Vec<Fault>> {
        let faults = conflicts::find(place, &methods);
        if !faults.is_empty() {
            return Err(faults);
        }
        // `Authorization` always: a scheme that no method knows is a bad credential even where all keys come elsewhere.
        let mut headers = vec![AUTHORIZATION];
        let mut sources = Vec::new();
        for method in &methods {
            match method {
                Method::ApiKeys(method) if !headers.contains(method.header()) => headers.push(method.header().clone()),
                Method::Jwt(method)
                    if *method.source() != TokenSource::Header && !sources.contains(method.source()) =>
                {
                    sources.push(method.source().clone());
                }
                _ => {}
            }
        }
        Ok(Self { challenges: Challenges::new(&methods), methods, headers, sources, lockout: None })
    }

    #[must_use]
    pub fn noting_failures(self, lockout: Option<Arc<Lockout>>) -> Self {
        Self { lockout, ..self }
    }

    /// The key sets of providers that its methods verify with.
    pub fn key_sets(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        self.methods.iter().filter_map(|method| match method {
            Method::Jwt(method) => method.key_set(),
            Method::ApiKeys(_) => None,
        })
    }

    /// The keys in databases that its methods accept.
    pub fn held_keys(&self) -> impl Iterator<Item = &Arc<HeldKeys>> {
        self.methods.iter().filter_map(|method| match method {
            Method::ApiKeys(method) => method.held(),
            Method::Jwt(_) => None,
        })
    }

    /// The keys of backends that its methods accept.
    pub fn foreign_keys(&self) -> impl Iterator<Item = &Arc<ForeignKeys>> {
        self.methods.iter().filter_map(|method| match method {
            Method::ApiKeys(method) => method.foreign(),
            Method::Jwt(_) => None,
        })
    }

    /// What is kept from the upstream, with and without `forward_credentials`.
    pub fn withheld(&self, forward_credentials: bool) -> Withheld {
        let protocol = self.sources.contains(&TokenSource::WebsocketProtocol);
        if forward_credentials {
            return Withheld { protocol, ..Withheld::default() };
        }
        let cookies = self.sources.iter().filter_map(|source| match source {
            TokenSource::Cookie(name) => Some(name.clone()),
            _ => None,
        });
        Withheld { headers: self.headers.clone(), cookies: cookies.collect(), protocol }
    }

    /// The caller, or the refusal to send. `now_ms` is the time since 1970.
    pub fn authenticate(&self, headers: &HeaderMap, now_ms: u64) -> Result<Arc<Principal>, Refusal> {
        self.examine(headers, (now_ms, None, false)).map_err(|denied| denied.refusal)
    }

    /// With the client's address, which keys may be bound to.
    fn examine(&self, headers: &HeaderMap, asked: Asked) -> Result<Arc<Principal>, Denied> {
        let mut first: Option<Proof> = None;
        for name in &self.headers {
            let mut values = headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            // Which of two the upstream would read is anyone's guess.
            if values.next().is_some() {
                return Err(self.deny(Denial::Invalid(format!("{name} occurs more than once").into())));
            }
            let proof = self.prove(name, value, asked).map_err(|denial| self.deny(denial))?;
            keep_first(&mut first, proof);
        }
        for source in &self.sources {
            let token = presented::token(source, headers).map_err(|reason| self.deny(Denial::Invalid(reason)))?;
            let Some(token) = token else { continue };
            let proof = self.prove_token(source, token, asked.0).map_err(|denial| self.deny(denial))?;
            keep_first(&mut first, proof);
        }
        first.map(|(_, principal)| principal).ok_or_else(|| self.missing())
    }

    /// A credential names its method: by its scheme first; what has no scheme that is known here is a bare key, where this
    /// header may carry one.
    fn prove(&self, header: &HeaderName, value: &HeaderValue, asked: Asked) -> Result<Proof, Denial> {
        let (scheme, rest) = split_scheme(value.as_bytes());
        if *header == AUTHORIZATION && scheme.eq_ignore_ascii_case(b"Bearer") {
            let header = &TokenSource::Header;
            if self.jwt_methods(header).next().is_some() {
                return self.prove_token(header, rest, asked.0);
            }
        }
        let of_scheme =
            |method: &ApiKeysMethod| method.scheme().is_some_and(|s| s.as_bytes().eq_ignore_ascii_case(scheme));
        if self.api_keys_on(header).any(|(_, method)| of_scheme(method)) {
            return self.prove_key(self.api_keys_on(header).filter(|(_, method)| of_scheme(method)), rest, asked);
        }
        let bare = |(_, method): &(usize, &ApiKeysMethod)| method.scheme().is_none();
        if self.api_keys_on(header).any(|method| bare(&method)) {
            return self.prove_key(self.api_keys_on(header).filter(bare), value.as_bytes(), asked);
        }
        Err(Denial::Invalid(format!("{header} has a scheme that this route does not accept").into()))
    }

    fn prove_token(&self, source: &TokenSource, text: &[u8], now_ms: u64) -> Result<Proof, Denial> {
        let mut all = self.jwt_methods(source);
        let only = all.next().filter(|_| all.next().is_none());
        if let Some((rank, method)) = only
            && let Some(known) = method.recall(text, now_ms)
        {
            return Ok((rank, known));
        }
        let token = Token::parse(text)?;
        let (rank, method) = match only {
            Some(only) => only,
            None => self.choose(source, &token)?,
        };
        // Of several methods only the chosen one's memory counts: the choice is this route's own.
        if only.is_none()
            && let Some(known) = method.recall(text, now_ms)
        {
            return Ok((rank, known));
        }
        let proven = method.verify(&token, now_ms);
        let principal = proven.map_err(|denial| denial.by(method.name()).at(|| method.claimed(&token)))?;
        Ok((rank, principal))
    }

    /// Among the methods that read tokens from there the exact `iss` chooses, before anything is verified; a method without
    /// issuer takes what no other claims. Where two agree in that, `alg` chooses. The choice is final: a token that fails its method is bad.
    fn choose(&self, source: &TokenSource, token: &Token<'_>) -> Result<(usize, &JwtMethod), Reason> {
        let claims = token.claims()?;
        let issuer = jwt::issuer(&claims)?;
        let claimed = issuer.is_some() && self.jwt_methods(source).any(|(_, method)| method.issuer() == issuer);
        let wanted = if claimed { issuer } else { None };
        let of_issuer = || self.jwt_methods(source).filter(|(_, method)| method.issuer() == wanted);
        let chosen = of_issuer().find(|(_, method)| method.accepts(token.algorithm())).or_else(|| of_issuer().next());
        chosen.ok_or_else(|| "the token is from an issuer that this route does not accept".into())
    }

    fn jwt_methods(&self, source: &TokenSource) -> impl Iterator<Item = (usize, &JwtMethod)> {
        self.methods.iter().enumerate().filter_map(move |(rank, method)| match method {
            Method::Jwt(method) if method.source() == source => Some((rank, method.as_ref())),
            _ => None,
        })
    }

    fn api_keys_on(&self, header: &HeaderName) -> impl Iterator<Item = (usize, &ApiKeysMethod)> + Clone {
        self.methods.iter().enumerate().filter_map(move |(rank, method)| match method {
            Method::ApiKeys(method) if method.header() == header => Some((rank, method.as_ref())),
            _ => None,
        })
    }

    fn missing(&self) -> Denied {
        let refusal = Refusal::new(Code::CredentialsMissing, "This request needs credentials.");
        let refusal = refusal.reason("no credential was presented");
        Denied { refusal: self.challenges.missing().fold(refusal, with_challenge), guess: None, unasked: None }
    }

    /// One text for whatever is wrong: which check failed helps only whoever forges.
    fn deny(&self, denial: Denial) -> Denied {
        let unready =
            |reason| Refusal::new(Code::Overloaded, "Credentials cannot be checked at the moment.").reason(reason);
        let (reason, guess) = match denial {
            Denial::Guess(reason, claimed) => (reason, Some(claimed.map(Box::new))),
            Denial::Invalid(reason) => (reason, None),
            // A good token must not be called bad: its owner would throw it away.
            Denial::Unready(reason) => return Denied { refusal: unready(reason), guess: None, unasked: None },
            Denial::Unasked(question) => {
                let refusal = unready("the backend was not asked".into());
                return Denied { refusal, guess: None, unasked: Some(question) };
            }
        };
        let refusal = Refusal::new(Code::CredentialsInvalid, "The credentials of this request are not valid.");
        Denied { refusal: self.challenges.invalid().fold(refusal.reason(reason), with_challenge), guess, unasked: None }
    }
}

/// The order of `auth` gives the identity, not the order in which credentials are looked at.
fn keep_first(first: &mut Option<Proof>, proof: Proof) {
    if first.as_ref().is_none_or(|(rank, _)| proof.0 < *rank) {
        *first = Some(proof);
    }
}

fn with_challenge(refusal: Refusal, challenge: &HeaderValue) -> Refusal {
    refusal.header(http::header::WWW_AUTHENTICATE, challenge.clone())
}

impl Filter for Authentication {
    fn stage(&self) -> Stage {
        Stage::Authentication
    }

    fn explain(&self) -> Vec<String> {
        self.methods.iter().map(Method::explain).collect()
    }

    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        match self.settle(&head.headers, (exchange.now.unix_ms, Some(exchange.client_ip), false)).await {
            Ok(principal) => {
                exchange.principal = Some(principal);
                Ok(())
            }
            Err(Denied { refusal, guess, .. }) => {
                if let (Some(lockout), Some(claimed)) = (&self.lockout, guess) {
                    lockout.failed(exchange.client_ip, claimed.as_deref(), exchange.now).await;
                }
                Err(refusal)
            }
        }
    }
}

/// RFC 9110, section 11.4: a scheme, blanks, the credential.
fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii_start()),
        None => (value, &[]),
    }
}
