//! What the metrics say of Redis: one gauge for all servers together.

use gapura_filters::metrics::Metrics;
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntGauge};

pub(super) struct Meters {
    up: IntGauge,
    /// Servers that are not asked now.
    away: Mutex<i64>,
    pub(super) duration: Histogram,
    pub(super) answered: IntCounter,
    pub(super) failed: IntCounter,
    pub(super) late: IntCounter,
    pub(super) skipped: IntCounter,
    /// Decisions that were made in this instance, and in Redis.
    pub(super) here: IntCounter,
    pub(super) there: IntCounter,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let calls = |result| metrics.store_calls.with_label_values(&["redis", result]);
        let decisions = |place| metrics.store_decisions.with_label_values(&["redis", place]);
        Self {
            up: metrics.store_up.with_label_values(&["redis"]),
            away: Mutex::new(0),
            duration: metrics.store_duration.with_label_values(&["redis"]),
            answered: calls("answered"),
            failed: calls("failed"),
            late: calls("late"),
            skipped: calls("skipped"),
            here: decisions("local"),
            there: decisions("remote"),
        }
    }

    /// A server, or what must be known before there is one, is not there yet.
    pub(super) fn begin(&self) {
        self.shift(1);
    }

    pub(super) fn came(&self) {
        self.shift(-1);
    }

    pub(super) fn went(&self) {
        self.shift(1);
    }

    /// A server is of no concern any more.
    pub(super) fn end(&self, up: bool) {
        if !up {
            self.shift(-1);
        }
    }

    /// Every server is asked.
    pub(super) fn all_up(&self) -> bool {
        *self.away.lock() <= 0
    }

    fn shift(&self, by: i64) {
        let mut away = self.away.lock();
        *away += by;
        self.up.set(i64::from(*away <= 0));
    }
}
