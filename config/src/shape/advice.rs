//! What to write instead: the words of the shape's faults.

use serde_json::Value as Schema;
use toml::{Value, de::DeValue};

use super::{key_of, scalar::known};
use crate::{
    fault::{Fault, Place, Step},
    formats,
    nearest::{all_but_same, nearest},
    redact::swallows_secret,
    schema::{self, properties},
    secret::SecretRef,
    units::{Period, Size},
};

/// A value as a reader would name it.
pub(super) fn found(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The fault of an unknown key, and the known key of the same table that was meant.
pub(super) fn unknown_key<'s>(
    table: &Place,
    name: &str,
    schema: &'s Schema,
    value: &DeValue<'_>,
) -> (Fault, Option<&'s str>) {
    let names: Vec<&str> = properties(schema).into_iter().flat_map(|known| known.keys()).map(String::as_str).collect();
    let fault = Fault::at(table.key(name), format!("unknown key `{name}` in {}", named(table))).on_key();
    if let Some(meant) = all_but_same(name, names.iter().copied()) {
        return (fault.help(format!("did you mean `{}`?", as_written(table, meant, schema))), Some(meant));
    }
    // Whoever writes `key` beside `id` and `hash` has the key itself at hand, and elsewhere a `key` is a path.
    if names.contains(&"hash") && ["key", "api_key", "secret", "value"].contains(&name) {
        let help = "an API key itself never stands here: write `hash`, as `gapura keys hash --salt REF` prints it";
        return (fault.help(help), None);
    }
    if !table.steps().is_empty() && properties(schema::root()).is_some_and(|all| all.contains_key(name)) {
        // In TOML everything below a `[header]` belongs to it, until the next one.
        let header = as_written(&Place::root(), name, schema::root());
        return (fault.help(format!("write it as a table of its own: `{header}`")), None);
    }
    let elsewhere = homes(name, value);
    if !elsewhere.is_empty() {
        return (fault.help(format!("`{name}` belongs in {}", elsewhere.join(" or "))), None);
    }
    if let Some(meant) = nearest(name, names.iter().copied()) {
        return (fault.help(format!("did you mean `{}`?", as_written(table, meant, schema))), Some(meant));
    }
    (fault.help(format!("known here are {}", known(&names))), None)
}

/// How a key of the top is written, where it is a table: `[[routes]]`.
fn as_written(table: &Place, name: &str, schema: &Schema) -> String {
    match properties(schema).and_then(|known| known.get(name)) {
        Some(list) if table.steps().is_empty() && schema::kind(list) == "array" => format!("[[{name}]]"),
        Some(map) if table.steps().is_empty() && schema::entries(map).is_some() => format!("[{name}.NAME]"),
        Some(map) if table.steps().is_empty() && schema::kind(map) == "object" => format!("[{name}]"),
        _ => name.to_owned(),
    }
}

/// The tables that do have a key of this name. Names that half the tables have (`name`, `timeout`) say nothing, so at
/// most three are told.
fn homes(name: &str, value: &DeValue<'_>) -> Vec<String> {
    let mut homes = Vec::new();
    schema::each_property(schema::root(), &mut |table, key, property| {
        let collection = matches!(value, DeValue::Table(_)) == (schema::kind(property) == "object");
        if key == name && collection && !table.steps().is_empty() {
            homes.push(schema::header(table));
        }
    });
    if homes.len() > 3 { Vec::new() } else { homes }
}

/// A table in words: `[limits]`, `[[routes]]`, `state.redis`.
fn named(table: &Place) -> String {
    match table.steps() {
        [] => "the file".into(),
        [Step::Key(list), Step::Index(_)] => format!("`[[{list}]]`"),
        [_] => format!("`[{table}]`"),
        [Step::Key(map), Step::Key(_)] if is_map(map) => format!("`[{table}]`"),
        _ => format!("`{table}`"),
    }
}

fn is_map(section: &str) -> bool {
    properties(schema::root()).and_then(|all| all.get(section)).is_some_and(|known| schema::entries(known).is_some())
}

