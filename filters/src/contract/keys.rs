//! Keys that a key service has a part in: `kms:` references.
//!
//! A key that a service opens is lent, not given: after its end it is used no more, until the service says yes again. Whoever reads
//! a key notes the lease with it ([`KeyReader`]), and [`crate::leases`] holds the routes to what they were built from.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_config::secret::{Secret, SecretRef};
use parking_lot::Mutex;

/// How long a key may be used.
pub trait Lease: Send + Sync {
    fn is_over(&self) -> bool;
    /// The reference that the key was read by.
    fn name(&self) -> &str;
}

/// A key, and for how long.
pub struct Leased {
    pub secret: Secret,
    pub lease: Arc<dyn Lease>,
}

/// Why a key of a service gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// What it was asked is not of this key: it is the message's fault.
    Unfit,
    /// The service is away, overloaded or does not let us: for the log.
    Away(String),
}

pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + Send + 'a>>;

/// A key pair whose private half stays with its service.
pub trait RemoteKey: Send + Sync {
    /// Its public half, a `SubjectPublicKeyInfo` in DER.
    fn public(&self) -> &[u8];
    /// RSA-OAEP with SHA-256.
    fn decrypt<'a>(&'a self, ciphertext: &'a [u8]) -> Asked<'a, Secret>;
    /// ECDSA on P-256 with SHA-256 (a DER sequence), or RSASSA-PKCS1-v1_5 with SHA-256.
    fn sign<'a>(&'a self, message: &'a [u8]) -> Asked<'a, Vec<u8>>;
}

/// What a key pair may be used for; a service knows keys of one use only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Decrypt,
    Sign,
}

/// Opens what `kms:` references name. It may take its time: it is asked where configurations are compiled. Errors name the
/// reference and the reason, never a byte of a key.
pub trait KeyService: Send + Sync {
    fn open(&self, reference: &SecretRef) -> Result<Leased, String>;
    /// The key with this id.
    fn key(&self, id: &str, purpose: Purpose) -> Result<Arc<dyn RemoteKey>, String>;
}

/// What a reference to a key service is told where none may be asked. `gapura check` takes it for no fault.
pub const NOT_ASKED: &str = "AWS KMS was not asked";

/// How the reason of a service that gave no answer begins: nothing is wrong with what was written.
pub const NO_ANSWER: &str = "AWS KMS gives no answer";

/// The same of one that was asked and will not.
pub const SAYS_NO: &str = "AWS KMS says no";

/// The same of one that no question can be sent to.
pub const CANNOT_ASK: &str = "AWS KMS cannot be asked";

/// Why a key pair of a service does not serve where a key is needed.
pub(super) const STAYS_AWAY: &str = "never leaves AWS KMS; here the key itself is needed";

/// Of a ciphertext, as the service takes it.
const MAX_CIPHERTEXT: usize = 6144;

/// What a reference holds for the service: in base64, as the command line of AWS prints it, or as it is.
pub fn ciphertext(reference: &SecretRef) -> Result<Vec<u8>, String> {
    let written = reference.ciphertext()?;
    let text: Vec<u8> = written.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = STANDARD.decode(text).unwrap_or(written);
    match bytes.len() {
        1..=MAX_CIPHERTEXT => Ok(bytes),
        0 => Err("it is empty".into()),
        length => Err(format!("it has {length} bytes; a ciphertext of AWS KMS has at most {MAX_CIPHERTEXT}")),
    }
}

/// No service.
struct Nobody;

impl KeyService for Nobody {
    fn open(&self, reference: &SecretRef) -> Result<Leased, String> {
        // Whether there is anything to ask about is known here, too.
        ciphertext(reference)?;
        Err(NOT_ASKED.into())
    }
    fn key(&self, _: &str, _: Purpose) -> Result<Arc<dyn RemoteKey>, String> {
        Err(NOT_ASKED.into())
    }
}

/// Reads keys, and notes on which leases they are held.
#[derive(Clone)]
pub struct KeyReader {
    service: Arc<dyn KeyService>,
    leases: Arc<Mutex<Vec<Arc<dyn Lease>>>>,
}

impl KeyReader {
    pub fn new(service: Arc<dyn KeyService>) -> Self {
        Self { service, leases: Arc::default() }
    }

