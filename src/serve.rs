//! `gapura run`: listeners, signals, the orderly end.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gapura_config::{Loaded, units::Address};
use gapura_filters::metrics::RouteMetrics;
use pingora::server::ShutdownWatch;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    admin::Admin,
    cli::Exit,
    issuers,
    proxy::{
        self, Ports, Redirect,
        listen::{self, App, GateLimits, Open, Settings, Tally, Trust},
    },
    reload,
    wiring::{self, CannotStart, Gateway, Public},
};

pub(crate) fn run(path: PathBuf, loaded: Loaded) -> ExitCode {
    // Both TLS directions use this one; Pingora's own choice then finds the place taken.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let threads = wiring::threads(&loaded.config.server);
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(path, loaded));
            // A reload that still waits for keys holds up no end.
            runtime.shutdown_background();
            code
        }
        Err(why) => Exit::Environment.with(&format!("no threads can be started: {why}")),
    }
}

async fn serve(path: PathBuf, loaded: Loaded) -> ExitCode {
    let source = loaded.source.clone();
    let gateway = match Gateway::start(path, loaded) {
        Ok(gateway) => gateway,
        Err(CannotStart::Faults(faults)) => {
            let _ = writeln!(io::stderr(), "{}", source.render(&faults, false));
            return Exit::of(&faults).code();
        }
        Err(CannotStart::Environment(why)) => return Exit::Environment.with(&why),
    };
    let faults = issuers::faults(&gateway.live().policy.foreign_keys).await;
    if !faults.is_empty() {
        let _ = writeln!(io::stderr(), "{}", source.render(&faults, false));
        return Exit::Input.code();
    }
    if let Err(why) = gateway.await_store().await {
        return Exit::Environment.with(&why);
    }
    if let Some(made) = gateway.self_signed() {
        log::warn!("self-signed certificate for development, SHA-256 fingerprint {}", made.fingerprint());
    }
    let (stop, shutdown) = watch::channel(false);
    // Of the admin listener, which tells until the very end that the gateway is stopping.
    let (_ended, end) = watch::channel(false);
    // Every address is bound before any is served: a port that is taken stops the start, not half of it.
    let listeners = match Listeners::bind(&gateway) {
        Ok(listeners) => listeners,
        Err(why) => return Exit::Environment.with(&why),
    };
    listeners.serve(&gateway, &shutdown, &end);
    tokio::spawn(sweep(Arc::clone(&gateway)));
    tokio::spawn(proxy::watch(Arc::clone(&gateway)));
    log::info!("gapura {} is ready", env!("CARGO_PKG_VERSION"));
    match until_stopped(&gateway).await {
        Ok(patience) => drain(&gateway, &stop, patience).await,
        Err(why) => Exit::Environment.with(&format!("signals cannot be received: {why}")),
    }
}

/// Bound, not yet served.
struct Listeners {
    https: Vec<(Address, TcpListener)>,
    http: Vec<(Address, TcpListener)>,
    admin: Option<(Address, TcpListener)>,
}

impl Listeners {
    fn bind(gateway: &Gateway) -> Result<Self, String> {
        let live = gateway.live();
        let server = &live.config.server;
        let all = |addresses: &[Address]| -> Result<Vec<_>, String> {
            addresses.iter().map(|address| Ok((address.clone(), listen::bind(address)?))).collect()
        };
        Ok(Self { https: all(&server.https)?, http: all(&server.http)?, admin: all(server.admin.as_slice())?.pop() })
    }

    /// Port 0 took a free one, so the log names the address that each has.
    fn serve(self, gateway: &Arc<Gateway>, shutdown: &ShutdownWatch, end: &ShutdownWatch) {
        let live = gateway.live();
        let https_port = self.https.first().map_or(443, |(_, listener)| port(listener));
        let plaintext = live.config.server.plaintext;
        let gauge = |scheme: &str, address: &Address| {
            gateway.services.metrics.connections.with_label_values(&[&format!("{scheme}://{address}")])
        };
        for (address, listener) in self.https {
            log::info!("listening on https://{}", local(&listener));
            let settings = Arc::new(Public { gateway: Arc::clone(gateway), tls: true });
            let gauge = gauge("https", &address);
            tokio::spawn(listen::accept(listener, settings, Arc::clone(&gateway.open), gauge, shutdown.clone()));
        }
        for (address, listener) in self.http {
            log::info!("listening on http://{}", local(&listener));
            let (open, gauge, shutdown) = (Arc::clone(&gateway.open), gauge("http", &address), shutdown.clone());
            if plaintext {
                let settings = Arc::new(Public { gateway: Arc::clone(gateway), tls: false });
                tokio::spawn(listen::accept(listener, settings, open, gauge, shutdown));
            } else {
                let ports = Ports { from: port(&listener), to: https_port };
                let app = Redirect { ports, gateway: Arc::clone(gateway) };
                tokio::spawn(listen::accept(listener, Own::new(gateway, app, None), open, gauge, shutdown));
            }
        }
        if let Some((address, listener)) = self.admin {
            log::info!("listening on admin http://{}", local(&listener));
            let app = Admin { gateway: Arc::clone(gateway) };
            // Beside the public ones: metrics and reloads must be reachable when those are full.
            let settings = Own::new(gateway, app, Some(MAX_ADMIN));
            tokio::spawn(listen::accept(
                listener,
                settings,
                Arc::new(Open::default()),
                gauge("admin", &address),
                end.clone(),
            ));
        }
    }
}

