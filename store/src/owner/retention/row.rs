//! The rows that retention works on.
//!
//! The client and the target of a snapshot are authenticated: the client signs both. Host and paths are only what that
//! client claims.

use crate::{
    base::{
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::snapshot::{PathBytes, SnapshotOrder},
};

/// What retention knows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// When the store received it, by the store's clock.
    pub received: Time,
    /// The log record that committed it.
    pub log_seq: u64,
    /// The snapshot.
    pub id: SnapshotId,
    /// The client that signed it.
    pub client: ClientId,
    /// The name of the client's machine, as the client states it.
    pub host: String,
    /// The target, signed by the client.
    pub target: String,
    /// The paths that were pushed.
    pub paths: Vec<PathBytes>,
    /// Its tags, including those that were added later.
    pub tags: Vec<String>,
    /// Sum of the sizes of its files, in bytes.
    pub bytes: u64,
    /// How many files it has.
    pub files: u64,
}

impl SnapshotRow {
    /// Its place among all snapshots.
    pub fn order(&self) -> SnapshotOrder {
        SnapshotOrder::received(self.log_seq)
    }
}
