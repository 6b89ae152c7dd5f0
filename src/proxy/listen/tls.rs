//! TLS of the https listeners: certificates, their choice by SNI, client certificates.

use std::{fmt::Write as _, path::Path, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model::{ClientAuth, Tls, TlsVersion},
};
use rustls::{
    RootCertStore, ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

/// A certificate made at start. It outlives reloads: clients that trust it would otherwise be lost.
pub(crate) struct SelfSigned(Arc<CertifiedKey>);

/// Every certificate, in the order of the file.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl SelfSigned {
    /// For development: `localhost` and the loopback addresses.
    pub(crate) fn make() -> Result<Self, String> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let made =
            rcgen::generate_simple_self_signed(names).map_err(|why| format!("no certificate can be made: {why}"))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let key = CertifiedKey::from_der(vec![made.cert.der().clone()], key, &aws_lc_rs::default_provider());
        key.map(|key| Self(Arc::new(key))).map_err(|why| format!("the certificate made at start does not fit: {why}"))
    }

    /// SHA-256 over the certificate, as browsers and `openssl x509 -fingerprint` show it.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::with_capacity(32 * 3);
        let digest = Sha256::digest(self.0.cert.first().map(AsRef::<[u8]>::as_ref).unwrap_or_default());
        for (at, byte) in digest.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            // Writing into a String does not fail.
            let _ = write!(text, "{colon}{byte:02X}");
        }
        text
    }
}

/// The configuration of the https listeners, with every fault that its files have.
pub(crate) fn build(tls: &Tls, self_signed: Option<&SelfSigned>) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    let place = Place::root().key("tls");
    let mut faults = Vec::new();
    let mut certificates = Vec::new();
    let provider = aws_lc_rs::default_provider();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        match read_certificate(&certificate.cert, &certificate.key, &provider) {
            Ok(key) => certificates.push(Arc::new(key)),
            Err((key, message)) => {
                faults.push(Fault::at(place.key("certificates").index(index).key(key), message));
            }
        }
    }
    certificates.extend(self_signed.map(|made| Arc::clone(&made.0)));
    let verifier = match &tls.client_ca {
        None => None,
        Some(path) => {
            let required = tls.client_auth != Some(ClientAuth::Optional);
            client_verifier(path, required).map_err(|why| faults.push(Fault::at(place.key("client_ca"), why))).ok()
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.into()).with_protocol_versions(versions);
    let builder = builder.map_err(|why| vec![Fault::at(place.key("min_version"), why.to_string())])?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets instead of a cache of sessions: resumption then costs no memory, however many clients there are. Their keys
    // are new with every reload, so that no ticket outlives the `client_ca` which it was given under.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|why| vec![Fault::at(place.clone(), why.to_string())])?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Names the key of the file's entry that is at fault.
fn read_certificate(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, (&'static str, String)> {
    let chain = read_chain(cert).map_err(|why| ("cert", why))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|why| ("key", format!("no private key can be read from `{}`: {why}", key.display())))?;
    CertifiedKey::from_der(chain, private, provider).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => {
            ("key", format!("`{}` is not the private key of `{}`", key.display(), cert.display()))
        }
        why => ("cert", format!("`{}` with `{}`: {why}", cert.display(), key.display())),
    })
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable =
        |why: rustls::pki_types::pem::Error| format!("no certificate can be read from `{}`: {why}", path.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        return Err(format!("`{}` holds no certificate in PEM", path.display()));
    }
    Ok(chain)
}

fn client_verifier(path: &Path, required: bool) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|why| format!("`{}`: {why}", path.display()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), aws_lc_rs::default_provider().into());
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|why| format!("`{}`: {why}", path.display()))
}

impl ResolvesServerCert for Certificates {
    /// The one that fits the SNI name, else the first.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |name: &ServerName<'_>, key: &CertifiedKey| {
            let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
        };
        let named = hello.server_name().filter(|_| self.0.len() > 1).and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().find(|key| fits(&name, key))
        });
        named.or(self.0.first()).cloned()
    }
}
