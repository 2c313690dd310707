//! What became of an entry that was restored.

use rustix::fs::Stat;

/// An entry that has its final name.
pub(super) struct Restored {
    /// Device and inode.
    pub(super) identity: (u64, u64),
    pub(super) how: How,
}

/// How an entry came to have its name.
pub(super) enum How {
    /// It existed and was left.
    Kept,
    /// It was linked to another name of the same file.
    Linked,
    /// It was created.
    Created,
}

impl Restored {
    /// Returns the record of an entry that existed and was left.
    pub(super) fn kept(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Kept }
    }

    /// Returns the record of a hard link.
    pub(super) fn linked(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Linked }
    }

    /// Returns the record of a new entry.
    pub(super) fn created(identity: (u64, u64)) -> Self {
        Self { identity, how: How::Created }
    }
}

/// Returns what distinguishes one inode from another: device and number.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
