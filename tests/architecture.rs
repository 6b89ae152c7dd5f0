//! The rules of ARCHITECTURE.md that a program can check. What fails here names the file and the rule.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file stays near 300 lines; this is where it must be divided.
const MAX_LINES: usize = 400;

/// A list of every key with its remark: longer, and easier to read in one piece.
const LONGER: &str = "config/src/model.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Rust files below a folder, by their path from the repository.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.strip_prefix(root()).unwrap().to_owned(), read(&path)));
            }
        }
    }
    assert!(!files.is_empty(), "no sources in {folder}");
    files.sort();
    files
}

fn all_sources() -> Vec<(PathBuf, String)> {
    ["src", "filters/src", "config/src"].into_iter().flat_map(sources).collect()
}

/// Names under `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> Vec<String> {
    let text = read(&root().join(manifest));
    let table: toml::Table = toml::from_str(&text).unwrap();
    table["dependencies"].as_table().unwrap().keys().cloned().collect()
}

/// Code without its comments and literals of text, line by line, as far as these rules need it.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_arrow_points_one_way() {
    let has = |manifest: &str, name: &str| dependencies(manifest).iter().any(|known| known == name);
    assert!(has("Cargo.toml", "gapura-filters") && has("Cargo.toml", "gapura-config"));
    assert!(has("filters/Cargo.toml", "gapura-config"));
    assert!(!has("filters/Cargo.toml", "gapura"));
    assert!(!has("config/Cargo.toml", "gapura") && !has("config/Cargo.toml", "gapura-filters"));
}

#[test]
fn filters_and_config_touch_no_world() {
    for manifest in ["filters/Cargo.toml", "config/Cargo.toml"] {
        for name in dependencies(manifest) {
            let world = ["pingora", "redis", "sqlx", "reqwest", "hyper", "socket2", "mio"];
            assert!(!world.iter().any(|banned| name.starts_with(banned)), "{manifest}: {name}");
            assert!(manifest != "config/Cargo.toml" || name != "tokio", "{manifest}: {name}");
        }
    }
    for (path, text) in sources("filters/src").into_iter().chain(sources("config/src")) {
        for (number, line) in code(&text) {
            for banned in ["tokio::net", "std::net::Tcp", "std::net::Udp", "pingora::", "redis::"] {
                // A module of our own may have the name of a library: `redis` in the model.
                let own = root().join(path.with_extension("")).join(banned.trim_end_matches("::")).with_extension("rs");
                assert!(own.exists() || !line.contains(banned), "{}:{number}: {banned}", path.display());
            }
        }
    }
}

/// Folders and files directly below `src/` know what they need from the wiring, not from each other.
#[test]
fn siblings_do_not_import_each_other() {
    let known = ["stores", "keys", "audit", "admin", "upstream"];
    for (path, text) in sources("src") {
        let mine = path.iter().nth(1).unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if !known.contains(&mine.as_str()) {
            continue;
        }
        for (number, line) in code(&text) {
            for other in known.iter().filter(|other| **other != mine) {
                let imports =
                    line.contains(&format!("crate::{other}")) || line.contains(&format!("super::super::{other}"));
                assert!(!imports, "{}:{number}: {mine} imports {other}", path.display());
            }
        }
    }
}

