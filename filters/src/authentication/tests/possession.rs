//! A client that has a certificate or a key, and the tokens that are bound to them.

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

pub(super) const CERTIFICATE: [u8; 32] = [7; 32];

pub(super) fn certificate(sha256: [u8; 32]) -> Arc<ClientCertificate> {
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
pub(super) fn with(binding: Binding, dpop: model::Dpop) -> Authentication {
    let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
    let dpop = Arc::new(Dpop::build(&dpop, &services).unwrap());
    only(&model::Jwt { binding, ..secret_config() }).checking_proofs(&dpop)
}

/// A request of `POST https://api.test/pay/7?x=1`.
pub(super) struct Ask<'a> {
    pub(super) route: &'a Authentication,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    pub(super) now: u64,
}

impl<'a> Ask<'a> {
    pub(super) fn new(route: &'a Authentication, scheme: &str, token: &str) -> Self {
        Self { route, fields: vec![("authorization", format!("{scheme} {token}"))], certificate: None, now: NOW }
    }
    pub(super) fn proof(mut self, proof: String) -> Self {
        self.fields.push(("dpop", proof));
        self
    }
    pub(super) fn certificate(mut self, sha256: [u8; 32]) -> Self {
        self.certificate = Some(certificate(sha256));
        self
    }
    pub(super) fn at(mut self, now: u64) -> Self {
        self.now = now;
        self
    }
    pub(super) fn exchange(self) -> Result<Exchange, Refusal> {
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
    pub(super) fn passes(self) {
        let exchange = self.exchange().unwrap_or_else(|refusal| panic!("{}", refusal.reason));
        assert_eq!(exchange.principal.unwrap().user_id.as_str(), "u1");
    }
    /// The challenge that the client reads.
    #[track_caller]
    pub(super) fn fails(self, reason: &str) -> String {
        let refusal = self.exchange().err().unwrap_or_else(|| panic!("it must be refused: {reason}"));
        assert_eq!(refusal.code, Code::CredentialsInvalid);
        assert!(refusal.reason.contains(reason), "`{}` does not say `{reason}`", refusal.reason);
        let challenge = refusal.headers.iter().find(|(name, _)| name == http::header::WWW_AUTHENTICATE).unwrap();
        challenge.1.to_str().unwrap().to_owned()
    }
}

/// The public part of the client's key.
pub(super) fn jwk() -> String {
    let pem = include_str!("../../../tests/keys/p256.pub.pem");
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(text).unwrap();
    let point = &der[der.len() - 64..];
    format!(r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#, b64(&point[..32]), b64(&point[32..]))
}

pub(super) fn thumbprint() -> String {
    let jwk = jwk().replace(r#""kty":"EC","crv":"P-256""#, r#""crv":"P-256","kty":"EC""#);
    b64(Sha256::digest(jwk))
}

pub(super) fn token(cnf: &str) -> String {
    with_payload(payload(&format!(r#","cnf":{cnf}"#)))
}

pub(super) fn of_key() -> String {
    token(&format!(r#"{{"jkt":"{}"}}"#, thumbprint()))
}

pub(super) fn of_certificate() -> String {
    token(&format!(r##"{{"x5t#S256":"{}"}}"##, b64(CERTIFICATE)))
}

pub(super) fn proof_with(header: &str, claims: &str) -> String {
    forge(header, claims, Algorithm::ES256, &EncodingKey::from_ec_pem(P256_KEY).unwrap())
}

pub(super) fn good_header() -> String {
    format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{}}}"#, jwk())
}

pub(super) fn claims(token: &str, jti: &str, more: &str) -> String {
    let ath = b64(Sha256::digest(token));
    format!(r#"{{"jti":"{jti}","htm":"POST","htu":"https://api.test/pay/7","iat":{NOW},"ath":"{ath}"{more}}}"#)
}

pub(super) fn proof(token: &str, jti: &str) -> String {
    proof_with(&good_header(), &claims(token, jti, ""))
}
