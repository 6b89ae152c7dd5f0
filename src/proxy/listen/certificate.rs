//! What a client's certificate says, read once for each connection.
//!
//! The handshake has verified it; what is left is to read names without doubt. Text in an encoding that readers take differently
//! (TeletexString, BMPString), or that an extension holds in a broken form, is no name here.

use gapura_filters::contract::ClientCertificate;
use sha2::{Digest as _, Sha256};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::asn1_rs::{Oid, Tag},
    extensions::GeneralName,
    prelude::FromDer,
    x509::{AttributeTypeAndValue, X509Name},
};

/// None: it cannot be read, though rustls has. Then nobody is let in with it.
pub(super) fn read(der: &[u8]) -> Option<ClientCertificate> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let subject = certificate.subject();
    let mut read = ClientCertificate {
        sha256: Sha256::digest(der).into(),
        spki_sha256: Sha256::digest(certificate.public_key().raw).into(),
        valid: (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp()),
        subject: written(subject),
        doubtful: false,
        common_names: Vec::new(),
        dns: Vec::new(),
        emails: Vec::new(),
        uris: Vec::new(),
    };
    match common_names(subject) {
        Some(names) => read.common_names = names,
        None => read.doubtful = true,
    }
    // Of an extension that stands twice, or is broken, another reader may take what this one does not.
    let Ok(names) = certificate.subject_alternative_name() else {
        read.doubtful = true;
        return Some(read);
    };
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => read.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => read.emails.push((*name).to_owned()),
            GeneralName::URI(name) => read.uris.push((*name).to_owned()),
            GeneralName::Invalid(..) => read.doubtful = true,
            _ => {}
        }
    }
    Some(read)
}

/// The text of a name's part.
fn text<'a>(part: &'a AttributeTypeAndValue<'_>) -> Option<&'a str> {
    let value = part.attr_value();
    let plain = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String].contains(&value.tag());
    plain.then(|| str::from_utf8(value.data).ok()).flatten()
}

/// None: one of them cannot be read.
fn common_names(subject: &X509Name<'_>) -> Option<Vec<String>> {
    subject.iter_common_name().map(|part| text(part).map(str::to_owned)).collect()
}

/// The short names that RFC 4514, section 3, knows, and the three that OpenSSL adds and certificates have.
const SHORT: [(&[u64], &str); 12] = [
    (&[2, 5, 4, 3], "CN"),
    (&[2, 5, 4, 5], "serialNumber"),
    (&[2, 5, 4, 6], "C"),
    (&[2, 5, 4, 7], "L"),
    (&[2, 5, 4, 8], "ST"),
    (&[2, 5, 4, 9], "street"),
    (&[2, 5, 4, 10], "O"),
    (&[2, 5, 4, 11], "OU"),
    (&[2, 5, 4, 12], "title"),
    (&[0, 9, 2342, 19200300, 100, 1, 25], "DC"),
    (&[0, 9, 2342, 19200300, 100, 1, 1], "UID"),
    (&[1, 2, 840, 113549, 1, 9, 1], "emailAddress"),
];

fn short(kind: &Oid<'_>) -> Option<&'static str> {
    SHORT.iter().find(|(oid, _)| kind.iter().is_some_and(|arcs| arcs.eq(oid.iter().copied()))).map(|(_, name)| *name)
}

/// RFC 4514: the last part first, joined by `,`; parts of one level joined by `+`. As `openssl x509 -noout -subject -nameopt
/// RFC2253,-esc_msb` prints it. None: a part is of a kind, or in an encoding, that is not written here without doubt.
fn written(subject: &X509Name<'_>) -> Option<String> {
    let levels = subject.iter_rdn().collect::<Vec<_>>();
    let mut all = Vec::with_capacity(levels.len());
    for level in levels.into_iter().rev() {
        let parts = level.iter().map(|part| Some(format!("{}={}", short(part.attr_type())?, escaped(text(part)?)?)));
        all.push(parts.collect::<Option<Vec<_>>>()?.join("+"));
    }
    (!all.is_empty()).then(|| all.join(","))
}

/// RFC 4514, section 2.4. None: a control character.
fn escaped(text: &str) -> Option<String> {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        if c.is_control() {
            return None;
        }
        let outer = c == ' ' && (at == 0 || at == last) || c == '#' && at == 0;
        if outer || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, string::BmpString};

    use super::*;

    fn certificate(names: Vec<SanType>, subject: &[(DnType, DnValue)]) -> Option<ClientCertificate> {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.subject_alt_names = names;
        read(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.into())
    }

    #[test]
    fn names_are_read_as_they_stand() {
        let names = vec![
            SanType::DnsName("a.test".try_into().unwrap()),
            SanType::DnsName("b.test".try_into().unwrap()),
            SanType::Rfc822Name("a@b.test".try_into().unwrap()),
            SanType::URI("spiffe://test/a".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
        let subject = [(DnType::CommonName, utf8("billing")), (DnType::OrganizationName, utf8("A, B + C"))];
        let read = certificate(names, &subject).unwrap();
        assert_eq!(read.dns, ["a.test", "b.test"]);
        assert_eq!((&read.emails[..], &read.uris[..]), (&["a@b.test".into()][..], &["spiffe://test/a".into()][..]));
        assert_eq!(read.common_names, ["billing"]);
        assert_eq!(read.subject.as_deref(), Some("O=A\\, B \\+ C,CN=billing"));
        assert!(read.valid.0 < read.valid.1);
    }

    #[test]
    fn one_subject_is_never_written_as_another() {
        let one = |text: &str| certificate(Vec::new(), &[(DnType::CommonName, utf8(text))]).unwrap().subject;
        assert_eq!(one("a,O=b").as_deref(), Some("CN=a\\,O=b"));
        assert_eq!(one(" #a ").as_deref(), Some("CN=\\ #a\\ "));
        assert_eq!(one("#a").as_deref(), Some("CN=\\#a"));
        assert_eq!(one("Zo\u{eb}").as_deref(), Some("CN=Zo\u{eb}"));
        for doubtful in ["a\0b", "a\nb", "\u{85}"] {
            assert_eq!(one(doubtful), None, "{doubtful:?}");
        }
        assert_eq!(certificate(Vec::new(), &[]).unwrap().subject, None);
        let custom = DnType::CustomDnType(vec![1, 2, 3, 4]);
        assert_eq!(certificate(Vec::new(), &[(custom, utf8("a"))]).unwrap().subject, None);
    }

    #[test]
    fn encodings_that_are_read_in_two_ways_are_no_names() {
        let wide = DnValue::BmpString(BmpString::try_from("admin").unwrap());
        assert!(certificate(Vec::new(), &[(DnType::OrganizationName, wide.clone())]).unwrap().subject.is_none());
        assert!(certificate(Vec::new(), &[(DnType::CommonName, wide)]).unwrap().doubtful);
        assert!(read(b"").is_none() && read(b"\x30\x00").is_none());
    }

    #[test]
    fn no_changed_byte_panics() {
        let names =
            vec![SanType::DnsName("a.test".try_into().unwrap()), SanType::URI("spiffe://a".try_into().unwrap())];
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        for at in 0..made.der().len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = made.der().to_vec();
                changed[at] ^= change;
                let _ = read(&changed);
                let _ = read(&changed[..at]);
            }
        }
    }
}