/// A filter is one file or folder of `filters/src` that implements `Filter`; they share only what stands beside them.
#[test]
fn filters_do_not_import_each_other() {
    let filters = [
        "addresses",
        "assertion",
        "authentication",
        "authorisation",
        "encryption",
        "guard",
        "leases",
        "operation_tokens",
        "rate_limit",
        "security_headers",
    ];
    for (path, text) in sources("filters/src") {
        let mine = path.iter().nth(2).unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if !filters.contains(&mine.as_str()) {
            continue;
        }
        let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code(production) {
            for other in filters.iter().filter(|other| **other != mine) {
                assert!(
                    !line.contains(&format!("crate::{other}")),
                    "{}:{number}: {mine} imports {other}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        assert!(lines < MAX_LINES || path == Path::new(LONGER), "{}: {lines} lines", path.display());
        // A module's tests say beside it what they are.
        let tests = path.file_stem().is_some_and(|stem| stem == "tests");
        assert!(tests || text.starts_with("//! "), "{}: no module documentation in its first line", path.display());
    }
}

/// A build without the feature `kms` is one without that folder: nobody else may need what it brings.
#[test]
fn the_sdk_of_aws_stays_in_its_folder() {
    for (path, text) in sources("src").into_iter().filter(|(path, _)| !path.starts_with("src/kms")) {
        for (number, line) in code(&text) {
            for banned in ["aws_sdk_kms", "aws_config", "aws_smithy", "feature = \"kms\""] {
                assert!(!line.contains(banned), "{}:{number}: {banned}", path.display());
            }
        }
    }
    let manifest: toml::Table = toml::from_str(&read(&root().join("Cargo.toml"))).unwrap();
    for name in ["aws-config", "aws-sdk-kms", "aws-smithy-http-client"] {
        assert_eq!(manifest["dependencies"][name]["optional"].as_bool(), Some(true), "{name}");
    }
    let default = manifest["features"]["default"].as_array().unwrap();
    assert!(default.iter().any(|feature| feature.as_str() == Some("kms")), "what is shipped speaks to KMS");
}

#[test]
fn nothing_is_left_for_later() {
    for (path, text) in all_sources() {
        for (number, line) in code(&text) {
            for banned in ["todo!", "unimplemented!", "dbg!("] {
                assert!(!line.contains(banned), "{}:{number}: {banned}", path.display());
            }
        }
    }
}

#[test]
fn names_say_what_a_thing_is() {
    for (path, _) in all_sources() {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        for banned in ["manager", "handler", "helper", "helpers", "util", "utils", "common", "misc"] {
            assert_ne!(stem, banned, "{}", path.display());
        }
    }
}

/// Every dependency stands once, in the workspace's list, with its reason behind it or in the remark above it.
#[test]
fn every_dependency_has_its_reason() {
    let text = read(&root().join("Cargo.toml"));
    let list = text.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let mut above = "";
    for line in list.lines().map(str::trim) {
        let section = above.starts_with("# ---");
        let reasoned = line.contains('#') || (above.starts_with('#') && !section);
        let ours = line.contains("path = ");
        assert!(line.is_empty() || ours || reasoned, "no reason: {line}");
        above = line;
    }
    // Outside the workspace, with a list of its own.
    let text = read(&root().join("fuzz/Cargo.toml"));
    let list = text.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for line in list.lines().take_while(|line| !line.starts_with("# ")).filter(|line| !line.trim().is_empty()) {
        assert!(line.contains("path = ") || line.contains(" # "), "fuzz/Cargo.toml: no reason: {line}");
    }
    for manifest in ["Cargo.toml", "filters/Cargo.toml", "config/Cargo.toml"] {
        let table: toml::Table = toml::from_str(&read(&root().join(manifest))).unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table.get(section).and_then(toml::Value::as_table).into_iter().flatten() {
                let shared = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(shared, Some(true), "{manifest}: {name} has a version of its own");
            }
        }
    }
}

/// A dependency that nothing names is one to download, to build and to watch for nothing.
#[test]
fn every_dependency_is_used() {
    for (manifest, code, tests) in [
        ("Cargo.toml", &["src"][..], &["src", "tests"][..]),
        ("filters/Cargo.toml", &["filters/src"], &["filters/src", "filters/tests", "benches"]),
        ("config/Cargo.toml", &["config/src"], &["config/src", "config/tests"]),
    ] {
        let table: toml::Table = toml::from_str(&read(&root().join(manifest))).unwrap();
        for (section, folders) in [("dependencies", code), ("dev-dependencies", tests)] {
            let text: String = folders.iter().flat_map(|folder| sources(folder)).map(|(_, text)| text).collect();
            for name in table[section].as_table().unwrap().keys() {
                let name = if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") };
                let named = |(at, _): (usize, &str)| {
                    let before = text[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                };
                let path = format!("{name}::");
                assert!(text.match_indices(&path).any(named), "{manifest}: {section}: nothing names {name}");
            }
        }
    }
}

/// The README's table is what dashboards are built from.
#[test]
fn every_metric_stands_in_the_readme() {
    let readme = read(&root().join("README.md"));
    let (_, table) = readme.split_once("## Metrics").unwrap();
    let metrics = read(&root().join("filters/src/metrics.rs"));
    let declared = metrics.split("#[cfg(test)]").next().unwrap();
    let names: Vec<&str> = declared.split('"').filter(|text| text.starts_with("gapura_")).collect();
    assert!(names.len() > 10);
    let first = |line: &str| line.strip_prefix("| ").and_then(|rest| Some(rest.split_once(" |")?.0.to_owned()));
    let listed: Vec<String> = table.lines().filter_map(first).collect();
    for name in names {
        assert!(listed.iter().any(|cell| cell.contains(&format!("`{name}`"))), "{name}");
    }
    assert!(table.contains("`would_refuse`"));
}

/// Whoever cites the measurements cites a figure that is in them.
#[test]
fn figures_come_from_the_measurements() {
    let measured = read(&root().join("docs/performance.md"));
    let manifest = (PathBuf::from("Cargo.toml"), read(&root().join("Cargo.toml")));
    for (path, text) in all_sources().into_iter().chain([manifest]) {
        for line in text.lines().filter(|line| line.contains("docs/performance.md")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[1] == "%") {
                assert!(measured.contains(&pair.join(" ")), "{}: {line}", path.display());
            }
        }
    }
}
