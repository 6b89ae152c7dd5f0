//! Lists of revoked certificates as files hold them (RFC 5280, section 5), and whether each can answer for an authority.
//!
//! A handshake asks the first list that is of a certificate's issuer, by name, and no other: a second one, or one that another key has
//! signed, shows only when a client that was revoked gets in, or when nobody does. So both are found here, when the files are read.
//! The authorities between `client_ca` and a client are not known before it shows them: their lists are taken as they are.

use std::{collections::HashSet, path::Path};

use gapura_config::{
    fault::{Fault, Place, Severity},
    model::RevocationExpiry,
};
use rustls::{
    CertRevocationListError,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer},
    server::{ClientCertVerifierBuilder, VerifierBuilderError},
};
use x509_parser::{
    asn1_rs::{Any, BitString},
    certificate::X509Certificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
    x509::X509Name,
};

use crate::pem::{self, Unfit};

/// One of those that `client_ca` names.
pub(super) struct Authority {
    subject: Vec<u8>,
    /// SubjectPublicKeyInfo.
    key: Vec<u8>,
    name: String,
}

pub(super) struct List {
    pub(super) der: CertificateRevocationListDer<'static>,
    /// When the next one should be there, in seconds since 1970.
    pub(super) next: i64,
    /// Where it was read from.
    place: Place,
    file: String,
    issuer: Vec<u8>,
    issuer_name: String,
    part: Option<Part>,
}

/// What a list answers for that is not all of its authority's (section 5.2.5, issuing distribution point).
#[derive(Debug)]
struct Part {
    users_only: bool,
    authorities_only: bool,
    names: HashSet<String>,
}

impl Authority {
    /// None: it is no certificate.
    pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let (subject, key) = (parsed.subject(), parsed.public_key().raw.to_vec());
        Some(Self { subject: subject.as_raw().to_vec(), key, name: in_words(subject) })
    }
}

/// Of a text that an authority wrote nothing breaks a line of a log.
fn in_words(name: &X509Name<'_>) -> String {
    name.to_string().escape_debug().to_string()
}

/// The lists of a file.
pub(super) fn read(
    path: &Path,
    place: &Place,
    builder: &impl Fn() -> ClientCertVerifierBuilder,
) -> Result<Vec<List>, Unfit> {
    let file = path.display().to_string();
    let unfit = |why: &str| {
        let message = format!("`{file}` is no list of revoked certificates: {why}");
        Unfit { message, help: "name a complete list (no delta) in PEM or DER, as `openssl ca -gencrl` writes it" }
    };
    let read = pem::revocations(path)?.into_iter().map(|der| {
        let (rest, parsed) =
            CertificateRevocationList::from_der(&der).map_err(|_| unfit("it is malformed or cut off"))?;
        if !rest.is_empty() {
            return Err(unfit("other bytes follow its end"));
        }
        let next = parsed.next_update().ok_or_else(|| unfit("it does not say when the next one comes (nextUpdate)"))?;
        // What handshakes would stumble over is said here.
        builder().with_crls([der.clone()]).build().map_err(|why| unfit(refusal(&why)))?;
        let issuer = parsed.issuer();
        let (issuer, issuer_name) = (issuer.as_raw().to_vec(), in_words(issuer));
        let (next, part) = (next.timestamp(), part(&parsed));
        Ok(List { der, next, place: place.clone(), file: file.clone(), issuer, issuer_name, part })
    });
    read.collect()
}

/// The library's own words are for programmers.
fn refusal(why: &VerifierBuilderError) -> &'static str {
    let VerifierBuilderError::InvalidCrl(why) = why else { return "it is malformed" };
    match why {
        CertRevocationListError::UnsupportedDeltaCrl => "it is a delta list",
        CertRevocationListError::UnsupportedIndirectCrl => "it is of several authorities (an indirect list)",
        CertRevocationListError::UnsupportedCrlVersion => "it is not of version 2",
        CertRevocationListError::UnsupportedCriticalExtension => "it has a critical extension that is not known here",
        CertRevocationListError::UnsupportedRevocationReason => "it gives a reason that does not exist",
        CertRevocationListError::InvalidCrlNumber => "its number is malformed",
        CertRevocationListError::InvalidRevokedCertSerialNumber => "a serial number in it is malformed",
        _ => "it is malformed, or a part by reasons",
    }
}

