//! A revoked token is bad from the next request on, remembered or not.

use super::{
    super::{Ended, Revocation, Revocations},
    *,
};

fn heeding(config: &model::Jwt, revocations: &Arc<Revocations>) -> Authentication {
    let shared = Shared { revocations: Arc::clone(revocations), ..Shared::default() };
    route(vec![Method::jwt_with("users", config, &shared).unwrap()])
}

fn signed(payload: &str) -> String {
    let key = EncodingKey::from_rsa_pem(RSA_KEY).unwrap();
    forge(r#"{"alg":"RS256"}"#, payload, Algorithm::RS256, &key)
}

#[test]
fn a_token_is_good_until_it_is_revoked() {
    let public = public_config(&[JwtAlgorithm::RS256], "rsa.pub.pem");
    for (config, sign) in [(public, signed as fn(&str) -> String), (secret_config(), |payload| with_payload(payload))] {
        let revocations = Arc::new(Revocations::default());
        let route = heeding(&config, &revocations);
        let of = |jti: &str, user: &str, issued: u64| {
            sign(&format!(r#"{{"jti":{jti},"sub":{user},"iat":{issued},"exp":{}}}"#, NOW + 900))
        };
        let (a, b) = (of(r#""a""#, r#""u1""#, NOW), of(r#""b""#, r#""u1""#, NOW));
        let (number, odd) = (of(r#""c""#, "7", NOW - 60), of("9", r#""u3""#, NOW));
        let good = |token: &str| bearer(&route, token).is_ok();
        // Twice, so that a memory of good tokens has seen them.
        for _ in 0..2 {
            assert!(good(&a) && good(&b) && good(&number) && good(&odd));
        }
        revocations.revoke("jwt.users", &Revocation::Token { jti: "a".into() }, None, NOW_MS).unwrap();
        refused(bearer(&route, &a), "jwt.users: the token is revoked");
        assert!(good(&b) && good(&number));
        refused(bearer(&route, &odd), "`jti` is no string");
        revocations.revoke("jwt.users", &Revocation::Subject { user_id: "7".into() }, None, NOW_MS).unwrap();
        assert!(good(&b) && !good(&number));
        assert!(!good(&of(r#""d""#, r#""7""#, NOW)), "`7` and `\"7\"` are one user");
        assert!(good(&of(r#""d""#, "7", NOW + 1)), "who signs in again is welcome");
        let instant = (NOW_MS + 1) as i64;
        revocations.revoke("jwt.users", &Revocation::IssuedBefore { instant }, None, NOW_MS).unwrap();
        assert!(!good(&b) && good(&of(r#""d""#, r#""u1""#, NOW + 1)));
        let undated = sign(&format!(r#"{{"sub":"u1","exp":{}}}"#, NOW + 900));
        refused(bearer(&route, &undated), "all tokens of that time are revoked");
    }
}

/// What a token has opened ends with it: by its date, `leeway` included, by `max_age`, by a revocation, and where it cannot say
/// whether it is the one.
#[test]
fn what_a_token_opened_ends_with_it() {
    let revocations = Arc::new(Revocations::default());
    let opened = |config: &model::Jwt, payload: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {}", with_payload(payload)).parse().unwrap());
        let examined = heeding(config, &revocations).examine(Asked::of_headers(&headers, NOW_MS));
        examined.unwrap_or_else(|_| panic!("refused")).tenures
    };
    let claims = |jti: &str| format!(r#"{{"jti":{jti},"sub":"u1","iat":{NOW},"exp":{}}}"#, NOW + 900);
    let config = secret_config();
    let short = model::Jwt { max_age: Some(Period::secs(60)), ..secret_config() };
    let (one, other, odd) =
        (opened(&config, &claims(r#""a""#)), opened(&config, &claims(r#""b""#)), opened(&config, &claims("9")));
    let aged = opened(&short, &claims(r#""b""#));
    for (tenures, seconds) in [(&one, 930), (&odd, 930), (&aged, 90)] {
        let end = NOW_MS + seconds * 1000;
        assert_eq!(tenures.until_ms(), Some(end as i64));
        assert_eq!([end - 1, end].map(|now| tenures.ended(now)), [None, Some(Ended::Expired)]);
    }
    revocations.revoke("jwt.users", &Revocation::Token { jti: "a".into() }, None, NOW_MS).unwrap();
    assert_eq!(
        [&one, &other, &odd].map(|tenures| tenures.ended(NOW_MS)),
        [Some(Ended::Revoked), None, Some(Ended::Revoked)]
    );
    assert!(!format!("{one:?}").contains("u1"));
}
