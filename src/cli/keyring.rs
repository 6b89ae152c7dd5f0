//! `gapura keyring new / rotate / list`: key files, and what to write into the configuration. It never prints a key, and edits
//! no configuration.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use clap::ValueEnum;
use gapura_config::{
    fault::Place,
    model::{KeyKind, KeyState, Keyring},
    secret::SecretRef,
};
use gapura_filters::keyring::generate;
use serde_json::json;

use super::{Exit, check, print};

#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// The NAME of `[keyrings.NAME]`: letters, digits, `_` and `-`.
    name: String,
    /// What its keys are.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The id of the version. Without it, year and month.
    #[arg(long)]
    id: Option<String>,
    /// Where the key file goes: NAME-ID.pem, or NAME-ID.secret.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "gapura.toml")]
    config: PathBuf,
    /// The NAME of the `[keyrings.NAME]`.
    name: String,
    /// The id of the new version. Without it, year and month.
    #[arg(long)]
    id: Option<String>,
    /// Where the key file goes. Without it, beside the active key.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The configuration.
    #[arg(short, long, value_name = "FILE", default_value = "gapura.toml")]
    config: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    X25519,
    P256,
    Rsa,
    Secret,
}

impl From<Kind> for KeyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::X25519 => Self::X25519,
            Kind::P256 => Self::P256,
            Kind::Rsa => Self::Rsa,
            Kind::Secret => Self::Secret,
        }
    }
}

pub(super) fn new(options: &New) -> ExitCode {
    let id = options.id.clone().unwrap_or_else(this_month);
    if let Some(bad) = [&options.name, &id].into_iter().find(|text| !is_id(text)) {
        return Exit::Input
            .with(&format!("`{}` is no name: write 1 to 64 letters, digits, `_` or `-`", bad.escape_debug()));
    }
    let kind = options.kind.into();
    match write_key(kind, &options.folder, &options.name, &id) {
        Ok(path) => print(
            format!(
                "# {}: written, readable by its owner only. Into the configuration:\n\n[keyrings.{}]\nkind = \"{}\"\n\n{}",
                path.display(),
                options.name,
                kind.name(),
                version(Form::Tables, &options.name, &id, &file(&path), KeyState::Active)
            )
            .as_bytes(),
        ),
        Err(why) => Exit::Environment.with(&why),
    }
}

