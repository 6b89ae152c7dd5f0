//! `gapura.toml` is the reference: it is held true here, against the schema and against the model's own defaults.

use std::collections::{BTreeMap, BTreeSet};

use gapura_config::{json_schema, model::Config, parse};
use serde_json::Value;

const REFERENCE: &str = include_str!("../gapura.toml");

/// A line that sets a key, or would if its `# ` were taken off.
struct Line<'t> {
    /// `jwt.NAME.claims.user_id`, with NAME for names of the operator's choice.
    key: String,
    number: usize,
    /// What stands behind the key: `required`, or the default.
    remark: Option<&'t str>,
    /// `[[tables]]` have no value of their own.
    is_header: bool,
}

/// The file with every commented key in force.
fn uncommented() -> String {
    let lines = REFERENCE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_header(rest) || key_of(rest).is_some() => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_header(line: &str) -> bool {
    let header = line.split('#').next().unwrap_or_default().trim();
    header.starts_with('[') && header.ends_with(']') && !header.contains([' ', '"', '{'])
}

/// The key of `key = value`; prose has none.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    (!key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')).then_some(key)
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let maps = ["upstreams", "jwt", "mtls", "api_keys", "rate_limits", "keyrings", "encryption", "operation_tokens"];
    let mut table: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let remark = line.split_once("# default: ").map(|(_, remark)| remark.trim());
        let remark = remark.or_else(|| line.ends_with("# required").then_some("required"));
        if is_header(line) {
            let path = line.split('#').next().unwrap_or_default().trim().trim_matches(['[', ']']);
            table = path.split('.').map(str::to_owned).collect();
            if maps.contains(&table[0].as_str()) {
                table[1] = "NAME".into();
            }
            if line.starts_with("[[") || remark.is_some() {
                found.push(Line { key: table.join("."), number, remark, is_header: true });
            }
        } else if let Some(key) = key_of(line) {
            found.push(Line { key: format!("{}.{key}", table.join(".")), number, remark, is_header: false });
        }
    }
    found
}

/// Every key of the schema, and whether it is required.
fn schema_keys() -> BTreeMap<String, bool> {
    fn walk(path: &str, schema: &Value, keys: &mut BTreeMap<String, bool>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let required = schema["required"].as_array().is_some_and(|list| list.contains(&Value::from(name.as_str())));
            // A table is there when one of its keys is.
            let entry = &property["additionalProperties"];
            let is_table =
                property["type"] == "object" && !["string", "integer"].iter().any(|plain| entry["type"] == *plain);
            let optional = [
                "state.redis",
                "state.redis.sentinel",
                "jwt.NAME.decryption",
                "api_keys.NAME.lookup",
                "api_keys.NAME.introspection",
            ];
            let optional_table = is_table && optional.contains(&key.as_str());
            if !is_table || optional_table {
                keys.insert(key.clone(), required);
            }
            walk(&key, property, keys);
            walk(&key, &property["items"], keys);
            if entry.is_object() {
                walk(&format!("{key}.NAME"), entry, keys);
            }
        }
    }
    let mut keys = BTreeMap::new();
    walk("", &json_schema(), &mut keys);
    keys
}

#[test]
fn it_loads_as_it_stands_without_a_warning() {
    let loaded = parse("gapura.toml", REFERENCE).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.source.render(&loaded.warnings, false));
}

#[test]
fn it_has_every_key_of_the_schema_and_no_other() {
    let text = uncommented();
    let documented: BTreeSet<String> = lines(&text).into_iter().map(|line| line.key).collect();
    let known: BTreeSet<String> = schema_keys().into_keys().collect();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), Vec::<&String>::new(), "not in gapura.toml");
    assert_eq!(documented.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the model");
    assert!(known.len() > 80, "the walk over the schema found only {} keys", known.len());
}

