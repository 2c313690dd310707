//! What a push is asked to do, and what came of it.

use std::{io, path::PathBuf};

use bkfs_store::{
    access::Seen,
    base::{id::SnapshotId, time::Time},
    format::{snapshot::PushStats, tree::Totals},
};

use crate::exclude::ExcludeOptions;

/// What to push, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The series that the snapshot belongs to.
    pub target: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// Paths are relative to this folder; without it they are absolute.
    pub base: Option<PathBuf>,
    /// What to push.
    pub paths: Vec<PathBuf>,
    /// What to leave out.
    pub exclude: ExcludeOptions,
    /// Find out what would be sent, send nothing and remember nothing.
    pub dry_run: bool,
    /// Name of this machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Read every file, whatever the file cache says.
    pub force: bool,
    /// Keep a local set of the ids that are known to be stored: for a repository behind a network, where each question
    /// costs a round trip.
    pub known_set: bool,
    /// The program and its version, for the snapshot.
    pub program: String,
    /// Level of compression; 0 stands for the default.
    pub level: i32,
}

/// What came of a push.
#[derive(Debug)]
pub struct PushReport {
    /// The new snapshot; none in a dry run.
    pub snapshot: Option<SnapshotId>,
    /// When the push began.
    pub time: Time,
    /// When the store received the snapshot, by its own clock.
    pub received: Option<Time>,
    /// Where the log stood with it: to be compared at the next opening.
    pub seen: Option<Seen>,
    /// What was done.
    pub stats: PushStats,
    /// What the snapshot holds.
    pub totals: Totals,
    /// Entries that are not in the snapshot, or not whole (the first ten thousand of `stats.errors`).
    pub problems: Vec<(PathBuf, io::Error)>,
}
