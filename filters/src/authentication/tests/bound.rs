//! Tokens that are bound to a certificate or to a key, and everything a thief could try who has the token alone.

use gapura_config::model::Binding;

use super::{
    possession::{
        Ask, CERTIFICATE, certificate, claims, good_header, jwk, of_certificate, of_key, proof, proof_with, thumbprint,
        token, with,
    },
    *,
};
use crate::{
    contract::{ClientCertificate, Services},
    metrics::Metrics,
};

#[test]
fn a_token_of_a_certificate_is_held_to_it() {
    for binding in [Binding::Optional, Binding::Certificate, Binding::Any] {
        let route = with(binding, model::Dpop::default());
        let token = of_certificate();
        Ask::new(&route, "Bearer", &token).certificate(CERTIFICATE).passes();
        let challenge = Ask::new(&route, "Bearer", &token).fails("has not shown");
        assert!(challenge.contains("invalid_token"), "{challenge}");
        Ask::new(&route, "Bearer", &token).certificate([8; 32]).fails("has not shown");
        let mut late = Ask::new(&route, "Bearer", &token).certificate(CERTIFICATE);
        late.certificate =
            Some(Arc::new(ClientCertificate { valid: (0, NOW as i64 - 1), ..(*certificate(CERTIFICATE)).clone() }));
        late.fails("has not shown");
    }
    Ask::new(&with(Binding::Dpop, model::Dpop::default()), "Bearer", &of_certificate())
        .certificate(CERTIFICATE)
        .fails("not bound as it must be");
}

#[test]
fn a_method_may_insist() {
    let plain = with_payload(payload(""));
    Ask::new(&with(Binding::Optional, model::Dpop::default()), "Bearer", &plain).passes();
    for binding in [Binding::Certificate, Binding::Dpop, Binding::Any] {
        let route = with(binding, model::Dpop::default());
        Ask::new(&route, "Bearer", &plain).certificate(CERTIFICATE).fails("not bound as it must be");
    }
    let route = with(Binding::Certificate, model::Dpop::default());
    let token = of_key();
    Ask::new(&route, "DPoP", &token).proof(proof(&token, "a")).fails("not bound as it must be");
}

