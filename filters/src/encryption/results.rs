//! The metrics of one entry.

use gapura_config::model::Profile;
use prometheus::{IntCounter, IntCounterVec};

use super::stream::Aborted;
use crate::metrics::Metrics;

/// `gapura_decryptions_total` of this entry, by result; `gapura_envelopes_total`, by profile.
pub(super) struct Results {
    pub(super) opened: IntCounter,
    pub(super) not_envelope: IntCounter,
    pub(super) key_mismatch: IntCounter,
    pub(super) expired: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) replayed: IntCounter,
    pub(super) plaintext: IntCounter,
    pub(super) downgraded: IntCounter,
    pub(super) ended: IntCounter,
    streams: IntCounterVec,
    entry: String,
    by_profile: Vec<(Profile, IntCounter)>,
}

impl Results {
    pub(super) fn new(entry: &str, profiles: &[Profile], metrics: &Metrics) -> Self {
        let result = |result: &str| metrics.decryptions.with_label_values(&[entry, result]);
        let by_profile = |profile: &Profile| (*profile, metrics.envelopes.with_label_values(&[entry, profile.name()]));
        Self {
            opened: result("opened"),
            not_envelope: result("not_envelope"),
            key_mismatch: result("key_mismatch"),
            expired: result("expired"),
            failed: result("failed"),
            replayed: result("replayed"),
            plaintext: result("plaintext"),
            downgraded: result("downgraded"),
            ended: result("ended"),
            streams: metrics.streams_aborted.clone(),
            entry: entry.to_owned(),
            by_profile: profiles.iter().map(by_profile).collect(),
        }
    }

    /// From the start at 0, where there are streams: an alert on a rate must see the first one.
    pub(super) fn expect_streams(&self) {
        for why in Aborted::ALL {
            self.streams.with_label_values(&[&self.entry, why.label()]);
        }
    }

    /// A stream was broken off.
    pub(super) fn aborted(&self, why: Aborted) {
        self.streams.with_label_values(&[&self.entry, why.label()]).inc();
    }

    /// An envelope was accepted.
    pub(super) fn accepted(&self, profile: Profile) {
        self.opened.inc();
        if let Some((_, counter)) = self.by_profile.iter().find(|(known, _)| *known == profile) {
            counter.inc();
        }
    }
}
