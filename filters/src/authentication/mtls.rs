//! Callers by the certificate of their connection: `[mtls.NAME]`, compiled.
//!
//! The handshake has proved that the client holds the key of a certificate that `tls.client_ca` signed. Here it is only said who
//! that is; a certificate that two readers could take for two callers is nobody's.

use std::{collections::HashMap, fmt, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model::{self, CertificateName},
};

use super::Reason;
use crate::contract::{ClientCertificate, Principal, UserId};

/// One `[mtls.NAME]`. Built once per policy, shared by its routes.
pub struct MtlsMethod {
    /// `mtls.NAME`
    name: Arc<str>,
    known: Known,
    roles: Vec<String>,
    permissions: Vec<String>,
}

/// Who a certificate is.
enum Known {
    /// Every one: the user id and the e-mail address stand in it.
    Each { user_id: CertificateName, email: Option<CertificateName> },
    /// These alone; the kinds of name that the list uses.
    Listed { kinds: Vec<CertificateName>, principals: HashMap<(CertificateName, String), Arc<Principal>> },
}

impl MtlsMethod {
    /// Identities that no header could carry are faults, each at its place.
    pub(super) fn build(name: &str, config: &model::Mtls) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("mtls").key(name);
        let name: Arc<str> = format!("mtls.{name}").into();
        let known = match config.user_id.filter(|_| config.principals.is_empty()) {
            Some(user_id) => Known::Each { user_id, email: config.email },
            None => listed(&name, config, &place)?,
        };
        let method = Self { name, known, roles: config.roles.clone(), permissions: config.permissions.clone() };
        let anyone = method.caller(UserId::string("anyone"), None);
        anyone.checked().map_err(|unfit| vec![Fault::at(place.key(unfit.0), format!("{unfit}"))])?;
        Ok(method)
    }

    fn caller(&self, user_id: UserId, email: Option<String>) -> Principal {
        Principal {
            method: Arc::clone(&self.name),
            user_id,
            email,
            roles: self.roles.clone(),
            permissions: self.permissions.clone(),
            api_key: None,
            token_id: None,
            limits: Default::default(),
            claims: Default::default(),
        }
    }

    /// The caller. Nothing here is a guess: who has such a certificate got it from the operator's own authority.
    pub(super) fn principal(&self, certificate: &ClientCertificate, now_ms: u64) -> Result<Arc<Principal>, Reason> {
        if !certificate.holds(now_ms) {
            return Err("the certificate has expired since the connection began, or does not hold yet".into());
        }
        match &self.known {
            Known::Each { user_id, email } => {
                let user_id = certificate.only(*user_id).map_err(|why| format!("{why}: {}", user_id.name()))?;
                // Absent is no e-mail address; more than one is a doubt, as it is for the user id.
                let email = match email {
                    Some(part) if has_any(certificate, *part) => {
                        Some(certificate.only(*part).map_err(|why| format!("{why}: {}", part.name()))?.into_owned())
                    }
                    _ => None,
                };
                let caller = self.caller(UserId::string(user_id), email);
                caller.checked().map(Arc::new).map_err(|unfit| format!("the certificate's {unfit}").into())
            }
            Known::Listed { kinds, principals } => {
                let told = |kind: &CertificateName| {
                    let name = certificate.only(*kind).ok()?;
                    principals.get(&(*kind, name.into_owned()))
                };
                let mut found = kinds.iter().filter_map(told);
                match (found.next(), found.next()) {
                    (None, _) => Err("the certificate is none of the listed ones".into()),
                    (Some(caller), None) => Ok(Arc::clone(caller)),
                    (Some(_), Some(_)) => Err("the certificate is two of the listed ones".into()),
                }
            }
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// `mtls.services: user id from san_uri, roles service`
    pub(super) fn explain(&self) -> String {
        let mut text = match &self.known {
            Known::Each { user_id, email } => {
                let email = email.map(|part| format!(", email from {}", part.name())).unwrap_or_default();
                format!("{}: any client certificate, user id from {}{email}", self.name, user_id.name())
            }
            Known::Listed { kinds, principals } => {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                format!("{}: {} client certificates by {}", self.name, principals.len(), kinds.join(", "))
            }
        };
        for (what, granted) in [("roles", &self.roles), ("permissions", &self.permissions)] {
            if !granted.is_empty() {
                text += &format!(", {what} {}", granted.join(" "));
            }
        }
        text
    }
}

fn has_any(certificate: &ClientCertificate, part: CertificateName) -> bool {
    match part {
        CertificateName::SanEmail => !certificate.emails.is_empty(),
        CertificateName::SubjectCn => !certificate.common_names.is_empty(),
        _ => true,
    }
}

fn listed(name: &Arc<str>, config: &model::Mtls, place: &Place) -> Result<Known, Vec<Fault>> {
    let (mut kinds, mut principals, mut faults) = (Vec::new(), HashMap::new(), Vec::new());
    for (at, entry) in config.principals.iter().enumerate() {
        let granted = |own: &[String], all: &[String]| {
            let mut granted = all.to_vec();
            granted.extend(own.iter().filter(|item| !all.contains(item)).cloned());
            granted
        };
        let caller = Principal {
            method: Arc::clone(name),
            user_id: UserId::string(&entry.user_id),
            email: entry.email.clone(),
            roles: granted(&entry.roles, &config.roles),
            permissions: granted(&entry.permissions, &config.permissions),
            api_key: None,
            token_id: None,
            limits: Default::default(),
            claims: Default::default(),
        };
        let caller = match caller.checked() {
            Ok(caller) => Arc::new(caller),
            Err(unfit) => {
                let key = if unfit.0 == "user id" { "user_id" } else { unfit.0 };
                faults.push(Fault::at(place.key("principals").index(at).key(key), format!("{unfit}")));
                continue;
            }
        };
        for (kind, text) in entry.told_by() {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
            let text = if kind == CertificateName::SanDns { text.to_ascii_lowercase() } else { text.to_owned() };
            principals.insert((kind, text), Arc::clone(&caller));
        }
    }
    if faults.is_empty() { Ok(Known::Listed { kinds, principals }) } else { Err(faults) }
}

impl fmt::Debug for MtlsMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explain())
    }
}
