//! When a watch pushes.

use std::time::{Duration, Instant};

use super::Noted;

/// How soon after changes a push comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Without a change for this long, changes have settled.
    pub settle: Duration,
    /// The longest that a change waits, while others go on.
    pub at_most: Duration,
    /// The shortest time from one push to the next.
    pub at_least: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self { settle: secs(2), at_most: secs(30), at_least: secs(10) }
    }
}

/// What is known of a watch's pushes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// When the last push ended.
    pub last_push: Option<Instant>,
    /// Pushes that failed since the last that did not.
    pub failures: u32,
}

/// The first pause after a push that failed. Each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between pushes that fail.
const PAUSE_MAX: Duration = Duration::from_secs(300);

impl Timing {
    /// When the changes that were `noted` are to be pushed.
    pub fn due(&self, pace: &Pace, noted: &Noted) -> Instant {
        let settled = (noted.last + pace.settle).min(noted.first + pace.at_most);
        let pause = match self.failures {
            0 => pace.at_least,
            failures => pace.at_least.max(PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(PAUSE_MAX)),
        };
        match self.last_push {
            Some(last) => settled.max(last + pause),
            None => settled,
        }
    }

    /// Notes that a push ended.
    pub fn pushed(&mut self, at: Instant, is_success: bool) {
        self.last_push = Some(at);
        self.failures = if is_success { 0 } else { self.failures.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn noted(begin: Instant, first: u64, last: u64) -> Noted {
        let at = |secs| begin + Duration::from_secs(secs);
        Noted { first: at(first), first_time: SystemTime::UNIX_EPOCH, last: at(last) }
    }

    #[test]
    fn a_push_comes_when_changes_settle_or_have_waited_or_may_come_again() {
        let (begin, pace) = (Instant::now(), Pace::default());
        let due = |timing: Timing, first, last| (timing.due(&pace, &noted(begin, first, last)) - begin).as_secs();
        assert_eq!(due(Timing::default(), 0, 0), 2);
        assert_eq!(due(Timing::default(), 0, 20), 22);
        assert_eq!(due(Timing::default(), 0, 29), 30, "at the latest");
        let mut timing = Timing::default();
        timing.pushed(begin + Duration::from_secs(30), true);
        assert_eq!(due(timing, 31, 31), 40, "not too often");
        assert_eq!(due(timing, 60, 60), 62);
    }

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses() {
        let (begin, pace) = (Instant::now(), Pace::default());
        let mut timing = Timing::default();
        let pauses = [(); 9].map(|()| {
            timing.pushed(begin, false);
            (timing.due(&pace, &noted(begin, 0, 0)) - begin).as_secs()
        });
        assert_eq!(pauses, [10, 10, 20, 40, 80, 160, 300, 300, 300]);
        timing.pushed(begin, true);
        assert_eq!((timing.due(&pace, &noted(begin, 0, 0)) - begin).as_secs(), 10);
        timing.failures = u32::MAX;
        timing.pushed(begin, false);
        assert_eq!((timing.due(&pace, &noted(begin, 0, 0)) - begin).as_secs(), 300);
    }
}
