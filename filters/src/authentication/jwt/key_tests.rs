//! Which keys are taken, and what the operator reads about those that are not.

use gapura_config::{
    fault::Severity,
    model::{
        self,
        JwtAlgorithm::{self, *},
    },
};
use jsonwebtoken::{Algorithm, EncodingKey};

use super::{jwks, keys::Keys, public_key::PublicKey, token::Token};
use crate::authentication::{KeySets, Method, tests::*};

fn signing_key(algorithm: JwtAlgorithm) -> EncodingKey {
    match algorithm {
        HS256 | HS384 | HS512 => EncodingKey::from_secret(SECRET),
        ES256 => EncodingKey::from_ec_pem(P256_KEY).unwrap(),
        ES384 => EncodingKey::from_ec_pem(P384_KEY).unwrap(),
        EdDSA => EncodingKey::from_ed_pem(ED_KEY).unwrap(),
        _ => EncodingKey::from_rsa_pem(RSA_KEY).unwrap(),
    }
}

fn signed(algorithm: JwtAlgorithm, more: &str) -> String {
    let name = super::algorithm::name(algorithm);
    let used: Algorithm = name.parse().unwrap();
    forge(&format!(r#"{{"alg":"{name}"{more}}}"#), payload(""), used, &signing_key(algorithm))
}

fn faults(config: &model::Jwt) -> Vec<String> {
    let faults = Method::jwt("users", config, &KeySets::default()).map(drop).unwrap_err();
    assert!(faults.iter().all(|fault| fault.help.is_some()));
    faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect()
}

#[test]
fn every_algorithm_verifies_with_its_key() {
    let public = [
        (&[RS256, RS384, RS512, PS256, PS384, PS512][..], "rsa.pub.pem"),
        (&[RS256], "rsa_by_ed25519.cert.pem"),
        (&[ES256], "p256.pub.pem"),
        (&[ES256], "p256.cert.pem"),
        (&[ES384], "p384.pub.pem"),
        (&[EdDSA], "ed25519.pub.pem"),
    ];
    for (algorithms, key) in public {
        let route = only(&public_config(algorithms, key));
        for algorithm in algorithms {
            assert!(bearer(&route, &signed(*algorithm, "")).is_ok(), "{algorithm:?} with {key}");
        }
    }
    let secret = only(&model::Jwt { algorithms: vec![HS256, HS384, HS512], ..secret_config() });
    for algorithm in [HS256, HS384, HS512] {
        assert!(bearer(&secret, &signed(algorithm, "")).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn a_key_set_is_searched_by_kid_then_by_kind() {
    let route = only(&set_config(&[RS256, PS256, ES256, ES384, EdDSA]));
    for (algorithm, kid) in [(RS256, "rsa-1"), (PS256, "rsa-1"), (ES256, "ec-1"), (ES384, "ec-2"), (EdDSA, "ed-1")] {
        assert!(bearer(&route, &signed(algorithm, &format!(r#","kid":"{kid}""#))).is_ok(), "{kid}");
        assert!(bearer(&route, &signed(algorithm, "")).is_ok(), "{algorithm:?} without kid");
    }
    for (algorithm, kid) in
        [(RS256, "none"), (RS256, "enc-1"), (RS256, "ec-1"), (PS256, "rsa-2"), (ES256, "ec-2"), (ES256, "ec-3")]
    {
        refused(bearer(&route, &signed(algorithm, &format!(r#","kid":"{kid}""#))), "no key with the token's `kid`");
    }
    refused(bearer(&route, &signed(RS256, r#","kid":"rsa-2""#)), "signature does not verify");
    refused(bearer(&route, &signed(RS384, "")), "`alg` is not accepted");
}

#[test]
fn a_key_must_fit_every_algorithm() {
    for (algorithms, key, said) in [
        (&[ES256][..], "p384.pub.pem", "ES256 takes an EC key on P-256"),
        (&[ES384], "p256.pub.pem", "ES384 takes an EC key on P-384"),
        (&[RS256], "p256.pub.pem", "RS256 takes an RSA key"),
        (&[EdDSA], "rsa.pub.pem", "EdDSA takes an Ed25519 key"),
        (&[EdDSA], "rsa_by_ed25519.cert.pem", "holds an RSA key"),
        (&[RS256], "rsa1024.pub.pem", "an RSA key of 1024 bits"),
        (&[ES256], "secp256k1.pub.pem", "a curve other than"),
        (&[RS256], "rsa.key", "this is a private key"),
        (&[RS256], "hs256.secret", "no PEM"),
        (&[RS256], "nowhere.pem", "cannot be read"),
    ] {
        let found = faults(&public_config(algorithms, key));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("jwt.users.public_key: ") && found[0].contains(said), "{found:?}");
    }
    let both = faults(&public_config(&[RS256, ES256, ES384], "p256.pub.pem"));
    assert_eq!(both.len(), 2, "one fault for each algorithm that does not fit: {both:?}");
}

#[test]
fn exactly_one_source_of_the_right_family() {
    let secret = secret_config().secret;
    let public = public_config(&[RS256], "rsa.pub.pem").public_key;
    let set = set_config(&[RS256]).jwks;
    let with = |algorithms: &[JwtAlgorithm], secret: bool, public_key: bool, jwks: bool| {
        let (secret_ref, public_ref, set_ref) = (secret_config().secret, public.clone(), set.clone());
        faults(&model::Jwt {
            secret: secret_ref.filter(|_| secret),
            public_key: public_ref.filter(|_| public_key),
            jwks: set_ref.filter(|_| jwks),
            ..jwt_config(algorithms)
        })
    };
    assert!(secret.is_some());
    assert_eq!(with(&[], true, false, false), ["jwt.users.algorithms: no algorithm is accepted"]);
    assert_eq!(with(&[HS256], false, false, false), ["jwt.users: no key to verify with"]);
    assert_eq!(with(&[HS256], true, true, false), ["jwt.users: more than one source of keys"]);
    assert_eq!(with(&[RS256], false, true, true), ["jwt.users: more than one source of keys"]);
    assert!(with(&[HS256, RS256], true, false, false)[0].starts_with("jwt.users.algorithms: "));
    assert!(with(&[HS256], false, true, false)[0].starts_with("jwt.users.public_key: "));
    assert!(with(&[HS256], false, false, true)[0].starts_with("jwt.users.jwks: "));
    assert!(with(&[RS256], true, false, false)[0].starts_with("jwt.users.secret: "));
}

#[test]
fn all_faults_are_told_at_once() {
    let claims = model::Claims { user_id: String::new(), roles: "/a~2".into(), ..model::Claims::default() };
    let audience = vec!["a".into(), String::new()];
    let config = model::Jwt { claims, audience, issuer: Some(String::new()), ..jwt_config(&[HS256]) };
    let found = faults(&config);
    let places: Vec<&str> = found.iter().map(|fault| fault.split_once(": ").unwrap().0).collect();
    let expected = [
        "jwt.users.claims.user_id",
        "jwt.users.claims.roles",
        "jwt.users.issuer",
        "jwt.users.audience[1]",
        "jwt.users",
    ];
    assert_eq!(places, expected);
}

#[test]
fn a_short_secret_is_warned_about() {
    let short = model::Jwt { secret: reference("short.secret").parse().ok(), ..secret_config() };
    let short = Method::jwt("users", &short, &KeySets::default());
    let short = short.unwrap();
    assert_eq!(short.warnings()[0].place.to_string(), "jwt.users.secret");
    assert!(short.warnings()[0].message.contains("fewer than 32 bytes"));
    assert_eq!(short.warnings()[0].severity, Severity::Warning);
    assert!(jwt("users", &secret_config()).warnings().is_empty());
    let unused = jwt("users", &set_config(&[RS256, RS512]));
    assert!(unused.warnings().is_empty());
}

#[test]
fn key_sets_are_files_or_fetched() {
    let with = |jwks: &str| faults(&model::Jwt { jwks: Some(jwks.into()), ..jwt_config(&[RS256]) });
    for other in ["http://id.example.com/jwks", "env:JWKS", "/etc/jwks.json", ""] {
        assert_eq!(with(other), ["jwt.users.jwks: a key set is a file or an https address"]);
    }
    assert!(with("file:/nowhere.json")[0].contains("cannot be read"));
    assert!(with(&reference("rsa.pub.pem"))[0].contains("not readable as JSON"));
}

#[test]
fn a_broken_key_set_is_refused() {
    let rsa = JWKS.lines().find(|line| line.contains("rsa-1")).unwrap().trim().trim_end_matches(',');
    let set = |keys: &str| jwks::read(format!(r#"{{"keys":[{keys}]}}"#).as_bytes()).map(|keys| keys.len());
    assert_eq!(set(rsa), Ok(1));
    for (keys, said) in [
        (String::new(), "no key that verifies"),
        (format!("{rsa},{rsa}"), "the same `kid`"),
        (r#"{"kty":"oct","k":"AAAA"}"#.into(), "shared secret"),
        (rsa.replace("\"e\"", "\"d\":\"AA\",\"e\""), "private key"),
        (rsa.replace("AQAB", "AQ"), "public exponent"),
        (rsa.replace("AQAB", "AQAA"), "public exponent"),
        (rsa.replace("AQAB", "AQAB="), "not base64url"),
        (r#"{"kty":"RSA","n":"_w","e":"AQAB"}"#.into(), "of 8 bits"),
        (rsa.replace("\"use\": \"sig\"", "\"alg\":\"ES256\""), "ES256 does not go with an RSA key"),
        (rsa.replace("\"use\": \"sig\"", "\"use\":7"), "`use` is no string"),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.into(), "`x` has not 32 bytes"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.into(), "has not 32 bytes"),
        (r#"{"kty":"RSA","kty":"RSA"}"#.into(), "occurs twice"),
        ("7".into(), "no object"),
        (r#"{"use":"sig"}"#.into(), "no `kty`"),
    ] {
        let wrong = set(&keys).unwrap_err().join("; ");
        assert!(wrong.contains(said), "{wrong} / {said}");
    }
    assert!(jwks::read(b"[]").is_err() && jwks::read(br#"{"keys":{}}"#).is_err());
}

#[test]
fn without_kid_a_bounded_number_of_keys_is_tried() {
    let line = |kid: &str| JWKS.lines().find(|line| line.contains(kid)).unwrap().trim().trim_end_matches(',');
    let token = signed(RS256, "");
    let token = Token::parse(token.as_bytes()).unwrap();
    for (wrong, found) in [(0, true), (15, true), (16, false)] {
        let mut keys: Vec<String> = (0..wrong).map(|n| line("rsa-2").replace("rsa-2", &format!("w{n}"))).collect();
        keys.push(line("rsa-1").to_owned());
        let set = jwks::read(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap();
        assert_eq!(Keys::set(&[RS256], &set).verify(&token).is_ok(), found, "{wrong} wrong keys before the right one");
    }
    let rsa_only = jwks::read(format!(r#"{{"keys":[{}]}}"#, line("rsa-1")).as_bytes()).unwrap();
    assert_eq!(Keys::set(&[RS256, ES256, HS256], &rsa_only).without_key().collect::<Vec<_>>(), [ES256, HS256]);
}

#[test]
fn damaged_pem_and_der_are_refused_without_panic() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    for file in [
        include_str!("../../../tests/keys/rsa.pub.pem"),
        include_str!("../../../tests/keys/p256.cert.pem"),
        include_str!("../../../tests/keys/ed25519.pub.pem"),
    ] {
        assert!(PublicKey::from_pem(file.as_bytes()).is_ok());
        assert!(PublicKey::from_pem(format!("# a comment\r\n{}", file.replace('\n', "\r\n")).as_bytes()).is_ok());
        assert!(PublicKey::from_pem(format!("{file}{file}").as_bytes()).is_err(), "which of the two?");
        let label = if file.contains("CERTIFICATE") { "CERTIFICATE" } else { "PUBLIC KEY" };
        let body: String = file.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).unwrap();
        let pem = |der: &[u8]| format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
        for cut in 0..der.len() {
            assert!(PublicKey::from_pem(pem(&der[..cut]).as_bytes()).is_err(), "cut at {cut}");
        }
        assert!(PublicKey::from_pem(pem(&[&der[..], &[0]].concat()).as_bytes()).is_err(), "bytes after the end");
        for at in 0..der.len() {
            for bit in 0..8 {
                let mut changed = der.clone();
                changed[at] ^= 1 << bit;
                let _ = PublicKey::from_pem(pem(&changed).as_bytes());
            }
        }
    }
}
