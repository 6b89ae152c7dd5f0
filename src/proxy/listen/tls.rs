//! TLS of the https listeners: certificates, their choice by SNI, client certificates.

use std::{fmt::Write as _, path::Path, sync::Arc};

use gapura_config::{
    fault::{Fault, Place},
    model::{Tls, TlsVersion},
};
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use super::trust::Trust;
use crate::pem::{self, Unfit};

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
pub(crate) fn build(
    tls: &Tls,
    trust: Option<&Trust>,
    self_signed: Option<&SelfSigned>,
) -> Result<Arc<ServerConfig>, Vec<Fault>> {
    let place = Place::root().key("tls");
    let mut faults = Vec::new();
    let mut certificates = Vec::new();
    let provider = aws_lc_rs::default_provider();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        match read_certificate(&certificate.cert, &certificate.key, &provider) {
            Ok(key) => certificates.push(Arc::new(key)),
            Err(found) => {
                let place = place.key("certificates").index(index);
                faults.extend(found.into_iter().map(|(key, unfit)| unfit.at(place.key(key))));
            }
        }
    }
    certificates.extend(self_signed.map(|made| Arc::clone(&made.0)));
    if !faults.is_empty() {
        return Err(faults);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match tls.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.into()).with_protocol_versions(versions);
    let builder = builder.map_err(|why| vec![Fault::at(place.key("min_version"), why.to_string())])?;
    let builder = match trust {
        Some(trust) => builder.with_client_cert_verifier(trust.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(certificates)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets instead of a cache of sessions: resumption then costs no memory, however many clients there are. Their keys
    // are new with every reload, so that no ticket outlives the trust which it was given under.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|why| vec![Fault::at(place.clone(), why.to_string())])?;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Each fault with the key of the entry that it is about.
fn read_certificate(
    cert: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Vec<(&'static str, Unfit)>> {
    let (chain, private) = match (pem::certificates(cert), pem::private_key(key)) {
        (Ok(chain), Ok(private)) => (chain, private),
        (chain, private) => {
            let faults = [chain.err().map(|unfit| ("cert", unfit)), private.err().map(|unfit| ("key", unfit))];
            return Err(faults.into_iter().flatten().collect());
        }
    };
    CertifiedKey::from_der(chain, private, provider).map_err(|why| {
        let (cert, key) = (cert.display(), key.display());
        let (at, message, help) = match why {
            rustls::Error::InconsistentKeys(_) => (
                "key",
                format!("`{key}` is not the private key of `{cert}`"),
                "name the two files that were made together; of a bundle the server's own certificate comes first",
            ),
            // What is left to go wrong with the key alone.
            rustls::Error::General(_) => (
                "key",
                format!("the private key in `{key}` is of no kind that TLS takes here"),
                "RSA, ECDSA (P-256, P-384, P-521) and Ed25519 are taken",
            ),
            why => ("cert", format!("the certificate in `{cert}` cannot be used: {why}"), "name another"),
        };
        vec![(at, Unfit { message, help })]
    })
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
