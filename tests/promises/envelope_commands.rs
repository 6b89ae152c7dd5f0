//! The commands around envelopes say what is wrong while it can be mended: `encrypt` makes no message that no gateway opens,
//! `keyring rotate` prints what the file can take, `explain` knows the gateway's own paths and the calendar.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    key_delivery::setup,
    support::{Setup, Upstream, gateway::command},
};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn encrypt_makes_no_message_that_no_gateway_opens() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let key = json!({"kty": "OKP", "crv": "X25519", "kid": "bodies.1", "use": "enc", "encryption": {"payments": ["hpke"]},
        "x": "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"});
    std::fs::write(&keys, json!({"keys": [key]}).to_string()).unwrap();
    let (keys, session) = (keys.display().to_string(), "env:SESSION");
    let environment = [("SESSION", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];
    let hpke =
        ["--profile", "hpke", "--keys", &keys, "--kid", "bodies.1", "--url", "https://a.test/b", "--subject", "u"];
    let coded = [
        "--profile",
        "aes128gcm",
        "--session-key",
        session,
        "--kid",
        "s.1.4102444800",
        "--url",
        "https://a.test/b",
        "--subject",
        "u",
    ];
    let run = |arguments: &[&str], input: &str| command(&[&["encrypt"], arguments].concat(), &environment, input);
    for sound in [&hpke[..], &coded] {
        assert!(run(sound, "{}").status.success(), "{}", said(&run(sound, "{}")));
        assert!(run(&[sound, &["--header"]].concat(), "").status.success());
        assert!(run(&[sound, &["--part", "/card/number"]].concat(), "1").status.success());
    }
    // One argument in place of another, or beside the others.
    let long = "application/".to_owned() + &"j".repeat(300);
    let cases: [(&[&str], &str, &str, &str); 23] = [
        (&hpke, "--url", "https:///b", "names no host"),
        (&hpke, "--url", "https://u@a.test/b", "names no host"),
        (&hpke, "--url", "https://a.test/%2fb", "--url: "),
        (&hpke, "--method", "post", "upper case"),
        (&hpke, "--content-type", &long, "TYPE/SUBTYPE"),
        (&hpke, "--content-type", "json", "TYPE/SUBTYPE"),
        (&hpke, "--kid", "bodies", "NAME.id"),
        (&hpke, "--kid", "bodies.1~2", "NAME.id"),
        (&hpke, "--part", "card", "JSON pointer"),
        (&hpke, "--session-key", session, "belongs to aes128gcm"),
        (&coded, "--kid", "s.1", "NAME.id.EXPIRY"),
        (&coded, "--kid", "s~1.1.1795000000", "NAME.id.EXPIRY"),
        (&coded, "--kid", "s.1.soon", "NAME.id.EXPIRY"),
        (&hpke, "--url", "https://a b/", "names no host"),
        (&hpke, "--url", "https://a:99999/x", "names no host"),
        (&hpke, "--url", "https://[::1]:0/x", "names no host"),
        (&hpke, "--url", "https://ä.de/x", "names no host"),
        (&hpke, "--subject", "", "--subject is empty"),
        (&hpke, "--subject", "a\nb", "--subject holds a control character"),
        (&coded, "--token-id", "a\nb", "--token-id holds a control character"),
        (&coded, "--kid", "s.1.99999999999999999999999", "NAME.id.EXPIRY"),
        (&coded, "--keys", &keys, "belongs to hpke"),
        (&coded, "--part", "/a~2", "JSON pointer"),
    ];
    for (sound, name, value, why) in cases {
        let mut arguments = sound.to_vec();
        match arguments.iter().position(|argument| *argument == name) {
            Some(at) => arguments[at + 1] = value,
            None => arguments.extend([name, value]),
        }
        let output = run(&arguments, "{}");
        assert!(output.status.code() == Some(1) && said(&output).contains(why), "{name} {value}: {}", said(&output));
        assert!(output.stdout.is_empty());
    }
    let both = run(&[&hpke[..], &["--header", "--part", "/a"]].concat(), "");
    assert!(said(&both).contains("do not go together"), "{}", said(&both));
    assert!(said(&run(&hpke, "")).contains("--header makes the message"));
    let other = run(&[&hpke[..], &["--user-id", "u"]].concat(), "{}");
    assert!(other.status.code() == Some(2) && said(&other).contains("--user-id"), "{}", said(&other));
    assert!(!said(&other).contains("--master-key <REF>"), "{}", said(&other));
    let dropped = run(&[&hpke[..], &["--header"]].concat(), "{}");
    assert!(said(&dropped).contains("standard input must be empty"), "{}", said(&dropped));
    let mut ended = coded;
    ended[5] = "s.1.1";
    assert!(said(&run(&ended, "{}")).contains("has ended"));
    for (name, value) in [("--url", "https://a.test/b"), ("--session-key", session)] {
        let arguments = ["decrypt", "--profile", "aes128gcm", "--state", "none", name, value];
        let output = command(&arguments, &environment, "{}");
        assert!(said(&output).contains(&format!("{name} is for `gapura encrypt`")), "{}", said(&output));
    }
}

