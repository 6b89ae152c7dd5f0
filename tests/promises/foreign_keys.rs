//! Keys that a backend issued are accepted unchanged, from its own table: found by its own hash, ended by its own columns.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::support::{
    Answer, Gateway, Postgres, Setup, Upstream, expect_problem,
    tool::{repository, sqlite_file},
    wait::until_true,
    wire,
};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1/32"]
access_log = true

[lockout]
exempt = ["192.0.2.0/24"]

[upstreams.backend]
servers = ["@BACKEND@"]

[api_keys.shop]
header = "X-Api-Key"

[api_keys.shop.cache]
ttl = "1s"
negative_ttl = "200ms"
stale = "1h"

[api_keys.shop.lookup]
database = "@DATABASE@"
timeout = "@TIMEOUT@"
@LOOKUP@

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
auth = ["api_keys.shop"]
"#;

/// As an application of today keeps them: identifiers, lists and instants in types of their own.
const SHOP: &str = "
    CREATE TABLE keys (key_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), owner_id bigint NOT NULL, mail text, digest bytea NOT NULL UNIQUE,
        scopes text[] NOT NULL DEFAULT '{}', valid_until timestamptz, enabled boolean NOT NULL DEFAULT true);
    INSERT INTO keys (owner_id, mail, digest, scopes, valid_until, enabled) VALUES
        (7, 'ann@shop.test', sha256('good-key-1'), '{READ,WRITE}', now() + interval '1 hour', true),
        (8, NULL, sha256('ended-key'), '{}', now() - interval '1 hour', true),
        (9, NULL, sha256('disabled-key'), '{}', NULL, false),
        (10, '', sha256('plain-rights'), '{}', NULL, true),
        (11, E'bad\\nmail', sha256('unusable-key'), '{}', NULL, true)";

const BY_HASH: &str = r#"
hash = "sha256"
query = """
SELECT key_id AS id, owner_id AS user_id, mail AS email, scopes AS permissions, valid_until AS expires, enabled AS active, digest AS hash
FROM keys WHERE digest = decode($1, 'hex') -- the index is used
"""
"#;

/// What a table says is the subject, not how soon.
fn setup(upstream: &Upstream, lookup: &str) -> Setup {
    Setup::new(&TABLES.replace("@TIMEOUT@", "20s")).put("BACKEND", upstream.address()).put("LOOKUP", lookup)
}

fn postgres(upstream: &Upstream, server: &Postgres, lookup: &str) -> Setup {
    at(server, setup(upstream, lookup))
}

fn at(server: &Postgres, setup: Setup) -> Setup {
    let setup = setup.file("database", server.url());
    let file = setup.directory().join("database").display().to_string();
    setup.put("DATABASE", format!("file:{file}"))
}

fn call(gateway: &Gateway, key: &str, from: &str) -> Answer {
    gateway.request("GET", "/", &[("X-Api-Key", key), ("X-Forwarded-For", from)], b"")
}

fn admin(gateway: &Gateway, path: &str) -> Answer {
    wire::request(gateway.admin(), "GET", path, &[], b"")
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    call(gateway, key, HOME).status
}

fn asked(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("gapura_api_key_lookups_total", &["api_keys.shop", result])
}

const HOME: &str = "192.0.2.1";

