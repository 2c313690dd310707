//! Keeping to a rate.

use std::time::{Duration, Instant};

/// Keeps the average rate of a whole run.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Begins now.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, since: Instant::now(), bytes: 0 }
    }

    /// How long to wait after reading more bytes.
    pub fn wait(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
        due.saturating_sub(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_whole_run() {
        let mut pace = Pace::new(Some(1_000_000));
        let wait = pace.wait(500_000).as_millis();
        assert!((450..=500).contains(&wait), "{wait}");
        let wait = pace.wait(2_500_000).as_millis();
        assert!((2900..=3000).contains(&wait), "{wait}");
        pace.since -= Duration::from_secs(10);
        assert_eq!(pace.wait(1_000_000), Duration::ZERO);
        pace.bytes_per_second = None;
        assert_eq!(pace.wait(u64::MAX / 2), Duration::ZERO);
    }
}
