//! Who calls: JWT, API keys and client certificates.
//!
//! A route lists methods; any one of them lets a caller in. Three rules keep that from being a weakness: a credential that
//! is present but bad never falls through to another method, nor to anonymous; every presented credential must be good;
//! and the credential itself, never its failure, says which method it is for.

mod api_keys;
mod asking;
mod binding;
mod challenge;
mod conflicts;
mod denial;
mod dpop;
mod foreign;
mod held;
mod jwt;
mod key_format;
mod lockout;
mod method;
mod mtls;
mod nonce;
mod presented;
mod refusal;
mod revocations;
mod tenure;
mod tokens;

#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model::{Binding, TokenSource},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method as HttpMethod,
    header::{AUTHORIZATION, ORIGIN},
    request,
};

pub use self::{
    api_keys::{ApiKeysMethod, MAX_API_KEY, api_key_hash},
    dpop::Dpop,
    foreign::{ForeignKeys, ForeignTables, KeyIssuer, MAX_ROWS, Question, Source as ForeignSource, form_encoded},
    held::{HeldKey, HeldKeys, HeldTables, MAX_HELD_KEYS, Usage},
    jwt::{JwtMethod, KeySet, KeySets, KeySource, Location, Taken},
    key_format::NewKey,
    lockout::{Failed, Key as LockoutKey, Lockout, LockoutDoor, Lockouts, SharedLockouts, Terms as LockoutTerms},
    method::{Method, Shared},
    mtls::MtlsMethod,
    presented::{BEARER_PROTOCOL, Withheld},
    revocations::{
        Full, LAST_INSTANT, MAX_NAME, MAX_REVOCATIONS, Revocation, RevocationEntry, RevocationMark, Revocations,
        SharedRevocations, Unpublished,
    },
    tenure::{Ended, Tenures},
};
use self::{
    binding::Scheme,
    challenge::Challenges,
    denial::{Denial, Denied, Reason},
    dpop::{MaybeDpop, Unused},
    tenure::{KeyTenure, Tenure},
};
use crate::contract::{ClientCertificate, Exchange, Filter, HeaderEdit, Principal, Refusal, Stage};

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
    /// Of tokens that are bound to a key.
    dpop: MaybeDpop,
}

/// Everything that a credential may depend on.
#[derive(Clone, Copy)]
struct Asked<'a> {
    headers: &'a HeaderMap,
    /// Since 1970.
    now_ms: u64,
    /// Keys may be bound to an address.
    from: Option<IpAddr>,
    certificate: Option<&'a ClientCertificate>,
    request: Option<Requested<'a>>,
    /// A backend was asked in vain.
    unanswered: bool,
}

impl<'a> Asked<'a> {
    /// Nothing else is known of the request.
    fn of_headers(headers: &'a HeaderMap, now_ms: u64) -> Self {
        Self { headers, now_ms, from: None, certificate: None, request: None, unanswered: false }
    }
}

/// What a proof is made for.
#[derive(Clone, Copy)]
struct Requested<'a> {
    method: &'a HttpMethod,
    exchange: &'a Exchange,
}

/// A good credential: the rank of its method, the caller, and how long it is good.
type Proven = (usize, Arc<Principal>, Tenure);