#[test]
fn keys_of_a_table_are_accepted_unchanged_and_end_as_it_says() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    server.execute(SHOP);
    let gateway = postgres(&upstream, &server, BY_HASH).start();
    let answer = call(&gateway, "good-key-1", HOME);
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log());
    let heard = upstream.last();
    assert_eq!((heard.header("x-user-id"), heard.header("x-user-email")), (Some("7"), Some("ann@shop.test")));
    assert_eq!(heard.header("x-user-permissions"), Some("READ,WRITE"));
    assert_eq!(heard.header("x-auth-method"), Some("api_keys.shop"));
    for _ in 0..20 {
        assert_eq!(status(&gateway, "good-key-1"), 200);
    }
    assert!(asked(&gateway, "found") <= 3.0, "a remembered key is not asked about");
    assert_eq!(status(&gateway, "plain-rights"), 200);
    assert_eq!((upstream.last().header("x-user-email"), upstream.last().header("x-user-permissions")), (None, None));

    let heard = upstream.requests().len();
    for bad in [
        "ended-key",
        "disabled-key",
        "unusable-key",
        "GOOD-KEY-1",
        "good-key-",
        "good-key-1  x",
        "' OR 1=1 --",
        "%",
        "ü",
    ] {
        expect_problem(&call(&gateway, bad, HOME), 401, "CREDENTIALS_INVALID");
    }
    assert_eq!(upstream.requests().len(), heard, "what was refused reached the upstream");

    // Whoever has had a key, or has one that cannot be used, does not guess; whoever invents keys does.
    for known in ["ended-key", "disabled-key", "unusable-key"] {
        let answers: Vec<u16> = (0..12).map(|_| call(&gateway, known, "203.0.113.1").status).collect();
        assert_eq!(answers, [401; 12], "{known}");
    }
    let answers: Vec<u16> = (0..12).map(|n| call(&gateway, &format!("invented-{n}"), "203.0.113.2").status).collect();
    assert!(answers[..10].iter().all(|status| *status == 401) && answers[10..] == [429, 429], "{answers:?}");

    // What the backend does to its table holds within the times of the cache.
    assert_eq!(status(&gateway, "new-key"), 401);
    server.execute("INSERT INTO keys (owner_id, digest) VALUES (12, sha256('new-key'))");
    until_true("the new key is known", || status(&gateway, "new-key") == 200);
    server.execute("UPDATE keys SET enabled = false WHERE owner_id = 12; DELETE FROM keys WHERE owner_id = 7");
    until_true("both have ended", || status(&gateway, "new-key") == 401 && status(&gateway, "good-key-1") == 401);
    for key in ["good-key-1", "new-key", "invented-1"] {
        assert!(!gateway.log().contains(key), "a key is in the log");
    }
}

#[test]
fn an_outage_keeps_what_is_known_and_costs_nothing() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    server.execute(SHOP);
    let gateway = postgres(&upstream, &server, BY_HASH).start();
    assert_eq!((status(&gateway, "good-key-1"), status(&gateway, "plain-rights")), (200, 200));
    server.kill();
    // Past the time for which an answer counts; every one of them is still let in.
    until_true("the outage is noticed", || {
        assert_eq!(status(&gateway, "good-key-1"), 200);
        gateway.log().contains("the backend of the API keys cannot be asked")
    });
    // Others may be good, so they are neither refused for good nor called guesses.
    for n in 0..20 {
        expect_problem(&call(&gateway, &format!("other-{n}"), "203.0.113.3"), 503, "OVERLOADED");
    }
    assert!(asked(&gateway, "skipped") > 0.0, "nobody is asked any more");
    let tried = || asked(&gateway, "failed") + asked(&gateway, "timeout");
    let before = tried();
    for _ in 0..50 {
        assert_eq!(status(&gateway, "good-key-1"), 200);
    }
    // After pauses that double from half a second on.
    assert!(tried() - before <= 10.0, "an outage costs {} questions for 50 requests", tried() - before);
    assert_eq!(admin(&gateway, "/readyz").status, 200, "known keys are let in, so traffic may come");
    server.again();
    until_true("it is asked again", || status(&gateway, "ended-key") == 401);
    server.execute("DELETE FROM keys WHERE owner_id = 7");
    until_true("what was kept through the outage ends", || status(&gateway, "good-key-1") == 401);
}

#[test]
fn before_the_table_can_be_asked_the_gateway_is_not_ready() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    server.execute(SHOP);
    server.kill();
    let gateway = postgres(&upstream, &server, BY_HASH).spawn();
    until_true("it says why", || admin(&gateway, "/readyz").text().contains("cannot be looked up yet"));
    expect_problem(&call(&gateway, "good-key-1", HOME), 503, "OVERLOADED");
    server.again();
    until_true("it is ready", || admin(&gateway, "/readyz").status == 200);
    until_true("keys are known", || status(&gateway, "good-key-1") == 200);
}

