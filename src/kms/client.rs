//! Questions to AWS KMS: each with an end, each counted.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_kms::{
    Client as Sdk, Config,
    operation::get_public_key::GetPublicKeyOutput,
    primitives::Blob,
    types::{EncryptionAlgorithmSpec, MessageType, SigningAlgorithmSpec},
};
use gapura_config::{model, secret::Secret};
use gapura_filters::metrics::Metrics;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, Semaphore};

use super::{
    answer::{Trouble, trouble},
    channel::{self, Private},
};

/// KMS by one `[kms]`.
pub(super) struct Client {
    pub(super) cache: Duration,
    timeout: Duration,
    region: Option<String>,
    endpoint: Option<String>,
    context: HashMap<String, String>,
    /// Region and credentials are found when the first question is asked.
    sdk: OnceCell<Sdk>,
    /// Of questions that messages of strangers cause; apart, so that those of one kind leave the other alone.
    unwrapping: Semaphore,
    signing: Semaphore,
    pub(super) metrics: Arc<Metrics>,
}

/// The first repetition comes after at most this.
const BACKOFF: Duration = Duration::from_millis(100);
/// `Sign` takes a longer message as its digest only.
const MAX_RAW: usize = 4096;
const BUSY: Trouble = Trouble::away("too many questions at once; see `kms.max_calls`");

impl Client {
    pub(super) fn new(config: &model::Kms, metrics: &Arc<Metrics>) -> Self {
        Self {
            cache: config.cache.get(),
            timeout: config.timeout.get(),
            region: config.region.clone(),
            endpoint: config.endpoint.clone(),
            context: config.encryption_context.clone().into_iter().collect(),
            sdk: OnceCell::new(),
            unwrapping: Semaphore::new(config.max_calls),
            signing: Semaphore::new(config.max_calls),
            metrics: Arc::clone(metrics),
        }
    }

    /// The longest that one question takes.
    pub(super) fn patience(&self) -> Duration {
        self.timeout
    }

    async fn sdk(&self) -> Result<&Sdk, Trouble> {
        self.sdk.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Sdk, Trouble> {
        // Half for the first attempt, so that a second one is not cut off by the end of both.
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.timeout / 2)
            .operation_attempt_timeout(self.timeout / 2)
            .operation_timeout(self.timeout);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(BACKOFF));
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let found = loader.load().await;
        if found.region().is_none() {
            return Err(Trouble::no("no region is set: write `region` into `[kms]`, or set AWS_REGION"));
        }
        let config = Config::from(&found).to_builder().http_client(channel::http()?).interceptor(Private);
        Ok(Sdk::from_conf(config.build()))
    }

    /// What a ciphertext holds.
    pub(super) async fn open(&self, ciphertext: &[u8]) -> Result<Secret, Trouble> {
        let asking = async {
            let question = self.sdk().await?.decrypt().ciphertext_blob(Blob::new(ciphertext));
            let question =
                question.set_encryption_context(Some(self.context.clone()).filter(|context| !context.is_empty()));
            let answer = question.send().await.map_err(|why| trouble(&why))?;
            content(answer.plaintext)
        };
        self.measured("decrypt", asking).await
    }

    /// What a message holds that was encrypted to a key pair.
    pub(super) async fn unwrap(&self, key: &str, ciphertext: &[u8]) -> Result<Secret, Trouble> {
        let asking = async {
            let _seat = self.unwrapping.try_acquire().map_err(|_| BUSY)?;
            let question = self.sdk().await?.decrypt().key_id(key).ciphertext_blob(Blob::new(ciphertext));
            let question = question.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256);
            let answer = question.send().await.map_err(|why| trouble(&why))?;
            content(answer.plaintext)
        };
        self.measured("unwrap", asking).await
    }

    pub(super) async fn sign(&self, key: &str, by: SigningAlgorithmSpec, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let asking = async {
            let _seat = self.signing.try_acquire().map_err(|_| BUSY)?;
            let question = self.sdk().await?.sign().key_id(key).signing_algorithm(by);
            let question = if message.len() <= MAX_RAW {
                question.message_type(MessageType::Raw).message(Blob::new(message))
            } else {
                question.message_type(MessageType::Digest).message(Blob::new(Sha256::digest(message).to_vec()))
            };
            let answer = question.send().await.map_err(|why| trouble(&why))?;
            let signature = answer.signature.ok_or(Trouble::away("its answer holds no signature"))?;
            Ok(signature.into_inner())
        };
        self.measured("sign", asking).await
    }

    pub(super) async fn public_key(&self, key: &str) -> Result<GetPublicKeyOutput, Trouble> {
        let asking = async { self.sdk().await?.get_public_key().key_id(key).send().await.map_err(|why| trouble(&why)) };
        self.measured("public_key", asking).await
    }

    /// With an end, whatever it waits for: the search for credentials, too.
    async fn measured<T>(
        &self,
        operation: &str,
        asking: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let begun = Instant::now();
        let answer =
            tokio::time::timeout(self.timeout, asking).await.unwrap_or(Err(Trouble::away("no answer in time")));
        let result = match &answer {
            Ok(_) => "success",
            Err(Trouble::No(_)) => "refused",
            Err(Trouble::Away(_)) => "unavailable",
        };
        self.metrics.kms_calls.with_label_values(&[operation, result]).inc();
        self.metrics.kms_duration.with_label_values(&[operation]).observe(begun.elapsed().as_secs_f64());
        answer
    }
}

fn content(plaintext: Option<Blob>) -> Result<Secret, Trouble> {
    let plaintext = plaintext.map(|blob| Secret::new(blob.into_inner()));
    plaintext.filter(|secret| !secret.bytes().is_empty()).ok_or(Trouble::away("its answer holds no plaintext"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of partners that wait take no place of the tokens that are signed.
    #[tokio::test]
    async fn each_kind_of_question_has_its_own_places() {
        // Port 9 of this machine: whether or not anybody is there, nobody is KMS.
        let config = model::Kms {
            max_calls: 1,
            timeout: "100ms".parse().unwrap(),
            endpoint: Some("http://127.0.0.1:9".into()),
            region: Some("eu-west-1".into()),
            ..model::Kms::default()
        };
        let client = Client::new(&config, &Arc::new(Metrics::new().unwrap()));
        let _message = client.unwrapping.try_acquire().unwrap();
        assert_eq!(client.unwrap("a", b"b").await.err(), Some(BUSY));
        let signed = client.sign("a", SigningAlgorithmSpec::EcdsaSha256, b"b").await;
        assert!(signed.as_ref().is_err_and(|why| *why != BUSY), "{signed:?}");
    }
}
