//! API keys: what opens, what does not, what cannot be configured.

use super::*;

/// Two keys, `ci-key` and `old-key` (ended at [`NOW`]).
pub(super) fn config() -> model::ApiKeys {
    let key = |id: &str, secret: &[u8], expires: Option<&str>| model::ApiKey {
        limits: Default::default(),
        id: id.into(),
        hash: api_key_hash(SALT, secret),
        user_id: "u1".into(),
        email: Some("a@b.c".into()),
        roles: vec!["developer".into()],
        permissions: Vec::new(),
        allow: None,
        expires: expires.map(|text| text.parse().unwrap()),
    };
    model::ApiKeys {
        header: "Authorization".into(),
        scheme: Some("ApiKey".into()),
        salt: reference("api_keys.salt").parse().unwrap(),
        database: None,
        keys: vec![key("ci", b"ci-key", None), key("old", b"old-key", Some("2026-01-01T01:00:00+01:00"))],
    }
}

pub(super) fn developers(edit: impl FnOnce(&mut model::ApiKeys)) -> Method {
    named("developers", edit)
}

pub(super) fn named(name: &str, edit: impl FnOnce(&mut model::ApiKeys)) -> Method {
    let mut config = config();
    edit(&mut config);
    Method::api_keys(name, &config).unwrap()
}

fn faults(edit: impl FnOnce(&mut model::ApiKeys)) -> Vec<String> {
    let mut config = config();
    edit(&mut config);
    let faults = Method::api_keys("developers", &config).map(drop).unwrap_err();
    assert!(faults.iter().all(|fault| fault.help.is_some()));
    faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect()
}

#[test]
fn the_hash_is_hmac_sha256() {
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(api_key_hash(b"Jefe", b"what do ya want for nothing?"), expected);
}

#[test]
fn a_known_key_gives_its_caller() {
    let route = route(vec![developers(|_| {})]);
    let by = |value: &str| route.authenticate(&headers(&[("authorization", value)]), NOW_MS);
    let principal = by("ApiKey ci-key").unwrap();
    assert_eq!((&*principal.method, principal.user_id.as_str()), ("api_keys.developers", "u1"));
    assert_eq!((principal.api_key.as_deref(), principal.email.as_deref()), (Some("ci"), Some("a@b.c")));
    assert_eq!(principal.roles, ["developer"]);
    assert!(Arc::ptr_eq(&principal, &by("apikey  ci-key").unwrap()), "prebuilt, and the scheme is case-insensitive");

    for wrong in [
        "ApiKey CI-KEY",
        "ApiKey ci-key ",
        "ApiKey ci-key,ci-key",
        "ApiKey",
        "ApiKey x",
        &format!("ApiKey {}", "k".repeat(1025)),
    ] {
        refused(by(wrong), "not known");
    }
    refused(by(&format!("ApiKey {}", api_key_hash(SALT, b"ci-key"))), "not known");
    refused(by("ci-key"), "scheme");
}

#[test]
fn a_key_ends_at_its_instant() {
    let route = route(vec![developers(|_| {})]);
    let at = |ms: u64| route.authenticate(&headers(&[("authorization", "ApiKey old-key")]), ms);
    assert!(at(NOW_MS - 1).is_ok());
    refused(at(NOW_MS), "api_keys.developers: the API key is expired");
    refused(at(u64::MAX), "expired");
}

#[test]
fn without_a_scheme_the_whole_value_is_the_key() {
    let route = route(vec![developers(|config| {
        config.header = "X-Api-Key".into();
        config.scheme = None;
        config.keys[0].hash = api_key_hash(SALT, b"two words");
    })]);
    let by = |value: &str| route.authenticate(&headers(&[("x-api-key", value)]), NOW_MS);
    assert!(by("two words").is_ok());
    for wrong in ["two  words", "words", "ApiKey two words", ""] {
        refused(by(wrong), "not known");
    }
    refused(by(&"k".repeat(100_000)), "not known");
}

