//! What is not drawn of a line: a secret that somebody wrote where a reference belongs.
//!
//! Reports land in logs and tickets. Of a file that is TOML we know every value, and hide those of secret keys that are
//! no references and those of unknown keys (a misspelt `secret` is one). Of a file that is not TOML we know nothing, so
//! a line shows its values only behind a key that is known and not secret.

use std::{ops::Range, sync::LazyLock};

use crate::{formats, schema, source::Source};

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
    // A comment may hold the secret that stood there yesterday.
    hidden.extend(comment(text));
    let within = |byte: usize| byte.clamp(bytes.start, bytes.end) - bytes.start;
    redraw(text, &hidden, within(marked.start)..within(marked.end))
}

/// What follows a `#` outside of quotes.
fn comment(line: &str) -> Option<Range<usize>> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return Some(at + 1..line.len()),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && quote == Some('"') && !escaped;
    }
    None
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
    if is_header(line) {
        return Vec::new();
    }
    let mut hidden = Vec::new();
    let mut rest = 0;
    let mut trusted = false;
    loop {
        let (key, next) = next_key(line, rest).unwrap_or((line.len()..line.len(), line.len()));
        let from = if trusted { rest + value_bytes(&line[rest..key.start]) } else { rest };
        hide_words(line, from..key.start, &mut hidden);
        if key.start == line.len() {
            return hidden;
        }
        let name = &line[key.clone()];
        // After a quote this is no key but part of a text.
        trusted = KEYS.open.contains(name) && !line[from..key.start].contains(['"', '\'']);
        if !trusted && !KEYS.secret.contains(name) && !is_plain_word(name) {
            hidden.push(key);
        }
        rest = next;
    }
}

/// Whether a text holds `secret =`: its closing quote is missing, and another one closed it further on.
pub(crate) fn swallows_secret(text: &str) -> bool {
    let mut from = 0;
    while let Some((key, rest)) = next_key(text, from) {
        // The query of an address may well have a `key=`.
        if KEYS.secret.contains(&text[key.clone()]) && !text[..key.start].ends_with(['?', '&']) {
            return true;
        }
        from = rest;
    }
    false
}

/// `[jwt.users]`, perhaps with a bracket missing. Not just any list.
fn is_header(line: &str) -> bool {
    let name = line.trim().trim_start_matches('[').trim_end_matches(']');
    let section = name.split('.').next().unwrap_or_default();
    let known = schema::properties(schema::root()).is_some_and(|sections| sections.contains_key(section));
    line.trim_start().starts_with('[') && known && !name.contains(['"', '\'', '=', ' '])
}

/// The next `key =` from a byte on: the key's bytes, and where its value begins. What stands before `=` without being a
/// key is an empty one.
fn next_key(line: &str, from: usize) -> Option<(Range<usize>, usize)> {
    let is_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let equals = from + line[from..].find('=')?;
    let end = from + line[from..equals].trim_end().len();
    let start = from + line[from..end].trim_end_matches(is_key).len();
    Some((start..end, equals + 1))
}

/// The length of the one value that a text starts with: a string, a list of strings, a word. Without its end it is none:
/// it may run into what follows.
fn value_bytes(text: &str) -> usize {
    let indent = text.len() - text.trim_start().len();
    let value = &text[indent..];
    let length = match value.strip_prefix('[') {
        Some(items) => 1 + list_bytes(items),
        None if value.starts_with(['"', '\'']) => string_bytes(value),
        None => value.find([' ', '\t', ',', '{', '}', '[', ']', '#', '"', '\'']).unwrap_or(value.len()),
    };
    indent + length
}

fn string_bytes(text: &str) -> usize {
    let end = text.chars().next().and_then(|quote| text[1..].find(quote));
    end.map_or(0, |end| end + 2)
}

fn list_bytes(items: &str) -> usize {
    let mut length = 0;
    loop {
        let item = &items[length..];
        length += item.len() - item.trim_start_matches([' ', ',']).len();
        let item = &items[length..];
        match if item.starts_with(['"', '\'']) { string_bytes(item) } else { 0 } {
            0 => return length,
            bytes => length += bytes,
        }
    }
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
        let scalar = if schema::kind(property) == "array" { &property["items"] } else { property };
        // Of a table on one line, each key speaks for itself.
        // `key` of a certificate is a path; elsewhere it is what somebody calls a secret.
        if formats::is_secret(schema::format(scalar)) || name == "key" {
            keys.secret.insert(name.to_owned());
        } else if schema::kind(scalar) != "object" {
            keys.open.insert(name.to_owned());
        }
    });
    keys.open = keys.open.difference(&keys.secret).cloned().collect();
    keys
});
