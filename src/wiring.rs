//! What the process holds, put together: state that lives as long as it does, and the settings that a reload replaces.

mod state;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use gapura_config::{
    Loaded,
    fault::Fault,
    model::{self, Config},
};
use gapura_filters::{
    contract::Services,
    encryption,
    leases::over_text,
    metrics::{Metrics, RouteMetrics},
    policy::Policy,
};
use pingora::{
    apps::HttpServerOptions,
    connectors::{ConnectorOptions, TransportConnector},
    protocols::http::v2::server::default_h2_options,
    proxy::HttpProxy,
    server::configuration::ServerConf,
};

pub(crate) use self::state::store_faults;
use self::state::{SystemClock, resume, services};
use crate::{
    issuers, keys, kms,
    providers::{self, Providers},
    proxy::{
        Changes, Front, Lanes, Proxy,
        listen::{self, GateLimits, Open, SelfSigned, Settings, Tally, Trust},
    },
    stores,
    upstream::Upstreams,
};

/// As long as the process.
pub(crate) struct Gateway {
    pub(crate) path: PathBuf,
    pub(crate) clock: SystemClock,
    pub(crate) services: Services,
    pub(crate) open: Arc<Open>,
    pub(crate) draining: AtomicBool,
    /// Wakes what outlives the check of its caller.
    pub(crate) changes: Changes,
    pub(super) reloading: tokio::sync::Mutex<()>,
    self_signed: Option<SelfSigned>,
    tally: Tally,
    live: ArcSwap<Live>,
    /// Pingora's proxy needs the gateway, and listeners need the proxy: set as soon as both are there.
    pingora: ArcSwapOption<Pingora>,
}

/// Pingora's side, made anew by a reload only where its options have changed: it holds connections.
pub(crate) struct Pingora {
    options: Options,
    pub(crate) connector: TransportConnector,
    pub(crate) front: Arc<Front>,
}

/// What Pingora is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    threads: usize,
    max_streams: u32,
    max_head: u64,
    idle_timeout: Duration,
    ca_file: Option<String>,
    max_servers: usize,
}

/// As long as a configuration: replaced whole.
pub(crate) struct Live {
    pub(crate) policy: Policy,
    pub(crate) upstreams: Upstreams,
    pub(crate) lanes: Lanes,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: bool,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// Who vouches for clients.
    pub(crate) trust: Option<Arc<Trust>>,
    pub(crate) config: Config,
    gate: GateLimits,
}

/// Settings that compiled, and what is odd about them.
pub(crate) struct Compiled {
    pub(crate) live: Live,
    pub(crate) warnings: Vec<Fault>,
}

/// Why a gateway cannot be put together: the file's faults, or the environment's.
pub(crate) enum CannotStart {
    Faults(Vec<Fault>),
    Environment(String),
}

/// Everything that a file can be held to without serving it.
pub(crate) fn compile(
    config: &Config,
    services: &Services,
    self_signed: Option<&SelfSigned>,
    before: Option<&Live>,
) -> Result<Compiled, Vec<Fault>> {
    let mut warnings = Vec::new();
    let live = noting(config, services, (self_signed, before), &mut warnings)?;
    Ok(Compiled { live, warnings })
}

