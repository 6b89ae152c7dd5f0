//! What is not drawn of a line: a secret that somebody wrote where a reference belongs.
//!
//! Reports land in logs and tickets. Of a file that is TOML we know every value, and hide those of secret keys that are
//! no references and those of unknown keys (a misspelt `secret` is one). Of a file that is not TOML we know nothing, so
//! a line shows its values only behind a key that is known and not secret.

use std::{ops::Range, sync::LazyLock};

use crate::{schema, source::Source};

/// What stands in the place of what is hidden.
const HIDDEN: char = '…';

/// One line as it is drawn, and where on it the marked bytes ended up.
pub(crate) struct Drawn {
    pub(crate) text: String,
    pub(crate) marked: Range<usize>,
}

/// Draws a line. `marked` are bytes of the file that begin on it.
pub(crate) fn draw(source: &Source, line: usize, marked: &Range<usize>) -> Drawn {
    let bytes = source.line_bytes(line);
    let text = &source.text()[bytes.clone()];
    let mut hidden: Vec<Range<usize>> = source
        .hidden()
        .iter()
        .filter(|span| span.start < bytes.end && span.end > bytes.start)
        .map(|span| span.start.max(bytes.start) - bytes.start..span.end.min(bytes.end) - bytes.start)
        .collect();
    if source.is_broken() {
        hidden.extend(suspicious(text));
    }
    // What follows a hidden value on its line may be the rest of it, or a comment about it.
    if let Some(last) = hidden.iter().map(|span| span.end).max()
        && let Some(comment) = text[last..].find('#')
    {
        hidden.push(last + comment + 1..text.len());
    }
    let within = |byte: usize| byte.clamp(bytes.start, bytes.end) - bytes.start;
    redraw(text, &hidden, within(marked.start)..within(marked.end))
}

/// Longer lines are drawn in part, around what is marked: a report is for reading.
const MAX_DRAWN: usize = 400;

fn redraw(text: &str, hidden: &[Range<usize>], marked: Range<usize>) -> Drawn {
    let from = text[..marked.start].char_indices().rev().nth(MAX_DRAWN / 2).map_or(0, |(at, _)| at);
    let mut drawn = String::new();
    let (mut start, mut end) = (None, None);
    let mut hiding = false;
    for (at, c) in text.char_indices().skip_while(|(at, _)| *at < from).take(MAX_DRAWN) {
        let hide = hidden.iter().any(|span| span.contains(&at));
        // A range of several characters becomes one mark, which tells nothing of its length.
        if at >= marked.end && !(hide && hiding) {
            end.get_or_insert(drawn.len());
        }
        if !(hide && hiding) {
            if at >= marked.start {
                start.get_or_insert(drawn.len());
            }
            drawn.push(if hide { HIDDEN } else { printable(c) });
        }
        hiding = hide;
    }
    let start = start.unwrap_or(drawn.len());
    let end = end.unwrap_or(drawn.len()).max(start);
    Drawn { text: drawn, marked: start..end }
}

/// Control characters would move the cursor of whoever reads the report.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c }
}

/// The parts of a line of broken TOML that may be a secret.
fn suspicious(line: &str) -> Vec<Range<usize>> {
    if line.trim_start().starts_with('[') && line.trim_end().ends_with(']') && !line.contains(['"', '\'', '=']) {
        return Vec::new();
    }
    let mut hidden = Vec::new();
    let mut trusted = false;
    let mut rest = 0;
    while let Some((key, value)) = next_key(line, rest) {
        if !trusted {
            hide_words(line, rest..key.start, &mut hidden);
        }
        let name = &line[key.clone()];
        trusted = KEYS.open.contains(name);
        if !KEYS.open.contains(name) && !KEYS.secret.contains(name) && !is_plain_word(name) {
            hidden.push(key);
        }
        rest = value;
    }
    if !trusted {
        hide_words(line, rest..line.len(), &mut hidden);
    }
    hidden
}

/// The next `key =` from a byte on: the key's bytes, and where its value begins.
fn next_key(line: &str, from: usize) -> Option<(Range<usize>, usize)> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    line[from..].match_indices('=').map(|(at, _)| from + at).find_map(|equals| {
        let end = from + line[from..equals].trim_end().len();
        let start = from + line[from..end].trim_end_matches(is_key).len();
        (start < end).then_some((start..end, equals + 1))
    })
}

/// A word like a key's name, not like a passphrase or base64.
fn is_plain_word(name: &str) -> bool {
    name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'-')
}

/// Hides everything but punctuation, and a reference to a secret.
fn hide_words(line: &str, range: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let text = &line[range.clone()];
    let bare = text.trim_matches([' ', '\t', ',', '}', ']']);
    if let Some(reference) = bare.strip_prefix('"').and_then(|text| text.strip_suffix('"'))
        && reference.parse::<crate::secret::SecretRef>().is_ok()
        && !reference.contains('"')
    {
        return;
    }
    for (at, c) in text.char_indices().filter(|(_, c)| !" \t[]{},\"'".contains(*c)) {
        hidden.push(range.start + at..range.start + at + c.len_utf8());
    }
}

struct Keys {
    secret: std::collections::BTreeSet<String>,
    open: std::collections::BTreeSet<String>,
}

/// Every key of the model. One that is secret in any table is secret in all.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut keys = Keys { secret: Default::default(), open: Default::default() };
    schema::each_property(schema::root(), &mut |_, name, property| {
        let secret = matches!(schema::format(property), Some("secret" | "hex-sha256"));
        if secret { &mut keys.secret } else { &mut keys.open }.insert(name.to_owned());
    });
    keys.open = keys.open.difference(&keys.secret).cloned().collect();
    keys
});
