//! How far a restore has come, and how to stop it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How far a restore has come: counters for other threads to read, and a way to stop it.
#[derive(Debug, Default)]
pub struct RestoreProgress {
    /// Entries to restore, of all kinds; known at the start.
    pub entries_total: AtomicU64,
    /// Bytes of files to restore; known at the start.
    pub bytes_total: AtomicU64,
    /// Entries finished, including those that failed.
    pub entries_done: AtomicU64,
    /// Bytes of the files finished, including holes and files that were left as they are.
    pub bytes_done: AtomicU64,
    /// Problems so far.
    pub problems: AtomicU64,
    stop: AtomicBool,
}

impl RestoreProgress {
    /// Makes the restore end soon, with [`bkfs_store::Error::Interrupted`]. Entries that are complete stay; temporary
    /// files are removed.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
