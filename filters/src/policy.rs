//! What runs: a configuration compiled into routes with their chains. Replaced as a whole by a reload.

mod held;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use gapura_config::{
    fault::{Fault, Place},
    guard,
    model::{self, Config},
};
use http::Method;
use ipnet::IpNet;

use self::held::Held;
use crate::{
    addresses::Addresses,
    assertion::{Assertion, Assertions},
    authentication::{
        Authentication, Dpop, ForeignKeys, HeldKeys, KeySet, Lockout, LockoutDoor, Method as AuthMethod, Shared,
        Withheld,
    },
    authorisation::Authorisation,
    chain::Chain,
    contract::{KeyReader, Lease, Services, Stage},
    delivery::PublicKeys,
    encryption::Encryption,
    guard::Guard,
    keyring::{Keyring, Keyrings},
    leases::Leases,
    metrics::RouteMetrics,
    operation_tokens::{self, IssueTokens, OperationTokens, RequireToken},
    rate_limit::RateLimits,
    registry::AnyFilter,
    router::{Found, Router},
    security_headers::SecurityHeaders,
};

/// Routes, and whom to believe. An exchange pins one from its first byte to its last.
pub struct Policy {
    router: Router,
    routes: Box<[Route]>,
    /// Only from these are forwarding fields and request ids believed.
    pub trusted_proxies: Box<[IpNet]>,
    /// What its routes verify tokens with and somebody has to fetch, each once.
    pub key_sets: Box<[Arc<KeySet>]>,
    /// Keys in databases that its routes accept and somebody has to read, each once.
    pub held_keys: Box<[Arc<HeldKeys>]>,
    /// How upstreams are told who calls, where one is.
    pub assertions: Option<Arc<Assertions>>,
    /// Keys of backends that its routes accept and somebody has to ask for, each once.
    pub foreign_keys: Box<[Arc<ForeignKeys>]>,
    /// On which the keys are held that its routes use.
    pub leases: Box<[Arc<dyn Lease>]>,
    /// The public keys of all envelopes.
    pub public_keys: PublicKeys,
    /// Of requests that no route takes.
    pub unrouted: RouteMetrics,
}

/// One route, compiled.
pub struct Route {
    pub name: Arc<str>,
    pub chain: Chain,
    /// The NAME of `[upstreams.NAME]`.
    pub upstream: Arc<str>,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The largest response, in bytes, that a buffered exchange reads whole.
    pub max_response: u64,
    pub timeout: Duration,
    /// What of the credentials does not pass on.
    pub withheld: Withheld,
    pub metrics: RouteMetrics,
    /// What gives out keys to its callers; and what its bodies pass, where they are not whole.
    pub encryption: Option<Arc<Encryption>>,
}

/// The label of requests that no route takes. No route can have this name.
const UNROUTED: &str = "(none)";

