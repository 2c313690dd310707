//! Bounds of the bandwidth that a client uses, for the bulk bytes of packs and frames.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Bytes are let pass in pieces of at most this length.
pub(super) const PIECE: usize = 16 * 1024;
/// How much time's worth of bytes may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Lets so many bytes pass in a second, by all calls of a client together.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Bytes in a second; none for no bound.
    rate: Option<u64>,
    /// When what was let pass so far will have passed at this rate.
    busy_until: Option<Instant>,
}

impl Throttle {
    /// Sets the bound. A bound of 0 bytes counts as 1.
    pub fn set(&self, rate: Option<u64>) {
        let mut state = self.0.lock();
        *state = State { rate: rate.map(|rate| rate.max(1)), busy_until: None };
    }

    /// Whether there is a bound.
    pub fn is_set(&self) -> bool {
        self.0.lock().rate.is_some()
    }

    /// Waits until so many more bytes may pass.
    pub async fn pass(&self, bytes: usize) {
        let wait = self.0.lock().wait(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl State {
    /// Lets bytes pass. Returns how long to wait before they do.
    fn wait(&mut self, bytes: usize, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.busy_until.map_or(earliest, |until| until.max(earliest));
        self.busy_until = begin.checked_add(Duration::from_secs_f64(bytes as f64 / rate as f64));
        begin.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_and_a_pause_is_worth_little() {
        let (mut state, start) = (State { rate: Some(1000), busy_until: None }, Instant::now() + BURST);
        let at = |ms| start + Duration::from_millis(ms);
        // What passes first is worth the burst and some time after it.
        assert_eq!(state.wait(600, at(0)), Duration::ZERO);
        assert_eq!(state.wait(1000, at(0)), Duration::from_millis(500));
        assert_eq!(state.wait(1, at(1000)), Duration::from_millis(500));
        // After an hour, no more than the burst has been saved up.
        let later = at(3_600_000);
        assert_eq!(state.wait(1100, later), Duration::ZERO);
        assert_eq!(state.wait(1, later), Duration::from_secs(1));
        assert_eq!(State::default().wait(usize::MAX, start), Duration::ZERO);
    }
}
