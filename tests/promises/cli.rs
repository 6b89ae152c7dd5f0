//! The command line: what each command prints where, and with which exit code it ends.

use std::process::Output;

use serde_json::Value;

use crate::support::{
    Setup,
    credential::key_hash,
    gateway::{API_KEY_SALT, MASTER_KEY, command},
};

const GOOD: &str = r#"[upstreams.backend]
servers = ["127.0.0.1:8000"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[encryption.bodies]
profile = "cryptojs"
master_key = "env:MASTER_KEY"

[rate_limits.general]
limit = 100
window = "60s"
by = "client_ip"

[[routes]]
name = "payments"
path = "/payments/**"
methods = ["POST"]
upstream = "backend"
auth = ["jwt.users"]
permissions = ["PAYMENT_PROCESS"]
rate_limits = ["general"]
encryption = "bodies"

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Both streams, for what people read.
fn all(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[track_caller]
fn code(output: &Output, expected: i32) {
    assert_eq!(output.status.code(), Some(expected), "{}", all(output));
}

#[test]
fn check_says_one_line_about_a_good_file() {
    let checked = Setup::plain(GOOD).command(&["check"]);
    code(&checked, 0);
    assert_eq!(text(&checked.stdout).trim_end().lines().count(), 1, "{}", all(&checked));
}

#[test]
fn check_names_every_fault_at_its_place() {
    let bad = GOOD
        .replace("by = \"client_ip\"", "by = \"client_ip\"\nwindwo = \"60s\"")
        .replace("upstream = \"backend\"\nauth", "upstream = \"backned\"\nauth")
        .replace("secret = \"env:JWT_SECRET\"", "secret = \"hunter2-hunter2-hunter2-hunter2-hunter2\"")
        .replace("master_key = \"env:MASTER_KEY\"", "master_key = \"env:NO_SUCH_VARIABLE\"")
        .replace("name = \"open\"", "name = \"payments\"");
    let setup = Setup::plain(&bad);
    let checked = setup.command(&["check"]);
    code(&checked, 1);
    let report = all(&checked);
    let file = std::fs::read_to_string(setup.directory().join("gapura.toml")).unwrap();
    for (part, hint) in [
        ("windwo", "window"),
        ("\"backned\"", "backend"),
        ("hunter2", "env:"),
        ("NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"),
    ] {
        let line = 1 + file.lines().position(|line| line.contains(part)).unwrap();
        assert!(report.contains(&format!("gapura.toml:{line}:")), "no line {line} for {part} in:\n{report}");
        assert!(report.contains(hint), "{hint} is not in:\n{report}");
    }
    let second = 1 + file.lines().enumerate().filter(|(_, line)| *line == "name = \"payments\"").nth(1).unwrap().0;
    assert!(report.contains(&format!("gapura.toml:{second}:")), "the second `payments` in:\n{report}");
    assert!(!report.contains("hunter2-hunter2-hunter2"), "the secret is repeated:\n{report}");
}

#[test]
fn check_sees_what_only_building_would_tell() {
    for (from, to, part) in [
        ("path = \"/open\"", "path = \"open\"", "path"),
        ("limit = 100", "limit = 0", "limit"),
        ("algorithms = [\"HS256\"]", "algorithms = [\"RS256\"]", "RS256"),
        ("window = \"60s\"", "window = \"sixty\"", "sixty"),
        ("auth = [\"jwt.users\"]\n", "", "encryption"),
    ] {
        let checked = Setup::plain(&GOOD.replace(from, to)).command(&["check"]);
        code(&checked, 1);
        assert!(all(&checked).contains(part), "{part} is not in:\n{}", all(&checked));
    }
    let no_toml = Setup::plain("= not toml").command(&["check"]);
    code(&no_toml, 1);
    let missing = command(&["check", "--config", "/nonexistent/gapura.toml"], &[], "");
    code(&missing, 1);
    assert!(all(&missing).contains("/nonexistent/gapura.toml"));
}

#[test]
fn check_reads_certificates() {
    let server = "[server]\nhttps = [\"127.0.0.1:0\"]\n\n[tls]\ncertificates = [{ cert = \"@DIR@/a.pem\", key = \
                  \"@DIR@/a.key\" }]\n";
    let file = format!("{server}{GOOD}");
    let missing = Setup::new(&file).command(&["check"]);
    code(&missing, 1);
    assert!(all(&missing).contains("a.pem"), "{}", all(&missing));
    let authority = crate::support::cert::Authority::new("servers");
    let (one, two) = (authority.server(&["a.test"]), authority.server(&["a.test"]));
    let mixed = Setup::new(&file).file("a.pem", &one.cert).file("a.key", &two.key).command(&["check"]);
    code(&mixed, 1);
    let right = Setup::new(&file).file("a.pem", &one.cert).file("a.key", &one.key).command(&["check"]);
    code(&right, 0);
}

#[test]
fn explain_prints_the_route_and_its_filters_in_order() {
    let explained = Setup::plain(GOOD).command(&["explain", "POST", "https://shop.test/payments/./7?x=1"]);
    code(&explained, 0);
    let printed = text(&explained.stdout);
    let mut from = 0;
    for part in ["payments", "general", "jwt.users", "PAYMENT_PROCESS", "cryptojs"] {
        let at = printed[from..].find(part).unwrap_or_else(|| panic!("{part} does not follow in:\n{printed}"));
        from += at;
    }
    for secret in [MASTER_KEY, crate::support::gateway::JWT_SECRET] {
        assert!(!printed.contains(secret), "a secret in:\n{printed}");
    }
    let public = Setup::plain(GOOD).command(&["explain", "GET", "/open"]);
    code(&public, 0);
    assert!(text(&public.stdout).contains("open"));
}

#[test]
fn explain_prints_the_decision_for_a_given_token() {
    use crate::support::credential::{Token, now_ms};

    let expired = Token::alice().with("exp", now_ms() / 1000 - 600);
    for (token, said) in [
        (Token::alice(), vec!["user u-1001 by jwt.users", "PAYMENT_PROCESS", "decision         let in"]),
        (Token::new("u-2"), vec!["user u-2", "403 PERMISSION_DENIED, by authorisation"]),
        (expired, vec!["401 CREDENTIALS_INVALID, by authentication", "expired"]),
    ] {
        let setup = Setup::plain(GOOD).file("token", token.sign());
        let reference = format!("file:{}/token", setup.directory().display());
        for given in [["--token", &reference], ["--header", &format!("Cookie={reference}")]] {
            let explained = setup.command(&["explain", "POST", "/payments", given[0], given[1]]);
            code(&explained, 0);
            let printed = text(&explained.stdout);
            if given[0] == "--header" {
                assert!(printed.contains("401 CREDENTIALS_MISSING"), "{printed}");
            } else {
                said.iter().for_each(|part| assert!(printed.contains(part), "no {part} in:\n{printed}"));
            }
            assert!(!printed.contains(&token.sign()), "the token in:\n{printed}");
        }
    }
    let typed = Setup::plain(GOOD).command(&["explain", "POST", "/payments", "--header", "X-Api-Key=gk_secret"]);
    assert!(!all(&typed).contains("gk_secret"), "{}", all(&typed));
    code(&typed, 2);
}

#[test]
fn explain_says_what_a_request_would_be_answered() {
    let wrong_method = Setup::plain(GOOD).command(&["explain", "GET", "/payments"]);
    assert!(all(&wrong_method).contains("405") || all(&wrong_method).contains("POST"), "{}", all(&wrong_method));
    let nowhere = Setup::plain(GOOD).command(&["explain", "GET", "/nowhere"]);
    assert!(!all(&nowhere).contains("cryptojs"), "{}", all(&nowhere));
    let ambiguous = Setup::plain(GOOD).command(&["explain", "GET", "/open//x"]);
    assert!(all(&ambiguous).contains("//"), "{}", all(&ambiguous));
}

#[test]
fn keys_hash_is_what_the_file_wants() {
    let environment = [("API_KEY_SALT", API_KEY_SALT)];
    for input in ["key-of-ci", "key-of-ci\n"] {
        let hashed = command(&["keys", "hash", "--salt", "env:API_KEY_SALT"], &environment, input);
        code(&hashed, 0);
        assert_eq!(text(&hashed.stdout).trim_end(), key_hash("key-of-ci"));
    }
    let empty = command(&["keys", "hash", "--salt", "env:API_KEY_SALT"], &environment, "");
    code(&empty, 1);
    let unset = command(&["keys", "hash", "--salt", "env:NO_SUCH_VARIABLE"], &[], "key");
    code(&unset, 1);
    assert!(all(&unset).contains("NO_SUCH_VARIABLE"));
    let literal = command(&["keys", "hash", "--salt", "literal-salt-value"], &[], "key");
    assert!(matches!(literal.status.code(), Some(1 | 2)), "a literal secret was taken");
}

#[test]
fn schema_is_json_schema() {
    let schema = command(&["schema"], &[], "");
    code(&schema, 0);
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["$schema"].is_string() && schema["properties"]["routes"].is_object(), "{schema}");
}

#[test]
fn version_help_and_completions() {
    for arguments in [&["version"][..], &["--version"]] {
        let version = command(arguments, &[], "");
        code(&version, 0);
        assert!(text(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{}", all(&version));
    }
    let help = command(&["--help"], &[], "");
    code(&help, 0);
    for name in ["run", "check", "explain", "keys", "encrypt", "decrypt", "schema", "version", "completions"] {
        assert!(text(&help.stdout).contains(name), "{name}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let completions = command(&["completions", shell], &[], "");
        code(&completions, 0);
        assert!(text(&completions.stdout).contains("gapura"), "{shell}");
    }
}

#[test]
fn wrong_usage() {
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["run", "--no-such-option"],
        &["explain", "GET"],
        &["completions", "no-such-shell"],
        &["keys", "hash"],
        &["encrypt", "--user-id", "u"],
    ] {
        let output = command(arguments, &[], "");
        code(&output, 2);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}: {}", all(&output));
    }
}

#[test]
fn a_file_that_is_not_there_does_not_run() {
    let output = command(&["run", "--config", "/nonexistent/gapura.toml"], &[], "");
    code(&output, 1);
    assert!(text(&output.stderr).contains("/nonexistent/gapura.toml"));
}

#[test]
fn ciphertext_that_does_not_open() {
    let environment = [("PASSPHRASE", "correct horse")];
    for input in ["", "!!", "U2FsdGVkX18="] {
        let opened = command(&["decrypt", "--passphrase", "env:PASSPHRASE"], &environment, input);
        code(&opened, 1);
        assert!(opened.stdout.is_empty());
    }
}
