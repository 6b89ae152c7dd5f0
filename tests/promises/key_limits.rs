//! An API key may have a limit of its own, and no other key has it.

use crate::support::{Gateway, Setup, Upstream, credential::key_hash, expect_problem};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@UPSTREAM@"]

[rate_limits.api]
limit = 2
window = "1h"
by = "api_key"

[api_keys.developers]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"

[[api_keys.developers.keys]]
id = "batch"
hash = "@BATCH@"
user_id = "u1"
limits = { api = 4 }

[[api_keys.developers.keys]]
id = "usual"
hash = "@USUAL@"
user_id = "u1"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
auth = ["api_keys.developers"]
rate_limits = ["api"]
"#;

fn setup(upstream: &str) -> Setup {
    let setup = Setup::plain(TABLES).put("UPSTREAM", upstream);
    setup.put("BATCH", key_hash("key-of-batch")).put("USUAL", key_hash("key-of-usual"))
}

fn passes(gateway: &Gateway, key: &str) -> usize {
    (0..8).take_while(|_| gateway.request("GET", "/", &[("X-Api-Key", key)], b"").status == 200).count()
}

#[test]
fn a_key_has_the_limit_of_its_record() {
    let upstream = Upstream::ok();
    let gateway = setup(&upstream.address().to_string()).start();
    let first = gateway.request("GET", "/", &[("X-Api-Key", "key-of-batch")], b"");
    assert_eq!(first.header("ratelimit-policy"), Some("\"api\";q=4;w=3600"));
    assert_eq!(passes(&gateway, "key-of-batch"), 3);
    let refused = gateway.request("GET", "/", &[("X-Api-Key", "key-of-batch")], b"");
    expect_problem(&refused, 429, "RATE_LIMITED");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"api\";q=4;w=3600"));
    assert_eq!(passes(&gateway, "key-of-usual"), 2);
    // What was counted goes on counting.
    gateway.rewrite(&gateway.text().replace("api = 4", "api = 5"));
    assert_eq!(gateway.reload().status, 200);
    assert_eq!([passes(&gateway, "key-of-batch"), passes(&gateway, "key-of-usual")], [1, 0]);
}

#[test]
fn explain_and_check_know_it() {
    let told = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    let explained = setup("127.0.0.1:1").command(&["explain", "GET", "/"]);
    let text = told(&explained.stdout);
    assert!(text.contains("key batch of api_keys.developers: 4 instead"), "{text}");
    let wrong = TABLES.replace("by = \"api_key\"", "by = \"user\"");
    let setup = Setup::plain(&wrong).put("UPSTREAM", "127.0.0.1:1");
    let setup = setup.put("BATCH", key_hash("key-of-batch")).put("USUAL", key_hash("key-of-usual"));
    let checked = setup.command(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    let text = told(&checked.stderr);
    assert!(text.contains("`api` does not count by API key: no limit of it can be of one key"), "{text}");
}