impl Policy {
    /// Every fault at once. What the text alone tells was checked before; here secrets and keys are read.
    pub fn compile(config: &Config, services: &Services) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let mut warnings = Vec::new();
        let policy = Self::noting(config, services, &mut warnings)?;
        Ok((policy, warnings))
    }

    /// The same, with the warnings of a configuration that is refused, too.
    pub fn noting(config: &Config, services: &Services, warnings: &mut Vec<Fault>) -> Result<Self, Vec<Fault>> {
        let mut compiler = Compiler {
            config,
            services,
            lockout: Lockout::new(&config.lockout, services),
            faults: Vec::new(),
            warnings: Vec::new(),
            key_sets: Vec::new(),
            held_keys: Vec::new(),
            dpop: None,
            assertions: None,
            operations: Vec::new(),
            foreign_keys: Vec::new(),
            held: Held::default(),
        };
        compiler.own_tokens();
        let rings = Arc::new(compiler.keyrings());
        let methods = compiler.methods(&rings);
        let encryptions = compiler.encryptions(&rings);
        let routes: Vec<Option<Route>> = config
            .routes
            .iter()
            .enumerate()
            .map(|(index, route)| compiler.route(index, route, &methods, &encryptions))
            .collect();
        warnings.append(&mut compiler.warnings);
        if !compiler.faults.is_empty() {
            return Err(compiler.faults);
        }
        let patterns = config.routes.iter().map(|route| (route.path.as_str(), route_methods(route)));
        Ok(Self {
            router: Router::new(patterns),
            routes: routes.into_iter().flatten().collect(),
            trusted_proxies: config.server.trusted_proxies.clone().into(),
            key_sets: compiler.key_sets.into(),
            held_keys: compiler.held_keys.into(),
            assertions: compiler.assertions,
            foreign_keys: compiler.foreign_keys.into(),
            leases: compiler.held.all(config),
            public_keys: PublicKeys::new(config, &rings),
            unrouted: RouteMetrics::new(UNROUTED, &services.metrics),
        })
    }

    /// `path` is canonical.
    pub fn find(&self, path: &str, method: &Method) -> Found {
        self.router.find(path, method)
    }

    pub fn route(&self, index: usize) -> &Route {
        &self.routes[index]
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

type Methods = BTreeMap<String, Option<AuthMethod>>;
type Encryptions = BTreeMap<String, Option<Arc<Encryption>>>;

struct Compiler<'a> {
    config: &'a Config,
    services: &'a Services,
    lockout: Option<Arc<Lockout>>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    key_sets: Vec<Arc<KeySet>>,
    held_keys: Vec<Arc<HeldKeys>>,
    dpop: Option<Arc<Dpop>>,
    assertions: Option<Arc<Assertions>>,
    operations: Vec<(String, Arc<OperationTokens>)>,
    foreign_keys: Vec<Arc<ForeignKeys>>,
    held: Held,
}