fn part(list: &CertificateRevocationList<'_>) -> Option<Part> {
    let point = list.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => Some(point),
        _ => None,
    })?;
    let names = match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => &names[..],
        _ => &[],
    };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(Part {
        users_only: point.only_contains_user_certs,
        authorities_only: point.only_contains_ca_certs,
        names: names.iter().filter_map(uri).collect(),
    })
}

/// What is wrong with lists that are each well-formed: errors and warnings.
pub(super) fn faults(lists: &[List], authorities: &[Authority], place: &Place) -> Vec<Fault> {
    let mut faults: Vec<Fault> = (1..lists.len()).filter_map(|at| lists[at].beside(&lists[..at])).collect();
    faults.extend(lists.iter().filter_map(|list| list.of_another_key(authorities)));
    let sound = faults.iter().all(|fault| fault.severity == Severity::Warning);
    if sound && !lists.is_empty() && !authorities.is_empty() {
        faults.extend(without_list(lists, authorities, place));
    }
    faults
}

impl List {
    /// Of lists that could answer for one certificate only the first is asked.
    fn beside(&self, earlier: &[Self]) -> Option<Fault> {
        let said = |first: &Self, then: &str| {
            let (name, file) = (&self.issuer_name, &self.file);
            format!("`{file}` has another list of `{name}`, beside that of `{}` ({}): {then}", first.file, first.place)
        };
        let mut of_one = earlier.iter().filter(|first| first.issuer == self.issuer);
        if let Some(first) = of_one.clone().find(|first| overlap(first.part.as_ref(), self.part.as_ref())) {
            let message = said(first, "only the first would be asked, and who is in the second alone would be let in");
            let help =
                "keep the newest list of each authority; lists in parts must name distribution points of their own";
            return Some(Fault::at(self.place.clone(), message).help(help));
        }
        let first = of_one.find(|first| !apart(first.part.as_ref(), self.part.as_ref()))?;
        let message = said(first, "a certificate that names no distribution point is looked up in the first alone");
        let help = "see that each certificate of this authority names one, or have it publish one complete list";
        Some(Fault::warning(self.place.clone(), message).help(help))
    }

    /// It has the name of one in `client_ca`, and not its key.
    fn of_another_key(&self, authorities: &[Authority]) -> Option<Fault> {
        let mut named = authorities.iter().filter(|authority| authority.subject == self.issuer).peekable();
        named.peek()?;
        if named.any(|authority| is_signed(&self.der, &authority.key).is_some()) {
            return None;
        }
        let (file, name) = (&self.file, &self.issuer_name);
        let message = format!(
            "the list in `{file}` is not signed by `{name}` of `client_ca`: no client of this authority would be let in"
        );
        let help = "fetch it again from the authority whose certificate is in `client_ca`; SHA-1 is not accepted";
        Some(Fault::at(self.place.clone(), message).help(help))
    }

    /// It should have been replaced by now.
    pub(super) fn ended(&self, then: RevocationExpiry) -> Fault {
        let who = match then {
            RevocationExpiry::Closed => "no client of this authority is let in",
            RevocationExpiry::Open => "what was revoked since is not known",
        };
        let message = format!("the list in `{}` has ended: {who}", self.file);
        Fault::warning(self.place.clone(), message).help("write its next one to the file, and reload")
    }

    fn is_of(&self, authority: &Authority) -> bool {
        self.issuer == authority.subject && is_signed(&self.der, &authority.key).is_some()
    }
}

/// Whether both answer for different kinds of certificates.
fn apart(one: Option<&Part>, other: Option<&Part>) -> bool {
    one.zip(other).is_some_and(|(one, other)| {
        one.users_only && other.authorities_only || one.authorities_only && other.users_only
    })
}

