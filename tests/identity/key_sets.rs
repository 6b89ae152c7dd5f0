//! Keys that are fetched from a provider: through the whole gateway, over TLS, in good hours and bad ones.

use std::{
    thread,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey};

use crate::{
    PATIENCE,
    gateway::Gateway,
    key_file,
    provider::{Provider, ok},
    token,
    upstream::Upstream,
};

fn key_set() -> String {
    std::fs::read_to_string(key_file("jwks.json")).unwrap()
}

/// `tables`: of `[jwt.*]`, each of them on a route of its own, `/NAME`.
fn gateway(upstream: &Upstream, tables: &[(&str, String)]) -> Gateway {
    let mut config = format!("[upstreams.app]\nservers = [\"{}\"]\n", upstream.address);
    for (name, keys) in tables {
        config += &format!("[jwt.{name}]\nalgorithms = [\"RS256\", \"ES256\"]\n{keys}\n");
    }
    for (name, _) in tables {
        config += &format!(
            "[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"app\"\nauth = [\"jwt.{name}\"]\n"
        );
    }
    Gateway::start(&config)
}

fn ask(gateway: &Gateway, name: &str, kid: &str) -> u16 {
    ask_as(gateway, name, kid, None)
}

fn ask_as(gateway: &Gateway, name: &str, kid: &str, issuer: Option<&str>) -> u16 {
    let key = EncodingKey::from_rsa_pem(&std::fs::read(key_file("rsa.key")).unwrap()).unwrap();
    let bearer = format!("Bearer {}", token(Algorithm::RS256, Some(kid), issuer, &key));
    gateway.get(&format!("/{name}"), &[("Authorization", &bearer)]).status
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn keys_rotate_and_stay_through_an_outage() {
    let provider = Provider::start(|_| ok(key_set()));
    let upstream = Upstream::start(None);
    let keys = format!("jwks = \"{}\"\nca = \"{}\"", provider.url("/keys"), provider.ca());
    let gateway = gateway(&upstream, &[("users", keys)]);
    until("readiness", || gateway.admin("/readyz").status == 200);
    assert_eq!(ask(&gateway, "users", "rsa-1"), 200);
    assert!(upstream.last().contains("x-auth-method: jwt.users\n"), "{}", upstream.last());

    // The provider rotates: its key has another name now. A token that names it makes the gateway ask.
    provider.becomes(|_| ok(key_set().replace("rsa-1", "rsa-3")));
    until("the new key", || ask(&gateway, "users", "rsa-3") == 200);
    assert_eq!(ask(&gateway, "users", "rsa-1"), 401, "the old key is gone");

    // Then it fails in every way. Who asks for unknown keys makes the gateway notice; the known one opens all the while.
    provider.becomes(|_| ok("<html>out of order</html>"));
    let failed = |gateway: &Gateway| {
        gateway.admin("/metrics").body.contains(r#"gapura_key_set_fetches_total{jwt="jwt.users",result="failure"}"#)
    };
    until("a failed fetch", || {
        assert_eq!(ask(&gateway, "users", "rsa-9"), 401);
        assert_eq!(ask(&gateway, "users", "rsa-3"), 200);
        failed(&gateway)
    });
    assert_eq!(ask(&gateway, "users", "rsa-3"), 200);
    assert_eq!(gateway.admin("/readyz").status, 200, "an outage of the provider is none of the gateway");
}

#[test]
fn an_issuer_is_asked_for_its_key_set() {
    let provider = Provider::start(|_| None);
    let issuer = provider.url("/realms/main");
    let metadata = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{}"}}"#, provider.url("/keys"));
    provider.becomes(move |path| match path {
        "/realms/main/.well-known/openid-configuration" => ok(&metadata),
        "/keys" => ok(key_set()),
        _ => None,
    });
    let upstream = Upstream::start(None);
    let keys = format!("issuer = \"{issuer}\"\ndiscovery = true\nca = \"{}\"", provider.ca());
    let gateway = gateway(&upstream, &[("users", keys)]);
    until("readiness", || gateway.admin("/readyz").status == 200);
    assert_eq!(ask_as(&gateway, "users", "rsa-1", Some(&issuer)), 200);
    assert_eq!(ask_as(&gateway, "users", "rsa-1", Some(&provider.url("/realms/other"))), 401);
    assert_eq!(ask(&gateway, "users", "rsa-1"), 401, "the token has no `iss`");
    assert!(gateway.admin("/metrics").body.contains(r#"gapura_key_set_keys{jwt="jwt.users"} 5"#));
}

#[test]
fn a_provider_that_is_no_good_is_named_and_hurts_nobody_else() {
    let huge = format!(r#"{{"x":"{}","keys":[]}}"#, "x".repeat(300 * 1024));
    let provider = Provider::start(move |path| match path {
        "/good" => ok(key_set()),
        "/garbage" => ok("<html>"),
        "/huge" => ok(&huge),
        "/endless" => Some([b"HTTP/1.1 200 OK\r\n\r\n", " ".repeat(300 * 1024).as_bytes()].concat()),
        "/away" => Some(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/down" => Some(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/no-http" => Some(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        // `/slow`, too.
        _ => None,
    });
    let stranger = Provider::start(|_| ok(key_set()));
    let bad = [
        ("garbage", "not readable as JSON"),
        ("huge", "larger than 262144 bytes"),
        ("endless", "larger than 262144 bytes"),
        ("away", "redirects to another host"),
        ("down", "answers 503"),
        ("no-http", "no HTTP/1"),
        ("slow", "the provider takes longer than 5s"),
    ];
    let keys = |path: &str, ca: &str| format!("jwks = \"{}\"\nca = \"{ca}\"", provider.url(path));
    let mut tables: Vec<(&str, String)> =
        bad.iter().map(|(name, _)| (*name, keys(&format!("/{name}"), &provider.ca()))).collect();
    tables.push(("good", keys("/good", &provider.ca())));
    tables.push(("untrusted", keys("/good", &stranger.ca())));
    // The authority is right, but the certificate is for another name.
    let other = provider.url("/good").replace("localhost", "127.0.0.1");
    tables.push(("misnamed", format!("jwks = \"{other}\"\nca = \"{}\"", provider.ca())));
    let upstream = Upstream::start(None);
    let gateway = gateway(&upstream, &tables);
    until("the good keys", || ask(&gateway, "good", "rsa-1") == 200);
    until("all reasons", || !gateway.admin("/readyz").body.contains("being fetched"));
    let ready = gateway.admin("/readyz");
    assert_eq!(ready.status, 503);
    for (name, why) in bad.into_iter().chain([("untrusted", "TLS"), ("misnamed", "TLS")]) {
        let prefix = format!("jwt.{name}: no keys yet: ");
        let line = ready.body.lines().find(|line| line.starts_with(&prefix));
        let line = line.unwrap_or_else(|| panic!("{name} is not named in\n{}", ready.body));
        assert!(line.contains(why), "{line}");
        assert_eq!(ask(&gateway, name, "rsa-1"), 503, "{name}");
    }
    assert!(!ready.body.contains("jwt.good"), "{}", ready.body);
    assert_eq!(upstream.count(), 1, "what was refused reached the upstream");
    assert!(upstream.last().starts_with("get /good "), "{}", upstream.last());
}
