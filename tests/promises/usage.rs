//! The command line where it is used wrongly, and where what it says must be what the gateway does.

use std::process::{Command, Stdio};

use crate::support::{
    Setup, Upstream,
    gateway::{BINARY, command},
    wire::request_bytes,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"
"#;

const SECRET: &str = "S3cr3tValue";

#[test]
fn a_secret_on_the_command_line_is_not_repeated() {
    let identity = "--user-id u --email e@example.com";
    for line in [
        "encrypt --master-key @ --user-id u --email e@example.com",
        "decrypt --master-key=@ --user-id u --email e@example.com",
        "encrypt --passphrase @",
        "decrypt --passphrase=@",
        "encrypt --passphrase env:@-",
        "encrypt --passphrase vault:@",
        "keys hash --salt @",
        "keys hash --salt=@",
        "keys hash --slat=@",
        "keys hash --slat @",
        "keys hash --salt env:SALT @",
        "keys hash -@",
        "keys hash --@",
        "keys hash --salt -@",
        "keys @",
        "keys hash --salt env:SALT --salt @",
        "encrypt --master-key env:KEY --timestamp @ ",
        "encrypt --master-key env:KEY --key-derivation @ ",
    ] {
        let line = line.replace('@', SECRET).replace("--timestamp", &format!("{identity} --timestamp"));
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let output = command(&arguments, &[("SALT", "salt")], "key");
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}:\n{printed}");
        assert!(!printed.contains("S3cr3t"), "{line}:\n{printed}");
        assert!(printed.contains("error: "), "{line}:\n{printed}");
    }
    // Where nothing can be secret, the word that is wrong is named.
    let output = command(&["completions", "bsh"], &[], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("'bsh'"));
}

#[test]
fn options_that_would_have_no_effect_are_refused() {
    for line in [
        "encrypt --passphrase env:KEY --key-derivation user_timestamp",
        "decrypt --passphrase env:KEY --key-derivation user",
        "encrypt --passphrase env:KEY --timestamp 1",
        "decrypt --passphrase env:KEY --timestamp 1",
        "encrypt --passphrase env:KEY --user-id u",
    ] {
        let output = command(&line.split(' ').collect::<Vec<_>>(), &[("KEY", "key")], "text");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{line}:\n{printed}");
        assert!(printed.contains("cannot be used with"), "{line}:\n{printed}");
    }
}

#[test]
fn nobody_has_an_empty_name() {
    for (user_id, email, option) in [("", "e@example.com", "--user-id"), ("u", "", "--email")] {
        for name in ["encrypt", "decrypt"] {
            let arguments = [name, "--master-key", "env:KEY", "--user-id", user_id, "--email", email];
            let output = command(&arguments, &[("KEY", "key")], "text");
            assert_eq!(output.status.code(), Some(2), "{name} {option}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(option), "{name} {option}");
        }
    }
}

#[test]
fn decrypt_takes_the_envelope_of_one_time() {
    let who = ["--master-key", "env:KEY", "--user-id", "u", "--email", "e@example.com"];
    let run = |name: &str, timestamp: &str, input: &[u8]| {
        command(&[&[name], &who[..], &["--timestamp", timestamp]].concat(), &[("KEY", "key")], input)
    };
    let sealed = run("encrypt", "1700000000000", b"{}").stdout;
    assert_eq!(run("decrypt", "1700000000000", &sealed).stdout, b"{}");
    let other = run("decrypt", "1700000000001", &sealed);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stderr).contains("carries another timestamp"));
}

#[test]
fn a_key_that_is_never_looked_up_is_not_hashed() {
    let hash =
        |length: usize| command(&["keys", "hash", "--salt", "env:SALT"], &[("SALT", "salt")], "k".repeat(length));
    assert!(hash(1024).status.success());
    let long = hash(1025);
    assert_eq!(long.status.code(), Some(1));
    assert!(long.stdout.is_empty() && String::from_utf8_lossy(&long.stderr).contains("more than 1024 bytes"));
}

/// Of each, what `explain` says and what the gateway answers.
#[test]
fn explain_says_what_the_gateway_does() {
    let upstream = Upstream::ok();
    let gateway = Setup::plain(TABLES).put("BACKEND", upstream.address()).start();
    let explained = |method: &str, url: &str| {
        let output = Setup::plain(TABLES).put("BACKEND", upstream.address()).command(&["explain", method, url]);
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(0), "{method} {url}:\n{printed}");
        printed
    };
    for (method, target, status) in [
        ("GET", "/open/x", 200),
        ("get", "/open/x", 400),
        ("Post", "/nowhere", 400),
        ("TRACE", "/open/x", 405),
        ("CONNECT", "/open/x", 405),
        ("TRACE", "/nowhere", 405),
        ("OPTIONS", "*", 404),
        ("GET", "*", 400),
        ("GET", "/nowhere", 404),
        ("GET", "/open//x", 400),
    ] {
        let mut wire = gateway.connect();
        wire.send(request_bytes(method, target, &[], b""));
        assert_eq!(wire.answer(method).status, status, "{method} {target}");
        let printed = explained(method, target);
        let told = if status == 200 { "upstream".to_owned() } else { format!("answered by the gateway: {status} ") };
        assert!(printed.contains(&told), "{method} {target} is {status}:\n{printed}");
    }
    for url in ["HTTPS://shop.test/open/x", "https://shop.test/open/x?y#/z", "Http://shop.test/open/x"] {
        assert!(explained("GET", url).contains("route            open"), "{url}");
    }
    assert!(explained("GET", "https://shop.test?y=/open/x").contains("404"));
}

/// `gapura explain 2>&1 | head -0`
#[test]
fn nobody_has_to_read_the_faults() {
    let setup = Setup::plain("routes = 7");
    setup.command(&["check"]);
    let path = setup.directory().join("gapura.toml");
    for name in ["check", "explain", "run"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = Command::new(BINARY);
        child.args([name, "--config"]).arg(&path).args(if name == "explain" { &["GET", "/"][..] } else { &[] });
        let status = child.stdout(Stdio::null()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(1), "{name}");
    }
}
