//! What only a store's operator does, who has its files and no key: see [`Operator`].

use super::{
    index::CommitRow,
    objects::Objects,
    prune::{Prunes, Reclaimable, Reclaimed, Revived, Tidied},
    snapshots::Snapshots,
};
use crate::base::{error::Result, id::SnapshotId};

/// A repository in the hands of its store's operator. No floor protects anything here.
#[derive(Debug, Clone, Copy)]
pub struct Operator<'r> {
    pub(super) objects: &'r Objects,
    pub(super) snapshots: &'r Snapshots,
    pub(super) prunes: &'r Prunes,
}

impl Operator<'_> {
    /// All snapshots that were ever committed, oldest first: what an operator can see of them without a key.
    pub fn commits(self) -> Result<Vec<CommitRow>> {
        self.objects.config()?;
        self.snapshots.commits()
    }

    /// Makes snapshots unrecoverable, whatever their age. Each is named by its id or by the id's first digits. Returns
    /// the snapshots that are now gone.
    pub fn purge(self, names: &[String]) -> Result<Vec<SnapshotId>> {
        self.objects.config()?;
        self.snapshots.purge(names)
    }

    /// Lets go what is due: what has been in the trash and in the grave for as long as the floor says. Without a floor,
    /// only a prune empties the trash: then nothing has to stay in it, so emptying it should be a person's decision.
    pub fn tidy(self) -> Result<Tidied> {
        self.objects.config()?;
        self.prunes.tidy()
    }

    /// Brings back all swept packs that are in the grave, and all condemned frames, when a prune has taken too much.
    pub fn revive_all(self) -> Result<Revived> {
        self.objects.config()?;
        self.prunes.revive_all()
    }

    /// What [`Operator::reclaim`] would free and release. Changes nothing.
    pub fn reclaimable(self) -> Result<Reclaimable> {
        self.objects.config()?;
        self.prunes.reclaimable()
    }

    /// Empties the grave, whatever its age, and releases all packs that are kept for pushes which have not ended. A
    /// push that still runs loses nothing that was committed: the next prune begins a new generation, so the push is
    /// refused until it has asked what was lost, and it sends that again.
    pub fn reclaim(self) -> Result<Reclaimed> {
        self.objects.config()?;
        self.prunes.reclaim()
    }
}
