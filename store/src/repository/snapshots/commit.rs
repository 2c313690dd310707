//! Committing snapshots, and handing them out.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, Lease, Receipt, SNAPSHOTS_BYTES},
    base::{
        error::{Error, Result},
        id::{Hash, SnapshotId},
    },
    format::{
        fate::Fate,
        log::Event,
        snapshot::{SnapshotObject, snapshot_id, verify_stored},
    },
    repository::{Repository, index::CommitRow, layout},
};

impl Repository {
    /// Commits a snapshot on behalf of a network identity. The same snapshot again gets the same receipt, so a client
    /// that lost the answer asks once more.
    pub fn commit_as(&self, lease: Lease, snapshot: &[u8], sender: Option<Hash>) -> Result<Receipt> {
        let state = self.state()?;
        let id = snapshot_id(snapshot);
        let _lock = self.writing()?;
        if let Some(row) = self.index.commits().of(&id)? {
            return Ok(Receipt { snapshot: id, received: row.received, now: self.seen()? });
        }
        // Under the lock: whoever has not been told what the newest prune took must not commit what may rely on it.
        let generation = self.generation()?;
        if lease.generation != generation {
            let reason = format!("it began in generation {}, and a prune has begun {generation}", lease.generation);
            return Err(Error::LeaseRefused { reason });
        }
        let stored = verify_stored(snapshot, &self.roster()?, (self.clock)())?;
        if stored.repo != state.config.repo {
            return Err(Error::SnapshotDamaged { snapshot: id, reason: "it is of another repository".into() });
        }
        let last = self.index.commits().newest_of(&stored.client)?.map_or(0, |row| row.sequence);
        if stored.sequence != last + 1 {
            let (got, want) = (stored.sequence, last + 1);
            let reason = format!("snapshot {got} of this client came where {want} was expected (another push ran?)");
            return Err(Error::LeaseRefused { reason });
        }
        self.settle_packs()?;
        self.put_object(&layout::snapshot(id), snapshot)?;
        let (client, target, sequence) = (stored.client, stored.target, stored.sequence);
        self.append(&[Event::Commit { snapshot: id, client, target, sequence, sender }])?;
        // It may pin no longer than its session needs it; that it pins too long after a crash only delays a prune.
        self.index.packs().unpin(lease.session)?;
        let row = self.index.commits().of(&id)?;
        let received = row.ok_or_else(|| Error::damaged("the index", "a new commit is not in it"))?.received;
        Ok(Receipt { snapshot: id, received, now: self.seen()? })
    }

    /// The snapshots that are committed at this place of the log or later and not gone for good.
    pub(in crate::repository) fn committed_from(&self, from: u64) -> Result<Vec<CommittedSnapshot>> {
        // With the packs that another process has brought for them: they are about to be read.
        self.read_in()?;
        let rows = self.index.commits().from(from, COMMITTED_MAX, |row| !Fate::is_expired(row.fate))?;
        let (newest, now) = (self.newest_time()?, (self.clock)());
        let committed = |row: &CommitRow| CommittedSnapshot {
            log_seq: row.seq,
            id: row.snapshot,
            is_due: self.is_due(row, newest, now),
        };
        Ok(rows.iter().map(committed).collect())
    }

    /// All snapshots that should be stored.
    pub(in crate::repository) fn unexpired(&self) -> Result<BTreeSet<SnapshotId>> {
        let (mut from, mut found) = (0, BTreeSet::new());
        loop {
            let rows = self.index.commits().from(from, 4096, |row| !Fate::is_expired(row.fate))?;
            let Some(last) = rows.last() else { return Ok(found) };
            from = last.seq + 1;
            found.extend(rows.iter().map(|row| row.snapshot));
        }
    }

    /// A stored snapshot, whichever copy is whole.
    pub(in crate::repository) fn stored_snapshot(&self, id: SnapshotId) -> Result<Option<Bytes>> {
        let whole = |bytes: &[u8]| match snapshot_id(bytes) == id {
            true => Ok(()),
            false => Err(Error::SnapshotDamaged { snapshot: id, reason: "its bytes do not have its id".into() }),
        };
        self.get_object(&layout::snapshot(id), whole)
    }

    /// The newest snapshots that count, oldest first.
    pub(in crate::repository) fn newest_objects(&self, limit: usize) -> Result<Vec<SnapshotObject>> {
        let mut commits = self.index.commits().newest(limit, |row| row.fate.is_none())?;
        commits.reverse();
        let mut objects = self.objects(commits)?;
        objects.reverse();
        Ok(objects)
    }

    /// The objects of commits, the first of them if they are too long together. One that is lost or damaged comes without a right
    /// body, so that readers can name it.
    pub(in crate::repository) fn objects(&self, commits: Vec<CommitRow>) -> Result<Vec<SnapshotObject>> {
        let (mut objects, mut len) = (Vec::with_capacity(commits.len()), 0);
        for row in commits {
            if len >= SNAPSHOTS_BYTES {
                break;
            }
            let bytes = match self.stored_snapshot(row.snapshot) {
                Ok(bytes) => bytes.unwrap_or_default().to_vec(),
                Err(error) if error.is_unreadable() || matches!(error, Error::SnapshotDamaged { .. }) => {
                    self.backend.get(&layout::snapshot(row.snapshot)).ok().flatten().unwrap_or_default().to_vec()
                }
                Err(error) => return Err(error),
            };
            len += bytes.len();
            objects.push(SnapshotObject { id: row.snapshot, log_seq: row.seq, received: row.received, bytes });
        }
        Ok(objects)
    }
}
