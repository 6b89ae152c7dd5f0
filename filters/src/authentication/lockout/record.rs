//! What is remembered of one address or one claimed identity, and when it is locked.

use std::time::Duration;

use gapura_config::model;

/// The numbers of `[lockout]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub failures: u32,
    pub window: Duration,
    /// Of the first lock.
    pub duration: Duration,
    pub max_duration: Duration,
}

impl From<&model::Lockout> for Terms {
    fn from(lockout: &model::Lockout) -> Self {
        Self {
            failures: lockout.failures,
            window: lockout.window.get(),
            duration: lockout.duration.get(),
            max_duration: lockout.max_duration.get(),
        }
    }
}

/// Times are those of one monotonic clock. A record of zeros is one that nothing was noted in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Since then, of the window that began with the first of them.
    failures: u32,
    since: Duration,
    /// Locks so far: the next one lasts twice as long as the last.
    level: u8,
    until: Duration,
}

impl Record {
    /// Notes a failure. How long the lock lasts that begins with it, if one does.
    pub(super) fn fail(&mut self, now: Duration, terms: &Terms) -> Option<Duration> {
        if now >= self.since + terms.window {
            (self.failures, self.since) = (0, now);
        }
        self.failures += 1;
        (self.failures >= terms.failures).then(|| self.lock(now, terms))
    }

    /// How long the lock lasts.
    pub(super) fn lock(&mut self, now: Duration, terms: &Terms) -> Duration {
        if now >= self.until + terms.max_duration {
            self.level = 0;
        }
        let lasts = terms.duration.saturating_mul(1 << self.level.min(20)).min(terms.max_duration);
        *self = Self { failures: 0, since: now, level: self.level.saturating_add(1), until: now + lasts };
        lasts
    }

    /// Another instance says that it is locked for so long.
    pub(super) fn hold(&mut self, now: Duration, left: Duration) {
        self.until = self.until.max(now + left);
        self.level = self.level.max(1);
    }

    /// What is left of a lock.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        self.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// It says nothing more than a record of zeros.
    pub(super) fn is_over(&self, now: Duration, terms: &Terms) -> bool {
        now >= self.since + terms.window && (self.level == 0 || now >= self.until + terms.max_duration)
    }

    /// Nothing was ever locked, so to forget it costs a few failures.
    pub(super) fn is_light(&self) -> bool {
        self.level == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        failures: 3,
        window: Duration::from_secs(60),
        duration: Duration::from_secs(30),
        max_duration: Duration::from_secs(100),
    };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_lock_is_twice_as_long_up_to_the_longest() {
        let mut record = Record::default();
        let mut now = at(1000);
        for lasts in [30, 60, 100, 100] {
            assert_eq!([record.fail(now, &TERMS), record.fail(now, &TERMS)], [None, None]);
            assert_eq!(record.fail(now, &TERMS), Some(at(lasts)));
            assert_eq!(record.left(now), Some(at(lasts)));
            now += at(lasts);
            assert_eq!(record.left(now), None, "the end is the first instant without it");
        }
        now += TERMS.max_duration;
        assert!(record.is_over(now, &TERMS));
        let lock = (0..3).find_map(|_| record.fail(now, &TERMS));
        assert_eq!(lock, Some(at(30)), "after a quiet time it begins anew");
    }

    #[test]
    fn failures_in_different_windows_do_not_add_up() {
        let mut record = Record::default();
        for round in 0..50 {
            for _ in 0..2 {
                assert_eq!(record.fail(at(60 * round), &TERMS), None);
            }
            assert!(!record.is_over(at(60 * round + 59), &TERMS));
        }
        assert!(record.is_light() && record.is_over(at(60 * 50), &TERMS));
    }

    #[test]
    fn what_another_instance_says_never_shortens_a_lock() {
        let mut record = Record::default();
        record.hold(at(5), at(50));
        record.hold(at(6), at(1));
        assert_eq!(record.left(at(10)), Some(at(45)));
        assert!(!record.is_light() && !record.is_over(at(100), &TERMS));
    }

    #[test]
    fn no_number_of_locks_overflows() {
        let mut record = Record::default();
        let terms = Terms { max_duration: at(86_400), ..TERMS };
        for round in 0..1000 {
            assert!(record.lock(at(round), &terms) <= terms.max_duration);
        }
    }
}
