//! Pruning with the full key: finds what snapshots reach, tells the store, and has it reclaim the space of everything
//! else.
//!
//! ```text
//! sweep what an earlier prune left ─► begin ─► mark ─► condemn ─► sweep, until nothing is left
//!                                               ▲         │
//!                                               └─────────┘  snapshots were committed in between
//! ```
//!
//! Between mark and condemn, a client that may push rewrites frames that are mostly dead (`reframe`).
//!
//! The trees of all snapshots are walked, including those in the trash. What each page names is remembered from one
//! prune to the next (`graph`), so only new pages are fetched. If there are many ids, they are kept on disk, so memory
//! hardly grows with the repository. Except for frames that are rewritten, no data crosses the network: the store
//! receives about 3 bytes for each id, and copies by itself what it must copy.
//!
//! If a tree cannot be read, the prune ends before anything is condemned, and reports the snapshot (`blocking`). A
//! snapshot that a key holder forgot as broken does not stop it: what can be read of it is kept. A prune may be stopped
//! at any moment; the next one continues. The store's half of a prune is described in
//! `docs/design/0012-condemn-at-once.md`.

mod blocking;
mod blocks;
mod damage;
mod generations;
mod graph;
mod live_keys;
mod marker;
mod options;
mod progress;
mod reframe;
mod report;
mod run;
mod scratch;
mod sent_filters;
mod session;
mod snapshots;

pub use blocking::{BlockingSnapshot, BrokenPart, find_blocking};
pub use options::{PruneOptions, Pruner};
pub use progress::PruneProgress;
pub use report::PruneReport;

use std::time::Duration;

use self::{
    generations::Generations,
    run::{Next, PruneRun, sweep},
    session::{Condemned, Marking, space},
};
use crate::base::error::{Error, Result};

/// How often snapshots that are committed during the prune are marked before it gives up. After a few rounds the store
/// holds commits back, so only a prune that cannot mark what is left in that time comes this far.
const ROUNDS_MAX: usize = 50;
/// How often a prune begins again because something was found to be damaged or forged. Whoever forges without a break
/// must not keep it busy for ever.
const ATTEMPTS_MAX: usize = 10;

impl Pruner<'_> {
    /// Prunes the repository. What is condemned or swept is durable on return. Fails with [`Error::LeaseRefused`] if
    /// another prune runs at the same time, or if snapshots are committed faster than they can be marked.
    pub fn run(&self, options: &PruneOptions, progress: &PruneProgress) -> Result<PruneReport> {
        let before = space(self.access)?;
        let mut report = PruneReport::default();
        for attempt in 1.. {
            let from = self.access.wait_log(0, Duration::ZERO)?;
            match self.attempt(options, progress, &mut report) {
                // Damage and forged copies that this prune, or anyone, has found are recorded as lost, and that ends
                // every prune that has begun. They are not found again.
                Err(Error::LeaseRefused { .. })
                    if attempt < ATTEMPTS_MAX && Generations::since(self.access, from)?.are_losses() =>
                {
                    let PruneReport { swept, expired, .. } = report;
                    report = PruneReport { swept, expired, ..PruneReport::default() };
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        report.before = before;
        report.after = if options.dry_run { before } else { space(self.access)? };
        Ok(report)
    }

    fn attempt(&self, options: &PruneOptions, progress: &PruneProgress, report: &mut PruneReport) -> Result<()> {
        if !options.dry_run {
            // A prune that was cut short is finished first: what it condemned is fixed, and needs no marks.
            sweep(Condemned::left_by_earlier(self.access), progress, &mut report.swept)?;
        }
        let mut marking = Marking::begin(self.access, options)?;
        let mut run = PruneRun::new(self, options, progress, report);
        for _ in 0..ROUNDS_MAX {
            match run.round(marking)? {
                Next::Mark(more) => marking = more,
                Next::End => return Ok(()),
            }
        }
        Err(Error::LeaseRefused { reason: "snapshots are committed faster than they can be marked".into() })
    }
}
