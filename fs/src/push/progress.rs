//! The progress of a push: counters that can be read at any time, and the way to stop the push.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

/// The counters of a running push.
#[derive(Debug, Default)]
pub struct PushProgress {
    /// Files that were looked at, unchanged ones included.
    pub files: AtomicU64,
    /// Directories that are finished.
    pub dirs: AtomicU64,
    /// Bytes of all files that were looked at.
    pub bytes: AtomicU64,
    /// What `bytes` was at the end of the last push of the same paths; 0 if there was none.
    pub bytes_expected: AtomicU64,
    /// Files whose contents were read.
    pub files_read: AtomicU64,
    /// Bytes of contents that were read.
    pub bytes_read: AtomicU64,
    /// Chunks that the repository did not have.
    pub chunks_new: AtomicU64,
    /// Bytes of these chunks.
    pub bytes_new: AtomicU64,
    /// Bytes of packs that the repository has acknowledged. In a dry run, of packs that would be sent.
    pub bytes_stored: AtomicU64,
    /// Entries that could not be read, or not as a whole.
    pub errors: AtomicU64,
    /// The most bytes of contents that were held at a time between reading and sealing.
    pub bytes_held_max: AtomicU64,
    /// Set this to stop the push as soon as possible.
    pub stop: AtomicBool,
    /// The file that was started last.
    pub current: Mutex<PathBuf>,
}

impl PushProgress {
    /// Whether the push was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
