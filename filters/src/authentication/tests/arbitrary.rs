//! Properties: no input panics, and no byte of a good token can change.

use proptest::prelude::*;

use super::{api_keys::developers, *};

fn everything() -> Authentication {
    route(vec![
        jwt("hs", &secret_config()),
        jwt("set", &set_config(&[JwtAlgorithm::RS256, JwtAlgorithm::ES256, JwtAlgorithm::EdDSA])),
        developers(|_| {}),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let route = only(&secret_config());
        let mut token = with_payload(payload(r#","roles":["reader"]"#)).into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", &token[..]].concat()) else { return Ok(()) };
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        prop_assert!(route.authenticate(&headers, NOW_MS).is_err());
    }

    #[test]
    fn no_header_value_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), scheme in "(Bearer |ApiKey |)") {
        let value = [scheme.as_bytes(), &bytes].concat();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            prop_assert!(everything().authenticate(&HeaderMap::from_iter([(AUTHORIZATION, value)]), NOW_MS).is_err());
        }
    }

    #[test]
    fn no_parts_panic(header in ".{0,60}", claims in ".{0,60}", signature in prop::collection::vec(any::<u8>(), 0..80)) {
        let token = format!("{}.{}.{}", b64(header), b64(claims), b64(signature));
        prop_assert!(bearer(&everything(), &token).is_err());
    }

    #[test]
    fn no_signed_payload_panics(claims in r#"\{("(sub|exp|nbf|iat|aud|iss|roles|email)":(-?[0-9]{1,22}(\.[0-9]+)?(e[0-9]{1,3})?|"[^"\\]{0,5}"|null|\[("a",?){0,2}\]),?){0,6}\}"#) {
        let _ = bearer(&only(&secret_config()), &with_payload(claims));
    }

    #[test]
    fn no_proof_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        if HeaderValue::from_str(&text).is_ok() {
            let route = possession::with(Binding::Optional, model::Dpop::default());
            prop_assert!(possession::Ask::new(&route, "DPoP", &possession::of_key()).proof(text).exchange().is_err());
        }
    }

    #[test]
    fn no_confirmation_and_no_key_of_a_proof_panics(cnf in r#"(\{("(jkt|x5t#S256|jwk)":("[A-Za-z0-9_-]{0,44}"|null|7),?){0,3}\}|null|7)"#, jwk in r#"\{("(kty|crv|x|y|n|e|d|alg|use)":("(EC|RSA|OKP|P-256|Ed25519|[A-Za-z0-9_-]{0,44})"|null),?){0,6}\}"#) {
        let route = possession::with(Binding::Optional, model::Dpop::default());
        let token = possession::token(&cnf);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{jwk}}}"#);
        let proof = possession::proof_with(&header, &possession::claims(&token, "a", ""));
        prop_assert!(possession::Ask::new(&route, "DPoP", &token).proof(proof).exchange().is_err());
    }

    #[test]
    fn no_claim_path_panics(path in ".{0,40}") {
        let claims = model::Claims { user_id: path, ..model::Claims::default() };
        if let Ok(method) = Method::jwt("users", &model::Jwt { claims, ..secret_config() }, &KeySets::default()) {
            let _ = bearer(&route(vec![method]), &with_payload(payload(r#","a":{"b":[1]}"#)));
        }
    }
}

#[test]
fn every_bit_of_a_short_token_counts() {
    let route = only(&secret_config());
    let token = hs256(r#"{"alg":"HS256"}"#, format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 1)).into_bytes();
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut changed = token.clone();
            changed[at] ^= 1 << bit;
            let Ok(text) = str::from_utf8(&changed) else { continue };
            if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
                assert!(bearer(&route, text).is_err(), "byte {at}, bit {bit}");
            }
        }
    }
}
