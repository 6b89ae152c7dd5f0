//! How many exchanges of all routes may be with upstreams at once: `[limits] max_in_flight`. Near it the gateway refuses routes of
//! low priority, then those of normal priority, so that the rest of the bound is left for those of high priority.
//!
//! Nobody waits here: a queue before everything would make all of it slow.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use gapura_config::model::{Config, Priority};
use gapura_filters::{
    contract::{Code, Refusal},
    metrics::Metrics,
};
use http::{HeaderValue, header::RETRY_AFTER};
use prometheus::{IntCounter, IntGauge};

/// The bound, and what of it is in use.
pub(super) struct Load {
    max: u32,
    used: Arc<Used>,
    /// By priority.
    shed: [IntCounter; 3],
}

/// Lives on through reloads.
struct Used {
    count: AtomicUsize,
    gauge: IntGauge,
}

/// Its part of the load, as long as it lasts.
pub(super) struct Share(Arc<Used>);

impl Load {
    /// None where there has never been a bound. What `before` counts goes on counting, though the bound be gone: it may come back
    /// before the requests have ended.
    pub(super) fn build(config: &Config, before: Option<&Self>, metrics: &Metrics) -> Option<Self> {
        let max = config.limits.max_in_flight.or_else(|| before.map(|_| u32::MAX))?;
        let fresh = || Arc::new(Used { count: AtomicUsize::new(0), gauge: metrics.load.clone() });
        let used = before.map_or_else(fresh, |before| Arc::clone(&before.used));
        let shed = Priority::ALL.map(|priority| metrics.shed.with_label_values(&[priority.name()]));
        Some(Self { max, used, shed })
    }

    /// Whether [`Self::enter`] would refuse, before anything has been spent on the request.
    pub(super) fn check(&self, priority: Priority) -> Result<(), Refusal> {
        let used = self.used.count.load(Ordering::Relaxed);
        if used < self.most(priority) { Ok(()) } else { Err(self.refuse(priority)) }
    }

    pub(super) fn enter(&self, priority: Priority) -> Result<Share, Refusal> {
        let most = self.most(priority);
        let count = &self.used.count;
        match count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| (used < most).then_some(used + 1)) {
            Ok(_) => {
                self.used.gauge.inc();
                Ok(Share(Arc::clone(&self.used)))
            }
            Err(_) => Err(self.refuse(priority)),
        }
    }

    fn most(&self, priority: Priority) -> usize {
        priority.share(self.max) as usize
    }

    fn refuse(&self, priority: Priority) -> Refusal {
        self.shed[priority as usize].inc();
        let (name, most, max) = (priority.name(), self.most(priority), self.max);
        Refusal::new(Code::Overloaded, "The gateway is busy; try again later.")
            .reason(format!("priority {name}: {most} of limits.max_in_flight = {max} are in flight"))
            .header(RETRY_AFTER, HeaderValue::from(1))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.gauge.dec();
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn load(max: u32) -> Load {
        let metrics = Metrics::new().unwrap();
        let used = Used { count: AtomicUsize::new(0), gauge: metrics.load.clone() };
        let shed = Priority::ALL.map(|priority| metrics.shed.with_label_values(&[priority.name()]));
        Load { max, used: Arc::new(used), shed }
    }

    /// As many as get in.
    fn fill(load: &Load, priority: Priority) -> Vec<Share> {
        std::iter::from_fn(|| load.enter(priority).ok()).collect()
    }

    #[test]
    fn who_matters_less_is_refused_first() {
        let load = load(20);
        let low = fill(&load, Priority::Low);
        let normal = fill(&load, Priority::Normal);
        let high = fill(&load, Priority::High);
        assert_eq!([low.len(), normal.len(), high.len()], [16, 2, 2]);
        assert_eq!(load.used.gauge.get(), 20);
        assert!(Priority::ALL.iter().all(|&priority| load.check(priority).is_err()));
        assert_eq!(load.shed.each_ref().map(IntCounter::get), [2, 2, 2]);
        drop(high);
        assert!(load.check(Priority::High).is_ok() && load.check(Priority::Normal).is_err());
        drop(normal);
        assert!(load.check(Priority::Normal).is_ok() && load.check(Priority::Low).is_err());
        drop(low);
        assert!(load.check(Priority::Low).is_ok());
        assert_eq!(load.used.gauge.get(), 0);
    }

    /// Who came in before and while there was none is there when it comes back.
    #[test]
    fn a_bound_that_is_removed_and_comes_back_knows_who_is_there() {
        let metrics = Metrics::new().unwrap();
        let text = "[server]\nplaintext = true\nhttp = [\"127.0.0.1:1\"]\n[upstreams.u]\nservers = [\"127.0.0.1:2\"]\n\
                    [[routes]]\nname = \"r\"\npath = \"/\"\nupstream = \"u\"\n";
        let mut config = gapura_config::parse("test.toml", text).expect("a sound configuration").config;
        assert!(Load::build(&config, None, &metrics).is_none());
        config.limits.max_in_flight = Some(2);
        let first = Load::build(&config, None, &metrics).unwrap();
        let before = first.enter(Priority::High).ok();
        config.limits.max_in_flight = None;
        let without = Load::build(&config, Some(&first), &metrics).unwrap();
        let meanwhile = without.enter(Priority::Low).ok();
        config.limits.max_in_flight = Some(2);
        let back = Load::build(&config, Some(&without), &metrics).unwrap();
        assert!(before.is_some() && meanwhile.is_some() && back.enter(Priority::High).is_err());
        drop(before);
        assert!(back.enter(Priority::High).is_ok());
    }

    #[test]
    fn threads_together_never_exceed_the_bound() {
        let load = load(10);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let share = load.enter(Priority::High);
                        assert!(load.used.count.load(Ordering::Relaxed) <= 10);
                        drop(share);
                    }
                });
            }
        });
        assert_eq!(load.used.count.load(Ordering::Relaxed), 0);
    }
}
