//! Files that the configuration names: one that is none, or has no end, stops the start at once and says why.

use std::process::Command;

use crate::support::{Setup, cert::Authority, wait::until};

const ROUTE: &str = r#"
[upstreams.backend]
servers = ["127.0.0.1:8000"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

fn tls(tables: &str) -> String {
    format!("[server]\nhttps = [\"127.0.0.1:0\"]\n\n[tls]\n{tables}\n{ROUTE}")
}

/// What `check` says: within the deadline, since it reads nothing that has no end.
#[track_caller]
fn faults(setup: Setup) -> String {
    let pipe = setup.directory().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let waits = std::thread::spawn(move || setup.command(&["check"]));
    until("`check` ends", || waits.is_finished().then_some(()));
    let output = waits.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_has_no_end_is_not_read() {
    for path in ["/dev/zero", "@DIR@/pipe"] {
        for tables in [
            format!("self_signed = true\n[jwt.a]\nalgorithms = [\"HS256\"]\nsecret = \"file:{path}\""),
            format!("self_signed = true\n[jwt.a]\nalgorithms = [\"RS256\"]\njwks = \"file:{path}\""),
            format!(
                "self_signed = true\n[jwt.a]\nalgorithms = [\"RS256\"]\njwks = \"https://id.test/keys\"\nca = \"{path}\""
            ),
            format!("certificates = [{{ cert = \"{path}\", key = \"{path}\" }}]"),
            format!("self_signed = true\nclient_ca = \"{path}\""),
            format!("self_signed = true\n[upstreams.tls]\nservers = [\"a.test:443\"]\ntls = true\nca = \"{path}\""),
        ] {
            let report = faults(Setup::new(&tls(&tables)));
            assert!(report.contains("is no regular file"), "{tables}:\n{report}");
        }
    }
}

#[test]
fn each_file_of_a_certificate_has_its_own_fault_with_help() {
    let certificates = "certificates = [{ cert = \"@DIR@/a.pem\", key = \"@DIR@/a.key\" }]";
    let both = faults(Setup::new(&tls(certificates)));
    for part in ["a.pem` cannot be read: No such file", "a.key` cannot be read: No such file"] {
        assert!(both.contains(part), "{part} is not in:\n{both}");
    }
    assert_eq!(both.matches("= help: name a readable PEM file").count(), 2, "{both}");
    let pair = Authority::new("servers").server(&["a.test"]);
    let broken = &pair.cert[..pair.cert.len() / 2];
    let files = Setup::new(&tls(certificates)).file("a.pem", broken).file("a.key", &pair.key);
    let report = faults(files);
    assert!(report.contains("it breaks off before an `-----END` line"), "{report}");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let report = faults(Setup::new(&tls(certificates)).file("a.pem", &pair.cert).file("a.key", encrypted));
    assert!(report.contains("is protected by a passphrase") && report.contains("= help: `openssl pkey"), "{report}");
}

#[test]
fn a_short_secret_is_a_warning_and_nothing_else() {
    let tables = "self_signed = true\n[jwt.a]\nalgorithms = [\"HS256\"]\nsecret = \"file:@DIR@/secret\"";
    let setup = Setup::new(&tls(tables).replace("path = \"/open\"", "path = \"/open\"\nauth = [\"jwt.a\"]"));
    let checked = setup.file("secret", "short").command(&["check"]);
    let report = String::from_utf8(checked.stderr).unwrap();
    assert!(checked.status.success(), "{report}");
    assert!(report.contains("warning: the secret has fewer than 32 bytes"), "{report}");
    assert!(!report.contains("error") && report.trim_end().ends_with(": 1 warning"), "{report}");
}