    /// One of the same service, with nothing noted.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::new(Arc::clone(&self.service))
    }

    /// The key, wherever it comes from.
    pub fn read(&self, reference: &SecretRef) -> Result<Secret, String> {
        match reference {
            SecretRef::Kms(_) => {
                let Leased { secret, lease } =
                    self.service.open(reference).map_err(|why| format!("`{reference}`: {why}"))?;
                self.leases.lock().push(lease);
                line(secret).ok_or_else(|| format!("`{reference}`: what it holds is empty"))
            }
            SecretRef::KmsKey(_) => Err(format!("`{reference}` {STAYS_AWAY}")),
            SecretRef::Env(_) | SecretRef::File(_) => reference.read(),
        }
    }

    /// A key pair of the service. None: the reference names none.
    pub fn remote(&self, reference: &SecretRef, purpose: Purpose) -> Option<Result<Arc<dyn RemoteKey>, String>> {
        let SecretRef::KmsKey(id) = reference else { return None };
        Some(self.service.key(id, purpose).map_err(|why| format!("`{reference}`: {why}")))
    }

    /// Of all that was read so far.
    pub fn leases(&self) -> Vec<Arc<dyn Lease>> {
        self.leases.lock().clone()
    }
}

/// A file that was encrypted as it stands is the same key as the file: of a text, one newline at its end is dropped. Bytes that
/// are no text are a key to the last of them. None: there is nothing else.
fn line(secret: Secret) -> Option<Secret> {
    let bytes = secret.bytes();
    let Some(rest) = bytes.strip_suffix(b"\n") else { return Some(secret) };
    if !rest.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Some(secret);
    }
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    (!rest.is_empty()).then(|| Secret::new(rest.to_vec()))
}

impl Default for KeyReader {
    fn default() -> Self {
        Self::new(Arc::new(Nobody))
    }
}

impl fmt::Debug for KeyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyReader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &std::path::Path) -> SecretRef {
        format!("kms:file:{}", path.display()).parse().unwrap()
    }

    #[test]
    fn a_ciphertext_is_taken_in_base64_and_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            ciphertext(&of(&path))
        };
        let raw = [1, 2, 2, 0, 0xff, b'\n'];
        assert_eq!(read(&raw).unwrap(), raw, "every byte of it");
        let text = STANDARD.encode([7; 200]);
        let (first, rest) = text.split_at(76);
        assert_eq!(read(format!("{first}\n{rest}\n").as_bytes()).unwrap(), [7; 200]);
        assert!(read(b" \n").is_err());
        assert!(read(&[0xff; MAX_CIPHERTEXT + 1]).is_err());
        assert!(read(&[0xff; MAX_CIPHERTEXT]).is_ok());
    }

    #[test]
    fn what_is_plainly_absent_is_said_without_asking_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, large, good) =
            (folder.path().join("empty"), folder.path().join("large"), folder.path().join("good"));
        std::fs::write(&empty, "\n").unwrap();
        std::fs::write(&large, [0xff; MAX_CIPHERTEXT + 1]).unwrap();
        std::fs::write(&good, "AAAA").unwrap();
        let said = |reference: &SecretRef| KeyReader::default().read(reference).unwrap_err();
        for (reference, part) in [
            (of(&folder.path().join("absent")), "No such file"),
            (of(folder.path()), "is a folder"),
            (of(&empty), "is empty"),
            (of(&large), "has 6145 bytes"),
            ("kms:env:GAPURA_NO_SUCH_VARIABLE".parse().unwrap(), "is not set"),
        ] {
            let why = said(&reference);
            assert!(why.contains(part) && !why.ends_with(NOT_ASKED), "{why}");
        }
        assert!(said(&of(&good)).ends_with(NOT_ASKED));
    }

    #[test]
    fn a_file_that_was_encrypted_as_it_stands_is_the_key_that_the_file_is() {
        let held = |bytes: &[u8]| line(Secret::new(bytes.to_vec())).map(|secret| secret.bytes().to_vec());
        for (plaintext, key) in [
            (&b"a secret\n"[..], &b"a secret"[..]),
            (b"a secret\r\n", b"a secret"),
            (b"a secret\n\n", b"a secret\n"),
            (b"a secret", b"a secret"),
            (b"\x00\xff\n", b"\x00\xff\n"),
        ] {
            assert_eq!(held(plaintext).as_deref(), Some(key), "{plaintext:?}");
        }
        assert_eq!(held(b"\n"), None);
    }
}
