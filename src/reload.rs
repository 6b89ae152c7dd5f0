//! A reload: validate, compile, swap. A file that is bad in any way changes nothing.

use std::sync::Arc;

use gapura_config::{
    Source,
    fault::{Fault, Place, Severity},
    model::Config,
};

use crate::{
    examine, issuers, kms,
    wiring::{self, Compiled, Gateway},
};

/// Why a file was not taken.
pub(crate) struct Rejected {
    source: Source,
    faults: Vec<Fault>,
}

impl Rejected {
    /// Each with its file, line and column, as a program reads it.
    pub(crate) fn list(&self) -> serde_json::Value {
        let fault = |fault: &Fault| {
            let at = self.source.locate_fault(fault);
            serde_json::json!({
                "file": self.source.name(),
                "line": at.map(|(line, _)| line),
                "column": at.map(|(_, column)| column),
                "place": fault.place.to_string(),
                "message": fault.message,
                "help": fault.help,
            })
        };
        self.faults.iter().filter(|fault| fault.severity == Severity::Error).map(fault).collect()
    }

    /// As a person reads it.
    pub(crate) fn report(&self) -> String {
        self.source.render(&self.faults, false)
    }
}

/// One at a time; the second of two at once reads the file after the first is done with it.
pub(crate) async fn reload(gateway: &Arc<Gateway>) -> Result<(), Rejected> {
    let _turn = gateway.reloading.lock().await;
    // Keys are derived and files read: not on a thread that serves.
    let task = Arc::clone(gateway);
    let outcome = tokio::task::spawn_blocking(move || attempt(&task)).await;
    let result = outcome.unwrap_or_else(|_| {
        let source = Source::new(&gateway.path.display().to_string(), "");
        Err(Rejected { source, faults: vec![Fault::at(Place::root(), "the reload failed unexpectedly")] })
    });
    let reloads = &gateway.services.metrics.reloads;
    match &result {
        Ok(()) => {
            reloads.with_label_values(&["success"]).inc();
            log::info!("reloaded {}", gateway.path.display());
        }
        Err(rejected) => {
            reloads.with_label_values(&["failure"]).inc();
            log::error!("{} was not reloaded; nothing has changed\n{}", gateway.path.display(), rejected.report());
        }
    }
    result
}

fn attempt(gateway: &Arc<Gateway>) -> Result<(), Rejected> {
    let reject = |source: Source, mut faults: Vec<Fault>| {
        examine::sort(&source, &mut faults);
        Rejected { source, faults }
    };
    let loaded = gapura_config::load(&gateway.path).map_err(|found| {
        let (source, faults) = examine::with_the_rest(found, false);
        reject(source, faults)
    })?;
    let live = gateway.live();
    let restart = needs_restart(&live.config, &loaded.config);
    let compiled = if restart.is_empty() {
        let services = &gateway.services;
        let reading = services.with_keys(kms::reader(&loaded.config.kms, &services.metrics));
        wiring::compile(&loaded.config, &reading, gateway.self_signed(), Some(&live))
    } else {
        Err(restart)
    };
    let (live, warnings) = match compiled {
        Ok(Compiled { live, warnings }) => (live, warnings),
        Err(found) => {
            // All that `gapura check` would say, too: one attempt shows everything.
            let mut faults: Vec<Fault> = loaded.warnings.into_iter().chain(found).collect();
            let checked = examine::compile(&loaded.config).err().unwrap_or_default();
            let more: Vec<Fault> = checked.into_iter().filter(|fault| !faults.contains(fault)).collect();
            faults.extend(more);
            return Err(reject(loaded.source, faults));
        }
    };
    // On a thread that may wait.
    let refused = tokio::runtime::Handle::current().block_on(issuers::faults(&live.policy.foreign_keys));
    if !refused.is_empty() {
        return Err(reject(loaded.source, refused));
    }
    let warnings: Vec<Fault> = loaded.warnings.iter().cloned().chain(warnings).collect();
    if !warnings.is_empty() {
        log::warn!("{}", loaded.source.render(&warnings, false));
    }
    gateway.replace(live);
    Ok(())
}

/// What a running process cannot change, each by its name.
fn needs_restart(now: &Config, new: &Config) -> Vec<Fault> {
    let server = Place::root().key("server");
    let self_signed = |config: &Config| config.tls.as_ref().is_some_and(|tls| tls.self_signed);
    let changed = [
        (now.server.https != new.server.https, server.key("https")),
        (now.server.http != new.server.http, server.key("http")),
        (now.server.plaintext != new.server.plaintext, server.key("plaintext")),
        (now.server.admin != new.server.admin, server.key("admin")),
        (now.server.threads != new.server.threads, server.key("threads")),
        (now.state != new.state, Place::root().key("state")),
        (self_signed(new) && !self_signed(now), Place::root().key("tls").key("self_signed")),
    ];
    let fault = |place: Place| {
        Fault::at(place.clone(), format!("`{place}` cannot change while the gateway runs"))
            .help("restart the gateway for it, or restore what it was")
    };
    changed.into_iter().filter(|(changed, _)| *changed).map(|(_, place)| fault(place)).collect()
}
