//! AWS KMS: keys that it opens at start and lends for minutes, and keys that never leave it. docs/kms.md says what is asked when.
//!
//! Nothing of the SDK is known outside this folder, and nothing of it is built without the feature `kms`.

#[cfg(any(not(feature = "kms"), test))]
mod absent;
#[cfg(feature = "kms")]
mod answer;
#[cfg(feature = "kms")]
mod channel;
#[cfg(feature = "kms")]
mod client;
#[cfg(feature = "kms")]
mod key;
#[cfg(feature = "kms")]
mod lease;
#[cfg(feature = "kms")]
mod service;

use std::sync::Arc;

use gapura_config::model;
use gapura_filters::{contract::KeyReader, metrics::Metrics};

/// Reads keys as a configuration says, those of KMS too. Nothing is asked before a reference names it.
#[cfg(feature = "kms")]
pub(crate) fn reader(config: &model::Kms, metrics: &Arc<Metrics>) -> KeyReader {
    KeyReader::new(Arc::new(service::Service::new(config, metrics)))
}

/// Reads keys without asking anybody: what KMS holds stays unknown.
#[cfg(feature = "kms")]
pub(crate) fn offline() -> KeyReader {
    KeyReader::default()
}

#[cfg(not(feature = "kms"))]
pub(crate) fn reader(_: &model::Kms, _: &Arc<Metrics>) -> KeyReader {
    KeyReader::new(Arc::new(absent::Absent))
}

#[cfg(not(feature = "kms"))]
pub(crate) fn offline() -> KeyReader {
    KeyReader::new(Arc::new(absent::Absent))
}
