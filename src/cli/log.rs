//! Logs: one line each on standard error, `RUST_LOG` as users of Rust programs know it.

use std::io::Write as _;

use log::LevelFilter;

/// Libraries that quote what they were sent: a request that cannot be parsed may hold a credential.
const SILENT: [&str; 8] =
    ["pingora_core", "pingora_proxy", "pingora_http", "pingora_cache", "pingora_pool", "h2", "hyper", "tokio_util"];

pub(super) fn start() {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    for library in SILENT {
        builder.filter_module(library, LevelFilter::Off);
    }
    builder.format(|out, record| {
        let target = record.target();
        // The environment may name one of their modules; no setting lets them speak.
        if SILENT.iter().any(|library| target.split("::").next() == Some(library)) {
            return Ok(());
        }
        let time = out.timestamp_millis();
        let message = record.args().to_string();
        // A fault report has lines of its own; nothing that a client sent gets here with a line break in it.
        writeln!(out, "{time} {:<5} {target}: {}", record.level(), message.trim_end())
    });
    builder.init();
}