pub(super) fn rotate(options: &Rotate) -> ExitCode {
    let loaded = match check::load(&options.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Some(ring) = loaded.config.keyrings.get(&options.name) else {
        return Exit::Input.with(&format!("there is no `[keyrings.{}]`", options.name.escape_debug()));
    };
    let id = options.id.clone().unwrap_or_else(this_month);
    if !is_id(&id) || ring.versions.iter().any(|version| version.id == id) {
        return Exit::Input
            .with(&format!("`{}` cannot be the new version: give it an id of its own with --id", id.escape_debug()));
    }
    let active = ring.versions.iter().find(|version| version.state == KeyState::Active);
    let active = active.map(|version| &version.key);
    if let Some(SecretRef::KmsKey(_)) = active {
        return Exit::Input.with(
            "the active key is in AWS KMS: make the next one there, and add a version with `key = \"kms:key:ARN\"` and \
             `state = \"pending\"`",
        );
    }
    let sealed = match active {
        Some(SecretRef::Kms(inner)) => Some(&**inner),
        _ => None,
    };
    if sealed.is_some() && options.folder.is_none() {
        return Exit::Input.with(
            "the active key is encrypted by AWS KMS, and the new one is not yet: say with --folder where it may stand until \
             then, /dev/shm say",
        );
    }
    let folder = options.folder.clone().unwrap_or_else(|| beside(active));
    let versions = Place::root().key("keyrings").key(&options.name).key("versions");
    let form = if loaded.source.is_inline(&versions.index(0)) { Form::Braces } else { Form::Tables };
    match write_key(ring.kind, &folder, &options.name, &id) {
        Ok(path) => {
            let masters =
                loaded.config.encryption.values().any(|entry| entry.master_keys.as_ref() == Some(&options.name));
            let then = if masters { OF_MASTERS } else { OF_OTHERS };
            let steps = match sealed {
                None => steps(ring, then, form, &options.name, &id, &Made { path: &path, sealed: None }),
                Some(inner) => {
                    let to = beside(Some(inner)).join(format!("{}-{id}.enc", options.name));
                    let sealed = Some((&*to, &loaded.config.kms.encryption_context));
                    steps(ring, then, form, &options.name, &id, &Made { path: &path, sealed })
                }
            };
            print(steps.as_bytes())
        }
        Err(why) => Exit::Environment.with(&why),
    }
}

pub(super) fn list(options: &List) -> ExitCode {
    let loaded = match check::load(&options.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let config = &loaded.config;
    let mut out = String::new();
    for (name, ring) in &config.keyrings {
        let users = config
            .encryption
            .iter()
            .filter(|(_, entry)| entry.keyrings.contains(name) || entry.master_keys.as_ref() == Some(name));
        let users: Vec<&String> = users.map(|(entry, _)| entry).collect();
        for version in &ring.versions {
            let kid = version.kid.clone().unwrap_or_else(|| format!("{name}.{}", version.id));
            let line = json!({
                "keyring": name, "kind": ring.kind.name(), "id": version.id, "kid": kid, "state": version.state.name(),
                "until": version.until.map(|until| until.to_string()), "key": version.key.to_string(), "encryption": users,
            });
            out += &format!("{line}\n");
        }
    }
    print(out.as_bytes())
}

const OF_OTHERS: &str = ": clients\n#    get the new key. They may keep the old one for five minutes; session keys live for `session_key_lifetime`.";
const OF_MASTERS: &str = ", once\n#    each client that holds the master key holds the new one, too. Others fetch theirs anew within `session_key_lifetime`.";

/// What an operator does, in an order in which no client ever fails.
fn steps(ring: &Keyring, then: &str, form: Form, name: &str, id: &str, made: &Made<'_>) -> String {
    let active = ring.versions.iter().find(|version| version.state == KeyState::Active);
    let old = active.map_or("", |version| &version.id);
    format!(
        "# {path}: written, readable by its owner only.\n{sealing}\
         # 1. Add this version{place}, and reload all instances: each then opens what is sealed to it.\n\n{version}\n\
         # 2. Then write `state = \"active\"` for {id}, and `state = \"retiring\"` with an `until` for {old}, and reload{then}\n\
         # 3. After `until` remove {old} and its key file.\n",
        path = made.path.display(),
        sealing = made.sealing(),
        place =
            if form == Form::Braces { format!(" to the list `versions` of [keyrings.{name}]") } else { String::new() },
        version = version(form, name, id, &made.reference(), KeyState::Pending),
    )
}

/// The new key's file, and where its ciphertext goes if the ring is one that AWS KMS opens.
struct Made<'a> {
    path: &'a Path,
    sealed: Option<(&'a Path, &'a BTreeMap<String, String>)>,
}

impl Made<'_> {
    fn reference(&self) -> String {
        self.sealed.map_or_else(|| file(self.path), |(to, _)| format!("kms:{}", file(to)))
    }

    /// The step before the first.
    fn sealing(&self) -> String {
        let Some((to, context)) = self.sealed else { return String::new() };
        let context = if context.is_empty() {
            String::new()
        } else {
            format!(" --encryption-context {}", quoted(&json!(context).to_string()))
        };
        let (from, plaintext) = (quoted(&self.path.display().to_string()), format!("fileb://{}", self.path.display()));
        format!(
            "# 0. Encrypt it, and remove what is in the clear:\n\n\
             aws kms encrypt --key-id alias/KEY --plaintext {plaintext}{context} \\\n    \
             --query CiphertextBlob --output text > {to}\nshred -u {from}\n\n",
            plaintext = quoted(&plaintext),
            to = quoted(&to.display().to_string()),
        )
    }
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// How a file writes versions: the two do not go together in one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `versions = [{ … }]`
    Braces,
    /// `[[keyrings.NAME.versions]]`
    Tables,
}

fn file(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn version(form: Form, name: &str, id: &str, reference: &str, state: KeyState) -> String {
    // As TOML writes a text: a path may have a quote in it.
    let key = json!(reference);
    let state = state.name();
    match form {
        Form::Braces => format!("  {{ id = \"{id}\", key = {key}, state = \"{state}\" }},\n"),
        Form::Tables => format!("[[keyrings.{name}.versions]]\nid = \"{id}\"\nkey = {key}\nstate = \"{state}\"\n"),
    }
}

fn beside(key: Option<&SecretRef>) -> PathBuf {
    match key {
        Some(SecretRef::File(path)) => path.parent().unwrap_or(Path::new(".")).to_owned(),
        _ => ".".into(),
    }
}

/// A file that was not there before, for its owner only from its first moment.
fn write_key(kind: KeyKind, folder: &Path, name: &str, id: &str) -> Result<PathBuf, String> {
    let end = if kind == KeyKind::Secret { "secret" } else { "pem" };
    let folder = folder.canonicalize().map_err(|why| format!("{}: {why}", folder.display()))?;
    let path = folder.join(format!("{name}-{id}.{end}"));
    let key = generate(kind)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(key.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|why| match why.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already: give another --id", path.display()),
        _ => format!("{}: {why}", path.display()),
    })?;
    Ok(path)
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// `2026-11`.
fn this_month() -> String {
    // `Sat, 21 Nov 2026 12:00:00 GMT`
    let date = httpdate::fmt_http_date(SystemTime::now());
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == &date[8..11]).map_or(1, |at| at + 1);
    format!("{}-{month:02}", &date[12..16])
}
