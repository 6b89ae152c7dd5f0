//! Files as they come: absent, huge, of another encoding, with the line endings of another system, absurdly deep.

use std::{fs, path::Path};

use gapura_config::{Faults, load, parse};

const SMALL: &str = "[server]\nhttp = [\"127.0.0.1:8080\"]\nplaintext = true\n\
    [upstreams.app]\nservers = [\"127.0.0.1:8000\"]\n\
    [[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"app\"\n";

fn load_bytes(bytes: &[u8]) -> Result<gapura_config::Loaded, Faults> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gapura.toml");
    fs::write(&path, bytes).expect("a file");
    load(&path)
}

fn message(faults: &Faults) -> String {
    assert_eq!(faults.faults.len(), 1, "{faults}");
    faults.faults[0].message.clone()
}

#[test]
fn a_sound_file_loads() {
    let loaded = load_bytes(SMALL.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.config.routes[0].name, "all");
    assert_eq!(loaded.warnings.len(), 1, "plaintext is worth a warning");
    assert!(loaded.warnings[0].message.contains("in the clear"));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_with_its_path_and_the_reason() {
    let faults = load(Path::new("no/such/file.toml")).expect_err("there is none");
    assert!(message(&faults).starts_with("`no/such/file.toml` cannot be read: No such file"), "{faults}");
    let folder = tempfile::tempdir().expect("a folder");
    let faults = load(folder.path()).expect_err("a folder is no file");
    assert!(message(&faults).contains("cannot be read: Is a directory"), "{faults}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let faults = load_bytes(&vec![b'#'; (4 << 20) + 1]).expect_err("too large");
    assert_eq!(message(&faults), "the file is larger than 4 MiB: this is no configuration");
    if cfg!(target_os = "linux") {
        assert!(message(&load(Path::new("/dev/zero")).expect_err("endless")).contains("larger than 4 MiB"));
    }
}

#[test]
fn another_encoding_is_told_with_its_line() {
    let mut bytes = b"# Caf\xc3\xa9\n[server]\n# na".to_vec();
    bytes.extend(b"\xefve\n");
    let faults = load_bytes(&bytes).expect_err("not UTF-8");
    assert_eq!(message(&faults), "the file is not UTF-8 from here on");
    assert_eq!(faults.source.locate_fault(&faults.faults[0]), Some((3, 5)));
    assert!(faults.to_string().contains("gapura.toml:3:5"), "{faults}");
}

#[test]
fn windows_files_load_and_count_the_same_columns() {
    let windows = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
    load_bytes(windows.as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let faults = load_bytes(windows.replace("plaintext", "plainText").as_bytes()).expect_err("an unknown key");
    assert_eq!(faults.source.locate_fault(&faults.faults[0]), Some((3, 1)), "{faults}");
    assert!(!faults.to_string().contains('\r'));
    // The mark stands before the first character, not in its column.
    let faults = parse("x", "\u{feff}servers = 1").expect_err("an unknown key");
    assert_eq!(faults.source.locate_fault(&faults.faults[0]), Some((1, 1)), "{faults}");
}

#[test]
fn an_empty_file_says_what_is_missing() {
    for text in ["", "\n", "# only a comment", "\u{feff}"] {
        let faults = parse("gapura.toml", text).expect_err("no routes");
        let report = faults.to_string();
        assert!(report.contains("the file has no `routes`"), "{report}");
        assert!(report.contains("the gateway listens nowhere"), "{report}");
    }
}

#[test]
fn what_nests_absurdly_deep_is_refused_and_overflows_no_stack() {
    let lists = format!("a = {}{}", "[".repeat(50_000), "]".repeat(50_000));
    let tables = format!("a = {}1{}", "{ a = ".repeat(50_000), " }".repeat(50_000));
    let dotted = format!("{} = 1", vec!["a"; 50_000].join("."));
    let header = format!("[{}]", vec!["a"; 50_000].join("."));
    let product = format!("{}1{}", format!("{} = {{ ", vec!["a"; 78].join(".")).repeat(78), " }".repeat(78));
    for text in [lists, tables, dotted, header, product, format!("a = {}", "[".repeat(2 << 20))] {
        let faults = parse("deep", &text).expect_err("too deep");
        assert!(!faults.to_string().is_empty());
    }
    let faults = parse("deep", &format!("a = {}1{}", "[".repeat(40), "]".repeat(40))).expect_err("too deep");
    assert_eq!(message(&faults), "tables and lists nest deeper than 32 levels here");
}

#[test]
fn a_file_of_nothing_but_faults_is_reported_in_reasonable_time() {
    let many = (0..10_000).map(|i| format!("key{i} = \"value\"\n")).collect::<String>();
    let faults = parse("many", &many).expect_err("unknown keys");
    assert!(faults.to_string().contains("; the first 500 are shown"));
    let routes = SMALL.to_owned() + &"[[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"app\"\n".repeat(20_000);
    let faults = parse("routes", &routes).expect_err("all the same");
    assert!(faults.faults.len() >= 40_000);
    assert!(faults.to_string().ends_with("the first 500 are shown\n"));
    let twice = (0..20_000).map(|i| format!("key{i} = 1\nkey{i} = 2\n")).collect::<String>();
    let faults = parse("twice", &twice).expect_err("keys that stand twice");
    assert!(faults.faults.len() >= 40_000);
}