#[test]
fn what_a_token_says_of_its_binding_is_understood_or_it_is_refused() {
    let route = with(Binding::Optional, model::Dpop::default());
    let other = b64([9; 32]);
    for (cnf, reason) in [
        (r#"{"kid":"a"}"#.to_owned(), "no SHA-256"),
        (format!(r#"{{"kid":"{other}"}}"#), "in a way that cannot be checked"),
        (format!(r#"{{"jkt":"{}","jwk":{{}}}}"#, thumbprint()), "no SHA-256"),
        (format!(r#"{{"x5t#S256":"{}","jku":"{other}"}}"#, b64(CERTIFICATE)), "in a way that cannot be checked"),
        (format!(r#"{{"x5t#S256":"{}="}}"#, b64(CERTIFICATE)), "no SHA-256"),
        (format!(r#"{{"x5t#S256":"{}"}}"#, b64([7; 31])), "no SHA-256"),
        (r#"{"x5t#S256":null}"#.to_owned(), "no SHA-256"),
        ("{}".to_owned(), "is empty"),
        ("null".to_owned(), "is no object"),
        ("[]".to_owned(), "is no object"),
        (r#""x""#.to_owned(), "is no object"),
        (format!(r#"{{"jkt":"{other}","jkt":"{}"}}"#, thumbprint()), "occurs twice"),
    ] {
        let token = token(&cnf);
        Ask::new(&route, "Bearer", &token).certificate(CERTIFICATE).fails(reason);
        Ask::new(&route, "DPoP", &token).certificate(CERTIFICATE).proof(proof(&token, "a")).fails(reason);
    }
    let both = token(&format!(r##"{{"jkt":"{}","x5t#S256":"{}"}}"##, thumbprint(), b64(CERTIFICATE)));
    Ask::new(&route, "DPoP", &both).proof(proof(&both, "a")).fails("has not shown");
    Ask::new(&route, "Bearer", &both).certificate(CERTIFICATE).fails("without a proof");
    Ask::new(&route, "DPoP", &both).certificate(CERTIFICATE).proof(proof(&both, "a")).passes();
}

#[test]
fn a_proof_passes_once() {
    let route = with(Binding::Dpop, model::Dpop::default());
    let token = of_key();
    Ask::new(&route, "DPoP", &token).proof(proof(&token, "one")).passes();
    Ask::new(&route, "dpop", &token).proof(proof(&token, "two")).passes();
    for at in [NOW, NOW + 60] {
        let challenge = Ask::new(&route, "DPoP", &token).proof(proof(&token, "one")).at(at).fails("used before");
        let expected = "DPoP realm=\"gapura\", algs=\"ES256 ES384 EdDSA PS256 RS256\", error=\"invalid_dpop_proof\"";
        assert_eq!(challenge, expected);
    }
    // Another signature over the same claims is the same proof: ES256 is not deterministic.
    Ask::new(&route, "DPoP", &token).proof(proof(&token, "two")).fails("used before");
    Ask::new(&route, "DPoP", &token).proof(proof(&token, "one")).at(NOW + 61).fails("too old");
}

#[test]
fn a_bound_token_is_no_bearer() {
    let token = of_key();
    for binding in [Binding::Optional, Binding::Dpop, Binding::Any] {
        let route = with(binding, model::Dpop::default());
        let challenge = Ask::new(&route, "Bearer", &token).fails("without a proof");
        assert!(challenge.starts_with("DPoP ") && challenge.ends_with("error=\"invalid_token\""), "{challenge}");
        Ask::new(&route, "Bearer", &token).proof(proof(&token, "a")).fails("without a proof");
        Ask::new(&route, "DPoP", &token).fails("there is none");
        Ask::new(&route, "DPoP", &token).proof(proof(&token, "a")).proof(proof(&token, "b")).fails("more than one");
        let plain = with_payload(payload(""));
        if binding == Binding::Optional {
            Ask::new(&route, "DPoP", &plain).proof(proof(&plain, "a")).fails("is not bound to a key");
        }
    }
    // In a cookie it has no proof.
    let config = model::Jwt { token: "cookie:t".parse().unwrap(), ..secret_config() };
    let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
    let dpop = Arc::new(Dpop::build(&model::Dpop::default(), &services).unwrap());
    let route = only(&config).checking_proofs(&dpop);
    let mut ask = Ask::new(&route, "", "").proof(proof(&token, "a"));
    ask.fields[0] = ("cookie", format!("t={token}"));
    ask.fails("without a proof");
    // A route that cannot check proofs takes none.
    refused(bearer(&only(&secret_config()), &token), "without a proof");
}

#[test]
fn every_part_of_a_proof_counts() {
    let route = with(Binding::Optional, model::Dpop::default());
    let token = of_key();
    let other_key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let header = good_header();
    let headers = [
        (header.replace("dpop+jwt", "JWT"), "`typ`"),
        (header.replace(r#""typ":"dpop+jwt","#, ""), "`typ`"),
        (header.replace("ES256", "ES384"), "does not go with"),
        (header.replace("ES256", "HS256"), "`alg` is not accepted"),
        (header.replace("ES256", "none"), "`alg`"),
        (header.replace("ES256", "PS512"), "`alg` is not accepted"),
        (header.replace(&jwk(), other_key), "does not go with"),
        (header.replace(&jwk(), "null"), "no key"),
        (header.replace(&format!(r#","jwk":{}"#, jwk()), ""), "no key"),
        (header.replace(r#""kty":"EC""#, r#""kty":"EC","d":"AAAA""#), "not only the public part"),
        (header.replace(r#""kty":"EC""#, r#""kty":"EC","k":"AAAA""#), "not only the public part"),
        (header.replace(r#""kty":"EC""#, r#""kty":"oct""#), "shared secret"),
        (header.replace(r#""kty":"EC""#, r#""kty":"EC","use":"enc""#), "no kind that is taken"),
        (header.replace("{\"typ\"", "{\"crit\":[\"b64\"],\"typ\""), "`crit`"),
        (header.replace("{\"typ\"", "{\"typ\":\"JWT\",\"typ\""), "occurs twice"),
    ];
    for (header, reason) in headers {
        let proof = proof_with(&header, &claims(&token, "a", ""));
        Ask::new(&route, "DPoP", &token).proof(proof).fails(reason);
    }
    let good = claims(&token, "a", "");
    let changes = [
        ("\"POST\"", "\"GET\"", "another method"),
        ("\"POST\"", "\"post\"", "another method"),
        ("\"htm\":\"POST\",", "", "`htm`"),
        ("api.test/pay/7", "api.test/pay/8", "another path"),
        ("api.test/pay/7", "api.test/pay/7/", "another path"),
        ("api.test/pay/7", "api.test/pay/../pay/..%2f7", "another path"),
        ("https://api.test/", "http://api.test/", "another host"),
        ("https://api.test/", "https://api.test:8443/", "another host"),
        ("https://api.test/", "https://evil.test/", "another host"),
        ("https://api.test/", "https://api.test@evil.test/", "no http URI"),
        ("https://api.test/pay/7", "/pay/7", "no http URI"),
        ("\"jti\":\"a\"", "\"jti\":\"\"", "`jti`"),
        ("\"jti\":\"a\"", "\"jti\":7", "`jti`"),
        ("\"jti\":\"a\",", "", "`jti`"),
        ("\"jti\":\"a\"", "\"jti\":\"a\",\"jti\":\"b\"", "occurs twice"),
        ("\"ath\":\"", "\"ath\":\"A", "another token"),
        ("\"ath\"", "\"xth\"", "`ath`"),
        ("\"iat\"", "\"xat\"", "no `iat`"),
        ("\"iat\":", "\"iat\":\"x\",\"x\":", "`iat`"),
    ];
    for (from, to, reason) in changes {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        Ask::new(&route, "DPoP", &token).proof(proof_with(&header, &changed)).fails(reason);
    }
    let late = good.replace(&NOW.to_string(), &(NOW - 61).to_string());
    Ask::new(&route, "DPoP", &token).proof(proof_with(&header, &late)).fails("too old");
    let early = good.replace(&NOW.to_string(), &(NOW + 6).to_string());
    Ask::new(&route, "DPoP", &token).proof(proof_with(&header, &early)).fails("from the future");
    // Of another token of the same key, and with another key for this token.
    let other = token_of_another_user();
    Ask::new(&route, "DPoP", &token).proof(proof(&other, "a")).fails("another token");
    let stranger = self::token(&format!(r#"{{"jkt":"{}"}}"#, b64([1; 32])));
    Ask::new(&route, "DPoP", &stranger).proof(proof(&stranger, "a")).fails("another key");
    for text in ["", "a.b.c", &"A".repeat(9000), &format!("{} ", &proof(&token, "a")[..40])] {
        Ask::new(&route, "DPoP", &token).proof(text.to_owned()).fails("DPoP proof");
    }
    let good = proof(&token, "a");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for at in [0, 20, 60] {
        let mut changed = signature.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = format!("{signed}.{}", str::from_utf8(&changed).unwrap());
        Ask::new(&route, "DPoP", &token).proof(changed).fails("does not verify");
    }
    // All that was refused has used nothing up.
    Ask::new(&route, "DPoP", &token).proof(good).passes();
}

fn token_of_another_user() -> String {
    let cnf = format!(r#","cnf":{{"jkt":"{}"}}"#, thumbprint());
    with_payload(payload(&cnf).replace("u1", "u2"))
}

#[test]
fn what_names_the_same_request_is_taken() {
    let route = with(Binding::Dpop, model::Dpop::default());
    let token = of_key();
    for (n, htu) in
        ["https://api.test/pay/7", "https://API.TEST:443/pay/%37?y=2#z", "HTTPS://api.test/pay/./7"].iter().enumerate()
    {
        let claims = claims(&token, &format!("{n}"), "").replace("https://api.test/pay/7", htu);
        Ask::new(&route, "DPoP", &token).proof(proof_with(&good_header(), &claims)).passes();
    }
}

#[test]
fn a_nonce_is_asked_for_and_renewed() {
    let route = with(Binding::Dpop, model::Dpop { nonce: true, ..Default::default() });
    let token = of_key();
    let refused = |ask: Ask<'_>| {
        let refusal = ask.exchange().expect_err("a nonce is missing");
        let of = |name: &str| {
            let (_, value) = refusal.headers.iter().find(|(known, _)| known == name).expect("a field");
            value.to_str().unwrap().to_owned()
        };
        assert!(of("www-authenticate").ends_with("error=\"use_dpop_nonce\""), "{}", refusal.reason);
        of("dpop-nonce")
    };
    let nonce = refused(Ask::new(&route, "DPoP", &token).proof(proof(&token, "a")));
    refused(
        Ask::new(&route, "DPoP", &token).proof(proof_with(&good_header(), &claims(&token, "a", r#","nonce":"x""#))),
    );
    let with_nonce = |jti: &str, iat: u64| {
        let claims = claims(&token, jti, &format!(r#","nonce":"{nonce}""#))
            .replace(&format!("\"iat\":{NOW}"), &format!("\"iat\":{iat}"));
        proof_with(&good_header(), &claims)
    };
    let exchange = Ask::new(&route, "DPoP", &token).proof(with_nonce("a", NOW)).exchange().unwrap();
    assert_eq!(exchange.dpop_nonce, None);
    let exchange = Ask::new(&route, "DPoP", &token).proof(with_nonce("b", NOW + 200)).at(NOW + 200).exchange().unwrap();
    let next = exchange.dpop_nonce.clone().expect("the next one, in time");
    assert_ne!(next.to_str().unwrap(), nonce);
    let mut answer = HeaderMap::new();
    let mut exchange = exchange;
    route.on_response_headers(&mut answer, &mut exchange);
    assert_eq!(answer.get("dpop-nonce"), Some(&next));
    refused(Ask::new(&route, "DPoP", &token).proof(with_nonce("c", NOW + 290)).at(NOW + 301));
}

#[test]
fn challenges_say_how_to_present_a_token() {
    let challenges_of = |binding| {
        let refusal = with(binding, model::Dpop::default()).authenticate(&HeaderMap::new(), NOW_MS).unwrap_err();
        challenges(&refusal).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let dpop = "DPoP realm=\"gapura\", algs=\"ES256 ES384 EdDSA PS256 RS256\"".to_owned();
    let bearer = "Bearer realm=\"gapura\"".to_owned();
    assert_eq!(challenges_of(Binding::Optional), [bearer.as_str()]);
    assert_eq!(challenges_of(Binding::Certificate), [bearer.as_str()]);
    assert_eq!(challenges_of(Binding::Dpop), [dpop.as_str()]);
    assert_eq!(challenges_of(Binding::Any), [dpop, bearer]);
}

#[test]
fn a_full_memory_lets_no_proof_pass() {
    let services = Services::in_memory(1000, 1, Metrics::new().unwrap().into());
    let dpop = Arc::new(Dpop::build(&model::Dpop::default(), &services).unwrap());
    let route = only(&secret_config()).checking_proofs(&dpop);
    let token = of_key();
    Ask::new(&route, "DPoP", &token).proof(proof(&token, "a")).passes();
    let refusal = Ask::new(&route, "DPoP", &token).proof(proof(&token, "b")).exchange().unwrap_err();
    assert_eq!(refusal.code, Code::Overloaded);
}