/// The same, with the warnings of a file that is refused, too.
pub(crate) fn noting(
    config: &Config,
    services: &Services,
    (self_signed, before): (Option<&SelfSigned>, Option<&Live>),
    warnings: &mut Vec<Fault>,
) -> Result<Live, Vec<Fault>> {
    let mut faults = providers::authorities(config);
    let policy = Policy::noting(config, services, warnings).map_err(|found| faults.extend(found)).ok();
    let upstreams = Upstreams::build(config, before.map(|live| &live.upstreams), &services.metrics);
    let upstreams = upstreams.map_err(|found| faults.extend(found)).ok();
    let tls = config.tls.as_ref().filter(|_| !config.server.https.is_empty() || !config.server.plaintext);
    let trust = config.tls.as_ref().map_or(Ok(None), |tls| Trust::read(tls, state::unix_ms()));
    let trust = trust.map_err(|found| faults.extend(found)).ok().flatten();
    warnings.extend(encryption::ending(config, state::unix_ms()));
    warnings.extend(trust.iter().flat_map(|trust| trust.warnings.clone()));
    let tls = tls.map(|tls| listen::build_tls(tls, trust.as_deref(), self_signed)).transpose();
    let tls = tls.map_err(|found| faults.extend(found)).ok();
    match (policy, upstreams, tls) {
        (Some(policy), Some(upstreams), Some(tls)) if faults.is_empty() => Ok(Live {
            policy,
            upstreams,
            lanes: Lanes::build(config, before.map(|live| &live.lanes), &services.metrics),
            metrics: Arc::clone(&services.metrics),
            access_log: config.server.access_log,
            tls,
            trust,
            gate: GateLimits::new(&config.limits, config.server.access_log),
            config: config.clone(),
        }),
        _ => Err(faults),
    }
}

/// A certificate for the listeners, where the file asks for one.
pub(crate) fn self_signed(config: &Config) -> Result<Option<SelfSigned>, String> {
    config.tls.as_ref().is_some_and(|tls| tls.self_signed).then(SelfSigned::make).transpose()
}

impl Gateway {
    pub(crate) fn start(path: PathBuf, loaded: Loaded) -> Result<Arc<Self>, CannotStart> {
        let Loaded { config, source, .. } = loaded;
        let mut services = services(&config)?;
        let clock = resume(&config, &mut services)?;
        let self_signed = self_signed(&config).map_err(CannotStart::Environment)?;
        let reading = services.with_keys(kms::reader(&config.kms, &services.metrics));
        let compiled = compile(&config, &reading, self_signed.as_ref(), None);
        let Compiled { live, warnings } = compiled.map_err(CannotStart::Faults)?;
        if !warnings.is_empty() {
            log::warn!("{}", source.render(&warnings, false));
        }
        let tally =
            Tally { unrouted: RouteMetrics::new("(none)", &services.metrics), metrics: Arc::clone(&services.metrics) };
        let gateway = Arc::new(Self {
            path,
            clock,
            open: Arc::default(),
            draining: AtomicBool::new(false),
            changes: Changes::default(),
            reloading: tokio::sync::Mutex::new(()),
            self_signed,
            tally,
            live: ArcSwap::from_pointee(live),
            pingora: ArcSwapOption::empty(),
            services,
        });
        gateway.tell_pingora();
        gateway.follow_keys();
        Ok(gateway)
    }

    /// Follows the settings that are live.
    fn tell_pingora(self: &Arc<Self>) {
        let options = Options::of(&self.live().config);
        if self.pingora.load().as_ref().is_some_and(|told| told.options == options) {
            return;
        }
        let mut connector = ConnectorOptions::new(IDLE_PER_SERVER);
        connector.ca_file = options.ca_file.clone();
        let connector = TransportConnector::new(Some(connector));
        let pingora = Arc::new(options.proxy(Proxy { gateway: Arc::clone(self) }));
        let front = Arc::new(Front { gateway: Arc::clone(self), pingora });
        self.pingora.store(Some(Arc::new(Pingora { options, connector, front })));
    }

