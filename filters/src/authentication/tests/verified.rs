//! A token that comes again: nothing but time is saved.

use super::*;

fn rs256(payload: impl AsRef<[u8]>) -> String {
    let key = EncodingKey::from_rsa_pem(RSA_KEY).unwrap();
    forge(r#"{"alg":"RS256","kid":"rsa-1"}"#, payload, Algorithm::RS256, &key)
}

fn config() -> model::Jwt {
    public_config(&[JwtAlgorithm::RS256], "rsa.pub.pem")
}

fn at(route: &Authentication, token: &str, now_ms: u64) -> Result<Arc<Principal>, Refusal> {
    route.authenticate(&headers(&[("authorization", &format!("Bearer {token}"))]), now_ms)
}

#[test]
fn a_signature_is_verified_once() {
    let (route, token) = (only(&config()), rs256(payload("")));
    let first = at(&route, &token, NOW_MS).unwrap();
    assert!(Arc::ptr_eq(&first, &at(&route, &token, NOW_MS).unwrap()));
    // A MAC is cheap enough to be checked each time.
    let (shared, token) = (only(&secret_config()), with_payload(payload("")));
    assert!(!Arc::ptr_eq(&at(&shared, &token, NOW_MS).unwrap(), &at(&shared, &token, NOW_MS).unwrap()));
}

#[test]
fn a_known_token_ends_when_it_must() {
    let route = only(&model::Jwt { max_age: Some(Period::secs(100)), ..config() });
    let token = rs256(format!(r#"{{"sub":"u","exp":{},"iat":{NOW},"nbf":{}}}"#, NOW + 50, NOW + 10));
    let second = 1000;
    assert!(at(&route, &token, NOW_MS).is_ok(), "within the leeway of `nbf`");
    assert!(at(&route, &token, NOW_MS + 80 * second - 1).is_ok());
    refused(at(&route, &token, NOW_MS + 80 * second), "expired");
    assert!(at(&route, &token, NOW_MS).is_ok());
    refused(at(&route, &token, NOW_MS - 20 * second - 1), "not valid yet");

    let old = rs256(format!(r#"{{"sub":"u","exp":{},"iat":{NOW}}}"#, NOW + 5000));
    assert!(at(&route, &old, NOW_MS + 130 * second - 1).is_ok());
    refused(at(&route, &old, NOW_MS + 130 * second), "issued");
}

#[test]
fn a_known_token_opens_for_no_other() {
    let (route, token) = (only(&config()), rs256(payload("")));
    assert!(at(&route, &token, NOW_MS).is_ok());
    for place in (0..token.len()).step_by(7) {
        let mut changed = token.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        assert!(at(&route, str::from_utf8(&changed).unwrap(), NOW_MS).is_err(), "byte {place}");
    }
    for other in [format!("{token} "), format!("{token}="), format!("{token}.")] {
        assert!(at(&route, &other, NOW_MS).is_err(), "{other}");
    }
}

#[test]
fn another_route_makes_its_own_choice() {
    let any = jwt("any", &config());
    let issued = jwt(
        "issued",
        &model::Jwt { issuer: Some("https://a".into()), ..public_config(&[JwtAlgorithm::RS256], "rsa_other.pub.pem") },
    );
    let token = rs256(payload(r#","iss":"https://a""#));
    let wide = route(vec![any.clone()]);
    assert!(at(&wide, &token, NOW_MS).is_ok());
    // Here it says that it is of `issued`; that `any` knows it does not matter.
    refused(at(&route(vec![any.clone(), issued.clone()]), &token, NOW_MS), "jwt.issued");
    // With several methods a token is remembered, too.
    let (both, plain) = (route(vec![any, issued]), rs256(payload("")));
    assert!(Arc::ptr_eq(&at(&both, &plain, NOW_MS).unwrap(), &at(&both, &plain, NOW_MS).unwrap()));
}

#[test]
fn a_change_of_keys_forgets_what_the_old_ones_proved() {
    let key_sets = KeySets::default();
    let config = model::Jwt { jwks: Some("https://id.test/keys".into()), ..jwt_config(&[JwtAlgorithm::RS256]) };
    let route = route(vec![Method::jwt("users", &config, &key_sets).unwrap()]);
    let set = Arc::clone(route.key_sets().next().unwrap());
    let token = rs256(payload(""));
    set.replace(JWKS.as_bytes()).unwrap();
    let first = at(&route, &token, NOW_MS).unwrap();
    set.replace(JWKS.as_bytes()).unwrap();
    assert!(Arc::ptr_eq(&first, &at(&route, &token, NOW_MS).unwrap()), "the same text is no change");
    set.replace(JWKS.replace("rsa-1", "rsa-9").as_bytes()).unwrap();
    refused(at(&route, &token, NOW_MS), "no key with the token's `kid`");
    set.failed("down".into());
    refused(at(&route, &token, NOW_MS), "no key with the token's `kid`");
    set.replace(JWKS.as_bytes()).unwrap();
    assert!(at(&route, &token, NOW_MS).is_ok());
}