impl Compiler<'_> {
    /// What proofs are held to, and the tokens that the gateway makes itself.
    fn own_tokens(&mut self) {
        let services = self.services.noting_keys();
        let built = Dpop::build(&self.config.dpop, &services);
        self.held.note("dpop", &services.keys);
        self.dpop = built.map_err(|faults| self.faults.extend(faults)).ok().map(Arc::new);
        let services = self.services.noting_keys();
        let built = self.config.identity_assertion.as_ref().map(|table| Assertions::build(table, &services));
        self.held.note("identity_assertion", &services.keys);
        self.assertions = built.transpose().map_err(|faults| self.faults.extend(faults)).ok().flatten().map(Arc::new);
        let built = operation_tokens::build(self.config, self.services);
        self.operations = built.map_err(|faults| self.faults.extend(faults)).unwrap_or_default();
        for (name, tokens) in &self.operations {
            self.held.add(&format!("operation_tokens.{name}"), tokens.leases());
        }
    }

    /// Filters with tokens of the gateway's own on one route.
    fn with_own_tokens(&mut self, route: &model::Route, withheld: &mut Withheld) -> Vec<AnyFilter> {
        let mut filters = Vec::new();
        let of = |name: &Option<String>| self.operations.iter().find(|(known, _)| Some(known) == name.as_ref());
        let issues = of(&route.issues).map(|(_, tokens)| IssueTokens::new(tokens, route).map(AnyFilter::from));
        let requires = of(&route.requires).map(|(_, tokens)| {
            withheld.add(tokens.header().clone());
            RequireToken::new(tokens, route).map(AnyFilter::from)
        });
        for built in [issues, requires].into_iter().flatten() {
            filters.extend(built.map_err(|faults| self.faults.extend(faults)));
        }
        let by_upstream =
            || self.config.upstreams.get(&route.upstream).is_some_and(|upstream| upstream.identity_assertion);
        if let Some(all) = self.assertions.as_ref().filter(|_| route.identity_assertion.unwrap_or_else(by_upstream)) {
            filters.push(Assertion::new(all, &route.upstream, &route.name).into());
        }
        filters
    }

    /// All methods, used or not: what stands in the file must be right. None where one failed, its faults noted.
    fn methods(&mut self, rings: &Arc<Keyrings>) -> Methods {
        let guards = self.config.routes.iter().filter_map(|route| guard::parse(route.guard.as_deref()?).ok());
        let shared = Shared {
            key_sets: Arc::clone(&self.services.key_sets),
            revocations: Arc::clone(&self.services.revocations),
            held_keys: Arc::clone(&self.services.held_keys),
            keyrings: Arc::clone(rings),
            foreign_keys: Arc::clone(&self.services.foreign_keys),
            keys: KeyReader::default(),
            kept: guards.flat_map(|guard| guard.claims().into_iter().map(str::to_owned).collect::<Vec<_>>()).collect(),
        };
        let noting = || Shared { keys: self.services.keys.anew(), ..shared.clone() };
        let jwt = self.config.jwt.iter();
        let jwt = jwt.map(|(name, method)| {
            let own = noting();
            (format!("jwt.{name}"), AuthMethod::jwt_with(name, method, &own), own.keys)
        });
        let keys = self.config.api_keys.iter();
        let keys = keys.map(|(name, method)| {
            let own = noting();
            (format!("api_keys.{name}"), AuthMethod::api_keys_with(name, method, &own), own.keys)
        });
        let mut methods = Methods::new();
        let mtls = self.config.mtls.iter();
        let mtls =
            mtls.map(|(name, method)| (format!("mtls.{name}"), AuthMethod::mtls(name, method), KeyReader::default()));
        let all: Vec<_> = jwt.chain(mtls).chain(keys).collect();
        for (name, built, read) in all {
            self.held.note(&name, &read);
            let method = built.map_err(|faults| self.faults.extend(faults)).ok();
            if let Some(method) = &method {
                self.warnings.extend_from_slice(method.warnings());
            }
            methods.insert(name, method);
        }
        methods
    }

    fn keyrings(&mut self) -> Keyrings {
        let mut rings = Keyrings::new();
        for (name, ring) in &self.config.keyrings {
            let built = Keyring::reading(name, ring, &self.services.keys).map_err(|faults| self.faults.extend(faults));
            if let Ok(ring) = &built {
                self.held.ring(name, ring);
            }
            rings.insert(name.clone(), built.ok().map(Arc::new));
        }
        rings
    }

    fn encryptions(&mut self, rings: &Keyrings) -> Encryptions {
        let mut encryptions = Encryptions::new();
        for (name, entry) in &self.config.encryption {
            let services = self.services.noting_keys();
            let built = Encryption::build(name, entry, rings, &services);
            self.held.note(&format!("encryption.{name}"), &services.keys);
            encryptions.insert(name.clone(), built.map_err(|faults| self.faults.extend(faults)).ok().map(Arc::new));
        }
        encryptions
    }

    fn route(
        &mut self,
        index: usize,
        route: &model::Route,
        methods: &Methods,
        encryptions: &Encryptions,
    ) -> Option<Route> {
        let place = Place::root().key("routes").index(index);
        let mut filters: Vec<AnyFilter> = self.rate_limits(&place, route);
        filters.extend(Addresses::new(route, &self.services.metrics).map(AnyFilter::from));
        let mut withheld = Withheld::default();
        if !route.auth.is_empty() {
            let place = place.key("auth");
            let listed: Vec<Option<&Option<AuthMethod>>> = route.auth.iter().map(|name| methods.get(name)).collect();
            for (at, (found, name)) in listed.iter().zip(&route.auth).enumerate() {
                if found.is_none() {
                    self.faults.push(Fault::at(place.index(at), format!("there is no authentication `{name}`")));
                }
            }
            // A method that failed to build has its own faults; without it nothing can be said about the list.
            let built: Option<Vec<AuthMethod>> = listed.into_iter().map(|found| found.cloned().flatten()).collect();
            match Authentication::new(&place, built?) {
                Ok(authentication) => {
                    for set in authentication.key_sets() {
                        if !self.key_sets.iter().any(|known| Arc::ptr_eq(known, set)) {
                            self.key_sets.push(Arc::clone(set));
                        }
                    }
                    for keys in authentication.foreign_keys() {
                        if !self.foreign_keys.iter().any(|known| Arc::ptr_eq(known, keys)) {
                            self.foreign_keys.push(Arc::clone(keys));
                        }
                    }
                    for keys in authentication.held_keys() {
                        if !self.held_keys.iter().any(|known| Arc::ptr_eq(known, keys)) {
                            self.held_keys.push(Arc::clone(keys));
                        }
                    }
                    withheld = authentication.withheld(route.forward_credentials);
                    if let Some(lockout) = &self.lockout {
                        filters.push(LockoutDoor(Arc::clone(lockout)).into());
                    }
                    let authentication = authentication.noting_failures(self.lockout.clone());
                    filters.push(match &self.dpop {
                        Some(dpop) => authentication.checking_proofs(dpop).into(),
                        None => authentication.into(),
                    });
                }
                Err(faults) => self.faults.extend(faults),
            }
        }
        filters.extend(Authorisation::new(route).map(AnyFilter::from));
        filters.extend(Guard::new(route).map(AnyFilter::from));
        if let Some(name) = &route.encryption {
            match encryptions.get(name) {
                Some(Some(encryption)) => filters.push(Arc::clone(encryption).into()),
                Some(None) => {}
                None => {
                    self.faults.push(Fault::at(place.key("encryption"), format!("there is no `[encryption.{name}]`")))
                }
            }
        }
        filters.extend(self.with_own_tokens(route, &mut withheld));
        filters.extend(Leases::new(self.held.of(route, self.config)).map(AnyFilter::from));
        filters.extend(SecurityHeaders::build(route.security_headers).map(AnyFilter::from));
        let chain = Chain::new(filters, self.services);
        Some(Route {
            name: route.name.as_str().into(),
            upstream: route.upstream.as_str().into(),
            max_body: route.max_body.bytes(),
            max_response: chain.max_response().unwrap_or(u64::MAX),
            timeout: route.timeout.get(),
            withheld,
            metrics: RouteMetrics::new(&route.name, &self.services.metrics),
            encryption: route.encryption.as_ref().and_then(|name| encryptions.get(name)?.clone()),
            chain,
        })
    }

    fn rate_limits(&mut self, place: &Place, route: &model::Route) -> Vec<AnyFilter> {
        let mut rules = Vec::new();
        for (at, name) in route.rate_limits.iter().enumerate() {
            match self.config.rate_limits.get(name) {
                Some(rule) => rules.push((name.as_str(), rule)),
                None => self
                    .faults
                    .push(Fault::at(place.key("rate_limits").index(at), format!("there is no `[rate_limits.{name}]`"))),
            }
        }
        let mut filters = Vec::new();
        for stage in [Stage::ClientLimits, Stage::PrincipalLimits] {
            let built = RateLimits::build(&route.name, &rules, stage, self.services);
            let with_keys = |limits: RateLimits| limits.with_keys(&rules, &self.config.api_keys);
            match built.and_then(|limits| limits.map(with_keys).transpose()) {
                Ok(limits) => filters.extend(limits.map(AnyFilter::from)),
                Err(faults) => {
                    for (path, message) in faults {
                        let place = path.split('.').fold(Place::root(), |place, key| place.key(key));
                        let fault = Fault::at(place, message);
                        // Both stages look at every rule, and so may several routes.
                        if !self.faults.contains(&fault) {
                            self.faults.push(fault);
                        }
                    }
                }
            }
        }
        filters
    }
}

fn route_methods(route: &model::Route) -> Vec<Method> {
    route.methods.iter().filter_map(|method| method.parse().ok()).collect()
}