const MAX_ADMIN: usize = 64;

/// A plain listener with an application of ours: the redirect, the admin API.
struct Own<A> {
    gateway: Arc<Gateway>,
    app: Arc<A>,
    /// Of its own, where it is not one of the public listeners.
    max_connections: Option<usize>,
    tally: Tally,
}

impl<A> Own<A> {
    fn new(gateway: &Arc<Gateway>, app: A, max_connections: Option<usize>) -> Arc<Self> {
        let metrics = Arc::clone(&gateway.services.metrics);
        let tally = Tally { unrouted: RouteMetrics::new("(none)", &metrics), metrics };
        Arc::new(Self { gateway: Arc::clone(gateway), app: Arc::new(app), max_connections, tally })
    }
}

impl App for Admin {}
impl App for Redirect {}

impl<A: App> Settings for Own<A> {
    type App = A;

    fn app(&self) -> Arc<A> {
        Arc::clone(&self.app)
    }
    fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        None
    }
    fn trust(&self) -> (Option<Arc<Trust>>, u64) {
        (None, 0)
    }
    fn handshake_timeout(&self) -> Duration {
        Duration::ZERO
    }
    fn max_connections(&self) -> usize {
        self.max_connections.unwrap_or_else(|| self.gateway.live().config.limits.max_connections)
    }
    fn gate(&self) -> GateLimits {
        let live = self.gateway.live();
        GateLimits::new(&live.config.limits, self.max_connections.is_none() && live.access_log)
    }
    fn tally(&self) -> &Tally {
        &self.tally
    }
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |at| at.port())
}

fn local(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|why| why.to_string(), |at| at.to_string())
}

/// Closes idle upstream connections in time.
async fn sweep(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        gateway.live().upstreams.sweep().await;
    }
}

/// Reloads on SIGHUP. Returns how long running requests may take to end.
async fn until_stopped(gateway: &Arc<Gateway>) -> io::Result<Duration> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Beside this loop: it may wait for keys, and the end does not wait for it. A SIGHUP meanwhile is kept until it is done.
    let mut running: Option<JoinHandle<()>> = None;
    loop {
        tokio::select! {
            _ = hangup.recv(), if running.is_none() => {
                let gateway = Arc::clone(gateway);
                // Its outcome is in the log and in the metrics.
                running = Some(tokio::spawn(async move { let _ = reload::reload(&gateway).await; }));
            }
            () = ended(&mut running) => running = None,
            _ = terminate.recv() => return Ok(gateway.live().config.limits.shutdown_grace.get()),
            // Somebody at a terminal: orderly, but not for long.
            _ = interrupt.recv() => return Ok(ON_INTERRUPT.min(gateway.live().config.limits.shutdown_grace.get())),
        }
    }
}

/// Never, where nothing runs.
async fn ended(running: &mut Option<JoinHandle<()>>) {
    match running {
        Some(task) => {
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
}

const ON_INTERRUPT: Duration = Duration::from_secs(3);

/// No new connections, no further requests on idle ones; what runs may end.
async fn drain(gateway: &Gateway, stop: &watch::Sender<bool>, patience: Duration) -> ExitCode {
    gateway.draining.store(true, Ordering::Release);
    let _ = stop.send(true);
    log::info!("stopping: waiting up to {patience:?} for {} connections", gateway.open.count());
    let empty = async {
        while gateway.open.count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let again = async {
        let both = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
        if let (Ok(mut terminate), Ok(mut interrupt)) = both {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
    };
    tokio::select! {
        ended = tokio::time::timeout(patience, empty) => if ended.is_err() {
            log::warn!("{} connections were cut off", gateway.open.count());
        },
        () = again => log::warn!("told twice: {} connections were cut off", gateway.open.count()),
    }
    gateway.save();
    log::info!("stopped");
    Exit::Fine.code()
}
