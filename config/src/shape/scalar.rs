//! Checks of single values: texts, numbers, switches, dates.

use serde_json::Value as Schema;
use toml::{Value, de::DeValue, value::Offset};

use super::{advice, key_of};
use crate::{
    fault::{Fault, Place},
    formats,
    nearest::{listed, nearest},
    schema,
};

type Checked = Result<(Value, Option<Fault>), Fault>;

/// Returns the value, and a warning about it.
pub(super) fn check(place: &Place, schema: &Schema, value: &DeValue<'_>) -> Checked {
    if let Some(options) = schema::options(schema) {
        return choice(place, &options, value);
    }
    match (schema::kind(schema), value) {
        ("string", _) if schema::format(schema) == Some("date-time") => date(place, value),
        ("string", _) if schema::format(schema) == Some("date") => day(place, value),
        ("string", DeValue::String(text)) => string(place, schema::format(schema), text),
        ("integer", DeValue::Integer(_)) => integer(place, schema, value),
        ("boolean", DeValue::Boolean(switch)) => Ok((Value::Boolean(*switch), None)),
        _ => Err(advice::wrong_type(place, schema, value)),
    }
}

fn choice(place: &Place, options: &[&str], value: &DeValue<'_>) -> Checked {
    let written = match value {
        DeValue::String(text) if options.contains(&text.as_ref()) => {
            return Ok((Value::String(text.to_string()), None));
        }
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(switch) => switch.to_string(),
        _ => String::new(),
    };
    let quoted: Vec<String> = options.iter().map(|option| format!("\"{option}\"")).collect();
    let all = match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    };
    let key = key_of(place);
    Err(if !matches!(value, DeValue::String(_)) && options.contains(&written.as_str()) {
        Fault::at(place.clone(), format!("`{key}` is a string")).help(format!("write it in quotes: \"{written}\""))
    } else if written.is_empty() {
        Fault::at(place.clone(), format!("`{key}` is a string, this is {}", advice::found(value)))
            .help(format!("write {all}"))
    } else {
        let fault = Fault::at(place.clone(), format!("`{written}` is not a value of `{key}`"));
        match nearest(&written, options.iter().copied()) {
            Some(meant) if options.len() > 1 => fault.help(format!("did you mean \"{meant}\"? It takes {all}")),
            _ => fault.help(format!("write {all}")),
        }
    })
}

fn string(place: &Place, format: Option<&str>, text: &str) -> Checked {
    if let Some(format) = format
        && let Err(complaint) = formats::check(format, text)
    {
        let fault = Fault::at(place.clone(), complaint.message);
        return Err(match complaint.help {
            Some(help) => fault.help(help),
            None => fault,
        });
    }
    let mut warning = None;
    if format == Some("method") && text.bytes().any(|b| b.is_ascii_lowercase()) {
        let upper = text.to_ascii_uppercase();
        let fault = Fault::warning(place.clone(), format!("methods are case-sensitive, and no client sends `{text}`"));
        warning = Some(fault.help(format!("write \"{upper}\"")));
    }
    Ok((Value::String(text.to_owned()), warning))
}

fn integer(place: &Place, schema: &Schema, value: &DeValue<'_>) -> Checked {
    let number = value.as_integer().and_then(|number| i128::from_str_radix(number.as_str(), number.radix()).ok());
    let least = schema["minimum"].as_i64().unwrap_or(0);
    let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
    match number.and_then(|number| i64::try_from(number).ok()) {
        Some(number) if (least..=most).contains(&number) => Ok((Value::Integer(number), None)),
        _ => {
            let range = match schema["maximum"].as_i64() {
                Some(most) => format!("from {least} to {most}"),
                None => format!("of at least {least}"),
            };
            let key = key_of(place);
            let written = value.as_integer().map(ToString::to_string).unwrap_or_default();
            Err(Fault::at(place.clone(), format!("`{key}` is {written}, which is out of range"))
                .help(format!("write a number {range}")))
        }
    }
}

/// RFC 3339: an instant needs its offset. TOML has dates of its own, so no quotes.
fn date(place: &Place, value: &DeValue<'_>) -> Checked {
    let fault = match value {
        DeValue::Datetime(date) if date.date.is_none() => Fault::at(place.clone(), "this is a time of day, not a date"),
        DeValue::Datetime(date) if date.time.is_none() => {
            Fault::at(place.clone(), "this date has no time").help(format!("write {date}T00:00:00Z"))
        }
        DeValue::Datetime(date) => match date.offset {
            Some(Offset::Z | Offset::Custom { .. }) => return Ok((Value::Datetime(*date), None)),
            None => Fault::at(place.clone(), "this time has no offset: it would be another instant in each place")
                .help(format!("write {date}Z for UTC, or {date}+01:00")),
        },
        DeValue::String(text) if text.parse::<toml::value::Datetime>().is_ok() => {
            Fault::at(place.clone(), "this date is written as a string")
                .help(format!("write it without quotes: {text}"))
        }
        _ => Fault::at(place.clone(), format!("`{}` is a date, this is {}", key_of(place), advice::found(value))),
    };
    let example = formats::example("date-time").unwrap_or_default();
    Err(if fault.help.is_some() {
        fault
    } else {
        fault.help(format!("write a date and time with its offset: {example}"))
    })
}

/// A day alone, as TOML has it: no time, no quotes.
fn day(place: &Place, value: &DeValue<'_>) -> Checked {
    let message = match value {
        DeValue::Datetime(date) if date.date.is_some() && date.time.is_none() => {
            return Ok((Value::Datetime(*date), None));
        }
        DeValue::Datetime(_) => "this is a time, and a day alone is meant".to_owned(),
        DeValue::String(_) => "this day is written as a string".to_owned(),
        _ => format!("`{}` is a day, this is {}", key_of(place), advice::found(value)),
    };
    let example = formats::example("date").unwrap_or_default();
    Err(Fault::at(place.clone(), message).help(format!("write a day without quotes: {example}")))
}

/// The options or keys a message lists.
pub(super) fn known(names: &[&str]) -> String {
    listed(names.iter().copied())
}
