//! In the place of AWS KMS in a build without it: each reference is a fault that says so.

use std::sync::Arc;

use gapura_config::secret::SecretRef;
use gapura_filters::contract::{KeyService, Leased, Purpose, RemoteKey};

const ABSENT: &str = "this gapura was built without the feature `kms`, which `kms:` needs";

pub(super) struct Absent;

impl KeyService for Absent {
    fn open(&self, _: &SecretRef) -> Result<Leased, String> {
        Err(ABSENT.into())
    }
    fn key(&self, _: &str, _: Purpose) -> Result<Arc<dyn RemoteKey>, String> {
        Err(ABSENT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_kms_says_so() {
        let sealed = "kms:file:/run/secrets/key".parse().unwrap();
        let why = Absent.open(&sealed).err().unwrap();
        assert!(why.contains("without the feature `kms`"), "{why}");
        assert_eq!(Absent.key("alias/a", Purpose::Sign).err().as_deref(), Some(ABSENT));
    }
}
