//! The progress of a check.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::base::error::{Error, Result};

/// The progress of a check or repair: counters that another thread may read, and a way to stop it.
#[derive(Debug, Default)]
pub struct CheckProgress {
    /// Packs to read; 0 until they are listed.
    pub packs_total: AtomicU64,
    /// Packs that were read.
    pub packs: AtomicU64,
    /// Bytes of packs to read.
    pub bytes_total: AtomicU64,
    /// Bytes of packs that were read.
    pub bytes: AtomicU64,
    /// Snapshots to walk.
    pub snapshots_total: AtomicU64,
    /// Snapshots that were walked.
    pub snapshots: AtomicU64,
    /// Tree pages that were loaded.
    pub pages: AtomicU64,
    /// Set this to end the check soon, with [`Error::Interrupted`].
    pub stop: AtomicBool,
}

impl CheckProgress {
    /// Fails with [`Error::Interrupted`] if the check is to end.
    pub(crate) fn fail_if_stopped(&self) -> Result<()> {
        if self.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
