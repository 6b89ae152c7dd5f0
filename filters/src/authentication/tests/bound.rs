//! Tokens that are bound to a certificate or to a key, and everything a thief could try who has the token alone.

use std::{
    future::Future,
    task::{Context, Poll, Waker},
    time::Duration,
};

use base64::engine::general_purpose::STANDARD;
use gapura_config::model::Binding;
use http::request;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    contract::{ClientCertificate, Code, Now, Services},
    metrics::Metrics,
};

const CERTIFICATE: [u8; 32] = [7; 32];

fn certificate(sha256: [u8; 32]) -> Arc<ClientCertificate> {
    Arc::new(ClientCertificate {
        sha256,
        spki_sha256: [0; 32],
        valid: (0, i64::MAX),
        doubtful: false,
        subject: None,
        common_names: Vec::new(),
        dns: vec!["billing.test".into()],
        emails: Vec::new(),
        uris: Vec::new(),
    })
}

/// Routes with one method, and proofs as this says.
fn with(binding: Binding, dpop: model::Dpop) -> Authentication {
    let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
    let dpop = Arc::new(Dpop::build(&dpop, &services).unwrap());
    only(&model::Jwt { binding, ..secret_config() }).checking_proofs(&dpop)
}

/// A request of `POST https://api.test/pay/7?x=1`.
struct Ask<'a> {
    route: &'a Authentication,
    fields: Vec<(&'static str, String)>,
    certificate: Option<Arc<ClientCertificate>>,
    now: u64,
}

impl<'a> Ask<'a> {
    fn new(route: &'a Authentication, scheme: &str, token: &str) -> Self {
        Self { route, fields: vec![("authorization", format!("{scheme} {token}"))], certificate: None, now: NOW }
    }
    fn proof(mut self, proof: String) -> Self {
        self.fields.push(("dpop", proof));
        self
    }
    fn certificate(mut self, sha256: [u8; 32]) -> Self {
        self.certificate = Some(certificate(sha256));
        self
    }
    fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }
    fn exchange(self) -> Result<Exchange, Refusal> {
        let now = Now { monotonic: Duration::from_secs(self.now - NOW + 1000), unix_ms: self.now * 1000 };
        let mut exchange = Exchange::new(now, [192, 0, 2, 1].into());
        exchange.origin.https = true;
        exchange.origin.authority = HeaderValue::from_static("API.test:443");
        exchange.target = "/pay/7?x=1".parse().unwrap();
        exchange.certificate = self.certificate;
        let mut head: request::Parts = http::Request::post("/pay/7?x=1").body(()).unwrap().into_parts().0;
        let fields: Vec<(&str, &str)> = self.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        head.headers = headers(&fields);
        let outcome = {
            let mut future = Box::pin(self.route.on_request(&head, &mut exchange));
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => panic!("nothing here waits"),
            }
        };
        outcome.map(|()| exchange)
    }
    #[track_caller]
    fn passes(self) {
        let exchange = self.exchange().unwrap_or_else(|refusal| panic!("{}", refusal.reason));
        assert_eq!(exchange.principal.unwrap().user_id.as_str(), "u1");
    }
    /// The challenge that the client reads.
    #[track_caller]
    fn fails(self, reason: &str) -> String {
        let refusal = self.exchange().err().unwrap_or_else(|| panic!("it must be refused: {reason}"));
        assert_eq!(refusal.code, Code::CredentialsInvalid);
        assert!(refusal.reason.contains(reason), "`{}` does not say `{reason}`", refusal.reason);
        let challenge = refusal.headers.iter().find(|(name, _)| name == http::header::WWW_AUTHENTICATE).unwrap();
        challenge.1.to_str().unwrap().to_owned()
    }
}

/// The public part of the client's key.
fn jwk() -> String {
    let pem = include_str!("../../../tests/keys/p256.pub.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(text).unwrap();
    let point = &der[der.len() - 64..];
    format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(&point[..32]), b64(&point[32..]))
}

