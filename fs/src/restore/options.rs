//! How to restore.

use super::owner::RestoreOwners;

/// How to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Replace existing entries that differ, and set the attributes of those that do not. A folder is never replaced
    /// by another kind of entry: its contents would be lost.
    pub overwrite: bool,
    /// Compare contents with what is stored: those of existing files that look the same, and those of files that were
    /// just written.
    pub verify: bool,
    /// Which owner the restored entries get, where the system lets us choose.
    pub owners: RestoreOwners,
    /// Restore set-id bits of files, `security.*` and `trusted.*` attributes, and device nodes. For snapshots of
    /// clients that are trusted with the machine ([`crate::privileges`]).
    pub privileged: bool,
    /// Number of threads; at least 1.
    pub threads: usize,
    /// Roughly how many bytes of contents all threads together hold at a time.
    pub memory_bytes: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        // More threads than cores: they spend most of their time waiting for the store or the disk.
        let cores = crate::pool::cores();
        Self {
            overwrite: false,
            verify: false,
            owners: RestoreOwners::Numeric,
            privileged: false,
            threads: (cores * 2).clamp(8, 16),
            memory_bytes: 32 * 1024 * 1024,
        }
    }
}
