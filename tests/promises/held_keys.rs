//! Keys that the gateway holds: made, listed, rotated, revoked by the command, while a gateway runs.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    Gateway, Postgres, Setup, Upstream,
    credential::key_hash,
    expect_problem,
    gateway::{API_KEY_SALT, BINARY},
    tool::sqlite_file,
    wait::until_true,
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1/32"]

# A test that waits for a key guesses at it.
[lockout]
exempt = ["192.0.2.0/24", "198.51.100.0/24", "127.0.0.0/8"]

[upstreams.backend]
servers = ["@BACKEND@"]

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
database = "@DATABASE@"

[rate_limits.api]
limit = 2
window = "1h"
by = "api_key"

[rate_limits.all]
limit = 100000
window = "1h"
by = "client_ip"

[[routes]]
name = "limited"
path = "/limited"
upstream = "backend"
auth = ["api_keys.partners"]
rate_limits = ["api", "all"]

[[routes]]
name = "me"
path = "/me"
upstream = "backend"
auth = ["api_keys.partners"]
roles = ["partner"]
"#;

fn sqlite(upstream: &Upstream) -> Gateway {
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address());
    let file = setup.directory().join("keys.db").display().to_string();
    setup.put("DATABASE", format!("sqlite:{file}")).start()
}

fn postgres(upstream: &Upstream, server: &Postgres) -> Gateway {
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address()).file("database", server.url());
    let file = setup.directory().join("database").display().to_string();
    setup.put("DATABASE", format!("file:{file}")).start()
}

