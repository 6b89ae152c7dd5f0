//! The JSON Schema of the configuration, derived from the [`model`](crate::model): for editors, and for
//! [`shape`](crate::shape), which walks a file along it.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use toml::de::DeValue;

use crate::{fault::Place, formats, model::Config};

/// The schema as `gapura schema` prints it: JSON Schema, draft 2020-12.
pub fn json_schema() -> Value {
    root().clone()
}

pub(crate) fn root() -> &'static Value {
    static ROOT: LazyLock<Value> = LazyLock::new(|| {
        // Without references: an editor and the walk both read straight down.
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
        schema["title"] = json!("Gapura configuration");
        schema["description"] = json!("The configuration file of the Gapura gateway, `gapura.toml`.");
        for_toml(&mut schema);
        schema
    });
    &ROOT
}

/// Fits a schema made for JSON to TOML, which has no null, and gives each format the pattern it stands for.
fn for_toml(schema: &mut Value) {
    absent(schema);
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("enum") {
        options.retain(|option| !option.is_null());
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.as_object_mut().map(|object| object.remove("default"));
    }
    // `uint32` and its like come from Rust and mean nothing to an editor; the ranges say it all.
    if format(schema).is_some_and(|format| format.starts_with("uint")) {
        schema.as_object_mut().map(|object| object.remove("format"));
    }
    if let Some(pattern) = format(schema).and_then(formats::pattern) {
        schema["pattern"] = json!(pattern);
    }
    // Names of tables become labels and parts of references; names of plain values do not.
    if schema.get("additionalProperties").is_some_and(|entry| properties(entry).is_some()) {
        schema["propertyNames"] = json!({ "pattern": formats::NAME_PATTERN });
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key).filter(|inner| inner.is_object()) {
            for_toml(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(for_toml);
    }
    if let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") {
        alternatives.iter_mut().for_each(for_toml);
    }
}

/// A key that may be absent is one alternative beside null, where its values have descriptions: what remains is that one.
fn absent(schema: &mut Value) {
    let Some(Value::Array(alternatives)) = schema.get_mut("anyOf") else { return };
    alternatives.retain(|one| one.get("type") != Some(&json!("null")));
    if alternatives.len() == 1
        && let Some(Value::Object(only)) = alternatives.pop()
        && let Some(whole) = schema.as_object_mut()
    {
        whole.remove("anyOf");
        for (key, value) in only {
            whole.entry(key).or_insert(value);
        }
    }
}

/// The named keys of a table, where the schema has a fixed set of them.
pub(crate) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The schema of each entry, where the operator chooses the names: `[upstreams.NAME]`.
pub(crate) fn entries(schema: &Value) -> Option<&Value> {
    schema.get("additionalProperties").filter(|inner| inner.is_object())
}

/// Of a key that takes values of several types (`by = "user"`, or a list), the schema of those of this type; the first where
/// it takes none such.
pub(crate) fn fitting<'s>(schema: &'s Value, value: &DeValue<'_>) -> &'s Value {
    let wanted = match value {
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        DeValue::Integer(_) => "integer",
        DeValue::Boolean(_) => "boolean",
        _ => "string",
    };
    alternatives(schema).iter().find(|one| kind(one) == wanted).unwrap_or_else(|| first(schema))
}

/// The plainest of several types: it stands for them in examples.
pub(crate) fn first(schema: &Value) -> &Value {
    alternatives(schema).first().unwrap_or(schema)
}

fn alternatives(schema: &Value) -> &[Value] {
    schema.get("anyOf").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn kind(schema: &Value) -> &str {
    first(schema).get("type").and_then(Value::as_str).unwrap_or("string")
}

pub(crate) fn format(schema: &Value) -> Option<&str> {
    first(schema).get("format").and_then(Value::as_str)
}

pub(crate) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The strings an enumeration allows. schemars writes them as `enum`, or as `oneOf` where they have descriptions.
pub(crate) fn options(schema: &Value) -> Option<Vec<&str>> {
    let schema = first(schema);
    if let Some(Value::Array(variants)) = schema.get("oneOf") {
        return Some(variants.iter().flat_map(|variant| options(variant).unwrap_or_default()).collect());
    }
    if let Some(only) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![only]);
    }
    let options = schema.get("enum")?.as_array()?;
    Some(options.iter().filter_map(Value::as_str).collect())
}

/// Visits every property of every table: the table's place, the key, its schema. A place has `NAME` for a name of the
/// operator's choice and `[0]` for any item.
pub(crate) fn each_property<'s>(schema: &'s Value, visit: &mut dyn FnMut(&Place, &'s str, &'s Value)) {
    visit_table(&Place::root(), schema, visit);
}

fn visit_table<'s>(place: &Place, schema: &'s Value, visit: &mut dyn FnMut(&Place, &'s str, &'s Value)) {
    for (key, property) in properties(schema).into_iter().flatten() {
        visit(place, key, property);
        visit_table(&place.key(key), property, visit);
    }
    if let Some(entry) = entries(schema) {
        visit_table(&place.key("NAME"), entry, visit);
    }
    if let Some(item) = schema.get("items") {
        visit_table(&place.index(0), item, visit);
    }
}

/// A table of [`each_property`] as an operator writes it: `` `[limits]` ``, `` `[jwt.NAME]` ``, `` `[[routes]]` ``.
pub(crate) fn header(place: &Place) -> String {
    let name = place.to_string();
    match name.strip_suffix("[0]") {
        Some("routes") => "`[[routes]]`".into(),
        Some(list) => format!("an item of `{list}`"),
        None if name.is_empty() => "the top of the file".into(),
        None => format!("`[{name}]`"),
    }
}
