//! Snapshots: committing them, handing them out, and forgetting them.

mod commit;
pub(super) mod floor;
mod forget;

use std::{collections::BTreeSet, sync::Arc};

use self::floor::Floor;
use super::{
    clock::TrustedNow,
    index::{CommitRow, Index},
    log::Log,
    objects::Objects,
    packs::{files::PackFiles, find::Finder},
    prune::hold::CommitHold,
};
use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, LastSnapshot, SNAPSHOTS_BYTES},
    base::{
        error::{Error, Result},
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::{fate::Fate, snapshot::SnapshotObject},
};

/// The snapshots of a repository.
#[derive(Debug)]
pub(super) struct Snapshots {
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    finder: Arc<Finder>,
    floor: Arc<Floor>,
    hold: Arc<CommitHold>,
}

impl Snapshots {
    pub fn new(
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        finder: Arc<Finder>,
        floor: Arc<Floor>,
    ) -> Self {
        Self { index, objects, log, files, finder, floor, hold: Arc::default() }
    }

    /// The age below which no snapshot is made unrecoverable.
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Whether commits are held back.
    pub fn hold(&self) -> &Arc<CommitHold> {
        &self.hold
    }

    /// The newest snapshot of a client.
    pub fn newest_of(&self, client: &ClientId) -> Result<Option<LastSnapshot>> {
        let row = self.index.commits().newest_of(client)?;
        Ok(row.map(|row| LastSnapshot { id: row.snapshot, sequence: row.sequence }))
    }

    /// The newest snapshots that count, oldest first.
    pub fn newest(&self, limit: usize) -> Result<Vec<SnapshotObject>> {
        let mut commits = self.index.commits().newest(limit, |row| row.fate.is_none())?;
        // The newest come first, so that they are kept if all are too long together.
        commits.reverse();
        let mut objects = self.read(commits)?;
        objects.reverse();
        Ok(objects)
    }

    /// The snapshots that are committed at `from` or later in the log and not gone for good, oldest first.
    pub fn from(&self, from: u64, limit: usize) -> Result<Vec<SnapshotObject>> {
        self.log.follow()?;
        self.read(self.index.commits().from(from, limit, is_unexpired)?)
    }

    /// The snapshots that are committed at `from` or later in the log and not gone for good, without their contents.
    pub fn committed_from(&self, from: u64) -> Result<Vec<CommittedSnapshot>> {
        // Their packs, which another process may have stored, are about to be read.
        self.finder.read_in()?;
        let rows = self.index.commits().from(from, COMMITTED_MAX, is_unexpired)?;
        let now = self.log.trusted_now()?;
        let committed = |row: &CommitRow| CommittedSnapshot {
            log_seq: row.seq,
            id: row.snapshot,
            is_due: self.floor.is_due(row.fate, &now),
        };
        Ok(rows.iter().map(committed).collect())
    }

    /// Until when a snapshot stays in the trash; none if it is not in it, or may leave it now.
    pub fn trash_until(&self, fate: Option<Fate>, now: &TrustedNow) -> Option<Time> {
        match fate {
            Some(Fate::Trash { since, .. }) => self.floor.protected_until(since, now),
            _ => None,
        }
    }

    /// The ids of all snapshots that must be stored.
    pub fn unexpired(&self) -> Result<BTreeSet<SnapshotId>> {
        let (mut from, mut found) = (0, BTreeSet::new());
        loop {
            let rows = self.index.commits().from(from, 4096, is_unexpired)?;
            let Some(last) = rows.last() else { return Ok(found) };
            from = last.seq + 1;
            found.extend(rows.iter().map(|row| row.snapshot));
        }
    }

    /// All snapshots that were ever committed, oldest first: what an operator can see of them without a key.
    pub fn commits(&self) -> Result<Vec<CommitRow>> {
        self.log.follow()?;
        self.index.commits().from(0, usize::MAX, |_| true)
    }

    /// The objects of commits; only the first of them if they are too long together. A snapshot that is lost or damaged
    /// comes without its right contents, so that readers can name it.
    fn read(&self, commits: Vec<CommitRow>) -> Result<Vec<SnapshotObject>> {
        let (mut objects, mut len) = (Vec::with_capacity(commits.len()), 0);
        for row in commits {
            if len >= SNAPSHOTS_BYTES {
                break;
            }
            let bytes = match self.objects.snapshot(row.snapshot) {
                Ok(bytes) => bytes.unwrap_or_default().to_vec(),
                Err(error) if error.is_unreadable() || matches!(error, Error::SnapshotDamaged { .. }) => {
                    self.objects.damaged_snapshot(row.snapshot).unwrap_or_default().to_vec()
                }
                Err(error) => return Err(error),
            };
            len += bytes.len();
            objects.push(SnapshotObject { id: row.snapshot, log_seq: row.seq, received: row.received, bytes });
        }
        Ok(objects)
    }
}

/// Whether a snapshot is not gone for good.
fn is_unexpired(row: &CommitRow) -> bool {
    !Fate::is_expired(row.fate)
}
