//! `[mtls.NAME]`: callers by their client certificates.

use schemars::JsonSchema;
use serde::Deserialize;

/// Callers who prove themselves with the certificate of their TLS connection. One of `user_id` and `principals`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mtls {
    /// The part of the certificate that is the user id. Every certificate of `tls.client_ca` is then a caller.
    pub user_id: Option<CertificateName>,
    /// The part of the certificate that is the e-mail address; a certificate without it has none.
    pub email: Option<CertificateName>,
    /// What a route may ask for in `roles`, for every caller.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What a route may ask for in `permissions`, for every caller.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Only these certificates.
    #[serde(default)]
    pub principals: Vec<MtlsPrincipal>,
}

/// A name in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateName {
    /// The DNS name among the subject's alternative names, in lower case.
    SanDns,
    /// The e-mail address among them.
    SanEmail,
    /// The URI among them: a SPIFFE id.
    SanUri,
    /// The common name of the subject.
    SubjectCn,
    /// The whole subject, as RFC 4514 writes it: `CN=billing,O=Example`.
    Subject,
    /// Lower-case hex SHA-256 of the public key (SubjectPublicKeyInfo): it stays through renewals that keep the key.
    SpkiSha256,
}

impl CertificateName {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SanDns => "san_dns",
            Self::SanEmail => "san_email",
            Self::SanUri => "san_uri",
            Self::SubjectCn => "subject_cn",
            Self::Subject => "subject",
            Self::SpkiSha256 => "spki_sha256",
        }
    }
}

/// A certificate, told by one of its names, and whom it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MtlsPrincipal {
    /// Its only DNS name.
    pub san_dns: Option<String>,
    /// Its only e-mail address.
    pub san_email: Option<String>,
    /// Its only URI.
    pub san_uri: Option<String>,
    /// Its only common name.
    pub subject_cn: Option<String>,
    /// Its subject: `CN=billing,O=Example`.
    pub subject: Option<String>,
    /// Of its public key, lower-case hex.
    #[schemars(extend("format" = "spki-sha256"))]
    pub spki_sha256: Option<String>,
    /// The user that the certificate stands for.
    pub user_id: String,
    /// The e-mail address of that user; body encryption needs it.
    pub email: Option<String>,
    /// What a route may ask for in `roles`, beside those of the table.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What a route may ask for in `permissions`, beside those of the table.
    #[serde(default)]
    pub permissions: Vec<String>,
}

impl MtlsPrincipal {
    /// What it is told by: of a sound one exactly one.
    pub fn told_by(&self) -> impl Iterator<Item = (CertificateName, &str)> {
        let names = [
            (CertificateName::SanDns, &self.san_dns),
            (CertificateName::SanEmail, &self.san_email),
            (CertificateName::SanUri, &self.san_uri),
            (CertificateName::SubjectCn, &self.subject_cn),
            (CertificateName::Subject, &self.subject),
            (CertificateName::SpkiSha256, &self.spki_sha256),
        ];
        names.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}
