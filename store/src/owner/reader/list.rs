//! The list of snapshots that a reader shows.

use std::fmt;

use crate::{
    base::{
        error::{Error, Result},
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::snapshot::{Snapshot, SnapshotOrder},
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

impl SnapshotInfo {
    /// Its place among all snapshots.
    pub fn order(&self) -> SnapshotOrder {
        SnapshotOrder::received(self.log_seq)
    }
}

/// A snapshot in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashedSnapshot {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// When it was forgotten, by the store's clock.
    pub since: Time,
    /// Whether a key holder signed that not all of it can be read.
    pub is_broken: bool,
}

/// A snapshot that was committed and cannot be shown: it does not open, its client is not on the roster, or the store
/// withholds it.
#[derive(Debug)]
pub struct BrokenSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The log record that committed it, counted from 0.
    pub log_seq: u64,
    /// The client that pushed it, as the log names it.
    pub client: ClientId,
    /// When the store received it.
    pub received: Time,
    /// Whether it was forgotten and is in the trash.
    pub is_trashed: bool,
    /// Whether a key holder signed that it cannot be read. Then it does not stop a prune.
    pub is_signed: bool,
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

/// A sign that the store has not shown everybody the same log. Each snapshot is still its client's, and can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// A client has seen another log, and signed that with its snapshot.
    Fork {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its client.
        client: ClientId,
        /// The client's machine.
        host: String,
        /// The length of the log that it saw, in records.
        log_len: u64,
    },
    /// A client did not learn of a rotation of the seal key that the log records before its snapshot.
    OldSealKey {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its client.
        client: ClientId,
        /// The client's machine.
        host: String,
        /// The seal key that it sealed to.
        used: u32,
        /// The newest seal key at that time.
        newest: u32,
    },
    /// The log does not lead to the head that the store announced.
    OtherHead {
        /// The length that the store announced, in records.
        len: u64,
    },
    /// The log ends before the length that the store announced.
    Short {
        /// The length that the store announced, in records.
        announced: u64,
        /// How many there were.
        found: u64,
    },
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fork { snapshot, client, host, log_len } => write!(
                f,
                "fork: client {} (on {host:?}) made snapshot {} when it was shown a log of {log_len} entries that are \
                 not the first {log_len} of this one: the store shows its clients different histories, so some \
                 snapshots of others may be hidden here, or this client lies",
                client.short(),
                snapshot.short()
            ),
            Self::OldSealKey { snapshot, client, host, used, newest } => write!(
                f,
                "a rotation was hidden: client {} (on {host:?}) sealed snapshot {} to seal key {used}, when seal key \
                 {newest} was in the log already, and the store took it: holders of the older key can read it",
                client.short(),
                snapshot.short()
            ),
            Self::OtherHead { len } => {
                write!(
                    f,
                    "the first {len} entries of the log are not those that the store announced when it was opened"
                )
            }
            Self::Short { announced, found } => {
                write!(f, "the log ends after {found} entries, but the store announced {announced}")
            }
        }
    }
}

/// All that is known of a repository's snapshots.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The snapshots that count, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// The snapshots in the trash, oldest first.
    pub trash: Vec<TrashedSnapshot>,
    /// The snapshots that are gone without a tombstone of the owner, in the order of the log.
    pub purged: Vec<PurgedSnapshot>,
    /// Length of the log that this list is made from, in records.
    pub log_len: u64,
    /// The snapshots that are not gone and cannot be shown.
    pub broken: Vec<BrokenSnapshot>,
    /// Signs that the store has shown others another log.
    pub contradictions: Vec<Contradiction>,
    /// What else is wrong: gaps in the chains of snapshots, and log records that make no sense.
    pub problems: Vec<Error>,
}

impl SnapshotList {
    /// Notes a contradiction, once.
    pub(super) fn contradict(&mut self, contradiction: Contradiction) {
        if !self.contradictions.contains(&contradiction) {
            self.contradictions.push(contradiction);
        }
    }

    /// Fails if more is wrong than may be collected.
    pub(super) fn check_unsound(&self, max: usize) -> Result<()> {
        let size = self.broken.len() + self.purged.len() + self.problems.len() + self.contradictions.len();
        let what = "the number of entries of the log that make no sense or name what is not there";
        match size <= max {
            true => Ok(()),
            false => Err(Error::TooLarge { what, size: size as u64, limit: max as u64 }),
        }
    }

    /// Everything that is wrong, except what was purged.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.broken.iter().map(|broken| &broken.error).chain(&self.problems)
    }
}
