//! Walks a file along the schema and finds everything whose shape is wrong: unknown keys, wrong types, values out of
//! range or format, missing keys.
//!
//! What it finds faulty it repairs: it puts a value that fits in its place and notes the place as doubtful. So the model
//! can be filled and the [`rules`](crate::rules) can still find what is wrong elsewhere, in the same run.

mod advice;
mod scalar;

use std::ops::Range;

use serde_json::Value as Schema;
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use crate::{
    fault::{Fault, Place, Step},
    formats,
    schema::{self, entries, properties},
};

/// What [`check`] found.
pub(crate) struct Findings {
    pub(crate) faults: Vec<Fault>,
    /// What is not to be said of a file whose syntax is broken: that a required key is absent, since it may well be
    /// there, and that a key resembles no other, since a line of a broken text is taken for one, and quoted.
    pub(crate) of_whole_files: Vec<Fault>,
    /// The file with a fitting value in each doubtful place.
    pub(crate) repaired: Value,
    pub(crate) doubtful: Vec<Place>,
    /// Bytes that may be a secret.
    pub(crate) hidden: Vec<Range<usize>>,
}

pub(crate) fn check(table: &DeTable<'_>) -> Findings {
    let repaired = Value::Boolean(false);
    let mut findings =
        Findings { faults: Vec::new(), of_whole_files: Vec::new(), repaired, doubtful: Vec::new(), hidden: Vec::new() };
    findings.repaired = findings.keys(&Place::root(), schema::root(), table);
    findings
}

