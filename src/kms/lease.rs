//! A key on loan: how long it may be used, and the question that prolongs it.
//!
//! A lease runs from the moment before KMS was asked. It is asked again somewhere in the second half, at another moment in each
//! instance; while it gives no answer the key is used to its end, and asked for on and on. A no ends the lease at once: to disable
//! a key in KMS is how an operator stops every gateway, and it must not take longer than the next question.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gapura_filters::{contract, metrics::Metrics};

use super::{answer::Trouble, client::Client};

pub(super) struct Lease {
    name: String,
    since: Instant,
    /// In milliseconds from `since`.
    end: AtomicU64,
    /// As the metrics show it.
    shown_over: AtomicBool,
    metrics: Arc<Metrics>,
}

const VALID: &str = "valid";
const ENDED: &str = "ended";

impl Lease {
    /// Of a key that KMS gave when it was asked at `asked`.
    pub(super) fn new(name: String, asked: Instant, client: &Client) -> Arc<Self> {
        client.metrics.kms_keys.with_label_values(&[VALID]).inc();
        Arc::new(Self {
            name,
            since: asked,
            end: AtomicU64::new(millis(client.cache)),
            shown_over: AtomicBool::new(false),
            metrics: Arc::clone(&client.metrics),
        })
    }

    fn left(&self) -> Duration {
        Duration::from_millis(self.end.load(Ordering::Acquire)).saturating_sub(self.since.elapsed())
    }

    fn prolong(&self, asked: Instant, cache: Duration) {
        self.end.store(millis(asked.duration_since(self.since) + cache), Ordering::Release);
    }

    fn end_now(&self) {
        self.end.store(0, Ordering::Release);
    }

    /// Tells metrics and log of a change.
    fn show(&self, why: &str) {
        let over = self.left().is_zero();
        if self.shown_over.swap(over, Ordering::AcqRel) == over {
            return;
        }
        let (from, to) = if over { (VALID, ENDED) } else { (ENDED, VALID) };
        self.metrics.kms_keys.with_label_values(&[from]).dec();
        self.metrics.kms_keys.with_label_values(&[to]).inc();
        if over {
            log::error!("the key {} has ended, and what needs it is refused: {why}", self.name);
        } else {
            log::info!("AWS KMS has given the key {} again", self.name);
        }
    }
}

impl contract::Lease for Lease {
    fn is_over(&self) -> bool {
        self.left().is_zero()
    }
    fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shown = if *self.shown_over.get_mut() { ENDED } else { VALID };
        self.metrics.kms_keys.with_label_values(&[shown]).dec();
    }
}

/// Prolongs a lease for as long as anybody holds it. The rules of the configuration leave the last quarter to the question itself.
pub(super) async fn keep(client: Arc<Client>, lease: Weak<Lease>, ciphertext: Vec<u8>) {
    let mut next = Instant::now() + client.cache.mul_f64(between(0.5, 0.75));
    let mut why = String::new();
    let mut told = Told::default();
    loop {
        // Its end is noticed when it comes, not at the next question.
        let Some(left) = lease.upgrade().map(|lease| lease.left()) else { return };
        let pause = next.saturating_duration_since(Instant::now());
        tokio::time::sleep(if left.is_zero() { pause } else { pause.min(left + Duration::from_millis(1)) }).await;
        let Some(lease) = lease.upgrade() else { return };
        if Instant::now() < next {
            lease.show(&why);
            continue;
        }
        let asked = Instant::now();
        next = match client.open(&ciphertext).await {
            // The ciphertext is the same, and so is the key: it is only wiped again.
            Ok(_same) => {
                lease.prolong(asked, client.cache);
                told = Told::default();
                asked + client.cache.mul_f64(between(0.5, 0.75))
            }
            Err(trouble) => {
                if matches!(trouble, Trouble::No(_)) {
                    lease.end_now();
                }
                why = trouble.to_string();
                if told.is_news(&why, Instant::now()) {
                    log::warn!("the key {} is not prolonged: {why}", lease.name);
                }
                Instant::now() + (client.cache / 20).clamp(PAUSE.0, PAUSE.1).mul_f64(between(0.5, 1.0))
            }
        };
        lease.show(&why);
    }
}

/// Between two questions without an answer, half of it or more: the least and the most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// Between two lines of the log that say the same.
const REMINDER: Duration = Duration::from_secs(60);

/// What the log holds of a lease that is not prolonged.
#[derive(Default)]
struct Told {
    last: Option<(Instant, String)>,
}

impl Told {
    /// Another reason than before, or the same for a minute.
    fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let known = |(at, said): &(Instant, String)| said == why && now.duration_since(*at) < REMINDER;
        let news = !self.last.as_ref().is_some_and(known);
        if news {
            self.last = Some((now, why.to_owned()));
        }
        news
    }
}

fn between(least: f64, most: f64) -> f64 {
    rand::random_range(least..most)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_of_changes_and_reminded_once_a_minute() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..150 {
            let why = if second == 90 { "throttled" } else { "no answer" };
            if told.is_news(why, begin + Duration::from_secs(second)) {
                lines.push(second);
            }
        }
        assert_eq!(lines, [0, 60, 90, 91]);
    }
}
