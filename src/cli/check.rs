//! `gapura check`: everything that can be known without serving.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    process::ExitCode,
};

use gapura_config::{Loaded, Source, fault::Fault};

use super::{Exit, print};
use crate::examine;

pub(super) fn run(path: &Path, online: bool) -> ExitCode {
    match examine::file(path, online) {
        Ok((loaded, warnings)) => {
            report(&loaded.source, &warnings);
            let routes = loaded.config.routes.len();
            let plural = if routes == 1 { "" } else { "s" };
            print(format!("{}: fine, {routes} route{plural}\n", path.display()).as_bytes())
        }
        Err((source, faults)) => {
            report(&source, &faults);
            Exit::of(&faults).code()
        }
    }
}

/// A configuration that may be served, or its faults on standard error and the code to leave with.
pub(super) fn load(path: &Path) -> Result<Loaded, ExitCode> {
    gapura_config::load(path).inspect(|loaded| report(&loaded.source, &loaded.warnings)).map_err(|found| {
        let (source, faults) = examine::with_the_rest(found, false);
        report(&source, &faults);
        Exit::Input.code()
    })
}

/// To standard error, whether or not anybody still reads it.
pub(super) fn report(source: &Source, faults: &[Fault]) {
    let mut faults = faults.to_vec();
    examine::sort(source, &mut faults);
    let colored = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = io::stderr().write_all(source.render(&faults, colored).as_bytes());
}