/// Of what PostgreSQL refuses, and of what only takes its time.
#[test]
fn a_query_that_cannot_work_is_told_and_one_that_writes_or_waits_is_stopped() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    server.execute(SHOP);
    server.execute("CREATE SEQUENCE calls");
    for (query, why) in [
        ("SELECT key_id AS id FROM keys WHERE digest = decode($1, 'hex')", "user_id does not exist"),
        (
            "SELECT key_id AS id, owner_id AS user_id FROM nowhere WHERE digest = decode($1, 'hex')",
            "\\\"nowhere\\\" does not exist",
        ),
        ("SELECT key_id AS id, owner_id AS user_id FROM keys WHERE owner_id = $1", "operator does not exist"),
        (
            "WITH gone AS (DELETE FROM keys WHERE mail = $1 RETURNING *) SELECT 1 AS id, 2 AS user_id FROM gone",
            "data-modifying",
        ),
    ] {
        let lookup = format!("hash = \"sha256\"\nquery = \"{query}\"");
        let gateway = postgres(&upstream, &server, &lookup).spawn();
        assert_eq!(gateway.exit().code(), Some(1), "{query}");
        let why = why.replace('\\', "");
        let told = ["the database refuses this query", &why, "query = \"", "one text parameter, `$1`"];
        until_true("the fault is told with its line", || told.iter().all(|part| gateway.log().contains(part)));
    }
    for stopped in ["AND nextval('calls') > 0", "AND pg_sleep(60) IS NOT NULL"] {
        let lookup = BY_HASH.replace("-- the index is used", stopped);
        let hasty = Setup::new(&TABLES.replace("@TIMEOUT@", "1s")).put("BACKEND", upstream.address());
        let gateway = at(&server, hasty.put("LOOKUP", lookup)).start();
        let began = Instant::now();
        expect_problem(&call(&gateway, "good-key-1", HOME), 503, "OVERLOADED");
        assert!(began.elapsed() < Duration::from_secs(60), "{stopped}: {:?}", began.elapsed());
    }
    // A reload is held to it as a start is.
    let gateway = postgres(&upstream, &server, BY_HASH).start();
    gateway.rewrite(&gateway.text().replace("@LOOKUP@", &BY_HASH.replace("FROM keys", "FROM other_keys")));
    let refused = gateway.reload();
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("other_keys"), "{}", refused.text());
    assert_eq!(status(&gateway, "good-key-1"), 200, "nothing has changed");
}

fn hex(octets: impl AsRef<[u8]>) -> String {
    octets.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn a_key_is_found_by_its_prefix_and_compared_with_its_salted_hash() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    // Two keys of one prefix: each row has its own salt.
    server.execute(
        "CREATE TABLE keys (id serial, prefix text, salt bytea, hash text, owner text);
         INSERT INTO keys (prefix, salt, hash, owner) VALUES
            ('sk_12345', '\\x0102', encode(sha256('\\x0102' || 'sk_12345first'::bytea), 'hex'), 'one'),
            ('sk_12345', '\\x0a0b', upper(encode(sha256('\\x0a0b' || 'sk_12345second'::bytea), 'hex')), 'two'),
            ('sk_broken', '\\x01', 'no hex', 'three')",
    );
    let lookup = r#"
hash = "sha256_salt_key"
find_by = "prefix:8"
query = "SELECT id, owner AS user_id, hash, salt FROM keys WHERE left(prefix, 8) = $1"
"#;
    let gateway = postgres(&upstream, &server, lookup).start();
    for (key, user) in [("sk_12345first", "one"), ("sk_12345second", "two")] {
        assert_eq!(status(&gateway, key), 200, "{}", gateway.log());
        assert_eq!(upstream.last().header("x-user-id"), Some(user));
    }
    for key in ["sk_12345third", "sk_12345", "sk_1234", "sk_12346first", "sk_broken"] {
        expect_problem(&call(&gateway, key, HOME), 401, "CREDENTIALS_INVALID");
    }
}

