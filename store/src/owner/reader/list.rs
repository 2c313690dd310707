//! The list of snapshots that a reader shows.

use std::fmt;

use crate::{
    base::{
        error::Error,
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::snapshot::Snapshot,
};

/// A snapshot, verified and opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// The log record that committed it, counted from 0.
    pub log_seq: u64,
    /// When the store received it.
    pub received: Time,
    /// The client that pushed it.
    pub client: ClientId,
    /// Its contents.
    pub snapshot: Snapshot,
}

/// A snapshot in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedSnapshot {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// When it was forgotten, by the store's clock.
    pub since: Time,
}

/// A snapshot that was committed and cannot be shown: it does not open, its client is not on the roster, or the store
/// withholds it.
#[derive(Debug)]
pub struct BrokenSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the store received it.
    pub received: Time,
    /// Whether it was forgotten and is in the trash.
    pub is_trashed: bool,
    /// What is wrong with it.
    pub error: Error,
}

/// A snapshot that the store's operator removed, without a tombstone of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The log record that removed it, counted from 0.
    pub log_seq: u64,
}

impl fmt::Display for PurgedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, log_seq } = self;
        write!(
            f,
            "snapshot {id} was removed by the server's operator, not with a key of this repository (entry {log_seq} of \
             the log); if you agreed to that, acknowledge it with `bkfs forget {id}`"
        )
    }
}

/// All that is known of a repository's snapshots.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The snapshots that count, in the order of their commits.
    pub snapshots: Vec<SnapshotInfo>,
    /// The snapshots in the trash, in the order of their commits.
    pub trash: Vec<TrashedSnapshot>,
    /// The snapshots that are gone without a tombstone of the owner, in the order of the log.
    pub purged: Vec<PurgedSnapshot>,
    /// Length of the log that this list is made from, in records.
    pub log_len: u64,
    /// The snapshots that are not gone and cannot be shown.
    pub broken: Vec<BrokenSnapshot>,
    /// What else is wrong: gaps in the chains of snapshots, and log records that make no sense.
    pub problems: Vec<Error>,
}

impl SnapshotList {
    /// Everything that is wrong, except what was purged.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.broken.iter().map(|broken| &broken.error).chain(&self.problems)
    }
}
