//! The text of a configuration file, and where in it each key and value stands.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::fault::{Fault, Place};

/// A file's name, its text, and the byte ranges of everything in it. Cheap to clone. `Debug` shows the name only: the
/// text may hold a secret that somebody wrote where a reference belongs.
#[derive(Clone)]
pub struct Source(Arc<File>);

#[derive(Clone, Default)]
struct File {
    name: String,
    text: String,
    /// The byte at which each line starts.
    lines: Vec<usize>,
    spans: HashMap<Place, Spans>,
    hidden: Vec<Range<usize>>,
    broken: bool,
}

#[derive(Debug, Clone)]
struct Spans {
    key: Range<usize>,
    value: Range<usize>,
}

impl Source {
    /// `name` is what its faults call it.
    pub fn new(name: &str, text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self(Arc::new(File { name: name.to_owned(), text: text.to_owned(), lines, ..File::default() }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// Line and column of a place, both from 1, the column in characters. A place that the file does not have (a missing
    /// key) is where the nearest table around it begins.
    pub fn locate(&self, place: &Place) -> Option<(usize, usize)> {
        self.span_near(place, false).map(|span| self.position(span.start))
    }

    /// Whether the file has a table in braces there, and not under a header of its own.
    pub fn is_inline(&self, table: &Place) -> bool {
        let spans = self.0.spans.get(table);
        spans.and_then(|spans| self.0.text.get(spans.value.clone())).is_some_and(|text| text.starts_with('{'))
    }

    /// Line and column of a fault.
    pub fn locate_fault(&self, fault: &Fault) -> Option<(usize, usize)> {
        self.span_of(fault).map(|span| self.position(span.start))
    }

    /// Whether the file has a value there.
    pub fn has(&self, place: &Place) -> bool {
        self.0.spans.contains_key(place)
    }

    /// The places of the values behind these keys. Of two equal keys it is the second whose value counts.
    pub(crate) fn behind(&self, keys: impl Iterator<Item = Range<usize>>) -> Vec<Place> {
        let value = |key: Range<usize>| {
            let key = self.within(key);
            let value = self.0.text[key.end..].trim_start_matches([' ', '\t']).strip_prefix('=')?;
            Some(self.0.text.len() - value.trim_start_matches([' ', '\t']).len())
        };
        let values: HashSet<usize> = keys.filter_map(value).collect();
        let places = self.0.spans.iter().filter(|(_, spans)| values.contains(&spans.value.start));
        places.map(|(place, _)| place.clone()).collect()
    }

    /// The bytes of a part of a text value, where the file has it as it is: without escapes.
    pub(crate) fn within_text(&self, place: &Place, text: &str, part: Range<usize>) -> Option<Range<usize>> {
        let span = self.0.spans.get(place)?.value.clone();
        let raw = self.0.text.get(span.clone())?;
        let start = span.start + raw.find(text).filter(|_| raw.len() <= text.len() + 7)?;
        // A place behind the end is the closing quote.
        Some(start + part.start..start + part.end.max(part.start + 1))
    }

    pub(crate) fn span_of(&self, fault: &Fault) -> Option<Range<usize>> {
        fault.span.clone().or_else(|| self.span_near(&fault.place, fault.at_key))
    }

    fn span_near(&self, place: &Place, at_key: bool) -> Option<Range<usize>> {
        let mut around = place.clone();
        loop {
            if let Some(spans) = self.0.spans.get(&around) {
                return Some(if at_key { spans.key.clone() } else { spans.value.clone() });
            }
            if around.steps().is_empty() {
                return None;
            }
            around = around.parent();
        }
    }

    /// Line and column, from 1.
    pub(crate) fn position(&self, byte: usize) -> (usize, usize) {
        let line = self.line_of(byte);
        let before = self.0.text.get(self.0.lines[line - 1]..byte).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The line of a byte, from 1.
    pub(crate) fn line_of(&self, byte: usize) -> usize {
        self.0.lines.partition_point(|&start| start <= byte).max(1)
    }

    /// The bytes of a line, without its line ending.
    pub(crate) fn line_bytes(&self, line: usize) -> Range<usize> {
        let start = self.0.lines[line - 1];
        let end = self.0.lines.get(line).copied().unwrap_or(self.0.text.len());
        start..start + self.0.text[start..end].trim_end_matches(['\n', '\r']).len()
    }

    /// Bytes that are never drawn.
    pub(crate) fn hidden(&self) -> &[Range<usize>] {
        &self.0.hidden
    }
    pub(crate) fn hide(&mut self, hidden: &[Range<usize>]) {
        let hidden: Vec<Range<usize>> = hidden.iter().map(|span| self.within(span.clone())).collect();
        Arc::make_mut(&mut self.0).hidden.extend(hidden);
    }

    /// The text is not TOML: what is secret in it is guessed from the words of each line.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.broken
    }
    #[must_use]
    pub(crate) fn broken(mut self) -> Self {
        Arc::make_mut(&mut self.0).broken = true;
        self
    }

    /// Remembers where everything is. A table is at its header, an inline one at its braces.
    pub(crate) fn index(&mut self, table: &DeTable<'_>) {
        let mut spans = HashMap::new();
        self.index_table(&Place::root(), table, &mut spans);
        Arc::make_mut(&mut self.0).spans = spans;
    }

    fn index_table(&self, place: &Place, table: &DeTable<'_>, spans: &mut HashMap<Place, Spans>) {
        for (key, value) in table {
            self.index_value(place.key(key.get_ref()), key.span(), value, spans);
        }
    }

    fn index_value(
        &self,
        place: Place,
        key: Range<usize>,
        value: &Spanned<DeValue<'_>>,
        spans: &mut HashMap<Place, Spans>,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => self.index_table(&place, table, spans),
            DeValue::Array(array) => {
                for (i, item) in array.iter().enumerate() {
                    self.index_value(place.index(i), item.span(), item, spans);
                }
            }
            _ => {}
        }
        spans.insert(place, Spans { key: self.within(key), value: self.within(value.span()) });
    }

    /// Spans come from a parser that also recovers from faults: none is believed to lie on the text's characters.
    pub(crate) fn within(&self, span: Range<usize>) -> Range<usize> {
        let on_char = |byte: usize| (0..=byte.min(self.0.text.len())).rev().find(|&b| self.0.text.is_char_boundary(b));
        let start = on_char(span.start).unwrap_or(0);
        start..on_char(span.end).unwrap_or(0).max(start)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.0.name).finish_non_exhaustive()
    }
}