/// Every presented credential was good.
struct Examined {
    principal: Arc<Principal>,
    tenures: Tenures,
    /// The proof that has still to be used up.
    unused: Option<Unused>,
}

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
        let challenges = Challenges::new(&methods, None);
        Ok(Self { challenges, methods, headers, sources, lockout: None, dpop: None })
    }

    #[must_use]
    pub fn noting_failures(self, lockout: Option<Arc<Lockout>>) -> Self {
        Self { lockout, ..self }
    }

    /// Without it a token that is bound to a key is refused.
    #[must_use]
    pub fn checking_proofs(self, dpop: &Arc<Dpop>) -> Self {
        Self { challenges: Challenges::new(&self.methods, Some(dpop)), dpop: Some(Arc::clone(dpop)), ..self }
    }

    /// The key sets of providers that its methods verify with.
    pub fn key_sets(&self) -> impl Iterator<Item = &Arc<KeySet>> {
        self.methods.iter().filter_map(|method| match method {
            Method::Jwt(method) => method.key_set(),
            _ => None,
        })
    }

    /// The keys in databases that its methods accept.
    pub fn held_keys(&self) -> impl Iterator<Item = &Arc<HeldKeys>> {
        self.methods.iter().filter_map(|method| match method {
            Method::ApiKeys(method) => method.held(),
            _ => None,
        })
    }

    /// The keys of backends that its methods accept.
    pub fn foreign_keys(&self) -> impl Iterator<Item = &Arc<ForeignKeys>> {
        self.methods.iter().filter_map(|method| match method {
            Method::ApiKeys(method) => method.foreign(),
            _ => None,
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
        let proof = self.jwt_methods(&TokenSource::Header).next().map(|_| dpop::DPOP);
        Withheld { headers: self.headers.iter().cloned().chain(proof).collect(), cookies: cookies.collect(), protocol }
    }

    /// The caller, or the refusal to send. `now_ms` is the time since 1970.
    pub fn authenticate(&self, headers: &HeaderMap, now_ms: u64) -> Result<Arc<Principal>, Refusal> {
        match self.examine(Asked::of_headers(headers, now_ms)) {
            Ok(Examined { principal, .. }) => Ok(principal),
            Err(denial) => Err(denial.map_or_else(|| self.missing(), |denial| self.deny(denial, now_ms)).refusal),
        }
    }

    /// None: nothing was presented.
    fn examine(&self, asked: Asked<'_>) -> Result<Examined, Option<Denial>> {
        let (headers, mut first, mut tenures, mut unused) = (asked.headers, None, Tenures::default(), None);
        for name in &self.headers {
            let mut values = headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            // Which of two the upstream would read is anyone's guess.
            if values.next().is_some() {
                return Err(Some(Denial::Invalid(format!("{name} occurs more than once").into())));
            }
            let (proven, proof) = self.prove(name, value, asked)?;
            unused = unused.or(proof);
            keep_first(&mut first, &mut tenures, proven);
        }
        for source in &self.sources {
            let Some(token) = presented::token(source, headers).map_err(Denial::Invalid)? else { continue };
            let proven = self.prove_token(source, (Scheme::Bearer, token), asked);
            keep_first(&mut first, &mut tenures, proven.map_err(|denial| foreign_page(denial, source, headers))?.0);
        }
        if let Some((rank, method)) = self.mtls()
            && let Some(certificate) = asked.certificate
        {
            let caller = method.principal(certificate, asked.now_ms);
            let caller = caller.map_err(|why| Denial::Invalid(why).by(method.name()))?;
            keep_first(&mut first, &mut tenures, (rank, caller, Tenure::Certificate(certificate.valid.1)));
        }
        let (_, principal) = first.ok_or(None)?;
        Ok(Examined { principal, tenures, unused })
    }

    /// A credential names its method: by its scheme first; what has no scheme that is known here is a bare key, where this
    /// header may carry one.
    fn prove(
        &self,
        header: &HeaderName,
        value: &HeaderValue,
        asked: Asked<'_>,
    ) -> Result<(Proven, Option<Unused>), Denial> {
        let (scheme, rest) = split_scheme(value.as_bytes());
        let token = [(&b"Bearer"[..], Scheme::Bearer), (b"DPoP", Scheme::Dpop)];
        let token = token.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name));
        if *header == AUTHORIZATION
            && let Some((_, scheme)) = token
            && self.jwt_methods(&TokenSource::Header).next().is_some()
        {
            return self.prove_token(&TokenSource::Header, (scheme, rest), asked);
        }
        let of_scheme =
            |method: &ApiKeysMethod| method.scheme().is_some_and(|s| s.as_bytes().eq_ignore_ascii_case(scheme));
        if self.api_keys_on(header).any(|(_, method)| of_scheme(method)) {
            let methods = self.api_keys_on(header).filter(|(_, method)| of_scheme(method));
            return self.prove_key(methods, rest, asked).map(|proven| (proven, None));
        }
        let bare = |(_, method): &(usize, &ApiKeysMethod)| method.scheme().is_none();
        if self.api_keys_on(header).any(|method| bare(&method)) {
            let methods = self.api_keys_on(header).filter(bare);
            return self.prove_key(methods, value.as_bytes(), asked).map(|proven| (proven, None));
        }
        Err(Denial::Invalid(format!("{header} has a scheme that this route does not accept").into()))
    }

    fn jwt_methods(&self, source: &TokenSource) -> impl Iterator<Item = (usize, &JwtMethod)> {
        self.methods.iter().enumerate().filter_map(move |(rank, method)| match method {
            Method::Jwt(method) if method.source() == source => Some((rank, method.as_ref())),
            _ => None,
        })
    }

    /// At most one: a certificate could not choose.
    fn mtls(&self) -> Option<(usize, &MtlsMethod)> {
        self.methods.iter().enumerate().find_map(|(rank, method)| match method {
            Method::Mtls(method) => Some((rank, method.as_ref())),
            _ => None,
        })
    }

    fn api_keys_on(&self, header: &HeaderName) -> impl Iterator<Item = (usize, &ApiKeysMethod)> + Clone {
        self.methods.iter().enumerate().filter_map(move |(rank, method)| match method {
            Method::ApiKeys(method) if method.header() == header => Some((rank, method.as_ref())),
            _ => None,
        })
    }
}

