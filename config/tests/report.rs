//! A whole report, as `gapura check` prints it.

use gapura_config::{fault::Fault, parse};

const BAD: &str = r#"[server]
https = "0.0.0.0:8443"
admin = "0.0.0.0:9180"

[upstreams.backend]
servers = ["127.0.0.1:8000"]
idle_timeout = 4

[jwt.users]
algorithms = ["HS256", "RS256"]
secret = "correct horse battery staple"

[[routes]]
name = "payments"
path = "/payments/**"
upstream = "backnd"
methods = ["post"]
max_bdoy = "1MiB"
auth = ["jwt.users"]
"#;

const REPORT: &str = r#"error: `https` is a list, this is a string
 --> gapura.toml:2:9
  |
2 | https = "0.0.0.0:8443"
  |         ^^^^^^^^^^^^^^
  |
  = help: write https = ["0.0.0.0:8443"]

warning: `0.0.0.0` can be reached from other hosts, and the admin API reloads and shows metrics to whoever asks
 --> gapura.toml:3:9
  |
3 | admin = "0.0.0.0:9180"
  |         ^^^^^^^^^^^^^^
  |
  = help: listen on 127.0.0.1, or let a firewall guard it

error: `idle_timeout` is a duration with its unit, in quotes; this is a number
 --> gapura.toml:7:16
  |
7 | idle_timeout = 4
  |                ^
  |
  = help: write "4s"

error: `RS256` is not verified with `secret`
  --> gapura.toml:10:24
   |
10 | algorithms = ["HS256", "RS256"]
   |                        ^^^^^^^
   |
   = help: write HS256, HS384 or HS512, or put the public key in `public_key` or `jwks`

error: a secret is never written here
  --> gapura.toml:11:10
   |
11 | secret = …
   |          ^
   |
   = help: write where it is found: "env:NAME" or "file:/path"

error: there is no `[upstreams.backnd]`
  --> gapura.toml:16:12
   |
16 | upstream = "backnd"
   |            ^^^^^^^^
   |
   = help: did you mean "backend"?

warning: methods are case-sensitive, and no client sends `post`
  --> gapura.toml:17:12
   |
17 | methods = ["post"]
   |            ^^^^^^
   |
   = help: write "POST"

error: unknown key `max_bdoy` in `[[routes]]`
  --> gapura.toml:18:1
   |
18 | max_bdoy = "1MiB"
   | ^^^^^^^^
   |
   = help: did you mean `max_body`?

gapura.toml: 6 errors, 2 warnings
"#;

#[test]
fn a_report_shows_every_fault_in_the_order_of_the_file() {
    let faults = parse("gapura.toml", BAD).expect_err("a bad file");
    assert_eq!(faults.to_string(), REPORT);
}

#[test]
fn colour_changes_nothing_but_the_colour() {
    let faults = parse("gapura.toml", BAD).expect_err("a bad file");
    let colored = faults.source.render(&faults.faults, true);
    assert!(colored.contains("\u{1b}["));
    let mut plain = String::new();
    let mut parts = colored.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or("", |(_, text)| text)));
    assert_eq!(plain, REPORT);
}

#[test]
fn faults_that_others_find_are_drawn_at_their_place() {
    // The gateway's own crates read secrets and certificates later, and report through the same source.
    let loaded = parse("gapura.toml", include_str!("../gapura.toml")).unwrap_or_else(|faults| panic!("{faults}"));
    let place = gapura_config::fault::Place::root().key("jwt").key("users").key("secret");
    let (line, column) = loaded.source.locate(&place).expect("the reference has it");
    let fault = Fault::at(place, "the environment variable `JWT_SECRET` is not set");
    let report = loaded.source.render(&[fault], false);
    assert!(report.contains(&format!("--> gapura.toml:{line}:{column}\n")), "{report}");
    assert!(report.contains("| secret = \"env:JWT_SECRET\""), "{report}");
    assert!(report.ends_with("gapura.toml: 1 error\n"), "{report}");
    assert_eq!(loaded.source.render(&[], false), "");
}
