//! How far a push is: counters that whoever shows them reads whenever it likes, and the way to stop it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// Counters of a push under way. All only grow.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files looked at, unchanged ones too.
    pub files: AtomicU64,
    /// Directories finished.
    pub dirs: AtomicU64,
    /// Bytes of all files looked at.
    pub bytes: AtomicU64,
    /// Files whose contents were read.
    pub files_read: AtomicU64,
    /// Bytes of contents read.
    pub bytes_read: AtomicU64,
    /// Chunks that the repository did not have.
    pub chunks_new: AtomicU64,
    /// Their bytes.
    pub bytes_new: AtomicU64,
    /// Bytes of packs that the repository has acknowledged.
    pub bytes_stored: AtomicU64,
    /// Entries that could not be read, or not whole.
    pub errors: AtomicU64,
    /// Most bytes of contents that were held at once between reading and sealing.
    pub bytes_held_max: AtomicU64,
    /// Set to stop the push at the next opportunity.
    pub stop: AtomicBool,
    /// The entry that was last begun.
    pub current: Mutex<PathBuf>,
}

impl Progress {
    /// Whether the push is to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