#[test]
fn a_context_has_the_members_of_a_message() {
    let environment = [("SESSION", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")];
    let sealed = |context: &Value| {
        let context = context.to_string();
        let arguments =
            ["--profile", "jwe", "--session-key", "env:SESSION", "--kid", "s.1.1795000000", "--context", &context];
        command(&[&["encrypt"], &arguments[..]].concat(), &environment, "{}")
    };
    let sound = json!({"method": "POST", "authority": "a.test", "path": "/b", "sub": "u"});
    assert!(sealed(&sound).status.success(), "{}", said(&sealed(&sound)));
    for (member, value, why) in [
        ("subject", json!("u"), "no member `subject`"),
        ("status", json!(200), "no member `status`"),
        ("tid", json!(7), "`tid` has a value"),
        ("iat", json!("now"), "`iat` has a value"),
        ("id", json!("short"), "`id` has a value"),
        ("part", json!("card"), "`part` has a value"),
        ("method", json!(""), "no `method`"),
        ("authority", json!(""), "no `authority`"),
        ("path", json!(""), "no `path`"),
    ] {
        let mut context = sound.clone();
        context[member] = value;
        let output = sealed(&context);
        assert!(output.status.code() == Some(1) && said(&output).contains(why), "{member}: {}", said(&output));
    }
}

/// In braces, as the test's file has it, and under headers.
#[test]
fn a_rotation_is_printed_as_the_file_writes_versions() {
    let upstream = Upstream::ok();
    for form in ["braces", "tables"] {
        let mut setup = setup(&upstream, true);
        let (braces, table) = (
            "versions = [{ id = \"2026-11\", key = \"file:@DIR@/secret\", state = \"active\" }]",
            "[[keyrings.sessions.versions]]\nid = \"2026-11\"\nkey = \"file:@DIR@/secret\"\nstate = \"active\"",
        );
        if form == "tables" {
            setup = setup.replace(braces, table);
        }
        let rotated = setup.command(&["keyring", "rotate", "sessions", "--id", "next"]);
        assert!(rotated.status.success(), "{}", said(&rotated));
        let printed = String::from_utf8(rotated.stdout).unwrap();
        let version: Vec<&str> = printed.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        let (before, after) = match form {
            "braces" => (
                "state = \"active\" }]\n\n[encryption.payments]",
                format!("state = \"active\" }},\n{}]\n\n[encryption.payments]", version.join("\n")),
            ),
            _ => ("\n[encryption.payments]", format!("\n{}\n\n[encryption.payments]", version.join("\n"))),
        };
        let setup = setup.replace(before, &after);
        let listed = said(&setup.command(&["keyring", "list"]));
        assert!(
            listed.contains("\"id\":\"next\"") && listed.contains("sessions-next.secret"),
            "{form}: {printed}{listed}"
        );
        assert!(setup.command(&["check"]).status.success(), "{}", said(&setup.command(&["check"])));
    }
}

#[test]
fn explain_knows_the_paths_of_key_delivery() {
    let upstream = Upstream::ok();
    let setup = setup(&upstream, true);
    for (method, target, told) in [
        ("GET", "/.well-known/gapura/keys", "200, the public keys (bodies.2026-11, points.a)"),
        ("POST", "/.well-known/gapura/keys", "405 METHOD_NOT_ALLOWED"),
        ("GET", "/.well-known/gapura/other", "404 ROUTE_NOT_FOUND"),
        ("GET", "/.well-known/gapura/session-key", "405 METHOD_NOT_ALLOWED"),
        ("POST", "/.well-known/gapura/session-key", "400 REQUEST_MALFORMED"),
        (
            "POST",
            "/.well-known/gapura/session-key?path=/payments/1",
            "200, a session key, to callers whom this route lets in",
        ),
        ("POST", "/.well-known/gapura/session-key?path=/payments/1&method=GET", "payments (GET /payments/1)"),
        ("POST", "/.well-known/gapura/session-key?path=/payments/1&method=PUT", "does not take PUT"),
        ("POST", "/.well-known/gapura/session-key?path=/founding", "200, the caller's own passphrase"),
        ("POST", "/.well-known/gapura/session-key?path=/plain", "route plain has no key to give"),
    ] {
        let output = said(&setup.command(&["explain", method, target]));
        assert!(output.contains(told), "{method} {target}: {output}");
    }
    let off = self::setup(&upstream, false).command(&["explain", "GET", "/.well-known/gapura/keys"]);
    assert!(said(&off).contains("route            wide"), "{}", said(&off));
}

#[test]
fn explain_knows_whether_the_founding_format_is_over() {
    let upstream = Upstream::ok();
    for (day, told) in [("2020-01-31", "that day is past: cryptojs is refused"), ("2199-12-31", "that is in 6")] {
        let setup = setup(&upstream, true);
        let setup = setup.replace(
            "master_key = \"env:MASTER_KEY\"",
            &format!("master_key = \"env:MASTER_KEY\"\naccept_legacy_until = {day}"),
        );
        let output = said(&setup.command(&["explain", "POST", "/founding"]));
        assert!(
            output.contains(&format!("cryptojs is accepted to the end of {day}")) && output.contains(told),
            "{output}"
        );
        let given = said(&setup.command(&["explain", "POST", "/.well-known/gapura/session-key?path=/founding"]));
        assert_eq!(given.contains("has no key to give"), day == "2020-01-31", "{given}");
    }
}

/// A profile that is none is one mistake, and not two.
#[test]
fn check_says_nothing_of_keys_that_an_unknown_profile_would_need() {
    let upstream = Upstream::ok();
    for profile in ["profile = \"jose\"", "profile = []"] {
        let setup: Setup = setup(&upstream, true).replace("profile = [\"hpke\", \"aes128gcm\"]", profile);
        let output = said(&setup.command(&["check"]));
        assert!(output.contains("1 error") && !output.contains("master key"), "{output}");
    }
}
