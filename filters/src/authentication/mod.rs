//! Who calls: JWT and API keys.
//!
//! A route lists methods; any one of them lets a caller in. Three rules keep that from being a weakness: a credential that
//! is present but bad never falls through to another method, nor to anonymous; every presented credential must be good;
//! and the credential itself, never its failure, says which method it is for.

mod api_keys;
mod challenge;
mod instant;
mod jwt;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    future::{Future, ready},
    sync::Arc,
};

use gapura_config::{
    fault::{Fault, Place},
    model,
};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, request};

pub use self::{
    api_keys::{ApiKeysMethod, api_key_hash},
    jwt::JwtMethod,
};
use self::{challenge::Challenges, jwt::Token};
use crate::contract::{Code, Exchange, Filter, Principal, Refusal, Stage};

/// Why a credential is bad, for the operator's log. It never repeats what was presented.
type Reason = Cow<'static, str>;

/// A `[jwt.NAME]` or `[api_keys.NAME]`, compiled. Built once per policy; a clone shares it.
#[derive(Debug, Clone)]
pub enum Method {
    Jwt(Arc<JwtMethod>),
    ApiKeys(Arc<ApiKeysMethod>),
}

impl Method {
    pub fn jwt(name: &str, config: &model::Jwt) -> Result<Self, Vec<Fault>> {
        JwtMethod::build(name, config).map(|method| Self::Jwt(Arc::new(method)))
    }