/// `gapura keys …` beside a gateway that runs.
fn keys(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    let mut child = Command::new(BINARY)
        .args(["keys", command, "--config"])
        .arg(gateway.directory().join("gapura.toml"))
        .args(rest)
        .env("API_KEY_SALT", API_KEY_SALT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn done(gateway: &Gateway, arguments: &[&str], input: &str) -> String {
    let output = keys(gateway, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn status(gateway: &Gateway, key: &str, from: &str) -> u16 {
    gateway.request("GET", "/me", &[("X-Api-Key", key), ("X-Forwarded-For", from)], b"").status
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn listed(gateway: &Gateway, id: &str) -> Value {
    let text = done(gateway, &["list"], "");
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["id"] == id).unwrap_or_else(|| panic!("{id} is not in {text}"))
}

const HOME: &str = "192.0.2.1";
/// Not exempt.
const ELSEWHERE: &str = "203.0.113.1";

#[test]
fn a_key_in_sqlite_lives_as_the_command_says() {
    let upstream = Upstream::ok();
    let gateway = sqlite(&upstream);
    let issued = lives_as_the_command_says(&upstream, &gateway);
    let file = std::fs::read(gateway.directory().join("keys.db")).unwrap();
    for key in issued {
        assert!(!file.windows(key.len()).any(|part| part == key.as_bytes()), "the key itself is in the file");
    }
}

#[test]
fn a_key_in_postgresql_lives_as_the_command_says_and_outlives_its_server() {
    let upstream = Upstream::ok();
    let server = Postgres::start();
    let gateway = postgres(&upstream, &server);
    let issued = lives_as_the_command_says(&upstream, &gateway);
    server.kill();
    until_true("the outage is noticed", || gateway.log().contains("those read before stay"));
    assert_eq!(status(&gateway, &issued[2], HOME), 200);
    assert_eq!(status(&gateway, &issued[0], HOME), 401);
    assert_eq!(keys(&gateway, &["list"], "").status.code(), Some(3));
}

/// The keys that were issued: a revoked one, one that ended, a good one, one for other addresses.
fn lives_as_the_command_says(upstream: &Upstream, gateway: &Gateway) -> [String; 4] {
    let create = ["create", "--user-id", "acme", "--role", "partner", "--email", "pay@acme.test"];
    let key = done(gateway, &create, "");
    assert!(key.starts_with("gk_") && key.len() == 66, "{key}");
    until_true("the key is known", || status(gateway, &key, HOME) == 200);
    let heard = upstream.last();
    assert_eq!((heard.header("x-user-id"), heard.header("x-user-email")), (Some("acme"), Some("pay@acme.test")));
    let other = if key.ends_with('x') { 'y' } else { 'x' };
    let typo = format!("{}{other}", &key[..key.len() - 1]);
    expect_problem(&gateway.request("GET", "/me", &[("X-Api-Key", &typo)], b""), 401, "CREDENTIALS_INVALID");

    let bound = done(gateway, &[&create[..], &["--allow", "198.51.100.0/24"]].concat(), "");
    until_true("the bound key is known", || status(gateway, &bound, "198.51.100.9") == 200);
    assert_eq!(status(gateway, &bound, HOME), 401);

    let second = done(gateway, &["rotate", id(&key), "--overlap", "1h"], "");
    until_true("the new key is known", || status(gateway, &second, HOME) == 200);
    assert_eq!(status(gateway, &key, HOME), 200, "the old one stays for the overlap");
    let third = done(gateway, &["rotate", id(&second), "--overlap", "1ms"], "");
    until_true("the rotated key has ended", || status(gateway, &second, HOME) == 401);
    until_true("the newest is known", || status(gateway, &third, HOME) == 200);

    assert_eq!(done(gateway, &["revoke", id(&key)], ""), format!("revoked {}", id(&key)));
    until_true("the revoked key has ended", || status(gateway, &key, HOME) == 401);
    assert_eq!(status(gateway, &third, HOME), 200);
    until_true("uses are written", || listed(gateway, id(&third))["usage_count"].as_i64() >= Some(2));
    assert!(listed(gateway, id(&third))["last_used"].is_i64());
    for (key, state) in [(&key, "revoked"), (&second, "expired"), (&third, "good")] {
        assert_eq!(listed(gateway, id(key))["state"], state);
    }

    // A revoked or an ended key is no guess.
    for _ in 0..30 {
        assert_eq!((status(gateway, &key, ELSEWHERE), status(gateway, &second, ELSEWHERE)), (401, 401));
    }
    assert_eq!(status(gateway, &third, ELSEWHERE), 200);
    for text in [gateway.log(), done(gateway, &["list"], "")] {
        for key in [&key, &second, &third, &bound] {
            assert!(!text.contains(key.as_str()), "a key is written somewhere");
        }
    }
    [key, second, third, bound]
}

#[test]
fn a_key_has_its_own_limits_wherever_it_is_kept() {
    let upstream = Upstream::ok();
    let gateway = sqlite(&upstream);
    has_its_own_limits(&gateway);
    let server = Postgres::start();
    has_its_own_limits(&postgres(&upstream, &server));
}

fn has_its_own_limits(gateway: &Gateway) {
    let create = ["create", "--user-id", "acme", "--role", "partner"];
    let usual = done(gateway, &create, "");
    let more = done(gateway, &[&create[..], &["--limit", "api=5"]].concat(), "");
    let line = json!({"id": "few", "hash": key_hash("few-key"), "user_id": "u", "limits": {"api": 1}});
    done(gateway, &["import"], &line.to_string());
    for (key, id) in [(usual.as_str(), id(&usual)), (&more, id(&more)), ("few-key", "few")] {
        until_true("the key is known", || matches!(status(gateway, key, HOME), 200 | 403));
        let limits = &listed(gateway, id)["limits"];
        let passes = || gateway.request("GET", "/limited", &[("X-Api-Key", key)], b"");
        let limit = limits["api"].as_u64().unwrap_or(2);
        for _ in 0..limit {
            let answer = passes();
            assert_eq!(answer.status, 200, "{id}");
            assert_eq!(answer.header("ratelimit-policy"), Some(format!("\"api\";q={limit};w=3600").as_str()));
        }
        expect_problem(&passes(), 429, "RATE_LIMITED");
    }
    assert_eq!(listed(gateway, id(&more))["limits"], json!({"api": 5}));
    assert_eq!(listed(gateway, id(&usual))["limits"], json!({}));
    let rotated = done(gateway, &["rotate", id(&more)], "");
    assert_eq!(listed(gateway, id(&rotated))["limits"], json!({"api": 5}), "a rotated key keeps its limits");
    for (limit, why) in [
        ("apis=5", "there is no `[rate_limits.apis]`"),
        ("all=5", "`all` does not count by API key"),
        ("api=0", "is no limit of a key"),
        ("api", "is no limit of a key"),
    ] {
        let output = keys(gateway, &[&create[..], &["--limit", limit]].concat(), "");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(why), "{limit}: {told}");
    }
}

/// As version 0.1 made it: without `limits`.
const EARLIER: [&str; 4] = [
    "CREATE TABLE gapura_api_keys (
       id TEXT PRIMARY KEY, method TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL, email TEXT NOT NULL,
       roles TEXT NOT NULL, permissions TEXT NOT NULL, addresses TEXT NOT NULL, created BIGINT NOT NULL,
       expires BIGINT NOT NULL, revoked BIGINT NOT NULL, changed BIGINT NOT NULL,
       last_used BIGINT NOT NULL DEFAULT 0, usage_count BIGINT NOT NULL DEFAULT 0)",
    "CREATE TABLE gapura_version (one BIGINT PRIMARY KEY, version BIGINT NOT NULL)",
    "INSERT INTO gapura_version (one, version) VALUES (1, 1)",
    "INSERT INTO gapura_api_keys VALUES ('old', 'api_keys.partners', '@HASH@', 'acme', '', 'partner', '', '', 1, 0, 0, 1, 0, 7)",
];

#[test]
fn a_database_of_an_earlier_version_is_brought_up_to_date() {
    let upstream = Upstream::ok();
    let statements = EARLIER.join(";\n").replace("@HASH@", &key_hash("an-old-key"));
    let setup = Setup::new(TABLES).put("BACKEND", upstream.address());
    let file = setup.directory().join("keys.db");
    sqlite_file(&file, &statements);
    let gateway = setup.put("DATABASE", format!("sqlite:{}", file.display())).start();
    outlives_the_change(&gateway);

    let server = Postgres::start();
    server.execute(&statements);
    outlives_the_change(&postgres(&upstream, &server));
}

fn outlives_the_change(gateway: &Gateway) {
    until_true("the old key is known", || status(gateway, "an-old-key", HOME) == 200);
    assert_eq!(listed(gateway, "old")["limits"], json!({}));
    assert!(listed(gateway, "old")["usage_count"].as_i64() >= Some(7));
    let new = done(gateway, &["create", "--user-id", "u", "--role", "partner", "--limit", "api=9"], "");
    until_true("a new key is known", || status(gateway, &new, HOME) == 200);
    assert_eq!(listed(gateway, id(&new))["limits"], json!({"api": 9}));
}

/// A stolen key: to whoever has it elsewhere it must look like any unknown one, lock-out included.
#[test]
fn a_key_that_is_used_from_elsewhere_is_like_an_unknown_one() {
    let upstream = Upstream::ok();
    let gateway = sqlite(&upstream);
    let create = ["create", "--user-id", "acme", "--role", "partner", "--allow", "192.0.2.0/24"];
    let key = done(&gateway, &create, "");
    until_true("the key is known", || status(&gateway, &key, HOME) == 200);
    let answers = |key: &str, from: &str| -> Vec<u16> { (0..12).map(|_| status(&gateway, key, from)).collect() };
    let heard = upstream.requests().len();
    assert_eq!(answers(&key, "203.0.113.7"), answers("gk_unknown", "203.0.113.8"));
    assert_eq!(status(&gateway, &key, "203.0.113.7"), 429);
    assert_eq!(upstream.requests().len(), heard, "what was refused reached the upstream");
    assert_eq!(status(&gateway, &key, HOME), 200, "its owner is not kept out");
}

#[test]
fn keys_of_another_issuer_and_what_cannot_be_done() {
    let upstream = Upstream::ok();
    let gateway = sqlite(&upstream);
    let hash = key_hash("an-old-key");
    let line = format!(r#"{{"id":"old","hash":"{hash}","user_id":"u","roles":["partner"]}}"#);
    assert_eq!(done(&gateway, &["import"], &format!("{line}\n\n")), "imported 1");
    until_true("the imported key is known", || status(&gateway, "an-old-key", HOME) == 200);
    for (arguments, input, exit, why) in [
        (&["import"][..], line.as_str(), 3, "UNIQUE"),
        (&["import"], "{", 1, "line 1"),
        (&["import"], r#"{"id":"x","hash":"an-old-key","user_id":"u"}"#, 1, "its hash is none"),
        (&["revoke", "nobody"], "", 1, "no key with the id `nobody`"),
        (&["rotate", "nobody"], "", 1, "no key with the id `nobody`"),
        (&["create", "--user-id", "u", "--role", "a,b"], "", 1, "roles"),
        (&["create", "--user-id", "u", "--table", "others"], "", 1, "no `[api_keys.others]`"),
        (&["create"], "", 2, "--user-id"),
    ] {
        let output = keys(&gateway, arguments, input);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {told}");
        assert!(told.contains(why) && !told.contains("an-old-key"), "{arguments:?}: {told}");
    }
    assert_eq!(done(&gateway, &["list"], "").lines().count(), 1, "what failed has left nothing");
}

/// Whether the place can be right at all is known without opening it.
#[test]
fn check_says_what_is_wrong_with_the_place_of_a_database() {
    let upstream = Upstream::ok();
    for (place, part) in [
        ("env:GAPURA_NO_SUCH_VARIABLE", "`GAPURA_NO_SUCH_VARIABLE` is not set"),
        ("file:@DIR@/absent", "absent"),
        ("file:@DIR@/address", "begins with none of sqlite: and postgres://"),
        ("sqlite:@DIR@", "is a folder"),
        ("sqlite:@DIR@/no/such/keys.db", "stands in a folder that does not exist"),
    ] {
        let setup = Setup::new(TABLES).put("BACKEND", upstream.address()).file("address", "mysql://u:Pa55@db/keys");
        let directory = setup.directory().display().to_string();
        let output = setup.put("DATABASE", place.replace("@DIR@", &directory)).command(&["check"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(1) && text.contains(part) && text.contains("database = "),
            "{place}: {text}"
        );
        assert!(!text.contains("Pa55"), "{text}");
    }
}
