//! The command line: what users type, and the exit codes they rely on.

mod check;
mod decision;
mod delivered;
mod explain;
mod jwe;
mod jwe_rsa;
mod keyring;
mod keys;
mod log;
mod revoke;
mod seal;
mod strong;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use clap_complete::Shell;
use gapura_config::fault::{Fault, Severity};
use gapura_filters::contract::NO_ANSWER;

use crate::serve;

/// A reverse-proxy security gateway: TLS, rate limits, authentication and message encryption in front of a backend that
/// need not change.
#[derive(Debug, Parser)]
#[command(name = "gapura", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway in the foreground. SIGHUP reloads the configuration, SIGTERM drains and stops.
    Run(ConfigFile),
    /// Check everything that can be known without serving: exit 0 and one line, or every fault with its place.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Also ask AWS KMS for the keys that `kms:` references name.
        #[arg(long)]
        online: bool,
    },
    /// Show which route takes a request, and the filters that it would meet, in order.
    Explain {
        #[command(flatten)]
        config: ConfigFile,
        /// The request's method.
        method: String,
        /// A URL or a path. Only path and query count.
        url: String,
        #[command(flatten)]
        credentials: decision::Credentials,
    },
    /// Work with API keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Make and show keys of `[keyrings.NAME]`.
    #[command(subcommand)]
    Keyring(Keyring),
    /// Take tokens back on a running gateway: one by its `jti`, those of a user, or all that were issued before an instant.
    Revoke(revoke::Options),
    /// Seal standard input as a client would, to standard output.
    Encrypt(seal::Options),
    /// Open an envelope from standard input, to standard output.
    Decrypt(seal::Options),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions { shell: Shell },
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make a key and print it, this once; only its hash is kept, in the table's `database`.
    Create(keys::Create),
    /// Print the keys of a table, one JSON object on each line, without what they are.
    List(keys::Table),
    /// End a key now.
    Revoke(keys::Revoke),
    /// Make a key like another one and print it; the old one ends after the overlap.
    Rotate(keys::Rotate),
    /// Read keys of another issuer on standard input, one JSON object on each line: id, hash, user_id, and as in `list`.
    Import(keys::Table),
    /// Read an API key on standard input and print its hash for `keys = [{ hash = … }]`.
    Hash {
        /// The salt of the `[api_keys.NAME]` table: env:NAME or file:/path.
        #[arg(long, value_name = "REF")]
        salt: seal::Reference,
    },
}

#[derive(Debug, Subcommand)]
enum Keyring {
    /// Make a key file, and print what to write into the configuration.
    New(keyring::New),
    /// Make the next key of a ring, and print the steps by which it follows the active one.
    Rotate(keyring::Rotate),
    /// Print all versions, one JSON object on each line. No key is read.
    List(keyring::List),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "gapura.toml")]
    config: PathBuf,
}

/// What the process tells whoever started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine = 0,
    /// The user's input was wrong.
    Input = 1,
    // 2, wrong usage, is clap's.
    /// The environment failed: a port is taken, a store cannot be reached.
    Environment = 3,
}

impl Exit {
    /// Of a configuration that is refused: nothing is wrong with it where a key service is silent and that is all.
    pub(crate) fn of(faults: &[Fault]) -> Self {
        let mut errors = faults.iter().filter(|fault| fault.severity == Severity::Error).peekable();
        let outage = errors.peek().is_some() && errors.all(|fault| fault.message.contains(NO_ANSWER));
        if outage { Self::Environment } else { Self::Input }
    }