fn thumbprint() -> String {
    let jwk = jwk().replace(r#""kty":"EC","crv":"P-256""#, r#""crv":"P-256","kty":"EC""#);
    b64(Sha256::digest(jwk))
}

fn token(cnf: &str) -> String {
    with_payload(payload(&format!(r#","cnf":{cnf}"#)))
}

fn of_key() -> String {
    token(&format!(r#"{{"jkt":"{}"}}"#, thumbprint()))
}

fn of_certificate() -> String {
    token(&format!(r##"{{"x5t#S256":"{}"}}"##, b64(CERTIFICATE)))
}

fn proof_with(header: &str, claims: &str) -> String {
    forge(header, claims, Algorithm::ES256, &EncodingKey::from_ec_pem(P256_KEY).unwrap())
}

fn good_header() -> String {
    format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, jwk())
}

fn claims(token: &str, jti: &str, more: &str) -> String {
    let ath = b64(Sha256::digest(token));
    format!(r#"{{"jti":"{jti}","htm":"POST","htu":"https://api.test/pay/7","iat":{NOW},"ath":"{ath}"{more}}}"#)
}

fn proof(token: &str, jti: &str) -> String {
    proof_with(&good_header(), &claims(token, jti, ""))
}

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
        ("\"ath\":\"", "\"ath\":\"A", "`ath`"),
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

mod certificates {
    use super::*;

    fn mtls(change: impl FnOnce(&mut model::Mtls)) -> Method {
        let mut config = model::Mtls {
            user_id: Some(model::CertificateName::SanDns),
            email: Some(model::CertificateName::SanEmail),
            roles: vec!["service".into()],
            permissions: Vec::new(),
            principals: Vec::new(),
        };
        change(&mut config);
        Method::mtls("services", &config)
    }

    fn ask(
        route: &Authentication,
        certificate: Option<ClientCertificate>,
        fields: Vec<(&'static str, String)>,
    ) -> Result<Exchange, Refusal> {
        Ask { route, fields, certificate: certificate.map(Arc::new), now: NOW }.exchange()
    }

    fn shown(change: impl FnOnce(&mut ClientCertificate)) -> Option<ClientCertificate> {
        let mut shown = (*certificate(CERTIFICATE)).clone();
        change(&mut shown);
        Some(shown)
    }

    #[test]
    fn a_name_is_a_user() {
        let only = route(vec![mtls(|_| {})]);
        let caller = ask(&only, shown(|c| c.emails = vec!["a@b.test".into()]), Vec::new()).unwrap().principal.unwrap();
        assert_eq!((caller.user_id.as_str(), &*caller.method), ("billing.test", "mtls.services"));
        assert_eq!((caller.email.as_deref(), &caller.roles[..]), (Some("a@b.test"), &["service".to_owned()][..]));
        let missing = ask(&only, None, Vec::new()).unwrap_err();
        assert_eq!(missing.code, Code::CredentialsMissing);
        assert_eq!(challenges(&missing), ["Certificate realm=\"gapura\""]);
        for doubtful in [
            shown(|c| c.dns = vec!["a".into(), "b".into()]),
            shown(|c| c.dns.clear()),
            shown(|c| c.dns = vec!["a\0b".into()]),
            shown(|c| c.dns = vec!["a\r\nX-User-Roles: admin".into()]),
            shown(|c| c.dns = vec![" a".into()]),
            shown(|c| c.emails = vec!["a@b".into(), "c@d".into()]),
            shown(|c| c.doubtful = true),
            shown(|c| c.valid = (0, NOW as i64 - 1)),
            shown(|c| c.valid = (NOW as i64 + 1, i64::MAX)),
        ] {
            assert_eq!(
                ask(&only, doubtful.clone(), Vec::new()).unwrap_err().code,
                Code::CredentialsInvalid,
                "{doubtful:?}"
            );
        }
    }

    #[test]
    fn only_the_listed_ones() {
        let entry = |user: &str| model::MtlsPrincipal {
            san_dns: None,
            san_email: None,
            san_uri: None,
            subject_cn: None,
            subject: None,
            spki_sha256: None,
            user_id: user.into(),
            email: None,
            roles: vec!["payments".into()],
            permissions: Vec::new(),
        };
        let listed = route(vec![mtls(|config| {
            config.user_id = None;
            config.principals = vec![
                model::MtlsPrincipal { san_dns: Some("Billing.test".into()), ..entry("billing") },
                model::MtlsPrincipal { subject: Some("CN=a,O=b".into()), ..entry("a") },
                model::MtlsPrincipal { spki_sha256: Some("05".repeat(32)), ..entry("key") },
            ];
        })]);
        let user = |certificate| {
            ask(&listed, certificate, Vec::new()).map(|e| e.principal.unwrap().user_id.as_str().to_owned())
        };
        assert_eq!(user(shown(|_| {})).unwrap(), "billing");
        assert_eq!(user(shown(|c| (c.dns, c.subject) = (Vec::new(), Some("CN=a,O=b".into())))).unwrap(), "a");
        assert_eq!(user(shown(|c| (c.dns, c.spki_sha256) = (Vec::new(), [5; 32]))).unwrap(), "key");
        for unknown in [
            shown(|c| c.dns = vec!["billing.test.evil".into()]),
            shown(|c| c.dns = vec!["billing.test".into(), "evil.test".into()]),
            shown(|c| (c.dns, c.subject) = (Vec::new(), Some("CN=a\\,O=b".into()))),
            // Of two entries at once, whose roles would count?
            shown(|c| c.spki_sha256 = [5; 32]),
        ] {
            assert_eq!(user(unknown.clone()).unwrap_err().code, Code::CredentialsInvalid, "{unknown:?}");
        }
        let caller = ask(&listed, shown(|_| {}), Vec::new()).unwrap().principal.unwrap();
        assert_eq!(caller.roles, ["service", "payments"]);
    }

    #[test]
    fn a_certificate_is_a_credential_like_any_other() {
        let both = route(vec![jwt("users", &secret_config()), mtls(|_| {})]);
        let bearer = || vec![("authorization", format!("Bearer {}", with_payload(payload(""))))];
        let method = |exchange: Exchange| exchange.principal.unwrap().method.to_string();
        assert_eq!(method(ask(&both, None, bearer()).unwrap()), "jwt.users");
        assert_eq!(method(ask(&both, shown(|_| {}), Vec::new()).unwrap()), "mtls.services");
        assert_eq!(method(ask(&both, shown(|_| {}), bearer()).unwrap()), "jwt.users", "the first of `auth`");
        // Neither covers up for the other.
        let bad = vec![("authorization", "Bearer x".to_owned())];
        assert_eq!(ask(&both, shown(|_| {}), bad).unwrap_err().code, Code::CredentialsInvalid);
        assert_eq!(ask(&both, shown(|c| c.dns.clear()), bearer()).unwrap_err().code, Code::CredentialsInvalid);
        let place = Place::root().key("routes").index(0).key("auth");
        let other =
            Method::mtls("others", &model::Mtls { user_id: Some(model::CertificateName::Subject), ..mtls_config() });
        assert!(Authentication::new(&place, vec![mtls(|_| {}), other]).is_err(), "a certificate could not choose");
        // A route that does not name the method does not look at the certificate.
        assert_eq!(method(ask(&only(&secret_config()), shown(|c| c.dns.clear()), bearer()).unwrap()), "jwt.users");
    }

    fn mtls_config() -> model::Mtls {
        model::Mtls { user_id: None, email: None, roles: Vec::new(), permissions: Vec::new(), principals: Vec::new() }
    }
}