#[test]
fn with_every_alternative_in_force_only_the_alternatives_disagree() {
    let faults = parse("gapura.toml", &uncommented()).expect_err("alternatives exclude each other").faults;
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "there are `certificates` too: which one would be shown?",
            "Redis is set up but not used: the store is memory",
            "a Cluster looks after itself: no Sentinel watches it",
            "only `mode = \"adaptive\"` asks how many there are",
            "`server_name` belongs to TLS, and these servers are reached without it",
            "`ca` belongs to TLS, and these servers are reached without it",
            "`secret` and `public_key` both say what tokens are verified with",
            "`secret` and `jwks` both say what tokens are verified with",
            "`secret` and `discovery` both say what tokens are verified with",
            "no proof is asked for a nonce",
            "`principals` say who each certificate is already",
            "`san_dns` and `san_email` both say which certificate this is",
            "`san_dns` and `san_uri` both say which certificate this is",
            "`san_dns` and `subject_cn` both say which certificate this is",
            "`san_dns` and `subject` both say which certificate this is",
            "`san_dns` and `spki_sha256` both say which certificate this is",
            "`lookup` and `introspection` both say whose a key is",
            "`client_id` and `bearer` are two logins",
            "`burst` belongs to `algorithm = \"gcra\"`; the others never exceed `limit`",
            "only counters in Redis have outages, and the store is memory",
            "`until` ends a key that is retiring, and this one is active",
            "the `kid` of a key of kind x25519 is NAME.id",
            "`master_key` is there, too: which of them is it?",
            "`preset` belongs to the profile `jwe-rsa`, which is not listed",
            "`response_key` belongs to the profile `jwe-rsa`, which is not listed",
            "`response_kid` belongs to the profile `jwe-rsa`, which is not listed",
            "`mac` vouches for whole bodies, and `members` are sealed one by one",
            "`key` and `keys` both say what tokens are signed with",
            "who has used such a token would get the next one with the answer",
        ]
    );
}

#[test]
fn each_stated_default_is_the_models() {
    let text = uncommented();
    let all: Vec<&str> = text.lines().collect();
    let with = |number: usize, instead: Option<String>| {
        let mut changed: Vec<String> = all.iter().map(|line| line.to_string()).collect();
        changed[number] = instead.unwrap_or_default();
        toml::from_str::<Config>(&changed.join("\n")).map(|config| format!("{config:?}"))
    };
    let whole = with(0, None).expect("every key in force deserialises");
    let mut documented = BTreeMap::new();
    for line in lines(&text) {
        let (key, number) = (&line.key, line.number);
        let Some(remark) = line.remark else {
            assert!(
                documented.contains_key(key),
                "line {}: `{key}` says neither `required` nor its default",
                number + 1
            );
            continue;
        };
        assert!(documented.insert(key.clone(), remark.to_owned()).is_none(), "`{key}` is documented twice");
        let required = schema_keys()[key];
        assert_eq!(remark == "required", required, "line {}: `{key}` is {remark}", number + 1);
        if line.is_header {
            continue;
        }
        let without = with(number, None);
        if required {
            assert!(without.is_err(), "`{key}` is said to be required");
            continue;
        }
        let without = without.unwrap_or_else(|error| panic!("`{key}` is not optional: {error}"));
        let name = key.rsplit('.').next().unwrap_or_default();
        if remark == "none" {
            let nones = |debug: &str| debug.matches(&format!("{name}: None")).count();
            assert_eq!(nones(&without), nones(&whole) + 1, "the default of `{key}` is not none");
        } else {
            let stated = with(number, Some(format!("{name} = {remark}"))).expect("a stated default is a value");
            assert_eq!(stated, without, "the default of `{key}` is not {remark}");
        }
    }
    assert_eq!(documented.len(), schema_keys().len());
}

#[test]
fn whatever_value_is_wrong_the_others_are_judged_all_the_same() {
    // What stands in for the wrong value has to fill the model, or the rules would not run.
    let text = REFERENCE.replacen("upstream = \"backend\"", "upstream = \"nowhere\"", 1);
    assert!(text.contains("nowhere"));
    let all: Vec<&str> = text.lines().collect();
    for line in lines(&text).iter().filter(|line| !line.is_header && !line.key.ends_with(".upstream")) {
        for wrong in ["0.5", "{ x = 1 }", "[[1]]", "1979-05-27T07:32:00", "\"\\u0000\""] {
            let mut changed = all.clone();
            let assignment = format!("{} = {wrong}", line.key.rsplit('.').next().unwrap_or_default());
            changed[line.number] = &assignment;
            let report = parse("gapura.toml", &changed.join("\n")).expect_err("two faults").to_string();
            assert!(report.contains("there is no `[upstreams.nowhere]`"), "{assignment}\n{report}");
            assert!(report.contains(&format!("gapura.toml:{}:", line.number + 1)), "{assignment}\n{report}");
        }
    }
}

#[test]
fn every_key_of_the_schema_is_described() {
    fn walk(path: &str, schema: &Value) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "{path}.{name} has no doc comment");
            walk(&format!("{path}.{name}"), property);
            walk(&format!("{path}.{name}"), &property["items"]);
            walk(&format!("{path}.{name}.NAME"), &property["additionalProperties"]);
        }
    }
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(!schema.to_string().contains("null"), "TOML has no null");
    walk("", &schema);
}
