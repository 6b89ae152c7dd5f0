//! Demonstrating proof of possession (RFC 9449): a token that is bound to a key passes only beside a proof, made with that key for
//! this very request, and each proof passes once.

use std::{sync::Arc, time::Duration};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, JwtAlgorithm},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prometheus::IntCounter;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Denial, Reason, Requested,
    jwt::{Proof, proof_algorithms},
    nonce::{Age, Nonces},
};
use crate::{
    contract::{Now, Services, advice},
    replay::{Mark, ReplayId, ReplayStore},
    target::canonical_path,
};

pub(super) const DPOP: HeaderName = HeaderName::from_static("dpop");
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// `[dpop]`, compiled. One for all routes.
pub struct Dpop {
    algorithms: Vec<JwtAlgorithm>,
    max_age: Duration,
    leeway: Duration,
    nonces: Option<Nonces>,
    replays: ReplayStore,
    accepted: IntCounter,
    invalid: IntCounter,
    replayed: IntCounter,
    nonce_asked: IntCounter,
}

/// A proof that is good but for having been used before, which is asked last: to remember it costs room.
#[derive(Debug)]
pub(super) struct Unused {
    id: ReplayId,
    keep: Duration,
    /// For the client's next proof.
    pub(super) nonce: Option<HeaderValue>,
}

/// RFC 9449, sections 7.1 and 9: what the challenge calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Token,
    Proof,
    Nonce,
}

impl Dpop {
    pub fn build(config: &model::Dpop, services: &Services) -> Result<Self, Vec<Fault>> {
        let result = |result: &str| services.metrics.dpop_proofs.with_label_values(&[result]);
        let nonces = match (&config.nonce_key, config.nonce) {
            (_, false) => None,
            (None, true) => Some(Nonces::new(&services.own_secret[..])),
            (Some(reference), true) => {
                let place = Place::root().key("dpop").key("nonce_key");
                let secret = services.keys.read(reference).map_err(|why| {
                    let help = advice(reference, &why, "set the variable or name a readable file that holds it");
                    vec![Fault::at(place.clone(), why).help(help)]
                })?;
                if secret.bytes().len() < MIN_KEY {
                    let fault = Fault::at(place, format!("`{reference}` has fewer than {MIN_KEY} bytes"));
                    return Err(vec![fault.help("`openssl rand -hex 32` makes one")]);
                }
                Some(Nonces::new(secret.bytes()))
            }
        };
        Ok(Self {
            algorithms: config.algorithms.clone(),
            max_age: config.max_age.get(),
            leeway: config.leeway.get(),
            nonces,
            replays: services.replays.clone(),
            accepted: result("accepted"),
            invalid: result("invalid"),
            replayed: result("replayed"),
            nonce_asked: result("nonce"),
        })
    }

