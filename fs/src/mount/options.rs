//! How a repository is mounted.

use bkfs_store::base::id::SnapshotId;

use crate::select::SnapshotFilter;

/// How a repository is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// Show this snapshot at the root. Without it, all snapshots appear in folders.
    pub snapshot: Option<SnapshotId>,
    /// Show only the snapshots that pass this filter, now and later. It does not limit `snapshot`.
    pub filter: SnapshotFilter,
    /// Give every user access, subject to owner, mode and ACL; otherwise only the user who mounts has access.
    pub allow_other: bool,
    /// Threads that answer the kernel, at least 1.
    pub threads: usize,
    /// Devices can be opened (root only).
    pub dev: bool,
    /// setuid and setgid bits have effect (root only).
    pub suid: bool,
    /// Programs cannot be started from the mount.
    pub noexec: bool,
    /// The source that mount(8) and df(1) show.
    pub name: String,
}

impl Default for MountOptions {
    fn default() -> Self {
        // More threads than cores: most of them wait for the store.
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8) * 2;
        Self {
            snapshot: None,
            filter: SnapshotFilter::default(),
            allow_other: false,
            threads,
            dev: false,
            suid: false,
            noexec: false,
            name: "bkfs".to_owned(),
        }
    }
}
