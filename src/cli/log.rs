//! Logs: one line each on standard error, `RUST_LOG` as users of Rust programs know it.

use std::io::Write as _;

use log::LevelFilter;

/// Libraries that quote what they were sent, by how their names begin: a request that cannot be parsed may hold a credential, and
/// the SDK of AWS shows its session token, its questions and the keys in their answers.
const SILENT: [&str; 6] = ["pingora_", "h2", "hyper", "tokio_util", "aws_", "tracing"];

pub(super) fn start() {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Info).parse_default_env();
    for library in SILENT {
        builder.filter_module(library, LevelFilter::Off);
    }
    builder.format(|out, record| {
        let target = record.target();
        // The environment may name one of their modules; no setting lets them speak.
        if is_silent(target) {
            return Ok(());
        }
        let time = out.timestamp_millis();
        let message = record.args().to_string();
        // A fault report has lines of its own; nothing that a client sent gets here with a line break in it.
        writeln!(out, "{time} {:<5} {target}: {}", record.level(), message.trim_end())
    });
    builder.init();
}

fn is_silent(target: &str) -> bool {
    SILENT.iter().any(|library| target.starts_with(library))
}

#[cfg(test)]
mod tests {
    use super::is_silent;

    #[test]
    fn what_quotes_credentials_and_keys_is_silent() {
        for library in [
            "aws_sigv4::http_request::sign",
            "aws_runtime::auth::sigv4",
            "hyper_util::client::legacy::pool",
            "h2::codec::framed_read",
            "pingora_proxy::proxy_trait",
            "tracing::span",
        ] {
            assert!(is_silent(library), "{library}");
        }
        for ours in ["gapura::kms::lease", "gapura_filters::policy", "rustls::client::hs"] {
            assert!(!is_silent(ours), "{ours}");
        }
    }
}
