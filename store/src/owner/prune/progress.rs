//! The progress of a prune.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::base::error::{Error, Result};

/// The progress of a prune: counters that another thread may read, and a way to stop it.
#[derive(Debug, Default)]
pub struct PruneProgress {
    /// Snapshots to walk.
    pub snapshots_total: AtomicU64,
    /// Snapshots that were walked.
    pub snapshots: AtomicU64,
    /// Tree pages that were loaded.
    pub pages: AtomicU64,
    /// Packs to sweep; 0 until they are condemned.
    pub packs_total: AtomicU64,
    /// Packs that were swept.
    pub packs: AtomicU64,
    /// Set this to end the prune soon, with [`Error::Interrupted`]. The next prune continues where it ended.
    pub stop: AtomicBool,
}

impl PruneProgress {
    /// Fails with [`Error::Interrupted`] if the prune is to end.
    pub(super) fn fail_if_stopped(&self) -> Result<()> {
        if self.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
