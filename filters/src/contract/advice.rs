//! What to do about a key that was not read. Behind `kms:` stands a ciphertext: whoever were told to "name a file that holds the
//! key" would write the key itself there, and it would be sent to the service.

use gapura_config::secret::SecretRef;

use super::keys::{CANNOT_ASK, NO_ANSWER, SAYS_NO, STAYS_AWAY};

/// The help of a fault. `plain` is what is said of a reference that no service has a part in, and of a key pair of the service
/// that is another than is needed.
pub fn advice(reference: &SecretRef, why: &str, plain: &'static str) -> &'static str {
    match reference {
        SecretRef::Env(_) | SecretRef::File(_) => plain,
        _ if why.contains(NO_ANSWER) => {
            "leave the reference as it is; see that AWS KMS can be reached from here, and with which credentials"
        }
        _ if why.contains(SAYS_NO) => {
            "see the key in AWS KMS, its state and its policy, and `region` and `encryption_context` of `[kms]`"
        }
        _ if why.contains(CANNOT_ASK) => "leave the reference as it is, and set what is missing",
        _ if why.contains(STAYS_AWAY) => "write \"kms:file:/path\", with the key encrypted by `aws kms encrypt`",
        SecretRef::Kms(_) => {
            "put the ciphertext there, as `aws kms encrypt` prints it, before the gateway starts or reloads; never the key itself"
        }
        SecretRef::KmsKey(_) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_write_a_key_where_a_ciphertext_belongs() {
        const PLAIN: &str = "name a readable file that holds the key";
        let of = |reference: &str, why: &str| advice(&reference.parse().unwrap(), why, PLAIN);
        assert_eq!(of("file:/key", "`/key` cannot be read"), PLAIN);
        assert_eq!(of("kms:key:alias/a", "it must be a key of RSA_2048"), PLAIN);
        for (why, part) in [
            ("`kms:file:/key`: `/key` cannot be read", "never the key itself"),
            ("`kms:file:/key`: AWS KMS gives no answer: no answer in time", "leave the reference"),
            ("`kms:file:/key`: AWS KMS says no: DisabledException", "its state"),
            ("`kms:file:/key`: AWS KMS cannot be asked: no region is set", "set what is missing"),
        ] {
            let help = of("kms:file:/key", why);
            assert!(help.contains(part) && !help.contains(PLAIN), "{why}: {help}");
        }
        let away = crate::contract::KeyReader::default().read(&"kms:key:alias/a".parse().unwrap()).unwrap_err();
        assert!(of("kms:key:alias/a", &away).contains("kms:file:/path"));
    }
}