    pub(crate) fn pingora(&self) -> Arc<Pingora> {
        // Set before any listener is.
        self.pingora.load_full().expect("Pingora is told before anything is served")
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    pub(crate) fn replace(self: &Arc<Self>, live: Live) {
        self.live.store(Arc::new(live));
        self.live().lanes.begin();
        self.tell_pingora();
        self.follow_keys();
    }

    /// Keys of a set that is new are fetched at once.
    fn follow_keys(self: &Arc<Self>) {
        let ends = self.live().trust.as_ref().map_or(0, |trust| trust.first_end);
        self.services.metrics.client_crls_end.set(ends);
        for set in &self.live().policy.key_sets {
            keys::follow(set, Providers(Arc::clone(self)), &self.services.metrics);
        }
        for keys in &self.live().policy.foreign_keys {
            issuers::follow(keys, Providers(Arc::clone(self)), &self.services.metrics);
        }
        for keys in &self.live().policy.held_keys {
            stores::sql::follow(keys, &self.services.metrics);
        }
    }

    pub(crate) fn self_signed(&self) -> Option<&SelfSigned> {
        self.self_signed.as_ref()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Why no traffic should come: one line each. Empty: it should.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        if self.is_draining() {
            return vec!["stopping".into()];
        }
        let policy = &self.live().policy;
        let held = policy.held_keys.iter().filter_map(|keys| keys.missing());
        let foreign = policy.foreign_keys.iter().filter_map(|keys| keys.missing());
        policy.key_sets.iter().filter_map(|set| set.missing()).chain(held).chain(foreign).collect()
    }

    /// Keys that have ended: one line each. All instances share them, so one that stopped taking traffic would leave it to none; the
    /// routes that need no such key go on.
    pub(crate) fn ended_keys(&self) -> BTreeSet<String> {
        let live = self.live();
        let over = live.policy.leases.iter().filter(|lease| lease.is_over());
        over.map(|lease| over_text(lease.name())).collect()
    }
}

/// Idle connections that Pingora keeps for streamed exchanges.
const IDLE_PER_SERVER: usize = 128;

impl Options {
    fn of(config: &Config) -> Self {
        // Without an upstream or an issuer that needs the system's authorities they are not read: hundreds of certificates in memory,
        // twice, for nothing.
        let system = config.upstreams.values().any(|upstream| upstream.tls && upstream.ca.is_none())
            || config.jwt.values().any(|jwt| jwt.fetches_keys() && jwt.ca.is_none())
            || issuers::needs_system_authorities(config);
        Self {
            threads: threads(&config.server),
            max_streams: config.limits.max_streams,
            max_head: config.limits.max_head.bytes(),
            idle_timeout: config.limits.idle_timeout.get(),
            ca_file: (!system).then(|| NO_AUTHORITIES.to_owned()),
            max_servers: config.upstreams.values().map(|upstream| upstream.servers.len()).max().unwrap_or(1),
        }
    }

    /// Those for HTTP/2 start from Pingora's own bounds against bombs.
    fn proxy(&self, app: Proxy) -> HttpProxy<Proxy> {
        let conf = ServerConf {
            threads: self.threads,
            ca_file: self.ca_file.clone(),
            upstream_keepalive_pool_size: IDLE_PER_SERVER,
            // Each server once, and one more for a connection that went stale.
            max_retries: self.max_servers + 1,
            ..ServerConf::default()
        };
        let mut proxy = HttpProxy::new(app, Arc::new(conf));
        proxy.handle_init_modules();
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(self.idle_timeout);
        // CONNECT reaches our own refusal, a problem like any other.
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(self.max_streams);
        // Up to here the refusal is our own problem, above it the bare 431 of the h2 library.
        h2.max_header_list_size(u32::try_from(self.max_head.saturating_mul(2)).unwrap_or(u32::MAX));
        proxy.h2_options = Some(h2);
        proxy
    }
}

/// An empty bundle.
const NO_AUTHORITIES: &str = "/dev/null";

pub(crate) fn threads(server: &model::Server) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    if server.threads == 0 { cores() } else { server.threads }
}

/// What one kind of public listener serves.
pub(crate) struct Public {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) tls: bool,
}

impl Settings for Public {
    type App = Front;

    fn app(&self) -> Arc<Self::App> {
        Arc::clone(&self.gateway.pingora().front)
    }
    fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        if self.tls { self.gateway.live.load().tls.clone() } else { None }
    }
    fn trust(&self) -> (Option<Arc<Trust>>, u64) {
        (self.gateway.live.load().trust.clone(), state::unix_ms())
    }
    fn handshake_timeout(&self) -> Duration {
        self.gateway.live.load().config.limits.handshake_timeout.get()
    }
    fn max_connections(&self) -> usize {
        self.gateway.live.load().config.limits.max_connections
    }
    fn gate(&self) -> GateLimits {
        self.gateway.live.load().gate
    }
    fn tally(&self) -> &Tally {
        &self.gateway.tally
    }
}
