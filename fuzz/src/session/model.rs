//! What must be there, and a look whether it is.

use std::collections::BTreeSet;

use bkfs_store::{
    access::Read,
    base::id::SnapshotId,
    owner::reader::{Contradiction, SnapshotInfo},
};

use super::{DAY, World};
use crate::{
    client::contents,
    model::{State, Tree},
    support::world::{Files, read_files},
};

/// By how much a jump of the store's clock can make something due early.
const STEP: i64 = 2 * DAY;

/// A snapshot that an honest client has tried to commit.
pub struct Entry {
    pub id: SnapshotId,
    pub state: State,
    pub tree: Tree,
    /// What [`World::ahead`] was when it was committed, and when it was forgotten.
    pub committed: i64,
    pub forgotten: i64,
    /// Whether something was asked of the store that lets snapshots in the trash expire.
    pub may_expire: bool,
}

impl World<'_> {
    /// Whether the floor certainly protects what began at this time.
    pub(super) fn is_protected(&self, since: i64) -> bool {
        self.ahead - since + STEP < self.floor as i64
    }

    /// The store was asked to let snapshots in the trash expire.
    pub(super) fn note_expiry(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.may_expire |= entry.state == State::Forgotten);
    }

    /// Checks that everything is there, with a new reader.
    pub(super) fn verify(&mut self) {
        self.verify_log();
        let reader = self.reader();
        let (listed, trash) = reader.with_snapshots(|list| self.look_at(list)).expect("snapshots are listed");
        for entry in &self.entries {
            let (counts, trashed) =
                (listed.iter().find(|info| info.id == entry.id), trash.iter().find(|info| info.id == entry.id));
            match entry.state {
                State::Counts => {
                    assert!(counts.is_some(), "snapshot {} is gone; in the trash: {}", entry.id, trashed.is_some())
                }
                State::Forgotten => {
                    assert!(counts.is_none(), "snapshot {} was forgotten", entry.id);
                    let must = !entry.may_expire || self.is_protected(entry.forgotten);
                    assert!(trashed.is_some() || !must, "snapshot {} has left the trash", entry.id);
                }
                State::Gone => assert!(counts.or(trashed).is_none(), "snapshot {} was to be gone for good", entry.id),
                State::Unknown => {}
            }
            if let Some(info) = counts.or(trashed) {
                let files = read_files(&reader, &info.snapshot.root);
                let files = files.unwrap_or_else(|error| panic!("snapshot {}: {error}", entry.id));
                let pushed: Files = entry.tree.iter().map(|(name, at)| (name.clone(), contents(*at))).collect();
                assert!(files == pushed, "snapshot {} holds something else", entry.id);
            }
        }
    }

    /// Nothing is wrong with the snapshots of honest clients. Returns those that count, and those in the trash.
    fn look_at(&self, list: &bkfs_store::owner::reader::SnapshotList) -> (Vec<SnapshotInfo>, Vec<SnapshotInfo>) {
        let honest: BTreeSet<SnapshotId> = self.entries.iter().map(|entry| entry.id).collect();
        for broken in &list.broken {
            assert!(!honest.contains(&broken.id), "an honest client's snapshot is broken: {broken:?}");
        }
        for contradiction in &list.contradictions {
            match contradiction {
                Contradiction::Fork { snapshot, .. } if !honest.contains(snapshot) => {}
                _ => panic!("{contradiction}"),
            }
        }
        for problem in &list.problems {
            let text = problem.to_string();
            assert!(honest.iter().all(|id| !text.contains(&id.to_string())), "{text}");
        }
        assert!(list.purged.is_empty(), "{:?}", list.purged);
        (list.snapshots.clone(), list.trash.iter().map(|trashed| trashed.info.clone()).collect())
    }

    /// The log has what it had, and perhaps more.
    fn verify_log(&mut self) {
        let (repo, mut log) = (self.repo(), Vec::new());
        loop {
            let records = repo.log(log.len() as u64, 4096).expect("the log is read");
            if records.is_empty() {
                break;
            }
            log.extend(records);
        }
        assert!(log.starts_with(&self.log), "the log has changed: {} records, {} before", log.len(), self.log.len());
        self.log = log;
    }
}
