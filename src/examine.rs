//! A configuration held to everything that can be known without serving it: for `gapura check`, and for a reload that is refused.

use std::{path::Path, sync::Arc};

use gapura_config::{
    Faults, Loaded, Source,
    fault::{Fault, Place, Severity},
    model::Config,
};
use gapura_filters::{
    contract::{NOT_ASKED, Services},
    metrics::Metrics,
};

use crate::{kms, wiring};

/// Loads and compiles, and forgets what it compiled. All warnings come with a good file, all faults with a bad one. What keys AWS
/// KMS holds is known only where it may be asked.
pub(crate) fn file(path: &Path, online: bool) -> Result<(Loaded, Vec<Fault>), (Source, Vec<Fault>)> {
    let loaded = gapura_config::load(path).map_err(|found| with_the_rest(found, online))?;
    match compile_with(&loaded.config, online) {
        Ok(warnings) => {
            let all = loaded.warnings.iter().cloned().chain(warnings).collect();
            Ok((loaded, all))
        }
        Err(faults) => {
            let all = loaded.warnings.into_iter().chain(faults).collect();
            Err((loaded.source, all))
        }
    }
}

/// Secrets, keys, certificates, the store's address. Nothing is connected to. The warnings, or the faults.
pub(crate) fn compile(config: &Config) -> Result<Vec<Fault>, Vec<Fault>> {
    compile_with(config, false)
}

fn compile_with(config: &Config, online: bool) -> Result<Vec<Fault>, Vec<Fault>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let services = services().map_err(|why| vec![environment(why)])?;
    let reader = if online { kms::reader(&config.kms, &services.metrics) } else { kms::offline() };
    let services = services.with_keys(reader);
    let self_signed = wiring::self_signed(config).map_err(|why| vec![environment(why)])?;
    let mut warnings = Vec::new();
    let compiled = wiring::noting(config, &services, (self_signed.as_ref(), None), &mut warnings);
    let mut faults = compiled.err().unwrap_or_default();
    faults.extend(wiring::store_faults(config));
    let (unasked, wrong): (Vec<Fault>, Vec<Fault>) =
        faults.into_iter().partition(|fault| fault.message.ends_with(NOT_ASKED));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    // What nobody was asked is no fault, only unknown.
    let unknown = |fault: Fault| {
        Fault::warning(fault.place, fault.message)
            .help("`gapura check --online` asks; so does the gateway at its start")
    };
    warnings.extend(unasked.into_iter().map(unknown));
    Ok(warnings)
}

/// A file whose text is at fault in one place is still held to secrets and certificates in the others: one run shows all.
pub(crate) fn with_the_rest(Faults { source, mut faults, repaired }: Faults, online: bool) -> (Source, Vec<Fault>) {
    // Where `[kms]` itself is at fault, nobody knows whom to ask.
    let kms = Place::root().key("kms");
    let unknown = faults.iter().any(|fault| kms.holds(&fault.place));
    if online && unknown {
        faults.push(Fault::warning(kms, NOT_ASKED).help("correct the settings, and `gapura check --online` asks"));
    }
    if let Some(config) = repaired
        && let Err(more) = compile_with(&config, online && !unknown)
    {
        let known =
            |fault: &Fault| faults.iter().any(|one| one.place.holds(&fault.place) || fault.place.holds(&one.place));
        // Which keys an encryption needs its profile says, and where that is at fault nobody knows them.
        let lacks = |fault: &Fault| {
            let profile = fault.place.parent().key("profile");
            !source.has(&fault.place) && faults.iter().any(|one| profile.holds(&one.place))
        };
        let more: Vec<Fault> = more.into_iter().filter(|fault| !known(fault) && !lacks(fault)).collect();
        faults.extend(more);
    }
    (source, faults)
}

/// State of the smallest size: nothing is served with it.
pub(crate) fn services() -> Result<Services, String> {
    let metrics = Metrics::new().map_err(|why| why.to_string())?;
    Ok(Services::in_memory(1000, 1000, Arc::new(metrics)))
}

fn environment(why: String) -> Fault {
    Fault::at(Place::root(), why)
}

/// In the order of the file; what stops the start and what only should be changed are told apart by their titles.
pub(crate) fn sort(source: &Source, faults: &mut [Fault]) {
    faults.sort_by_key(|fault| (source.locate_fault(fault), fault.severity == Severity::Warning));
}
