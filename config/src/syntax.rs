//! A text that is not TOML: what the parser stumbled over, in words that help.

use std::collections::HashSet;

use toml::de::Error;

use crate::{
    fault::{Fault, Place},
    source::Source,
};

pub(crate) const DEEP_HELP: &str = "no table of the model has tables below its third level; see `gapura schema`";

/// Each slip once, with what to write instead, and with the first of them that it may hide others.
pub(crate) fn faults(source: &Source, errors: &[Error]) -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut lines = HashSet::new();
    for error in errors {
        let message = error.message();
        let fault = Fault::at(Place::root(), format!("not TOML: {message}"));
        let Some(span) = error.span().filter(|span| !span.is_empty() || span.start > 0) else {
            faults.push(fault.help(instead(message)));
            continue;
        };
        let span = source.within(span);
        // One slip makes the parser stumble several times over the same line.
        if lines.insert(source.line_of(span.start)) {
            faults.push(fault.on_span(span).help(instead(message)));
        }
    }
    if let Some(first) = faults.first_mut().filter(|_| !errors.iter().all(is_duplicate))
        && let Some(help) = &mut first.help
    {
        help.push_str("; other faults of the file may show only once it is TOML");
    }
    faults
}

/// The table is whole but for the second of two equal keys.
pub(crate) fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}

/// What to write instead. The parser's messages have no kinds, so that their words decide.
fn instead(message: &str) -> &'static str {
    const HELP: &[(&str, &str)] = &[
        ("duplicate key", "a key and a `[table]` stand once; put their contents together, or remove one of them"),
        ("recursion limit", DEEP_HELP),
        ("must be quoted", "write the value in quotes: key = \"value\""),
        ("unquoted string", "write the value in quotes: key = \"value\""),
        (
            "basic string",
            "is its closing quote missing? Within quotes write `\\\"` for a quote and `\\\\` for a backslash",
        ),
        ("literal string", "is its closing quote missing?"),
        ("carriage return", "save the file with the line ends of Unix or of Windows"),
        ("unclosed table", "close it: `[table]`"),
        ("unclosed array table", "close it: `[[table]]`"),
        ("unclosed array", "close the list: `]`"),
        ("unclosed inline table", "close the table: `}`"),
        ("comma", "entries are parted by one comma each"),
        ("equals", "write `key = value`"),
        ("with no value", "write `key = value`"),
        ("missing value", "write `key = value`"),
        ("assignment", "write `key = value`, with one `=`"),
    ];
    let found = HELP.iter().find(|(words, _)| message.contains(words));
    found.map_or("write `key = value`, one to a line, below its `[table]`", |(_, help)| help)
}

/// The faults of shape that are not only what a fault of syntax left behind: those on other lines, unless a table header
/// is broken and the keys below it ended up in the table above.
pub(crate) fn of_their_own(source: &Source, syntax: &[Fault], shape: Vec<Fault>) -> Vec<Fault> {
    let line = |fault: &Fault| source.span_of(fault).map(|span| source.line_of(span.start));
    let broken: HashSet<usize> = syntax.iter().filter_map(line).collect();
    if broken.iter().any(|&line| source.text()[source.line_bytes(line)].trim_start().starts_with('[')) {
        return Vec::new();
    }
    shape.into_iter().filter(|fault| line(fault).is_none_or(|line| !broken.contains(&line))).collect()
}
