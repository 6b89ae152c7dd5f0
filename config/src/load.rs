//! From a path to a [`Config`], or to everything that is wrong with it.

use std::{fmt, fs::File, io::Read as _, ops::Range, path::Path};

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    fault::{Fault, Place, Severity},
    model::Config,
    rules, shape,
    source::Source,
    syntax,
};

/// A hundred times the largest file seen; a larger one is a mistake (a log file, a device).
const MAX_FILE_BYTES: usize = 4 << 20;

/// Deeper than any table of the model. What is deeper is not descended into.
const MAX_DEPTH: usize = 32;

const FILE_HELP: &str = "name the configuration with `--config FILE`";

/// A configuration that can be served, and what is odd about it all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub source: Source,
    pub warnings: Vec<Fault>,
}

/// Everything that is wrong with a file, in its order. Warnings stand among the errors.
#[derive(Clone)]
pub struct Faults {
    pub source: Source,
    pub faults: Vec<Fault>,
    /// The file with a stand-in for each faulty value, where that much could be made of it: what is sound in it can still be
    /// held to secrets and certificates. Never to be served.
    pub repaired: Option<Box<Config>>,
}

/// Reads and checks a file: everything that its text alone can tell. Secrets and certificates are not opened.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let name = path.display().to_string();
    let bytes = read(path)
        .map_err(|reason| refuse(Source::new(&name, ""), Fault::at(Place::root(), reason).help(FILE_HELP)))?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let source = Source::new(&name, &String::from_utf8_lossy(error.as_bytes())).broken();
            let fault = Fault::at(Place::root(), "the file is not UTF-8 from here on")
                .on_span(at..at + char::REPLACEMENT_CHARACTER.len_utf8())
                .help("save it as UTF-8; TOML knows no other encoding");
            Err(refuse(source, fault))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |e: std::io::Error| format!("`{}` cannot be read: {e}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > MAX_FILE_BYTES { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> String {
    format!("the file is larger than {} MiB: this is no configuration", MAX_FILE_BYTES >> 20)
}

fn refuse(source: Source, fault: Fault) -> Faults {
    Faults { source, faults: vec![fault], repaired: None }
}

/// Checks a text as [`load`] checks a file. `name` is what the faults call it.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Faults> {
    if text.len() > MAX_FILE_BYTES {
        return Err(refuse(Source::new(name, ""), Fault::at(Place::root(), too_large()).help(FILE_HELP)));
    }
    // Editors on Windows still write a byte order mark; it is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = Source::new(name, text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if let Some(span) = too_deep(table.get_ref()) {
        dismantle(table);
        let source = source.broken();
        let fault = Fault::at(Place::root(), format!("tables and lists nest deeper than {MAX_DEPTH} levels here"));
        let span = source.within(span);
        return Err(refuse(source, fault.on_span(span).help(syntax::DEEP_HELP)));
    }
    source.index(table.get_ref());
    let mut found = shape::check(table.get_ref());
    source.hide(&found.hidden);

    let mut config = None;
    // A key that stands twice leaves the rest of the file as readable as it was.
    let whole = errors.iter().all(syntax::is_duplicate);
    if !errors.is_empty() {
        source = source.broken();
    }
    let mut faults = syntax::faults(&source, &errors);
    if !whole {
        let others = syntax::of_their_own(&source, &faults, found.faults);
        faults.extend(others);
    } else {
        // Which of the two values was meant, nobody knows: no rule judges either.
        found.doubtful.extend(source.behind(errors.iter().filter_map(toml::de::Error::span)));
        faults.extend(found.faults);
        faults.extend(found.of_whole_files);
        match deserialize(table, found.repaired, &faults) {
            Ok(filled) => {
                faults.extend(rules::check(&filled, &source, &found.doubtful));
                config = Some(filled);
            }
            Err(fault) => faults.extend(fault),
        }
    }
    faults.sort_by_key(|fault| source.span_of(fault).map_or(0, |span| span.start));
    match config {
        Some(config) if faults.iter().all(|fault| fault.severity == Severity::Warning) => {
            Ok(Loaded { config, source, warnings: faults })
        }
        repaired => Err(Faults { source, faults, repaired: repaired.map(Box::new) }),
    }
}

/// Fills the model: from the file where its shape is sound, else from what the shape check put in the place of each
/// faulty value, so that the rules still find every other fault.
fn deserialize(table: Spanned<DeTable<'_>>, repaired: toml::Value, faults: &[Fault]) -> Result<Config, Option<Fault>> {
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Config::deserialize(repaired).map_err(|_| None);
    }
    Config::deserialize(toml::Deserializer::from(table)).map_err(|error| {
        // The shape check missed something. serde's messages may quote a value, so only the place is told.
        let fault = Fault::at(Place::root(), "this is not what the gateway expects here").help("see `gapura schema`");
        Some(match error.span() {
            Some(span) => fault.on_span(span),
            None => fault,
        })
    })
}

/// The bytes of a value that lies deeper than [`MAX_DEPTH`]. Walks with a list of its own: the parser bounds what nests
/// in one value and in one dotted key, but not their product, and recursion over that would overflow the stack.
fn too_deep(table: &DeTable<'_>) -> Option<Range<usize>> {
    let mut open: Vec<(usize, &Spanned<DeValue<'_>>)> = table.values().map(|value| (1, value)).collect();
    while let Some((depth, value)) = open.pop() {
        if depth > MAX_DEPTH {
            return Some(value.span());
        }
        match value.get_ref() {
            DeValue::Table(table) => open.extend(table.values().map(|value| (depth + 1, value))),
            DeValue::Array(array) => open.extend(array.iter().map(|value| (depth + 1, value))),
            _ => {}
        }
    }
    None
}

/// Drops a deep table one value at a time, since its own `Drop` recurses.
fn dismantle(table: Spanned<DeTable<'_>>) {
    let mut open: Vec<DeValue<'_>> = vec![DeValue::Table(table.into_inner())];
    while let Some(value) = open.pop() {
        match value {
            DeValue::Table(table) => open.extend(table.into_iter().map(|(_, value)| value.into_inner())),
            DeValue::Array(array) => open.extend(array.into_iter().map(Spanned::into_inner)),
            _ => {}
        }
    }
}

/// Without what was repaired: beside a slip, a secret may stand where none is looked for.
impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("source", &self.source).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.render(&self.faults, false))
    }
}

impl std::error::Error for Faults {}