/// Any web page may open a WebSocket with any subprotocol from its visitor's address: what it guesses there must not lock the visitor out.
fn foreign_page(denial: Denial, source: &TokenSource, headers: &HeaderMap) -> Denial {
    match denial {
        Denial::Guess(reason, _) if *source == TokenSource::WebsocketProtocol && headers.contains_key(ORIGIN) => {
            Denial::Invalid(reason)
        }
        other => other,
    }
}

/// The order of `auth` gives the identity, not the order in which credentials are looked at.
fn keep_first(first: &mut Option<(usize, Arc<Principal>)>, tenures: &mut Tenures, (rank, principal, tenure): Proven) {
    if first.as_ref().is_none_or(|(best, _)| rank < *best) {
        *first = Some((rank, principal));
    }
    tenures.add(tenure);
}

impl Filter for Authentication {
    fn stage(&self) -> Stage {
        Stage::Authentication
    }

    fn explain(&self) -> Vec<String> {
        let asks = |(_, method): (usize, &JwtMethod)| matches!(method.binding(), Binding::Dpop | Binding::Any);
        let proofs = self.dpop.iter().filter(|_| self.jwt_methods(&TokenSource::Header).any(asks));
        self.methods.iter().map(Method::explain).chain(proofs.map(|dpop| dpop.explain())).collect()
    }

    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        let now = exchange.now;
        let asked = Asked {
            headers: &head.headers,
            now_ms: now.unix_ms,
            from: Some(exchange.client_ip),
            certificate: exchange.certificate.as_deref(),
            request: Some(Requested { method: &head.method, exchange }),
            unanswered: false,
        };
        let denial = match self.settle(asked).await {
            Ok(Examined { principal, tenures, unused: None }) => {
                exchange.principal = Some(principal);
                exchange.tenures = tenures;
                return Ok(());
            }
            Ok(Examined { principal, tenures, unused: Some(unused) }) => match self.spend(&unused, now).await {
                Ok(()) => {
                    exchange.principal = Some(principal);
                    exchange.tenures = tenures;
                    exchange.dpop_nonce = unused.nonce;
                    return Ok(());
                }
                Err(denial) => Some(denial),
            },
            Err(denial) => denial,
        };
        let Denied { refusal, guess } = denial.map_or_else(|| self.missing(), |denial| self.deny(denial, now.unix_ms));
        if let (Some(lockout), Some(claimed)) = (&self.lockout, guess) {
            lockout.failed(exchange.client_ip, claimed.as_ref(), now).await;
        }
        Err(refusal)
    }

    /// RFC 9449, section 8.2: the next nonce, before the one in use ends.
    fn on_response_headers<H: HeaderEdit>(&self, headers: &mut H, exchange: &mut Exchange) {
        if let Some(nonce) = exchange.dpop_nonce.take() {
            headers.set(&dpop::DPOP_NONCE, nonce);
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