pub(super) fn missing_key(table: &Place, name: &str, known: &Schema) -> Fault {
    let fault = Fault::at(table.clone(), format!("{} has no `{name}`", named(table))).on_key();
    let fault =
        if table.steps().is_empty() { Fault { message: format!("the file has no `{name}`"), ..fault } } else { fault };
    match (table.steps().is_empty(), schema::kind(known)) {
        (true, "array") => fault.help(format!("add a table `[[{name}]]`")),
        _ => fault.help(format!("add `{name} = {}`", example(&table.key(name), known))),
    }
}

/// An example of a value, as TOML.
pub(super) fn example(place: &Place, schema: &Schema) -> String {
    // Where the first of all values is not one to recommend, the model gives another; texts and lists of them are the same in
    // JSON and TOML.
    if let Some(given) = schema["examples"].get(0) {
        return given.to_string();
    }
    if let Some(first) = schema::options(schema).and_then(|options| options.first().copied()) {
        return format!("\"{first}\"");
    }
    match schema::kind(schema) {
        "array" => format!("[{}]", example(place, &schema["items"])),
        "object" if schema::entries(schema).is_some() => "{ NAME = \"…\" }".into(),
        "object" => {
            let keys = schema::required(schema).filter_map(|name| Some((name, properties(schema)?.get(name)?)));
            let keys: Vec<String> =
                keys.map(|(name, known)| format!("{name} = {}", example(&place.key(name), known))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
        "integer" => "100".into(),
        "boolean" => "true".into(),
        _ => match schema::format(schema) {
            Some(format @ ("date-time" | "date")) => formats::example(format).unwrap_or_default().to_owned(),
            Some("hex-sha256") => "\"…\"".into(),
            Some(format) => format!("\"{}\"", formats::example(format).unwrap_or("…")),
            None => "\"…\"".into(),
        },
    }
}

/// A table or a list was expected.
pub(super) fn not_a_collection(place: &Place, schema: &Schema, value: &DeValue<'_>) -> Fault {
    let key = key_of(place);
    if schema::kind(schema) == "object" {
        let fault = Fault::at(place.clone(), format!("`{key}` is a table, this is {}", found(value)));
        return match (place.steps(), value) {
            ([_], DeValue::Array(_)) => fault.help(format!("write one table: `{}`", table_header(place, schema))),
            ([_], _) => fault.help(format!("write it as a table: `{}`", table_header(place, schema))),
            ([Step::Key(map), _], _) if is_map(map) => fault.help(format!("write it as a table: `[{place}]`")),
            _ => fault.help(format!("write {}", example(place, schema))),
        };
    }
    let items = &schema["items"];
    let fault = Fault::at(place.clone(), format!("`{key}` is a list, this is {}", found(value)));
    match value {
        DeValue::Table(_) if properties(items).is_some() && place.steps().len() == 1 => {
            let fault = Fault::at(place.clone(), format!("`[{key}]` is one table; there may be several"));
            fault.help(format!("write each of them as `[[{key}]]`"))
        }
        DeValue::String(text) if schema::kind(items) == "string" && !formats::is_secret(schema::format(items)) => {
            let parts: Vec<String> = text.split(',').map(|part| format!("{:?}", part.trim())).collect();
            fault.help(format!("write {key} = [{}]", parts.join(", ")))
        }
        _ => fault.help(format!("write {key} = {}", example(place, schema))),
    }
}

fn table_header(place: &Place, schema: &Schema) -> String {
    if schema::entries(schema).is_some() { format!("[{place}.NAME]") } else { format!("[{place}]") }
}

/// A text whose closing quote is not where it should be swallows what follows it, secrets too: it must not be quoted. No
/// value of the model has line breaks.
pub(super) fn runs_on(place: &Place, value: &DeValue<'_>) -> Option<Fault> {
    const MAX_BYTES: usize = 4096;
    let text = value.as_str()?;
    let what = if text.chars().any(char::is_control) {
        "holds a line break or another control character"
    } else if text.len() > MAX_BYTES {
        "is longer than any value"
    } else if swallows_secret(text) {
        "holds another key"
    } else {
        return None;
    };
    let fault = Fault::at(place.clone(), format!("`{}` {what}", key_of(place)));
    Some(fault.help("write it on one line; is its closing quote where it should be?"))
}

/// A text, a number or a switch was expected, and something else was found.
pub(super) fn wrong_type(place: &Place, schema: &Schema, value: &DeValue<'_>) -> Fault {
    let key = key_of(place);
    let expected = match schema::kind(schema) {
        "integer" => "a whole number, without quotes",
        "boolean" => "true or false, without quotes",
        _ => match schema::format(schema) {
            Some("duration" | "duration-or-off") => "a duration with its unit, in quotes",
            Some("size") => "a size with its unit, in quotes",
            // `FromStr` of the reference has the one message about literals.
            Some("secret") => {
                let refusal = "".parse::<SecretRef>().err().unwrap_or_default();
                let complaint = formats::Complaint::from(refusal);
                let fault = Fault::at(place.clone(), complaint.message);
                return fault.help(complaint.help.unwrap_or_default());
            }
            _ => "a string, in quotes",
        },
    };
    let fault = Fault::at(place.clone(), format!("`{key}` is {expected}; this is {}", found(value)));
    match instead(schema, value) {
        Some(instead) => fault.help(format!("write {instead}")),
        None => fault.help(format!("write {}", example(place, schema))),
    }
}

/// The same value in the right form, where it is plain what was meant.
fn instead(schema: &Schema, value: &DeValue<'_>) -> Option<String> {
    let number = |value: &DeValue<'_>| {
        value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
    };
    let text = match (schema::kind(schema), schema::format(schema), value) {
        ("integer", _, DeValue::String(text)) => {
            return text.trim().parse::<i64>().ok().map(|number| number.to_string());
        }
        ("integer", _, DeValue::Float(float)) => {
            let float: f64 = float.as_str().parse().ok()?;
            return (float.abs() < 1e15).then(|| format!("{float:.0}"));
        }
        ("boolean", _, DeValue::String(text)) => return switch(text).map(str::to_owned),
        ("boolean", _, DeValue::Integer(_)) => return switch(&number(value)?.to_string()).map(str::to_owned),
        ("string", Some("duration-or-off"), DeValue::Boolean(false)) => "off".to_owned(),
        ("string", Some("duration" | "duration-or-off"), DeValue::Integer(_)) => match number(value)? {
            0 => return None,
            seconds => format!("{seconds}s"),
        },
        ("string", Some("duration" | "duration-or-off"), DeValue::Float(float)) => {
            let seconds: f64 = float.as_str().parse().ok()?;
            format!("{:.0}ms", seconds * 1000.0).parse::<Period>().ok()?.to_string()
        }
        ("string", Some("size"), DeValue::Integer(_)) => Size(number(value)?).to_string(),
        ("string", Some("address"), DeValue::Integer(_)) => {
            format!("127.0.0.1:{}", u16::try_from(number(value)?).ok()?)
        }
        ("string", None, DeValue::Integer(_)) => number(value)?.to_string(),
        ("string", _, DeValue::Array(items)) if items.len() == 1 => {
            let only = items.iter().next()?.get_ref();
            let whole = runs_on(&Place::root(), only).is_none();
            only.as_str().filter(|_| whole)?.to_owned()
        }
        _ => return None,
    };
    Some(format!("{text:?}"))
}

fn switch(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some("true"),
        "false" | "no" | "off" | "0" => Some("false"),
        _ => None,
    }
}

/// Stands in for a faulty date.
pub(super) fn some_date(format: &str) -> Value {
    let date = formats::example(format).and_then(|example| example.parse().ok());
    date.map_or_else(|| Value::Boolean(false), Value::Datetime)
}
