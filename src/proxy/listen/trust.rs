//! Who vouches for clients: the authorities of `tls.client_ca`, and what they have taken back (RFC 5280, certificate revocation lists).
//!
//! A handshake verifies the chain that a client shows. A connection may outlast that: it is verified once more after a reload that
//! changes authorities or lists, and where a list has ended meanwhile; so is the chain of a session that was resumed.

use std::{path::Path, sync::Arc, time::Duration};

use gapura_config::{
    fault::{Fault, Place, Severity},
    model::{ClientAuth, RevocationExpiry, Tls},
};
use parking_lot::Mutex;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};

use super::revocations::{self, Authority};
use crate::pem::{self, Unfit};

/// As one configuration has it.
pub(crate) struct Trust {
    verifier: Arc<dyn ClientCertVerifier>,
    /// SHA-256 over authorities and lists.
    digest: [u8; 32],
    /// When each list should have been replaced, in seconds since 1970, in order. Empty where that is not held against clients.
    ends: Vec<i64>,
    /// Of all lists the first, in seconds since 1970. 0: there are none, or they have no end.
    pub(crate) first_end: i64,
    /// Lists that had ended when they were read, and what else is seldom meant.
    pub(crate) warnings: Vec<Fault>,
}

/// What a verdict was given under: of one trust, after so many of its lists had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch([u8; 32], usize);

/// The chain that a client has shown, and the last verdict about it.
#[derive(Debug)]
pub(crate) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    verdict: Mutex<Option<(Epoch, bool)>>,
}