/// Whether both answer for a certificate that says where its list is. None: it answers for all.
fn overlap(one: Option<&Part>, other: Option<&Part>) -> bool {
    match (one, other) {
        (Some(part), Some(same)) => {
            let nameless = part.names.is_empty() || same.names.is_empty();
            !apart(one, other) && (nameless || !part.names.is_disjoint(&same.names))
        }
        _ => true,
    }
}

/// Who has no list could have revoked anybody: what it has signed opens nothing.
fn without_list(lists: &[List], authorities: &[Authority], place: &Place) -> Vec<Fault> {
    let without: Vec<_> =
        authorities.iter().filter(|authority| !lists.iter().any(|list| list.is_of(authority))).collect();
    if without.len() == authorities.len() {
        let message = "no list is of an authority in `client_ca`: no client would be let in";
        let help = "name the lists that the authorities of `client_ca` publish, an empty one too";
        return vec![Fault::at(place.clone(), message).help(help)];
    }
    let warning = |authority: &&Authority| {
        let message = format!("no list is of `{}` in `client_ca`: what it has signed is refused", authority.name);
        let help = "name its list too, an empty one if nothing is revoked; or take it out of `client_ca`";
        Fault::warning(place.clone(), message).help(help)
    };
    without.iter().map(warning).collect()
}

/// Whether this key has signed the list, by the algorithms that handshakes verify with.
fn is_signed(list: &[u8], key: &[u8]) -> Option<()> {
    let list = Any::from_der(list).ok()?.1.data;
    let (after, _) = Any::from_der(list).ok()?;
    let signed = &list[..list.len() - after.len()];
    let (after, algorithm) = Any::from_der(after).ok()?;
    let (_, signature) = BitString::from_der(after).ok()?;
    let (key, of_key) = Any::from_der(Any::from_der(key).ok()?.1.data).ok()?;
    let (_, key) = BitString::from_der(key).ok()?;
    let known = aws_lc_rs::default_provider().signature_verification_algorithms.all.iter();
    let mut fitting = known.filter(|known| {
        known.signature_alg_id().as_ref() == algorithm.data && known.public_key_alg_id().as_ref() == of_key.data
    });
    fitting.any(|known| known.verify_signature(&key.data, signed, &signature.data).is_ok()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(names: &[&str], users_only: bool, authorities_only: bool) -> Option<Part> {
        Some(Part { users_only, authorities_only, names: names.iter().map(ToString::to_string).collect() })
    }

    fn list(issuer: &str, file: &str, part: Option<Part>) -> List {
        List {
            der: CertificateRevocationListDer::from(Vec::new()),
            next: 0,
            place: Place::root().key(file),
            file: file.to_owned(),
            issuer: issuer.into(),
            issuer_name: issuer.to_owned(),
            part,
        }
    }

    #[test]
    fn of_one_certificate_no_second_list_is_passed_over_in_silence() {
        let (error, warning) = ("only the first would be asked", "that names no distribution point");
        for (first, second, expected) in [
            (None, None, Some(error)),
            (None, part(&["a"], false, false), Some(error)),
            (part(&["a"], false, false), None, Some(error)),
            (part(&["a", "b"], false, false), part(&["b"], false, false), Some(error)),
            (part(&["a"], true, false), part(&["a"], false, false), Some(error)),
            // Their names are no URIs: certificates cannot be told apart by them.
            (part(&[], false, false), part(&[], false, false), Some(error)),
            (part(&["a"], false, false), part(&["b"], false, false), Some(warning)),
            (part(&["a"], true, false), part(&["a"], false, true), None),
            (part(&["a"], false, true), part(&["a"], true, false), None),
        ] {
            let case = format!("{first:?} {second:?}");
            let found = list("CN=x", "2", second).beside(&[list("CN=x", "1", first), list("CN=y", "0", None)]);
            assert_eq!(found.is_some(), expected.is_some(), "{case}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.message.contains(expected) && found.message.contains("`1`"), "{case}: {found:?}");
            }
        }
        assert_eq!(list("CN=x", "2", None).beside(&[list("CN=y", "1", None)]), None);
    }
}
