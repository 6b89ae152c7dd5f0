//! PEM files that a configuration names: certificates and private keys, and what is wrong with one in words.

use std::path::Path;

use gapura_config::{
    bounded,
    fault::{Fault, Place},
    secret::Secret,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};

/// Why a file is of no use, and what to name instead.
#[derive(Debug)]
pub(crate) struct Unfit {
    pub(crate) message: String,
    pub(crate) help: &'static str,
}

const CERTIFICATE_HELP: &str =
    "name a readable PEM file: `-----BEGIN CERTIFICATE-----`, base64, `-----END CERTIFICATE-----`";
const KEY_HELP: &str =
    "name a readable PEM file with the private key of the certificate: `-----BEGIN PRIVATE KEY-----`";
const PASSPHRASE_HELP: &str =
    "`openssl pkey -in KEY -out PLAIN` writes it without; let only the gateway's user read that file";

impl Unfit {
    pub(crate) fn at(self, place: Place) -> Fault {
        Fault::at(place, self.message).help(self.help)
    }
}

/// Every certificate of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let unfit = |why: &str| {
        let message = format!("no certificate can be read from `{}`: {why}", path.display());
        Unfit { message, help: CERTIFICATE_HELP }
    };
    let text = read(path, CERTIFICATE_HELP)?;
    let found = CertificateDer::pem_slice_iter(text.bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = found.map_err(|why| unfit(in_words(&why)))?;
    if certificates.is_empty() { Err(unfit("it holds none in PEM")) } else { Ok(certificates) }
}

/// Every list of revoked certificates of a file, at least one: in PEM, or one in DER, as authorities publish them.
pub(crate) fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Unfit> {
    const HELP: &str = "name a readable file with the list that the authority publishes, in PEM or DER";
    const MAX: u64 = 16 << 20;
    let bytes = bounded::read_up_to(path, MAX).map_err(|message| Unfit { message, help: HELP })?;
    // A SEQUENCE: no text begins with it.
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(bytes)]);
    }
    let unfit = |why: &str| Unfit {
        message: format!("no list of revoked certificates can be read from `{}`: {why}", path.display()),
        help: HELP,
    };
    let found = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let lists = found.map_err(|why| unfit(in_words(&why)))?;
    if lists.is_empty() { Err(unfit("it holds none in PEM")) } else { Ok(lists) }
}

/// The first private key of a file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unfit> {
    let text = read(path, KEY_HELP)?;
    // PKCS #8 says so in its label, the older forms in a field below it, which would pass for bad base64.
    if text.bytes().windows(9).any(|bytes| bytes == b"ENCRYPTED") {
        let message = format!("the private key in `{}` is protected by a passphrase", path.display());
        return Err(Unfit { message, help: PASSPHRASE_HELP });
    }
    PrivateKeyDer::from_pem_slice(text.bytes()).map_err(|why| {
        let why = in_words(&why);
        Unfit { message: format!("no private key can be read from `{}`: {why}", path.display()), help: KEY_HELP }
    })
}

/// Wiped when dropped, whatever it holds.
fn read(path: &Path, help: &'static str) -> Result<Secret, Unfit> {
    if let Some((kind @ ("kms" | "env" | "file"), _)) = path.to_str().and_then(|text| text.split_once(':')) {
        let message = format!("`{kind}:` is not read here: certificates and their private keys are named by path");
        return Err(Unfit { message, help });
    }
    bounded::read(path).map(Secret::new).map_err(|message| Unfit { message, help })
}

/// The library's own words are for programmers, and quote bytes of the file.
fn in_words(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::MissingSectionEnd { .. } => "it breaks off before an `-----END` line",
        pem::Error::IllegalSectionStart { .. } => "a `-----BEGIN` line in it is malformed",
        pem::Error::Base64Decode(_) => "what stands between `-----BEGIN` and `-----END` is not base64",
        pem::Error::NoItemsFound => "it holds none in PEM",
        _ => "it is not PEM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_words_and_with_help() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pem");
        let with = |text: &str| std::fs::write(&path, text).unwrap();
        for (text, part) in [
            ("", "it holds none in PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "breaks off before an `-----END` line"),
            ("-----BEGIN CERTIFICATE-----\n-%%-\n-----END CERTIFICATE-----\n", "is not base64"),
            ("-----BEGIN CERTIFICATE\nAAAA\n-----END CERTIFICATE-----\n", "is malformed"),
        ] {
            with(text);
            let unfit = certificates(&path).unwrap_err();
            assert!(unfit.message.contains(part) && unfit.message.contains("a.pem"), "{unfit:?}");
            assert_eq!(unfit.help, CERTIFICATE_HELP);
        }
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            with(text);
            let unfit = private_key(&path).unwrap_err();
            assert!(unfit.message.contains("is protected by a passphrase"), "{unfit:?}");
            assert_eq!(unfit.help, PASSPHRASE_HELP);
        }
        with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        assert!(private_key(&path).unwrap_err().message.ends_with("it holds none in PEM"));
    }
}
