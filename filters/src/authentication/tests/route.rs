//! Which method a credential is for, and what happens when there are several, or none.

use super::{
    api_keys::{developers, named},
    *,
};

fn issued_by(issuer: &str) -> String {
    with_payload(payload(&format!(r#","iss":"{issuer}""#)))
}

fn with_issuer(name: &str, issuer: &str, key: &str) -> Method {
    let secret = reference(key).parse().ok();
    jwt(name, &model::Jwt { issuer: Some(issuer.into()), secret, ..secret_config() })
}

#[test]
fn nothing_presented_names_every_accepted_scheme_once() {
    let route = route(vec![
        jwt("users", &secret_config()),
        jwt("machines", &public_config(&[JwtAlgorithm::ES256], "p256.pub.pem")),
        developers(|_| {}),
        named("partners", |config| (config.header, config.scheme) = ("X-Api-Key".into(), None)),
        named("others", |config| config.header = "X-Key".into()),
    ]);
    let refusal = route.authenticate(&HeaderMap::new(), NOW_MS).unwrap_err();
    assert_eq!(refusal.code, Code::CredentialsMissing);
    let expected = [
        "Bearer realm=\"gapura\"",
        "ApiKey realm=\"gapura\"",
        "ApiKey realm=\"gapura\", header=\"X-Api-Key\"",
        "ApiKey realm=\"gapura\", header=\"X-Key\"",
    ];
    assert_eq!(challenges(&refusal), expected);

    let refusal = bearer(&route, "x").unwrap_err();
    assert_eq!(challenges(&refusal)[0], "Bearer realm=\"gapura\", error=\"invalid_token\"");
    assert_eq!(challenges(&refusal)[1..], expected[1..]);
    assert_eq!(route.withheld(false).explain(), ["authorization", "x-api-key", "x-key", "dpop"]);
    assert_eq!(route.withheld(true), Withheld::default());
}

#[test]
fn the_scheme_is_case_insensitive_and_must_be_known() {
    let route = only(&secret_config());
    let token = with_payload(payload(""));
    let with = |value: String| route.authenticate(&headers(&[("authorization", &value)]), NOW_MS);
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        assert!(with(format!("{scheme} {token}")).is_ok(), "{scheme}");
    }
    for value in
        [format!("Basic {token}"), format!("ApiKey {token}"), token.clone(), String::new(), format!("Bearer\t{token}")]
    {
        refused(with(value), "a scheme that this route does not accept");
    }
    refused(with("Bearer".into()), "three parts");
    refused(with(format!("Bearer Bearer {token}")), "base64url");
}

#[test]
fn a_bad_credential_never_falls_through() {
    let route = route(vec![jwt("users", &secret_config()), developers(|config| config.header = "X-Api-Key".into())]);
    let good = format!("Bearer {}", with_payload(payload("")));
    let by = |fields: &[(&str, &str)]| route.authenticate(&headers(fields), NOW_MS);
    assert_eq!(&*by(&[("authorization", &good)]).unwrap().method, "jwt.users");
    assert_eq!(&*by(&[("x-api-key", "ApiKey ci-key")]).unwrap().method, "api_keys.developers");
    // Both good: the first of the list, in whatever order they arrive.
    assert_eq!(&*by(&[("x-api-key", "ApiKey ci-key"), ("authorization", &good)]).unwrap().method, "jwt.users");
    refused(by(&[("authorization", &good), ("x-api-key", "ApiKey wrong")]), "not known");
    refused(by(&[("authorization", "Bearer x.y.z"), ("x-api-key", "ApiKey ci-key")]), "token");
    refused(by(&[("authorization", "Basic dTpw"), ("x-api-key", "ApiKey ci-key")]), "scheme");
    refused(by(&[("authorization", &good), ("x-api-key", "")]), "scheme");
}

#[test]
fn the_order_of_the_list_gives_the_identity() {
    let route = route(vec![developers(|config| config.header = "X-Api-Key".into()), jwt("users", &secret_config())]);
    let good = format!("Bearer {}", with_payload(payload("")));
    let both = headers(&[("authorization", &good), ("x-api-key", "ApiKey ci-key")]);
    assert_eq!(&*route.authenticate(&both, NOW_MS).unwrap().method, "api_keys.developers");
}

#[test]
fn a_repeated_credential_header_is_refused() {
    let route = route(vec![jwt("users", &secret_config()), developers(|config| config.header = "X-Api-Key".into())]);
    let good = format!("Bearer {}", with_payload(payload("")));
    for fields in [
        [("authorization", good.as_str()), ("authorization", good.as_str())],
        [("authorization", good.as_str()), ("Authorization", "")],
        [("x-api-key", "ApiKey ci-key"), ("X-API-KEY", "ApiKey ci-key")],
    ] {
        refused(route.authenticate(&headers(&fields), NOW_MS), "more than once");
    }
}

#[test]
fn the_issuer_chooses_and_the_choice_is_final() {
    let others = jwt("others", &model::Jwt { secret: reference("hs256.secret").parse().ok(), ..secret_config() });
    let route = route(vec![
        with_issuer("a", "https://a", "short.secret"),
        with_issuer("b", "https://b", "hs256.secret"),
        others,
    ]);
    let method = |token: &str| bearer(&route, token).map(|principal| principal.method.to_string());
    assert_eq!(method(&issued_by("https://b")).unwrap(), "jwt.b");
    assert_eq!(method(&issued_by("https://c")).unwrap(), "jwt.others");
    assert_eq!(method(&with_payload(payload(""))).unwrap(), "jwt.others");
    // Its signature fits b and others; but it says that it is from a.
    refused(bearer(&route, &issued_by("https://a")), "jwt.a: the token's signature");
    refused(bearer(&route, &with_payload(payload(r#","iss":7"#))), "`iss` is no string");
}

#[test]
fn an_issuer_that_nobody_claims_is_refused() {
    let route =
        route(vec![with_issuer("a", "https://a", "hs256.secret"), with_issuer("b", "https://b", "hs256.secret")]);
    refused(bearer(&route, &issued_by("https://c")), "an issuer that this route does not accept");
    refused(bearer(&route, &with_payload(payload(""))), "an issuer that this route does not accept");
}

#[test]
fn the_same_issuer_with_other_algorithms_is_chosen_by_alg() {
    let methods = vec![jwt("hs", &secret_config()), jwt("ec", &public_config(&[JwtAlgorithm::ES256], "p256.pub.pem"))];
    let route = route(methods);
    let ec = forge(r#"{"alg":"ES256"}"#, payload(""), Algorithm::ES256, &EncodingKey::from_ec_pem(P256_KEY).unwrap());
    assert_eq!(&*bearer(&route, &ec).unwrap().method, "jwt.ec");
    assert_eq!(&*bearer(&route, &with_payload(payload(""))).unwrap().method, "jwt.hs");
}

#[test]
fn what_could_not_choose_is_a_fault() {
    let faults = |methods: Vec<Method>| {
        let place = Place::root().key("routes").index(3).key("auth");
        let faults = Authentication::new(&place, methods).map(drop).unwrap_err();
        assert!(faults.iter().all(|fault| fault.help.is_some()));
        faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect::<Vec<_>>()
    };
    assert_eq!(faults(Vec::new()), ["routes[3].auth: no method is listed"]);
    let users = jwt("users", &secret_config());
    assert_eq!(faults(vec![users.clone(), users.clone()]), ["routes[3].auth[1]: `jwt.users` is listed twice"]);
    let twin = faults(vec![users.clone(), jwt("twin", &secret_config())]);
    assert_eq!(
        twin,
        ["routes[3].auth[1]: a token cannot choose between `jwt.twin` and `jwt.users`: same issuer, same algorithm"]
    );
    let keys = developers(|config| config.scheme = Some("bearer".into()));
    let both = faults(vec![keys.clone(), users]);
    assert_eq!(both, ["routes[3].auth[1]: `jwt.users` and `api_keys.developers` both read `Authorization: Bearer`"]);
    let alone = route(vec![keys]);
    assert!(bearer(&alone, "ci-key").is_ok(), "alone, API keys may use Bearer");
}

#[test]
fn bare_keys_and_tokens_share_a_header() {
    let route = route(vec![jwt("users", &secret_config()), developers(|config| config.scheme = None)]);
    assert!(bearer(&route, &with_payload(payload(""))).is_ok());
    let by = |value: &str| route.authenticate(&headers(&[("authorization", value)]), NOW_MS);
    assert_eq!(&*by("ci-key").unwrap().method, "api_keys.developers");
    refused(by("Bearer ci-key"), "three parts");
    refused(by("Basic dTpw"), "not known");
}

#[test]
fn explain_and_debug_hold_no_secret() {
    let route = route(vec![jwt("users", &secret_config()), developers(|_| {})]);
    let shown = format!("{route:?}\n{}", route.explain().join("\n"));
    assert!(shown.contains("jwt.users: HS256 with file:"), "{shown}");
    assert!(shown.contains("issuer any, audience any, leeway 30s"), "{shown}");
    assert!(shown.contains("api_keys.developers: 2 keys in Authorization with scheme ApiKey, salt file:"), "{shown}");
    for secret in [SECRET, SALT, b"ci-key", api_key_hash(SALT, b"ci-key").as_bytes()] {
        assert!(!shown.contains(str::from_utf8(secret).unwrap()));
    }
}

#[test]
fn the_filter_records_the_caller_or_nothing() {
    use std::task::{Context, Poll, Waker};

    use crate::contract::Now;

    let route = only(&secret_config());
    let now = Now { monotonic: std::time::Duration::ZERO, unix_ms: NOW_MS };
    let ask = |token: &str| {
        let request = http::Request::get("/").header("authorization", format!("Bearer {token}")).body(()).unwrap();
        let mut exchange = Exchange::new(now, std::net::Ipv4Addr::LOCALHOST.into());
        let head = request.into_parts().0;
        let mut future = Box::pin(route.on_request(&head, &mut exchange));
        let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("it never waits")
        };
        drop(future);
        (result.is_ok(), exchange.principal.is_some())
    };
    assert_eq!(ask(&with_payload(payload(""))), (true, true));
    assert_eq!(ask("x.y.z"), (false, false));
    assert_eq!(route.stage(), Stage::Authentication);
}
