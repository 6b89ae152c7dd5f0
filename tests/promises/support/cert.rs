//! Certificates of authorities, servers and clients, made for one test.

use std::path::Path;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use sha2::{Digest as _, Sha256};

/// A certificate and its key, both PEM.
pub struct Pem {
    pub cert: String,
    pub key: String,
}

impl Pem {
    /// Into files of this folder: the options by which curl shows it.
    pub fn curl_options(&self, folder: &Path, name: &str) -> [String; 4] {
        let [cert, key] = [("pem", &self.cert), ("key", &self.key)].map(|(extension, content)| {
            let path = folder.join(format!("{name}.{extension}"));
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        });
        ["--cert".into(), cert, "--key".into(), key]
    }

    /// SHA-256 of the certificate, as `x5t#S256` has it.
    pub fn x5t(&self) -> String {
        let text: String = self.cert.lines().filter(|line| !line.starts_with('-')).collect();
        URL_SAFE_NO_PAD.encode(Sha256::digest(STANDARD.decode(text).unwrap()))
    }
}

/// Signs certificates of servers and clients.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its own certificate, PEM.
    pub fn cert(&self) -> String {
        self.issuer.pem()
    }

    pub fn server(&self, names: &[&str]) -> Pem {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str) -> Pem {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A client with these names and this subject, and no others.
    pub fn client_as(&self, names: Vec<SanType>, subject: &[(DnType, &str)]) -> Pem {
        let mut params = CertificateParams::default();
        params.distinguished_name = Default::default();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pem { cert: cert.pem(), key: key.serialize_pem() }
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Pem {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, names[0].clone());
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Pem { cert: cert.pem(), key: key.serialize_pem() }
    }
}