    pub fn api_keys(name: &str, config: &model::ApiKeys) -> Result<Self, Vec<Fault>> {
        ApiKeysMethod::build(name, config).map(|method| Self::ApiKeys(Arc::new(method)))
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

/// The authentication of one route.
#[derive(Debug)]
pub struct Authentication {
    /// In the order of the route's `auth`: of several good credentials the first gives the identity.
    methods: Vec<Method>,
    /// Every header that can carry a credential here, each once.
    headers: Vec<HeaderName>,
    challenges: Challenges,
}

/// A good credential: the rank of its method, and the caller.
type Proof = (usize, Arc<Principal>);

impl Authentication {
    /// `place` is that of the route's `auth`. Methods between which a credential could not choose are faults.
    pub fn new(place: &Place, methods: Vec<Method>) -> Result<Self, Vec<Fault>> {
        let faults = conflicts(place, &methods);
        if !faults.is_empty() {
            return Err(faults);
        }
        // `Authorization` always: a scheme that no method knows is a bad credential even where all keys come elsewhere.
        let mut headers = vec![AUTHORIZATION];
        for method in &methods {
            if let Method::ApiKeys(method) = method
                && !headers.contains(method.header())
            {
                headers.push(method.header().clone());
            }
        }
        Ok(Self { challenges: Challenges::new(&methods), methods, headers })
    }

    /// What `forward_credentials = false` keeps from the upstream.
    pub fn credential_headers(&self) -> Vec<HeaderName> {
        self.headers.clone()
    }

    /// The caller, or the refusal to send. `now_ms` is the time since 1970.
    pub fn authenticate(&self, headers: &HeaderMap, now_ms: u64) -> Result<Arc<Principal>, Refusal> {
        let mut first: Option<Proof> = None;
        for name in &self.headers {
            let mut values = headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            // Which of two the upstream would read is anyone's guess.
            if values.next().is_some() {
                return Err(self.invalid(&format!("{name} occurs more than once").into()));
            }
            let proof = self.prove(name, value, now_ms).map_err(|reason| self.invalid(&reason))?;
            if first.as_ref().is_none_or(|(rank, _)| proof.0 < *rank) {
                first = Some(proof);
            }
        }
        first.map(|(_, principal)| principal).ok_or_else(|| self.missing())
    }

    /// A credential names its method: by its scheme first; what has no scheme that is known here is a bare key, where this
    /// header may carry one.
    fn prove(&self, header: &HeaderName, value: &HeaderValue, now_ms: u64) -> Result<Proof, Reason> {
        let (scheme, rest) = split_scheme(value.as_bytes());
        if *header == AUTHORIZATION && scheme.eq_ignore_ascii_case(b"Bearer") && self.jwt_methods().next().is_some() {
            return self.prove_token(rest, now_ms);
        }
        let of_scheme =
            |method: &ApiKeysMethod| method.scheme().is_some_and(|s| s.as_bytes().eq_ignore_ascii_case(scheme));
        if self.api_keys_on(header).any(|(_, method)| of_scheme(method)) {
            return self.prove_key(self.api_keys_on(header).filter(|(_, method)| of_scheme(method)), rest, now_ms);
        }
        let bare = |(_, method): &(usize, &ApiKeysMethod)| method.scheme().is_none();
        if self.api_keys_on(header).any(|method| bare(&method)) {
            return self.prove_key(self.api_keys_on(header).filter(bare), value.as_bytes(), now_ms);
        }
        Err(format!("{header} has a scheme that this route does not accept").into())
    }

    fn prove_token(&self, text: &[u8], now_ms: u64) -> Result<Proof, Reason> {
        let token = Token::parse(text)?;
        let (rank, method) = self.choose(&token)?;
        let principal =
            method.verify(&token, now_ms).map_err(|reason| Reason::from(format!("{}: {reason}", method.name())))?;
        Ok((rank, Arc::new(principal)))
    }

    /// The exact `iss` chooses, before anything is verified; a method without issuer takes what no other claims. Where
    /// two agree in that, `alg` chooses. The choice is final: a token that fails its method is bad.
    fn choose(&self, token: &Token<'_>) -> Result<(usize, &JwtMethod), Reason> {
        let mut all = self.jwt_methods();
        if let (Some(only), None) = (all.next(), all.next()) {
            return Ok(only);
        }
        let claims = token.claims()?;
        let issuer = jwt::issuer(&claims)?;
        let claimed = issuer.is_some() && self.jwt_methods().any(|(_, method)| method.issuer() == issuer);
        let wanted = if claimed { issuer } else { None };
        let of_issuer = || self.jwt_methods().filter(|(_, method)| method.issuer() == wanted);
        let chosen = of_issuer().find(|(_, method)| method.accepts(token.algorithm())).or_else(|| of_issuer().next());
        chosen.ok_or_else(|| "the token is from an issuer that this route does not accept".into())
    }

    /// Several tables may share a header and scheme; a key belongs to the one table that holds its hash.
    fn prove_key<'m>(
        &self,
        mut methods: impl Iterator<Item = (usize, &'m ApiKeysMethod)>,
        key: &[u8],
        now_ms: u64,
    ) -> Result<Proof, Reason> {
        let found = methods.find_map(|(rank, method)| method.find(key).map(|found| (rank, method, found)));
        let (rank, method, found) = found.ok_or("the API key is not known")?;
        match found.principal(now_ms) {
            Ok(principal) => Ok((rank, principal)),
            Err(reason) => Err(format!("{}: {reason}", method.name()).into()),
        }
    }

    fn jwt_methods(&self) -> impl Iterator<Item = (usize, &JwtMethod)> {
        self.methods.iter().enumerate().filter_map(|(rank, method)| match method {
            Method::Jwt(method) => Some((rank, method.as_ref())),
            Method::ApiKeys(_) => None,
        })
    }

    fn api_keys_on(&self, header: &HeaderName) -> impl Iterator<Item = (usize, &ApiKeysMethod)> {
        self.methods.iter().enumerate().filter_map(move |(rank, method)| match method {
            Method::ApiKeys(method) if method.header() == header => Some((rank, method.as_ref())),
            _ => None,
        })
    }

    fn missing(&self) -> Refusal {
        let refusal = Refusal::new(Code::CredentialsMissing, "This request needs credentials.");
        self.challenges.missing().fold(refusal.reason("no credential was presented"), with_challenge)
    }

    /// One text for whatever is wrong: which check failed helps only whoever forges.
    fn invalid(&self, reason: &Reason) -> Refusal {
        let refusal = Refusal::new(Code::CredentialsInvalid, "The credentials of this request are not valid.");
        self.challenges.invalid().fold(refusal.reason(reason.clone()), with_challenge)
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

    fn on_request(
        &self,
        head: &request::Parts,
        exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        let proof = self.authenticate(&head.headers, exchange.now.unix_ms);
        ready(proof.map(|principal| exchange.principal = Some(principal)))
    }
}

/// RFC 9110, section 11.4: a scheme, blanks, the credential.
fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii_start()),
        None => (value, &[]),
    }
}

/// What would leave it open which method a credential is for.
fn conflicts(place: &Place, methods: &[Method]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if methods.is_empty() {
        faults.push(
            Fault::at(place.clone(), "no method is listed").help("list methods, or remove `auth` for a public route"),
        );
    }
    for (at, method) in methods.iter().enumerate() {
        for earlier in &methods[..at] {
            let (name, other) = (method.name(), earlier.name());
            let found = match (method, earlier) {
                _ if name == other => Some((format!("`{name}` is listed twice"), "remove one")),
                (Method::Jwt(a), Method::Jwt(b)) if a.issuer() == b.issuer() && a.shares_algorithm(b) => Some((
                    format!("a token cannot choose between `{name}` and `{other}`: same issuer, same algorithm"),
                    "give each its own `issuer`, or put both keys into one key set",
                )),
                (Method::Jwt(_), Method::ApiKeys(keys)) | (Method::ApiKeys(keys), Method::Jwt(_))
                    if keys.is_bearer() =>
                {
                    Some((
                        format!("`{name}` and `{other}` both read `Authorization: Bearer`"),
                        "give the API keys another `scheme` or `header`",
                    ))
                }
                _ => None,
            };
            if let Some((message, help)) = found {
                faults.push(Fault::at(place.index(at), message).help(help));
            }
        }
    }
    faults
}
