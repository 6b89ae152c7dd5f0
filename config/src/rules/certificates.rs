//! Callers by their client certificates.

use std::collections::HashMap;

use super::{Rules, at, callers};
use crate::{
    fault::{Fault, Place},
    model::{CertificateName, Mtls, MtlsPrincipal},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    rules.names("mtls", &config.mtls);
    for (name, method) in &config.mtls {
        let table = at(&["mtls", name]);
        authority(rules, &table, &format!("`[mtls.{name}]` takes"));
        who(rules, &table, name, method);
        if let Some(part) = method.email.filter(|part| !may_be_email(*part)) {
            let message = format!("`{}` of a certificate is no e-mail address", part.name());
            rules.add(Fault::at(table.key("email"), message).help("write \"san_email\""));
        }
        granted(rules, &table, &method.roles, &method.permissions);
        told_apart(rules, &table.key("principals"), &method.principals);
        for (i, principal) in method.principals.iter().enumerate() {
            one(rules, &table.key("principals").index(i), principal);
        }
    }
}

/// Without authorities nobody verifies a certificate, and no client is asked for one.
pub(super) fn authority(rules: &mut Rules<'_>, place: &Place, who: &str) {
    let key = at(&["tls", "client_ca"]);
    let has = rules.config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if !has && rules.sound(&key) && rules.written(&at(&["tls"])) {
        let message = format!("{who} client certificates, and there is no `tls.client_ca` to verify them by");
        rules.add(Fault::at(place.clone(), message).on_key().help("add `client_ca = \"clients.pem\"` to `[tls]`"));
    }
}

fn who(rules: &mut Rules<'_>, table: &Place, name: &str, method: &Mtls) {
    if !rules.sound_keys(table, &["user_id"]) || !rules.written(&table.key("principals")) {
        return;
    }
    match (method.user_id.is_some(), method.principals.is_empty()) {
        (false, true) => {
            let fault = Fault::at(table.clone(), format!("`[mtls.{name}]` does not say who a certificate is")).on_key();
            rules
                .add(fault.help(
                    "add `user_id = \"san_uri\"` for every certificate of `tls.client_ca`, or list `principals`",
                ));
        }
        (true, false) => {
            let fault = Fault::at(table.key("user_id"), "`principals` say who each certificate is already").on_key();
            rules.add(
                fault.help("keep `user_id` for every certificate of `tls.client_ca`, or `principals` for these alone"),
            );
        }
        _ => {}
    }
}

fn may_be_email(part: CertificateName) -> bool {
    matches!(part, CertificateName::SanEmail | CertificateName::SubjectCn)
}

fn granted(rules: &mut Rules<'_>, table: &Place, roles: &[String], permissions: &[String]) {
    for (key, items) in [("roles", roles), ("permissions", permissions)] {
        callers::granted(rules, &table.key(key), items);
    }
}

const NAMES: [&str; 6] = ["san_dns", "san_email", "san_uri", "subject_cn", "subject", "spki_sha256"];

fn one(rules: &mut Rules<'_>, place: &Place, principal: &MtlsPrincipal) {
    let told: Vec<CertificateName> = principal.told_by().map(|(part, _)| part).collect();
    match told.as_slice() {
        [] if rules.sound_keys(place, &NAMES) => {
            let fault = Fault::at(place.clone(), "this entry does not say which certificate it is for");
            rules.add(
                fault.help("add one of `san_dns`, `san_email`, `san_uri`, `subject_cn`, `subject`, `spki_sha256`"),
            );
        }
        [first, others @ ..] => {
            for other in others {
                let message = format!("`{}` and `{}` both say which certificate this is", first.name(), other.name());
                rules.add(Fault::at(place.key(other.name()), message).on_key().help("keep one of the two"));
            }
        }
        [] => {}
    }
    for (part, text) in principal.told_by() {
        callers::label(rules, place.key(part.name()), text);
    }
    callers::label(rules, place.key("user_id"), &principal.user_id);
    if let Some(email) = &principal.email {
        callers::label(rules, place.key("email"), email);
    }
    granted(rules, place, &principal.roles, &principal.permissions);
}

fn told_apart(rules: &mut Rules<'_>, list: &Place, principals: &[MtlsPrincipal]) {
    let mut seen: HashMap<(CertificateName, String), Place> = HashMap::new();
    for (i, principal) in principals.iter().enumerate() {
        for told in principal.told_by() {
            let place = list.index(i).key(told.0.name());
            // RFC 4343: names of the DNS are one whatever their case.
            let text = if told.0 == CertificateName::SanDns { told.1.to_ascii_lowercase() } else { told.1.to_owned() };
            let told = (told.0, text);
            if let Some(first) = seen.get(&told) {
                let message = format!("another entry is for this certificate{}", rules.line(first));
                rules.add(Fault::at(place, message).help("one certificate is one caller: remove one"));
            } else if rules.sound(&place) {
                seen.insert(told, place);
            }
        }
    }
}