    /// Of a command that says why it cannot be done.
    fn why(message: &str) -> Self {
        if message.contains(NO_ANSWER) { Self::Environment } else { Self::Input }
    }

    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// With one line on standard error.
    pub(crate) fn with(self, message: &str) -> ExitCode {
        let _ = writeln!(io::stderr(), "gapura: {message}");
        self.code()
    }
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|wrong| discreet(wrong).exit());
    match arguments.command {
        Command::Run(file) => {
            log::start();
            harden();
            match check::load(&file.config) {
                Ok(loaded) => serve::run(file.config, loaded),
                Err(code) => code,
            }
        }
        Command::Check { config, online } => check::run(&config.config, online),
        Command::Explain { config, method, url, credentials } => {
            explain::run(&config.config, &method, &url, &credentials)
        }
        Command::Keys(Keys::Create(options)) => keys::create(&options),
        Command::Keys(Keys::List(table)) => keys::list(&table),
        Command::Keys(Keys::Revoke(options)) => keys::revoke(&options),
        Command::Keys(Keys::Rotate(options)) => keys::rotate(&options),
        Command::Keys(Keys::Import(table)) => keys::import(&table),
        Command::Keys(Keys::Hash { salt }) => seal::hash(&salt),
        Command::Keyring(Keyring::New(options)) => keyring::new(&options),
        Command::Keyring(Keyring::Rotate(options)) => keyring::rotate(&options),
        Command::Keyring(Keyring::List(options)) => keyring::list(&options),
        Command::Revoke(options) => revoke::run(&options),
        Command::Encrypt(options) => seal::encrypt(&options),
        Command::Decrypt(options) => seal::decrypt(&options),
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&gapura_config::json_schema()).unwrap_or_default();
            print(format!("{schema}\n").as_bytes())
        }
        Command::Version => print(format!("gapura {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "gapura", &mut script);
            print(&script)
        }
    }
}

/// Whoever types a secret where its reference belongs finds it in the shell's history, but not in a log of what was printed:
/// the commands that take secrets repeat nothing of the command line but the names of options.
fn discreet(mut wrong: clap::Error) -> clap::Error {
    if !std::env::args_os()
        .any(|argument| ["keys", "keyring", "encrypt", "decrypt", "explain"].iter().any(|command| argument == *command))
    {
        return wrong;
    }
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::InvalidArg] {
        let Some(ContextValue::String(text)) = wrong.get(kind) else { continue };
        // Of an argument that is known, this is its name.
        let name = kind == ContextKind::InvalidArg && (wrong.kind() != ErrorKind::UnknownArgument || is_option(text));
        if text.is_empty() || name {
            continue;
        }
        wrong.insert(kind, ContextValue::String("…".into()));
        // The advice to write the same behind `--`.
        if wrong.get(ContextKind::Suggested).is_some() {
            wrong.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
        }
    }
    wrong
}

/// As the misspelt name of an option looks: `--slat`.
fn is_option(text: &str) -> bool {
    let name = text.strip_prefix("--").unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// To standard output. A reader that closed early, as `head` does, is no failure.
fn print(bytes: &[u8]) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Fine.code(),
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Exit::Fine.code(),
        Err(why) => Exit::Environment.with(&format!("standard output cannot be written: {why}")),
    }
}

/// Keys in memory are for no core file and no debugger; and a gateway needs as many descriptors as it may have.
fn harden() {
    use nix::sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    };
    if setrlimit(Resource::RLIMIT_CORE, 0, 0).is_err() || prctl::set_dumpable(false).is_err() {
        ::log::warn!("core dumps cannot be switched off: a crash could write keys to disk");
    }
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use gapura_config::fault::Place;

    use super::*;

    #[test]
    fn silence_is_of_the_environment_where_nothing_else_is_wrong() {
        let silent = || Fault::at(Place::root(), format!("`kms:env:A`: {NO_ANSWER}: no answer in time"));
        let wrong = || Fault::at(Place::root(), "`kms:env:A`: AWS KMS says no: AccessDeniedException");
        let doubtful = || Fault::warning(Place::root(), "this is old");
        assert_eq!(Exit::of(&[silent(), doubtful(), silent()]), Exit::Environment);
        assert_eq!(Exit::of(&[silent(), wrong()]), Exit::Input);
        assert_eq!(Exit::of(&[doubtful()]), Exit::Input);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
