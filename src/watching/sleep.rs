//! Noticing that the machine slept: what happened to its disks meanwhile, no event tells.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A clock that stands still this much longer than another shows a sleep.
const NOTICEABLE: Duration = Duration::from_secs(3);

/// Compares the clock that stands still during a sleep with the one that does not.
pub struct SleepDetector {
    slept: Duration,
}

impl SleepDetector {
    /// Begins to compare.
    pub fn new() -> Self {
        Self { slept: slept() }
    }

    /// Whether the machine slept since this was last asked.
    pub fn has_slept(&mut self) -> bool {
        let before = std::mem::replace(&mut self.slept, slept());
        is_noticeable(before, self.slept)
    }
}

fn is_noticeable(before: Duration, now: Duration) -> bool {
    now.saturating_sub(before) >= NOTICEABLE
}

/// How long the machine has slept since it was started.
fn slept() -> Duration {
    let time = |clock| {
        let time = clock_gettime(clock);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    time(ClockId::Boottime).saturating_sub(time(ClockId::Monotonic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleep_is_noticed() {
        assert!(!SleepDetector::new().has_slept());
        let secs = Duration::from_secs;
        assert!(is_noticeable(secs(10), secs(14)) && !is_noticeable(secs(10), secs(11)));
        assert!(!is_noticeable(secs(10), secs(5)));
        let mut detector = SleepDetector { slept: Duration::ZERO };
        let has_slept = slept() >= NOTICEABLE;
        assert_eq!(detector.has_slept(), has_slept);
        assert!(!detector.has_slept());
    }
}
