//! Holding commits back, so that a prune comes to an end.
//!
//! A prune may condemn only when everything that was committed is marked. Commits without a break, from many clients or
//! from one that means harm, would put that off for ever. So a prune that has marked several times can have commits
//! refused for a moment. Clients try again; then they learn what the prune took.
//!
//! The time is limited, and is followed by a pause, so the holder of the prune permission cannot stop pushes. It is in
//! memory: processes that use one repository in a folder do not see each other's.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long commits are held back. Enough to mark some thousand small snapshots over a slow network.
const HOLD: Duration = Duration::from_secs(20);
/// How long commits are taken after that.
const PAUSE: Duration = Duration::from_secs(20);

/// Whether commits are held back at this moment.
#[derive(Debug, Default)]
pub struct CommitHold {
    until: Mutex<Option<Instant>>,
}

impl CommitHold {
    /// Holds commits back from now on, unless that ended only just now.
    pub fn begin(&self, now: Instant) {
        let mut until = self.until.lock();
        if until.is_none_or(|until| now >= until + PAUSE) {
            *until = Some(now + HOLD);
        }
    }

    /// Takes commits again.
    pub fn end(&self, now: Instant) {
        let mut until = self.until.lock();
        *until = until.map(|until| until.min(now));
    }

    /// For how long commits are still held back; none if they are not.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let until = *self.until.lock();
        until.map(|until| until.saturating_duration_since(now)).filter(|rest| !rest.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_and_is_followed_by_a_pause() {
        let (hold, start) = (CommitHold::default(), Instant::now());
        assert_eq!(hold.rest(start), None);
        hold.begin(start);
        assert_eq!(hold.rest(start), Some(HOLD));
        hold.begin(start + HOLD / 2);
        assert_eq!(hold.rest(start + HOLD), None, "asking again does not make it longer");
        hold.begin(start + HOLD);
        assert_eq!(hold.rest(start + HOLD), None, "commits are taken between two holds");
        hold.begin(start + HOLD + PAUSE);
        assert_eq!(hold.rest(start + HOLD + PAUSE), Some(HOLD));
        hold.end(start + HOLD + PAUSE);
        assert_eq!(hold.rest(start + HOLD + PAUSE), None);
    }
}
