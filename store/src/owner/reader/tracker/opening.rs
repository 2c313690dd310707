//! Verifying and opening fetched snapshots, on all processors.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    base::{
        error::Result,
        id::{ClientId, SnapshotId},
    },
    format::snapshot::{SnapshotObject, snapshot_id},
    owner::{
        keyring::KeyRing,
        reader::{
            commits::{Commit, log_entry},
            facts::{Facts, OpenedSnapshot},
            roster::RosterCache,
        },
        workers,
    },
};

/// What became of a fetched snapshot.
pub(super) enum Opening {
    New(Box<OpenedSnapshot>),
    /// It is the one that is remembered.
    Remembered,
}

/// Opens snapshots.
pub(super) struct Opener {
    pub keys: Arc<KeyRing>,
    pub roster: Arc<RosterCache>,
}

impl Opener {
    /// Whether what a client stored counted when the store received a snapshot, according to the newest roster that is
    /// known.
    pub fn counts(&self, client: ClientId, commit: &Commit) -> Result<bool> {
        Ok(self.roster.newest()?.active_client(client, commit.received, String::new).is_ok())
    }

    /// Opens the objects of commits. `remembered` returns what is remembered of a snapshot. The result has an entry for
    /// each commit whose object is there, by its log record.
    pub fn open_all(
        &self,
        commits: &[Commit],
        mut objects: HashMap<u64, SnapshotObject>,
        remembered: impl Fn(&SnapshotId) -> Option<Facts> + Sync,
    ) -> HashMap<u64, Result<Opening>> {
        let due: Vec<(&Commit, SnapshotObject)> =
            commits.iter().filter_map(|commit| Some((commit, objects.remove(&commit.log_seq)?))).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(due.len());
        let openings = Mutex::new(HashMap::with_capacity(due.len()));
        let _ = workers::for_each(due.into_iter(), threads, |(commit, object)| {
            let opening = self.open(commit, object, &remembered);
            openings.lock().insert(commit.log_seq, opening);
            Ok(())
        });
        openings.into_inner()
    }

    fn open(
        &self,
        commit: &Commit,
        object: SnapshotObject,
        remembered: &impl Fn(&SnapshotId) -> Option<Facts>,
    ) -> Result<Opening> {
        if object.id != commit.id {
            let (entry, other) = (log_entry(commit.log_seq), object.id);
            return Err(commit.damaged(format!("{entry} committed it, but the store returns {other} instead")));
        }
        // The log says when it was received. What the store says with the object is not needed.
        let object = SnapshotObject { received: commit.received, ..object };
        if let Some(facts) = remembered(&commit.id)
            && snapshot_id(&object.bytes) == commit.id
            && self.counts(facts.client, commit)?
        {
            return Ok(Opening::Remembered);
        }
        let stored = self.roster.verify(&object)?;
        let snapshot = self.keys.open_snapshot(&stored, object.id)?;
        let facts = Facts::of(&stored, &snapshot);
        Ok(Opening::New(Box::new(OpenedSnapshot { facts, snapshot })))
    }
}