impl Findings {
    /// Checks a value and returns it, repaired where it was faulty.
    fn value(&mut self, place: &Place, schema: &Schema, value: &Spanned<DeValue<'_>>) -> Value {
        let schema = schema::fitting(schema, value.get_ref());
        if let Some(fault) = advice::runs_on(place, value.get_ref())
            && !formats::is_secret(schema::format(schema))
        {
            self.hide(value);
            return self.repair(place, schema, fault);
        }
        match (schema::kind(schema), value.get_ref()) {
            ("object", DeValue::Table(table)) => match entries(schema) {
                Some(entry) => self.entries(place, entry, table),
                None => self.keys(place, schema, table),
            },
            ("array", DeValue::Array(items)) => {
                let item = &schema["items"];
                let few = schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least);
                if few {
                    let help = format!("write {}", advice::example(place, schema));
                    return self.repair(place, schema, Fault::at(place.clone(), "this list is empty").help(help));
                }
                let items = items.iter().enumerate();
                Value::Array(items.map(|(i, value)| self.value(&place.index(i), item, value)).collect())
            }
            ("object" | "array", found) => {
                match (&schema["items"], found) {
                    // `[routes]` for `[[routes]]`: what stands in it is checked all the same.
                    (item, DeValue::Table(table)) if properties(item).is_some() => drop(self.keys(place, item, table)),
                    // `methods = "POST"`: few lists of texts are secret.
                    (item, DeValue::String(_))
                        if schema::kind(item) == "string"
                            && item.is_object()
                            && !formats::is_secret(schema::format(item)) => {}
                    _ => self.hide(value),
                }
                self.repair(place, schema, advice::not_a_collection(place, schema, found))
            }
            _ => match scalar::check(place, schema, value.get_ref()) {
                Ok((sound, warning)) => {
                    self.faults.extend(warning);
                    sound
                }
                Err(fault) => {
                    if formats::is_secret(schema::format(schema)) {
                        self.hide(value);
                    }
                    self.repair(place, schema, fault)
                }
            },
        }
    }

    /// A table whose keys are the model's.
    fn keys(&mut self, place: &Place, schema: &Schema, table: &DeTable<'_>) -> Value {
        let mut sound = toml::Table::new();
        let mut meant = Vec::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let here = place.key(name);
            match properties(schema).and_then(|known| known.get(name)) {
                Some(known) => {
                    sound.insert(name.to_owned(), self.value(&here, known, value));
                }
                None => {
                    let (fault, instead) = advice::unknown_key(place, name, schema, value.get_ref());
                    let harmless =
                        |meant| properties(schema).and_then(|known| known.get(meant)).is_some_and(is_harmless);
                    if !instead.is_some_and(harmless) {
                        self.hide(value);
                    }
                    // What was meant counts as present, whatever it holds.
                    match instead {
                        Some(instead) => {
                            self.doubtful.push(place.key(instead));
                            meant.push(instead);
                            self.faults.push(fault);
                        }
                        None => self.of_whole_files.push(fault),
                    }
                    self.doubtful.push(here);
                    // A section that slid into another table: nobody is to be told that it is absent.
                    if properties(schema::root()).is_some_and(|sections| sections.contains_key(name)) {
                        self.doubtful.push(Place::root().key(name));
                    }
                }
            }
        }
        for name in schema::required(schema) {
            let Some(known) = properties(schema).and_then(|all| all.get(name)) else { continue };
            if sound.contains_key(name) {
                continue;
            }
            // A misspelt required key is one fault, not two.
            if !meant.contains(&name) {
                self.of_whole_files.push(advice::missing_key(place, name, known));
            }
            self.doubtful.push(place.key(name));
            sound.insert(name.to_owned(), self.stand_in(known));
        }
        Value::Table(sound)
    }

    /// A table whose keys are names of the operator's choice.
    fn entries(&mut self, place: &Place, entry: &Schema, table: &DeTable<'_>) -> Value {
        let mut sound = toml::Table::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let here = place.key(name);
            let known = properties(entry).is_some_and(|known| known.contains_key(name));
            if known && !matches!(value.get_ref(), DeValue::Table(_)) {
                // `[upstreams]` with `servers = …`: the entry has no name.
                self.hide(value);
                let fault =
                    Fault::at(here.clone(), format!("`{name}` stands in `[{place}]`, which holds named tables"));
                self.repair_note(&here, fault.on_key().help(format!("give the table a name: `[{place}.NAME]`")));
                continue;
            }
            sound.insert(name.to_owned(), self.value(&here, entry, value));
        }
        Value::Table(sound)
    }

    fn repair(&mut self, place: &Place, schema: &Schema, fault: Fault) -> Value {
        self.repair_note(place, fault);
        self.stand_in(schema)
    }

    fn repair_note(&mut self, place: &Place, fault: Fault) {
        self.faults.push(fault);
        self.doubtful.push(place.clone());
    }

    /// The least value that fits. Texts without a format are all different, so that no rule takes two for the same.
    fn stand_in(&mut self, schema: &Schema) -> Value {
        let schema = schema::first(schema);
        match schema::kind(schema) {
            "object" => {
                let keys = schema::required(schema).filter_map(|name| Some((name, properties(schema)?.get(name)?)));
                Value::Table(keys.map(|(name, known)| (name.to_owned(), self.stand_in(known))).collect())
            }
            "array" => match schema["minItems"].as_u64() {
                Some(1..) => Value::Array(vec![self.stand_in(&schema["items"])]),
                _ => Value::Array(Vec::new()),
            },
            "integer" => Value::Integer(schema["minimum"].as_i64().unwrap_or(0)),
            "boolean" => Value::Boolean(false),
            _ => {
                if let Some(first) = schema::options(schema).and_then(|options| options.first().copied()) {
                    return Value::String(first.to_owned());
                }
                match schema::format(schema) {
                    Some(format @ ("date-time" | "date")) => advice::some_date(format),
                    Some(format) => Value::String(formats::example(format).unwrap_or_default().to_owned()),
                    None => Value::String(format!("?{}", self.doubtful.len() + self.faults.len())),
                }
            }
        }
    }

    /// A value that is not known to be harmless is not drawn, nor is anything in it: the parts of a dotted key stand
    /// elsewhere than the table they make.
    fn hide(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => table.values().for_each(|inner| self.hide(inner)),
            DeValue::Array(items) => items.iter().for_each(|inner| self.hide(inner)),
            _ => self.hidden.push(value.span()),
        }
    }
}

/// Whether a value of this schema may be drawn: it holds no secret.
fn is_harmless(schema: &Schema) -> bool {
    match schema::kind(schema) {
        "object" => false,
        "array" => is_harmless(&schema["items"]),
        _ => !formats::is_secret(schema::format(schema)),
    }
}

/// The key that a value belongs to: `methods` of `routes[0].methods[2]`.
fn key_of(place: &Place) -> &str {
    let keys = place.steps().iter().rev().find_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Index(_) => None,
    });
    keys.unwrap_or_default()
}