    /// RFC 9449, section 4.3, whole: `token` is the access token, `bound_to` the thumbprint that it names.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        token: &[u8],
        bound_to: &[u8; 32],
        request: Requested<'_>,
    ) -> Result<Unused, Denial> {
        let now_ms = request.exchange.now.unix_ms;
        let proof = self.proof(headers, token, bound_to, request);
        let proof = proof.map_err(|why| self.wrong(Wrong::Proof, format!("the DPoP proof: {why}").into()))?;
        let age = self
            .nonces
            .as_ref()
            .map_or(Age::Fresh, |nonces| proof.nonce.as_deref().map_or(Age::Ended, |nonce| nonces.age(nonce, now_ms)));
        if age == Age::Ended {
            return Err(self.wrong(Wrong::Nonce, "the DPoP proof has no nonce, or one that is over".into()));
        }
        let mut hash = Sha256::new();
        hash.update(b"dpop\0");
        hash.update(proof.thumbprint);
        hash.update(proof.jti.as_bytes());
        let mut id = ReplayId::default();
        id.copy_from_slice(&hash.finalize()[..16]);
        // From its `iat`, which may be ahead, to the last instant at which it would be taken.
        let keep = self.max_age + self.leeway + self.leeway + Duration::from_secs(1);
        Ok(Unused { id, keep, nonce: (age == Age::Old).then(|| self.next_nonce(now_ms)).flatten() })
    }

    fn proof(
        &self,
        headers: &HeaderMap,
        token: &[u8],
        bound_to: &[u8; 32],
        Requested { method, exchange }: Requested<'_>,
    ) -> Result<Proof, Reason> {
        let mut values = headers.get_all(DPOP).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err("there is none, or more than one".into());
        };
        let proof = Proof::read(value.as_bytes(), &self.algorithms)?;
        if !bool::from(proof.thumbprint.ct_eq(bound_to)) {
            return Err("it is made with another key than the token's".into());
        }
        if !bool::from(Sha256::digest(token).as_slice().ct_eq(&proof.ath)) {
            return Err("it is for another token".into());
        }
        let (method, target) = match &exchange.sent {
            Some((method, target)) => (method, target),
            None => (method, &exchange.target),
        };
        if proof.htm != method.as_str() {
            return Err("it is for another method".into());
        }
        let Some((https, authority, path)) = parts(&proof.htu) else { return Err("its `htu` is no http URI".into()) };
        let origin = &exchange.origin;
        let here = normal_authority(origin.authority.to_str().unwrap_or_default(), origin.https);
        if https != origin.https || authority != here || here.is_empty() {
            return Err("it is for another host".into());
        }
        if canonical_path(path).ok().as_deref() != Some(target.path()) {
            return Err("it is for another path".into());
        }
        let milliseconds = |period: Duration| i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        let now = i64::try_from(exchange.now.unix_ms).unwrap_or(i64::MAX);
        if proof.iat_ms > now.saturating_add(milliseconds(self.leeway)) {
            return Err("it is from the future".into());
        }
        if proof.iat_ms < now.saturating_sub(milliseconds(self.max_age)) {
            return Err("it is too old".into());
        }
        Ok(proof)
    }

    /// Of two equal proofs at once one is used, whichever instance they reach.
    pub(super) async fn spend(&self, proof: &Unused, now: Now) -> Result<(), Denial> {
        match self.replays.check_and_mark(proof.id, proof.keep, now).await {
            Mark::New => {
                self.accepted.inc();
                Ok(())
            }
            Mark::Seen => {
                self.replayed.inc();
                Err(Denial::Unbound(Wrong::Proof, "the DPoP proof was used before".into()))
            }
            Mark::Refused(why) => Err(Denial::Unready(why.into())),
        }
    }

    pub(super) fn wrong(&self, what: Wrong, why: Reason) -> Denial {
        if what == Wrong::Nonce {
            self.nonce_asked.inc()
        } else {
            self.invalid.inc()
        }
        Denial::Unbound(what, why)
    }

    pub(super) fn next_nonce(&self, now_ms: u64) -> Option<HeaderValue> {
        self.nonces.as_ref().map(|nonces| nonces.make(now_ms))
    }

    /// RFC 9449, section 7.1.
    pub(super) fn challenge(&self, wrong: Option<Wrong>) -> HeaderValue {
        let error = match wrong {
            None => "",
            Some(Wrong::Token) => ", error=\"invalid_token\"",
            Some(Wrong::Proof) => ", error=\"invalid_dpop_proof\"",
            Some(Wrong::Nonce) => ", error=\"use_dpop_nonce\"",
        };
        let text = format!("DPoP realm=\"gapura\", algs=\"{}\"{error}", proof_algorithms(&self.algorithms));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("DPoP"))
    }

    pub(super) fn explain(&self) -> String {
        let nonce = if self.nonces.is_some() { ", with a nonce" } else { "" };
        format!("DPoP proofs by {}, at most {:?} old{nonce}", proof_algorithms(&self.algorithms), self.max_age)
    }
}

const MIN_KEY: usize = 32;

/// Scheme, authority and path of an `htu`; what stands behind the path says nothing (RFC 9449, section 4.3, number 9).
fn parts(htu: &str) -> Option<(bool, String, &str)> {
    let (scheme, rest) = htu.split_once("://")?;
    let https = scheme.eq_ignore_ascii_case("https");
    if !https && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    (!authority.contains('@')).then(|| (https, normal_authority(authority, https), path))
}

/// RFC 3986, sections 6.2.2.1 and 6.2.3: lower case, and without the scheme's own port.
fn normal_authority(authority: &str, https: bool) -> String {
    let authority = authority.to_ascii_lowercase();
    let port = if https { ":443" } else { ":80" };
    match authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')) {
        Some(host) => host.to_owned(),
        None => authority,
    }
}

/// Where there is none, a token that is bound to a key is refused.
pub(super) type MaybeDpop = Option<Arc<Dpop>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_htu_is_compared_by_what_it_names() {
        for (htu, https, authority, path) in [
            ("https://API.test/a", true, "api.test", "/a"),
            ("HTTPS://api.test:443/a?x=/b#c", true, "api.test", "/a"),
            ("http://api.test:80", false, "api.test", "/"),
            ("http://api.test:443/", false, "api.test:443", "/"),
            ("https://[::1]:8443/%7Ea", true, "[::1]:8443", "/%7Ea"),
            ("https://api.test?x", true, "api.test", "/"),
        ] {
            assert_eq!(parts(htu), Some((https, authority.to_owned(), path)), "{htu}");
        }
        for htu in ["", "/a", "api.test/a", "ftp://api.test/a", "https:/api.test/a", "https://u@api.test/a"] {
            assert_eq!(parts(htu), None, "{htu}");
        }
    }
}
