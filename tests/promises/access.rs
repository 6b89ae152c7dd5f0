//! From where a route may be called, and by whom for which object. A refusal comes before any limit is charged and before any upstream is contacted.

use serde_json::json;

use crate::support::{Gateway, Setup, Token, Upstream, expect_problem, token};

const TABLES: &str = r#"
[server]
http = ["127.0.0.1:0"]
plaintext = true
admin = "127.0.0.1:0"
trusted_proxies = ["127.0.0.1/32"]

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[rate_limits.once]
limit = 1
window = "1h"
by = "route"

[[routes]]
name = "office"
path = "/office"
upstream = "backend"
allow = ["192.0.2.0/24", "2001:db8::/32"]
deny = ["192.0.2.66/32"]
auth = ["jwt.users"]

[[routes]]
name = "orders"
path = "/users/{user_id}/orders/**"
upstream = "backend"
auth = ["jwt.users"]
guard = 'path.user_id == claims.sub || "support" in claims.realm.groups && method == "GET"'

[[routes]]
name = "public"
path = "/public"
upstream = "backend"
deny = ["::ffff:198.51.100.0/120"]
rate_limits = ["once"]
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::new(TABLES).put("BACKEND", upstream.address()).start()
}

#[test]
fn only_listed_addresses_pass_and_deny_wins() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    for (address, passes) in [
        ("192.0.2.1", true),
        ("::ffff:192.0.2.1", true),
        ("2001:db8::7", true),
        ("192.0.2.66", false),
        ("198.51.100.1", false),
        ("2001:db9::7", false),
        // What a client writes there itself is hearsay.
        ("192.0.2.1, 198.51.100.1", false),
    ] {
        let answer =
            gateway.request("GET", "/office", &[("Authorization", &bearer), ("X-Forwarded-For", address)], b"");
        if passes {
            assert_eq!(answer.status, 200, "{address}");
        } else {
            expect_problem(&answer, 403, "PERMISSION_DENIED");
        }
    }
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(gateway.metric("gapura_address_refusals_total", &["route=\"office\"", "rule=\"deny\""]), 1.0);
    assert_eq!(gateway.metric("gapura_address_refusals_total", &["route=\"office\"", "rule=\"allow\""]), 3.0);
}

#[test]
fn a_refused_address_is_told_nothing_of_credentials_and_charged_nothing() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let stranger = ("X-Forwarded-For", "198.51.100.1");
    for headers in [&[stranger][..], &[stranger, ("Authorization", "Bearer x")]] {
        let answer = gateway.request("GET", "/office", headers, b"");
        expect_problem(&answer, 403, "PERMISSION_DENIED");
        assert!(answer.all("www-authenticate").is_empty());
    }
    for _ in 0..3 {
        expect_problem(&gateway.request("GET", "/public", &[stranger], b""), 403, "PERMISSION_DENIED");
    }
    upstream.expect_untouched();
    assert_eq!(gateway.get("/public").status, 200, "the limit of one is not used up");
}

#[test]
fn explain_shows_both_lists_first() {
    let setup = Setup::new(TABLES).put("BACKEND", "127.0.0.1:1");
    let output = setup.command(&["explain", "GET", "/office"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("addresses        never 192.0.2.66/32\n"), "{text}");
    assert!(text.contains("only 192.0.2.0/24, 2001:db8::/32\n"), "{text}");
    assert!(text.find("addresses ") < text.find("authentication "), "{text}");
}

#[test]
fn a_caller_reaches_its_own_objects_only() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let alice = Token::new("alice@example.com").bearer();
    let support = Token::new("s-1").with("realm", json!({"groups": ["support"]})).bearer();
    let nobody = Token::new("s-2").with("realm", json!({"groups": "unsupported"})).bearer();
    for (method, target, bearer, passes) in [
        ("GET", "/users/alice@example.com/orders", &alice, true),
        ("PUT", "/users/alice%40example.com/orders/7", &alice, true),
        ("GET", "/users/x/../alice@example.com/orders/7?user=bob", &alice, true),
        ("GET", "/users/bob@example.com/orders", &alice, false),
        ("GET", "/users/alice@example.com/../bob/orders", &alice, false),
        ("GET", "/users/alice%2540example.com/orders", &alice, false),
        ("GET", "/users/bob/orders/7", &support, true),
        ("PUT", "/users/bob/orders/7", &support, false),
        ("GET", "/users/bob/orders/7", &nobody, false),
    ] {
        let answer = gateway.request(method, target, &[("Authorization", bearer)], b"");
        match passes {
            true => assert_eq!(answer.status, 200, "{target}"),
            false => drop(expect_problem(&answer, 403, "PERMISSION_DENIED")),
        }
    }
    assert_eq!(upstream.requests().len(), 4);
    let output = Setup::new(TABLES).put("BACKEND", "127.0.0.1:1").command(&["explain", "GET", "/users/7/orders"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("authorisation    guard path.user_id == claims.sub || "), "{text}");
}
