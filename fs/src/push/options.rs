//! What a push is asked to do, and its result.

use std::{io, path::PathBuf};

use bkfs_store::{
    Result,
    access::Seen,
    base::{id::SnapshotId, label::Label, time::Time},
    format::{snapshot::PushStats, tree::Totals},
};

use super::{
    alarm::{Alarm, AlarmLimits},
    stream::StreamFile,
};
use crate::exclude::ExcludeOptions;

/// What to push, and how.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    /// The series that the snapshot belongs to.
    pub target: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// The folder that paths are relative to. Without it they are absolute.
    pub base: Option<PathBuf>,
    /// What to push.
    pub paths: Vec<PathBuf>,
    /// Files of the snapshot that are read from elsewhere. With these, `paths` may be empty.
    pub streams: Vec<StreamFile>,
    /// What to exclude.
    pub exclude: ExcludeOptions,
    /// Find out what would be sent; send and remember nothing.
    pub dry_run: bool,
    /// Name of this machine.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Read every file, whatever the file cache holds.
    pub force: bool,
    /// Read block devices that `paths` name, or that a named link leads to, and store what they hold as files.
    pub reads_devices: bool,
    /// Keep the known-set: a local set of the ids that are known to be stored. For a repository behind a network, where
    /// each question costs a round trip.
    pub keeps_known_set: bool,
    /// Challenge the repository to show some of what the push relies on. For a repository on a server: in a local one,
    /// this program would only ask itself.
    pub challenges: bool,
    /// When files that became unreadable are an alarm. None: never.
    pub alarm: Option<AlarmLimits>,
    /// The program and its version, for the snapshot.
    pub program: String,
    /// Level of compression; 0 stands for the default.
    pub level: i32,
}

impl PushOptions {
    /// Fails if a name is not one that a person can type again.
    pub(super) fn check_names(&self) -> Result<()> {
        Label::Target.check(&self.target)?;
        Label::Host.check(&self.host)?;
        self.tags.iter().try_for_each(|tag| Label::Tag.check(tag).map(drop))
    }
}

/// A path that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedSource {
    /// Where it is.
    pub path: PathBuf,
    /// How many files it holds, all below it included. None if it is not a folder, or does not exist.
    pub files: Option<u64>,
}

/// The result of a push.
#[derive(Debug)]
pub struct PushReport {
    /// The new snapshot; none after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// When the push began.
    pub time: Time,
    /// When the store received the snapshot, by its own clock.
    pub received: Option<Time>,
    /// The point of the log right after the snapshot, to compare with at the next opening.
    pub seen: Option<Seen>,
    /// What the push did.
    pub stats: PushStats,
    /// What the snapshot holds.
    pub totals: Totals,
    /// The paths that were pushed, each once.
    pub sources: Vec<PushedSource>,
    /// Entries that the snapshot lacks, or holds only in part: the first ten thousand of `stats.errors`.
    pub problems: Vec<(PathBuf, io::Error)>,
    /// Patterns that decided about no entry, as they were written. Not known if the push did not look at everything.
    pub unused_patterns: Vec<String>,
    /// That an alarming number of files became unreadable. The snapshot has the tag [`SUSPICIOUS`] then.
    pub alarm: Option<Alarm>,
    /// Whether it looked at everything, and not only at what was reported as changed.
    pub looked_at_everything: bool,
}