impl Trust {
    /// None: no client is asked for a certificate.
    pub(crate) fn read(tls: &Tls, now_ms: u64) -> Result<Option<Arc<Self>>, Vec<Fault>> {
        let Some(path) = &tls.client_ca else { return Ok(None) };
        let place = Place::root().key("tls");
        let authorities = authorities(path).map_err(|unfit| vec![unfit.at(place.key("client_ca"))]);
        let (roots, known, mut hash) = authorities?;
        let builder = || {
            let provider = Arc::new(aws_lc_rs::default_provider());
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider)
        };
        let (mut lists, mut faults) = (Vec::new(), Vec::new());
        for (index, path) in tls.client_crls.iter().enumerate() {
            let place = place.key("client_crls").index(index);
            match revocations::read(path, &place, &builder) {
                Ok(found) => lists.extend(found),
                Err(unfit) => faults.push(unfit.at(place)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let found = revocations::faults(&lists, &known, &place.key("client_crls"));
        let (mut warnings, faults): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|fault| fault.severity == Severity::Warning);
        if !faults.is_empty() {
            return Err(warnings.into_iter().chain(faults).collect());
        }
        let ended = lists.iter().filter(|list| list.next < seconds(now_ms));
        warnings.extend(ended.map(|list| list.ended(tls.client_crls_expired)));
        lists.iter().for_each(|list| hash.update(&list.der));
        let mut ends: Vec<i64> = lists.iter().map(|list| list.next).collect();
        ends.sort_unstable();
        let first_end = ends.first().copied().unwrap_or_default();
        let mut builder = builder().with_crls(lists.into_iter().map(|list| list.der));
        if tls.client_crls_expired == RevocationExpiry::Closed {
            builder = builder.enforce_revocation_expiration();
        } else {
            ends.clear();
        }
        if tls.client_auth == Some(ClientAuth::Optional) {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|why| vec![no_authority(path, &why).at(place.key("client_ca"))])?;
        Ok(Some(Arc::new(Self { verifier, digest: hash.finalize().into(), ends, first_end, warnings })))
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    fn epoch(&self, now_ms: u64) -> Epoch {
        Epoch(self.digest, self.ends.partition_point(|end| *end < seconds(now_ms)))
    }
}

impl Shown {
    /// `fresh`: the handshake has just verified it by this trust.
    pub(super) fn new(chain: &[CertificateDer<'_>], fresh: Option<&Trust>, now_ms: u64) -> Self {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { chain, verdict: Mutex::new(fresh.map(|trust| (trust.epoch(now_ms), true))) }
    }

    /// Whether its authorities vouch for it, as things are now.
    pub(crate) fn is_vouched_for(&self, trust: &Trust, now_ms: u64) -> bool {
        let epoch = trust.epoch(now_ms);
        let mut verdict = self.verdict.lock();
        if let Some((_, vouched)) = verdict.filter(|(under, _)| *under == epoch) {
            return vouched;
        }
        let vouched = self.chain.split_first().is_some_and(|(leaf, others)| {
            let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
            trust.verifier.verify_client_cert(leaf, others, now).is_ok()
        });
        *verdict = Some((epoch, vouched));
        vouched
    }
}

fn seconds(now_ms: u64) -> i64 {
    i64::try_from(now_ms / 1000).unwrap_or(i64::MAX)
}

fn authorities(path: &Path) -> Result<(Arc<RootCertStore>, Vec<Authority>, Sha256), Unfit> {
    let (mut roots, mut known, mut hash) = (RootCertStore::empty(), Vec::new(), Sha256::new());
    for certificate in pem::certificates(path)? {
        hash.update(&certificate);
        known.extend(Authority::read(&certificate));
        roots.add(certificate).map_err(|why| no_authority(path, &why))?;
    }
    Ok((roots.into(), known, hash))
}

fn no_authority(path: &Path, why: &dyn std::fmt::Display) -> Unfit {
    let message = format!("a certificate in `{}` cannot be an authority: {why}", path.display());
    Unfit { message, help: "name a PEM file of the authorities that sign the clients' certificates" }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
        IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
    };

    use super::*;

    /// 2026-01-01, and the day on which the list ends.
    const BEGINS_MS: u64 = 1_767_225_600_000;
    const DAY_MS: u64 = 24 * 3600 * 1000;

    /// The trust of a file, with this as the rest of its table; and a chain that it signed.
    fn trust(more: &str) -> (Arc<Trust>, Vec<CertificateDer<'static>>) {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client = params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 1, 2),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let (ca, list) =
            (path("ca.pem", authority.pem()), path("ca.crl", list.signed_by(&authority).unwrap().pem().unwrap()));
        let text = format!(r#"{{"client_ca": "{ca}", "client_crls": ["{list}"]{more}}}"#);
        let tls: Tls = serde_json::from_str(&text).unwrap();
        (Trust::read(&tls, BEGINS_MS).map_err(|_| "faults").unwrap().unwrap(), vec![client.der().clone()])
    }

    #[test]
    fn a_list_that_ends_ends_what_was_verified_before() {
        let (trust, chain) = trust("");
        assert!(trust.warnings.is_empty());
        // A session that was resumed is verified at its first request.
        for fresh in [Some(&*trust), None] {
            let shown = Shown::new(&chain, fresh, BEGINS_MS);
            for (at, vouched) in
                [(0, true), (DAY_MS - 1000, true), (DAY_MS + 1000, false), (DAY_MS * 9, false), (0, true)]
            {
                assert_eq!(shown.is_vouched_for(&trust, BEGINS_MS + at), vouched, "{at}");
            }
        }
        let shown = Shown::new(&chain, None, BEGINS_MS);
        assert!(!shown.is_vouched_for(&trust, BEGINS_MS + 2 * DAY_MS));
    }

    #[test]
    fn a_list_that_may_end_holds_as_it_is() {
        let (trust, chain) = trust(r#", "client_crls_expired": "open""#);
        let shown = Shown::new(&chain, None, BEGINS_MS);
        assert!([0, 2 * DAY_MS].into_iter().all(|at| shown.is_vouched_for(&trust, BEGINS_MS + at)));
    }

    #[test]
    fn of_another_trust_nothing_is_believed() {
        let ((one, chain), (other, _)) = (trust(""), trust(""));
        let shown = Shown::new(&chain, Some(&one), BEGINS_MS);
        assert!(shown.is_vouched_for(&one, BEGINS_MS) && !shown.is_vouched_for(&other, BEGINS_MS));
        assert!(shown.is_vouched_for(&one, BEGINS_MS));
    }
}