/// Each form of hash, as a SQLite application keeps it.
#[test]
fn every_form_of_hash_is_understood() {
    let upstream = Upstream::ok();
    let cases: [(&str, String, &str); 5] = [
        (
            "hash = \"hmac_sha256\"\nsalt = \"env:PEPPER\"",
            crate::support::credential::key_hash("id9.the-key"),
            "WHERE hash = $1",
        ),
        (
            "hash = \"sha256_key_salt\"\nfind_by = \"before:.\"\nhashed = \"rest\"",
            hex(Sha256::digest("the-keysalt")),
            "WHERE id = $1",
        ),
        ("hash = \"plain\"", "id9.the-key".to_owned(), "WHERE hash = $1"),
        ("hash = \"sha256\"\nencoding = \"base64\"", String::new(), "WHERE hash = $1"),
        ("hash = \"sha512\"\nfind_by = \"before:.\"", hex(sha2::Sha512::digest("id9.the-key")), "WHERE id = $1"),
    ];
    for (form, hash, condition) in cases {
        let hash = if hash.is_empty() { base64(&Sha256::digest("id9.the-key")) } else { hash };
        let query =
            format!("query = \"SELECT id, 'u' AS user_id, hash, salt, active, expires, roles FROM keys {condition}\"");
        let setup = setup(&upstream, &format!("{form}\n{query}"));
        let file = setup.directory().join("app.db");
        sqlite_file(
            &file,
            &format!(
                "CREATE TABLE keys (id VARCHAR PRIMARY KEY, hash VARCHAR(128), salt TEXT, active BOOLEAN, expires DATETIME, roles JSON);
                 INSERT INTO keys VALUES ('id9', '{hash}', 'salt', 1, '2999-01-01 00:00:00.000000', '[\"clerk\"]');"
            ),
        );
        let gateway = setup
            .put("DATABASE", format!("sqlite:{}", file.display()))
            .env("PEPPER", crate::support::gateway::API_KEY_SALT)
            .start();
        assert_eq!(status(&gateway, "id9.the-key"), 200, "{form}: {}", gateway.log());
        assert_eq!(upstream.last().header("x-user-roles"), Some("clerk"));
        for wrong in ["id9.the-kez", "id9.", "id8.the-key", "ID9.THE-KEY", "the-key"] {
            expect_problem(&call(&gateway, wrong, HOME), 401, "CREDENTIALS_INVALID");
        }
        assert_eq!(gateway.log().contains("whoever reads its table can call"), form.contains("plain"), "{form}");
    }
}

fn base64(octets: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(octets)
}

/// A flood of invented keys: each is asked about once, questions are bounded, and who is known is let in all the same.
#[test]
fn many_requests_with_one_key_are_one_question() {
    let (upstream, server) = (Upstream::ok(), Postgres::start());
    server.execute(SHOP);
    let slow = BY_HASH.replace("-- the index is used", "AND pg_sleep(0.1) IS NOT NULL");
    let gateway = postgres(&upstream, &server, &slow).start();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..16).map(|_| scope.spawn(|| status(&gateway, "good-key-1"))).collect();
        for call in calls {
            assert_eq!(call.join().unwrap(), 200, "{}", gateway.log());
        }
    });
    // In the last quarter of its second a key is asked about again.
    let most = 1.0 + (began.elapsed().as_secs_f64() / 0.75).floor();
    assert!((1.0..=most).contains(&asked(&gateway, "found")));
}

/// `examples/fastapi/api_keys.py` makes the table; the application is as it was.
#[test]
fn the_keys_of_the_fastapi_example_are_accepted() {
    let backend = crate::support::Backend::fastapi();
    let text = std::fs::read_to_string(repository("examples/fastapi/api_keys.toml")).unwrap();
    let start = text.find("[api_keys.backend.lookup]").expect("the example shows a lookup");
    let lookup =
        text[start..].lines().skip(1).filter(|line| !line.starts_with("database")).collect::<Vec<_>>().join("\n");
    let setup = Setup::new(&TABLES.replace("timeout = \"@TIMEOUT@\"\n", ""))
        .put("BACKEND", backend.address())
        .put("LOOKUP", lookup.split("\n[").next().unwrap());
    let file = setup.directory().join("app.db");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::support::tool::installed(".venv/bin/python"));
        command.arg(repository("examples/fastapi/api_keys.py")).arg(&file).args(arguments);
        let output = crate::support::tool::output(command, b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let key = run(&["create", "--user-id", "acme", "--email", "pay@acme.example"]);
    let gateway = setup.put("DATABASE", format!("sqlite:{}", file.display())).start();
    let me = |key: &str| gateway.request("GET", "/me", &[("X-Api-Key", key), ("X-Forwarded-For", HOME)], b"");
    let answer = me(&key);
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), gateway.log());
    assert!(answer.text().contains("acme"), "{}", answer.text());
    assert_eq!(me(&key.to_uppercase()).status, 401);
    run(&["revoke", key.split('.').next().unwrap()]);
    until_true("the backend's revocation holds", || me(&key).status == 401);
}
