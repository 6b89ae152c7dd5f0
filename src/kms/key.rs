//! A key pair that never leaves AWS KMS.

use std::sync::Arc;

use aws_sdk_kms::{
    operation::get_public_key::GetPublicKeyOutput,
    types::{EncryptionAlgorithmSpec, KeyUsageType, SigningAlgorithmSpec},
};
use gapura_config::secret::Secret;
use gapura_filters::contract::{Asked, Purpose, RemoteKey, Unanswered};

use super::{answer::Trouble, client::Client, service};

pub(super) struct Key {
    client: Arc<Client>,
    /// What an alias meant when it was looked up. One that is pointed elsewhere counts from the next reload on.
    arn: String,
    public: Vec<u8>,
    signs_by: Option<SigningAlgorithmSpec>,
}

const UNREADABLE: &str = "what AWS KMS says of the key cannot be read";

impl Key {
    pub(super) fn new(client: Arc<Client>, found: GetPublicKeyOutput, purpose: Purpose) -> Result<Self, String> {
        // What the public key is, and of how many bits, is held to by whoever reads it.
        let signs_by = match purpose {
            Purpose::Decrypt => {
                let oaep = found.encryption_algorithms().contains(&EncryptionAlgorithmSpec::RsaesOaepSha256);
                if !oaep || found.key_usage != Some(KeyUsageType::EncryptDecrypt) {
                    return Err("it must be a key of RSA_2048, RSA_3072 or RSA_4096, for ENCRYPT_DECRYPT".into());
                }
                None
            }
            Purpose::Sign => {
                let known = [SigningAlgorithmSpec::EcdsaSha256, SigningAlgorithmSpec::RsassaPkcs1V15Sha256];
                let by = known.into_iter().find(|known| found.signing_algorithms().contains(known));
                if by.is_none() || found.key_usage != Some(KeyUsageType::SignVerify) {
                    return Err("it must be a key of ECC_NIST_P256 or RSA_2048 to RSA_4096, for SIGN_VERIFY".into());
                }
                by
            }
        };
        let arn = found.key_id.ok_or(UNREADABLE)?;
        let public = found.public_key.ok_or(UNREADABLE)?.into_inner();
        Ok(Self { client, arn, public, signs_by })
    }
}

impl RemoteKey for Key {
    fn public(&self) -> &[u8] {
        &self.public
    }

    fn decrypt<'a>(&'a self, ciphertext: &'a [u8]) -> Asked<'a, Secret> {
        let (client, arn, ciphertext) = (Arc::clone(&self.client), self.arn.clone(), ciphertext.to_vec());
        Box::pin(elsewhere(async move { client.unwrap(&arn, &ciphertext).await }))
    }

    fn sign<'a>(&'a self, message: &'a [u8]) -> Asked<'a, Vec<u8>> {
        let (client, arn, message) = (Arc::clone(&self.client), self.arn.clone(), message.to_vec());
        let by = self.signs_by.clone();
        Box::pin(async move {
            let by = by.ok_or_else(|| Unanswered::Away("the key does not sign".into()))?;
            elsewhere(async move { client.sign(&arn, by, &message).await }).await
        })
    }
}

/// On the thread of KMS: the connections live there.
async fn elsewhere<T: Send + 'static>(
    asking: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Unanswered> {
    let away = |why: &str| Unanswered::Away(why.to_owned());
    let runtime = service::runtime().map_err(|()| away("no thread can be started"))?;
    match runtime.spawn(asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(trouble)) if trouble.is_of_the_message() => Err(Unanswered::Unfit),
        Ok(Err(trouble)) => Err(Unanswered::Away(trouble.to_string())),
        Err(_) => Err(away("the question was given up")),
    }
}
