//! The certificate that a client showed in its TLS handshake.

use std::borrow::Cow;

use gapura_config::model::CertificateName;

/// A client's certificate, read once for each connection. The handshake verified its chain against `tls.client_ca`, and that
/// the client holds its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Of the whole certificate in DER: the `x5t#S256` of RFC 8705.
    pub sha256: [u8; 32],
    /// Of its SubjectPublicKeyInfo in DER.
    pub spki_sha256: [u8; 32],
    /// While it holds, in seconds since 1970, both included.
    pub valid: (i64, i64),
    /// Some name in it cannot be read without doubt: then none is believed.
    pub doubtful: bool,
    /// RFC 4514. None: it has none, or one that cannot be written without doubt.
    pub subject: Option<String>,
    pub common_names: Vec<String>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

impl ClientCertificate {
    /// Asked for each request: a connection, or the resumption of a session, may outlast the certificate.
    pub fn holds(&self, now_ms: u64) -> bool {
        let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        (self.valid.0..=self.valid.1).contains(&now)
    }

    /// The one name of this kind. Of two, which one is meant would be anyone's guess.
    pub fn only(&self, part: CertificateName) -> Result<Cow<'_, str>, &'static str> {
        if self.doubtful && part != CertificateName::SpkiSha256 {
            return Err("the certificate has names that cannot be read");
        }
        let listed = match part {
            CertificateName::SanDns => &self.dns,
            CertificateName::SanEmail => &self.emails,
            CertificateName::SanUri => &self.uris,
            CertificateName::SubjectCn => &self.common_names,
            CertificateName::Subject => {
                return self.subject.as_deref().map(Cow::Borrowed).ok_or("the certificate has no readable subject");
            }
            CertificateName::SpkiSha256 => return Ok(hex(&self.spki_sha256).into()),
        };
        match listed.as_slice() {
            [] => Err("the certificate has no such name"),
            // RFC 4343: names of the DNS are compared without regard to case.
            [one] if part == CertificateName::SanDns => Ok(one.to_ascii_lowercase().into()),
            [one] => Ok(one.into()),
            _ => Err("the certificate has more than one such name"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_names_none_is_taken() {
        let certificate = ClientCertificate {
            sha256: [1; 32],
            spki_sha256: [0xa5; 32],
            valid: (10, 20),
            doubtful: false,
            subject: None,
            common_names: vec!["a".into()],
            dns: vec!["API.Example.com".into()],
            emails: Vec::new(),
            uris: vec!["spiffe://a".into(), "spiffe://b".into()],
        };
        assert_eq!(certificate.only(CertificateName::SubjectCn), Ok("a".into()));
        assert_eq!(certificate.only(CertificateName::SanDns), Ok("api.example.com".into()));
        assert_eq!(certificate.only(CertificateName::SpkiSha256), Ok("a5".repeat(32).into()));
        for part in [CertificateName::SanEmail, CertificateName::SanUri, CertificateName::Subject] {
            assert!(certificate.only(part).is_err(), "{part:?}");
        }
        let doubtful = ClientCertificate { doubtful: true, ..certificate.clone() };
        assert!(doubtful.only(CertificateName::SubjectCn).is_err());
        assert!(doubtful.only(CertificateName::SpkiSha256).is_ok());
        for (now_ms, holds) in [(9_999, false), (10_000, true), (20_999, true), (21_000, false), (u64::MAX, false)] {
            assert_eq!(certificate.holds(now_ms), holds, "{now_ms}");
        }
    }
}
