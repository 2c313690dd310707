//! How a file system is set up.

use super::attr::MountOwner;
use crate::select::SnapshotFilter;

/// How a file system is set up.
#[derive(Debug, Clone)]
pub struct VfsOptions {
    /// Who owns the folders above the snapshots.
    pub owner: MountOwner,
    /// Which snapshots to show.
    pub filter: SnapshotFilter,
    /// Threads that read ahead; 0 turns read-ahead off.
    pub prefetch_threads: usize,
    /// How far to read ahead of one reader, in bytes.
    pub prefetch_bytes: u64,
}

impl VfsOptions {
    /// Returns the settings for a mount by this owner.
    pub fn new(owner: MountOwner) -> Self {
        Self { owner, filter: SnapshotFilter::default(), prefetch_threads: 4, prefetch_bytes: 8 * 1024 * 1024 }
    }
}
