//! `gapura encrypt` and `decrypt` with `--profile jwe-rsa`: a partner with a shell is understood, and understands.

use crate::{
    python_clients::{PAYLOAD, WRAPPED, echo, file, start},
    support::{gateway::command, token},
};

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_partner_with_a_shell_is_understood_and_answered() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let key = |name: &str| format!("file:{}", file(&gateway, name));
    let (public, private) = (key("public.pem"), key("partner-private.pem"));
    for (name, member) in WRAPPED {
        let preset: &[&str] = match name {
            "visa" => &["--preset", "visa-mle"],
            "mastercard" => &["--preset", "mastercard"],
            _ => &[],
        };
        let common = [&["--profile", "jwe-rsa"], preset].concat();
        let encrypt = [&["encrypt", "--key", &public, "--kid", "gateway-key"], &common[..]].concat();
        let sealed = command(&encrypt, &[], PAYLOAD);
        assert!(sealed.status.success(), "{}", said(&sealed));
        let content_type = if member.is_some() { "application/json" } else { "application/jose" };
        let headers = [("Authorization", &*token()), ("Content-Type", content_type)];
        let body = sealed.stdout.trim_ascii();
        let answer = gateway.request("POST", &format!("/debug/request/{name}/1"), &headers, body);
        assert_eq!((answer.status, &*upstream.last().text()), (200, PAYLOAD), "{name}: {}", answer.lossy());

        let decrypt = [&["decrypt", "--key", &private, "--kid", "partner-key"], &common[..]].concat();
        let opened = command(&decrypt, &[], &answer.body);
        assert!(opened.status.success(), "{name}: {}", said(&opened));
        assert_eq!(opened.stdout, PAYLOAD.as_bytes());
        // Under another name; and what was sent is not to the partner's key.
        let named = [&["decrypt", "--key", &private, "--kid", "another"], &common[..]].concat();
        for (arguments, input, why) in
            [(&named, &*answer.body, "names another key"), (&decrypt, body, "sealed to another key")]
        {
            let refused = command(arguments, &[], input);
            assert!(refused.status.code() == Some(1) && refused.stdout.is_empty());
            assert!(said(&refused).contains(why), "{}", said(&refused));
        }
    }
}

#[test]
fn arguments_that_make_no_message_are_named() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let public = format!("file:{}", file(&gateway, "public.pem"));
    let private = format!("file:{}", file(&gateway, "partner-private.pem"));
    let all = ["encrypt", "--profile", "jwe-rsa", "--key", &public, "--kid", "k"];
    let cases: [(&[&str], &str); 8] = [
        (&all[..5], "--kid is missing"),
        (&["encrypt", "--profile", "jwe-rsa", "--kid", "k"], "--key is missing"),
        (&["encrypt", "--profile", "jwe-rsa", "--kid", "", "--key", &public], "--kid is the name"),
        (
            &["encrypt", "--profile", "jwe-rsa", "--kid", "k", "--key", &private],
            "neither a certificate nor a public key",
        ),
        (&[&all[..], &["--context", "{}"]].concat(), "--context belongs to other profiles"),
        (&[&all[..], &["--url", "https://a.test/"]].concat(), "--url belongs to other profiles"),
        (&[&all[..], &["--content-type", "json"]].concat(), "TYPE/SUBTYPE"),
        (&["encrypt", "--profile", "jwe", "--preset", "visa-mle"], "--preset belongs to --profile jwe-rsa"),
    ];
    for (arguments, why) in cases {
        let refused = command(arguments, &[], PAYLOAD);
        assert!(refused.status.code() == Some(1) && refused.stdout.is_empty(), "{arguments:?}: {}", said(&refused));
        assert!(said(&refused).contains(why), "{arguments:?}: {}", said(&refused));
    }
    // The wrapper of another scheme.
    let sealed = command(&[&all[..], &["--preset", "visa-mle"]].concat(), &[], PAYLOAD);
    let other = ["decrypt", "--profile", "jwe-rsa", "--preset", "mastercard", "--key", &private];
    let refused = command(&other, &[], &sealed.stdout);
    assert!(said(&refused).contains("wrapper of its preset"), "{}", said(&refused));
}
