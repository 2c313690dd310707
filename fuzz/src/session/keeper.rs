//! The store's operator, and the store's clock.

use std::sync::atomic::Ordering::SeqCst;

use bkfs_store::{
    access::{ForgetRequest, Maintain, Manage, PruneRequest},
    repository::scrub::{ScrubOptions, ScrubProgress},
};

use super::{CLOCK, DAY, HOUR, World};

/// How far the clock goes on or jumps, in seconds.
const MOVES: [i64; 12] =
    [60, HOUR, HOUR + 1, DAY, 2 * DAY, 3 * DAY, 8 * DAY, 40 * DAY, -HOUR, -3 * DAY, 3650 * DAY, -3650 * DAY];

impl World<'_> {
    /// The clock goes on for some time that the program chooses, and is looked at on the way, or jumps.
    pub(super) fn set_clock(&mut self) {
        let (how, looks) = (self.input.u8(), self.repo());
        let by = MOVES[usize::from(how) % MOVES.len()];
        let parts = if how >= 128 && by > 0 { (by / DAY).clamp(1, 40) } else { 1 };
        for _ in 0..parts {
            let now = CLOCK.load(SeqCst);
            CLOCK.store((now + by / parts).max(0), SeqCst);
            self.ahead += (by / parts).max(0);
            // A look at the clock. It asks for nothing.
            looks.forget(&ForgetRequest::default()).expect("nothing is forgotten");
        }
    }

    /// The operator does what operators do.
    pub(super) fn keep(&mut self) {
        let repo = self.repo();
        match self.input.u8() % 5 {
            0 => {
                repo.operator().tidy().expect("it is tidied");
                self.note_expiry();
            }
            1 => drop(repo.operator().revive_all().expect("all is brought back")),
            2 => drop(repo.operator().reclaim().expect("room is made")),
            3 => drop(repo.prune(&PruneRequest::Abort).expect("what is condemned is live again")),
            _ => {
                let report = repo.scrub(&ScrubOptions::default(), &ScrubProgress::default()).expect("it is scrubbed");
                assert_eq!(report.problems_total, 0, "{:?}", report.problems);
            }
        }
    }
}
