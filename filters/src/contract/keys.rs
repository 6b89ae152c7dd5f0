//! Keys that a key service has a part in: `kms:` references.
//!
//! A key that a service opens is lent, not given: after its end it is used no more, until the service says yes again. Whoever reads
//! a key notes the lease with it ([`KeyReader`]), and [`crate::leases`] holds the routes to what they were built from.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

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

/// No service.
struct Nobody;

impl KeyService for Nobody {
    fn open(&self, _: &SecretRef) -> Result<Leased, String> {
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
                Ok(secret)
            }
            SecretRef::KmsKey(_) => {
                Err(format!("`{reference}` never leaves AWS KMS; here the key itself is needed, as \"kms:file:/path\""))
            }
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