#[test]
fn tables_that_share_a_header_are_searched_together() {
    let partners = named("partners", |config| {
        config.salt = reference("hs256.secret").parse().unwrap();
        config.keys.truncate(1);
        config.keys[0].hash = api_key_hash(SECRET, b"partner-key");
    });
    let route = route(vec![developers(|_| {}), partners]);
    let by = |value: &str| route.authenticate(&headers(&[("authorization", value)]), NOW_MS);
    assert_eq!(&*by("ApiKey partner-key").unwrap().method, "api_keys.partners");
    refused(by("ApiKey old-key"), "expired");
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let found = faults(|config| {
        config.header = "X Api Key".into();
        config.scheme = Some("Api Key".into());
        config.salt = "file:/nowhere/salt".parse().unwrap();
        config.keys[0].hash = "ABC".into();
        config.keys[0].roles = vec!["a,b".into()];
        config.keys[1].id = "ci".into();
        config.keys[1].expires = "2027-01-01".parse().ok();
    });
    let places: Vec<&str> = found.iter().map(|fault| fault.split_once(": ").unwrap().0).collect();
    assert_eq!(
        places,
        [
            "api_keys.developers.header",
            "api_keys.developers.scheme",
            "api_keys.developers.salt",
            "api_keys.developers.keys[0].hash",
            "api_keys.developers.keys[0]",
            "api_keys.developers.keys[1].id",
            "api_keys.developers.keys[1].expires",
        ]
    );
}

#[test]
fn hashes_are_lowercase_hex_and_unique() {
    let good = api_key_hash(SALT, b"ci-key");
    for bad in [good.to_uppercase(), good[..63].into(), format!("{good}0"), format!("{}g", &good[..63]), String::new()]
    {
        let found = faults(|config| config.keys[0].hash = bad.clone());
        assert_eq!(found, ["api_keys.developers.keys[0].hash: no hash: it has 64 digits of lowercase hex"]);
        assert!(bad.is_empty() || !found.concat().contains(&bad));
    }
    let found = faults(|config| config.keys[1].hash = good.clone());
    assert_eq!(found, ["api_keys.developers.keys[1].hash: another key has this hash"]);
}

#[test]
fn a_short_salt_is_warned_about() {
    let method = developers(|config| config.salt = reference("short.secret").parse().unwrap());
    assert_eq!(method.warnings()[0].place.to_string(), "api_keys.developers.salt");
    assert_eq!(method.warnings()[0].severity, gapura_config::fault::Severity::Warning);
    assert!(developers(|_| {}).warnings().is_empty());
}

#[test]
fn keys_of_a_database_are_unready_then_known_then_as_they_change() {
    let mut config = config();
    config.database = Some("sqlite:/nowhere".parse().unwrap());
    let shared = Shared::default();
    let method = Method::api_keys_with("developers", &config, &shared).unwrap();
    let route = route(vec![method]);
    let by = |key: &str| route.authenticate(&headers(&[("authorization", &format!("ApiKey {key}"))]), NOW_MS);
    let held = route.held_keys().next().unwrap();
    assert!(by("ci-key").is_ok(), "those of the file need no database");
    assert_eq!(by("held").unwrap_err().code, Code::Overloaded);
    assert!(held.missing().unwrap().contains("api_keys.developers: no keys yet"));
    let key = |secret: &str| HeldKey {
        id: "k".into(),
        hash: api_key_hash(SALT, secret.as_bytes()),
        user_id: "u9".into(),
        ..HeldKey::default()
    };
    let odd = HeldKey { id: "odd".into(), ..HeldKey::default() };
    assert_eq!(held.apply(&[key("held"), odd], true), ["the key \"odd\": its hash is none"]);
    assert_eq!((held.missing(), held.count()), (None, 1));
    assert_eq!(by("held").unwrap().user_id.as_str(), "u9");
    refused(by("gk_live_other"), "its checksum is wrong");
    refused(by("other"), "not known");
    // Another text under the same id, as after an import; its uses go on being counted.
    assert!(held.apply(&[key("gk_held")], false).is_empty());
    refused(by("held"), "not known");
    assert!(by("gk_held").is_ok(), "another issuer's key may begin as ours do");
    let usage = held.take_usage();
    assert_eq!((usage.len(), usage[0].count, usage[0].last_ms), (1, 2, NOW_MS));
    assert!(held.take_usage().is_empty());
    held.give_back(&usage);
    assert_eq!(held.take_usage(), usage);
    for (change, reason) in [
        (HeldKey { revoked: true, ..key("gk_held") }, "is revoked"),
        (HeldKey { expires: Some(NOW_MS as i64), ..key("gk_held") }, "is expired"),
        (HeldKey { addresses: vec!["10.0.0.0/8".parse().unwrap()], ..key("gk_held") }, "not for this address"),
    ] {
        held.apply(&[change], false);
        refused(by("gk_held"), reason);
    }
    assert!(held.apply(&[], true).is_empty());
    refused(by("gk_held"), "checksum");
    // A reload finds the same keys.
    let again = Method::api_keys_with("developers", &config, &shared).unwrap();
    let Method::ApiKeys(again) = &again else { panic!("API keys") };
    assert!(Arc::ptr_eq(again.held().unwrap(), held));
}
