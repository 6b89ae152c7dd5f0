//! When a backend that fails is asked again.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// In a row.
    failures: u32,
    /// Nobody is asked before.
    until: Option<Instant>,
    pause: Duration,
}

/// In a row, before nobody is asked.
const FAILURES: u32 = 5;
const FIRST: Duration = Duration::from_millis(500);
const AT_MOST: Duration = Duration::from_secs(15);

impl Breaker {
    /// While it is open, one question after each pause is let through.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.until = Some(now + self.pause);
                true
            }
        }
    }

    /// Whether it was open.
    pub(super) fn succeeded(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }

    /// The pause, where it opens with this failure.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures += 1;
        if self.failures < FAILURES {
            return None;
        }
        let opens = self.until.is_none();
        self.pause = if opens { FIRST } else { (self.pause * 2).min(AT_MOST) };
        self.until = Some(now + self.pause);
        opens.then_some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_through_after_each_pause() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..FAILURES - 1 {
            assert!(breaker.admits(start) && breaker.failed(start).is_none());
        }
        assert!(!breaker.succeeded());
        for n in 1..=FAILURES {
            assert!(breaker.admits(start));
            assert_eq!(breaker.failed(start), (n == FAILURES).then_some(FIRST), "{n}");
        }
        assert!(!breaker.admits(start + FIRST / 2));
        assert!(breaker.admits(start + FIRST) && !breaker.admits(start + FIRST), "one of them");
        assert_eq!(breaker.failed(start + FIRST), None, "the log has heard of it");
        assert!(!breaker.admits(start + FIRST * 2) && breaker.admits(start + FIRST * 3));
        for _ in 0..20 {
            breaker.failed(start);
        }
        assert!(breaker.admits(start + AT_MOST));
        assert!(breaker.succeeded() && breaker.admits(start));
    }
}
