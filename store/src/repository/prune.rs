//! The store's half of a prune: marking what is live (`marking`), condemning the rest (`condemn`), sweeping it
//! (`sweep`), and the grave (`grave`).

mod caller;
mod condemn;
pub mod condemned;
mod condemned_sets;
pub(super) mod copier;
mod counts;
pub(super) mod grave;
pub(super) mod hold;
mod marking;
mod marks;
mod moved;
pub mod plan;
mod reclaim;
mod reframe;
mod scan_budget;
mod space;
mod spare;
mod sweep;

pub use caller::Caller;
pub use reclaim::{Reclaimable, Reclaimed};

use std::sync::Arc;

use self::{
    condemn::CondemnOptions, condemned_sets::CondemnedSets, copier::Copier, grave::Grave, marking::Marker,
    reclaim::Reclaimer, space::SpaceMeter, sweep::Sweeper,
};
use super::{
    index::Index,
    log::Log,
    objects::Objects,
    packs::{files::PackFiles, find::Finder, mend::Mender},
    snapshots::Snapshots,
};
use crate::{
    access::{ForgetRequest, PruneReply, PruneRequest},
    base::error::Result,
    format::{log::Event, loss::Lost},
};

/// What an operator brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revived {
    /// Packs that were in the grave.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that were condemned, and are no longer.
    pub spared: u64,
}

/// What [`crate::repository::Operator::tidy`] let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Snapshots that were in the trash.
    pub expired: u64,
    /// Packs that were in the grave.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Old condemned sets.
    pub sets: u64,
}

/// The prunes of a repository.
#[derive(Debug)]
pub(super) struct Prunes {
    index: Arc<Index>,
    log: Arc<Log>,
    finder: Arc<Finder>,
    snapshots: Arc<Snapshots>,
    marker: Marker,
    sweeper: Sweeper,
    grave: Arc<Grave>,
    sets: Arc<CondemnedSets>,
    meter: SpaceMeter,
    reclaimer: Reclaimer,
}

/// The parts of a repository that prunes use.
pub(super) struct PruneParts {
    pub index: Arc<Index>,
    pub objects: Arc<Objects>,
    pub log: Arc<Log>,
    pub files: Arc<PackFiles>,
    pub mender: Arc<Mender>,
    pub finder: Arc<Finder>,
    pub snapshots: Arc<Snapshots>,
    pub copier: Arc<Copier>,
    pub grave: Arc<Grave>,
}

impl Prunes {
    pub fn new(parts: PruneParts) -> Self {
        let PruneParts { index, objects, log, files, mender, finder, snapshots, copier, grave } = parts;
        let sets = Arc::new(CondemnedSets::new(index.clone(), objects.clone(), log.clone()));
        let marker = Marker::new(index.clone(), objects, log.clone(), files.clone(), snapshots.hold().clone());
        let meter = SpaceMeter {
            index: index.clone(),
            log: log.clone(),
            files: files.clone(),
            snapshots: snapshots.clone(),
            copier: copier.clone(),
            grave: grave.clone(),
        };
        let reclaimer =
            Reclaimer { index: index.clone(), log: log.clone(), files: files.clone(), grave: grave.clone() };
        let sweeper = Sweeper::new(index.clone(), log.clone(), files, mender, copier, grave.clone(), sets.clone());
        Self { index, log, finder, snapshots, marker, sweeper, grave, sets, meter, reclaimer }
    }

    /// Takes one step of a prune. Marking and planning end if the caller is gone.
    pub fn step(&self, request: &PruneRequest, caller: Caller<'_>) -> Result<PruneReply> {
        match request {
            PruneRequest::Begin { dry_run, ends_pushes } => self.marker.begin(*dry_run, *ends_pushes),
            PruneRequest::Live { prune, filters } => self.marker.mark(*prune, filters, caller),
            PruneRequest::Condemn { prune, log_len, limits, dry_run, is_confirmed, hold } => {
                let (limits, dry_run, is_confirmed, hold) = (*limits, *dry_run, *is_confirmed, *hold);
                let options = CondemnOptions { limits, dry_run, is_confirmed, hold };
                self.marker.condemn(*prune, *log_len, &options, caller)
            }
            PruneRequest::Sweep => self.sweeper.sweep(caller.copies_max()).map(PruneReply::Swept),
            PruneRequest::Abort => self.abort(),
            PruneRequest::Mixed { prune, limits, bytes } => {
                self.marker.mixed_frames(*prune, limits, *bytes, caller).map(PruneReply::Mixed)
            }
            PruneRequest::Moved { prune, frames } => self.marker.note_moved(*prune, frames, caller),
            PruneRequest::Space => self.meter.measure().map(PruneReply::Space),
            PruneRequest::Committed { from } => self.snapshots.committed_from(*from).map(PruneReply::Committed),
        }
    }

    fn abort(&self) -> Result<PruneReply> {
        self.marker.forget();
        let _lock = self.log.lock_for_append()?;
        self.revive_condemned()?;
        Ok(PruneReply::Done)
    }

    /// Makes all condemned frames live again that are not swept yet. Returns how many packs they are in. The caller
    /// holds the lock.
    fn revive_condemned(&self) -> Result<u64> {
        let count = self.index.prunes().condemned_count()?;
        if count > 0 {
            self.log.append_to_free(&[Event::Abort])?;
        }
        Ok(count)
    }

    /// The chunks that lost their last live copy by records of the log at `from` or later.
    pub fn lost_since(&self, from: u64) -> Result<Lost> {
        self.sets.lost_since(from)
    }

    /// Moves the files of swept packs that a crash left in their places.
    pub fn finish_moves(&self) -> Result<()> {
        self.grave.finish_moves()
    }

    /// Lets go what is due: what has been in the trash and in the grave for as long as the floor says. Without a floor,
    /// only a prune empties the trash: then nothing has to stay in it, so emptying it should be a person's decision.
    pub fn tidy(&self) -> Result<Tidied> {
        self.log.follow()?;
        self.finish_moves()?;
        let mut tidied = Tidied::default();
        if !self.snapshots.floor().is_none() {
            let due = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
            tidied.expired = self.snapshots.forget(&due)?.expired.len() as u64;
        }
        (tidied.packs, tidied.bytes) = self.grave.remove_due()?;
        tidied.sets = self.sets.remove_old()?;
        self.log.reserve().make();
        Ok(tidied)
    }

    /// What [`Prunes::reclaim`] would free and release.
    pub fn reclaimable(&self) -> Result<Reclaimable> {
        self.log.follow()?;
        self.reclaimer.look()
    }

    /// Empties the grave, and releases what is kept for pushes that have not ended.
    pub fn reclaim(&self) -> Result<Reclaimed> {
        self.log.follow()?;
        self.finish_moves()?;
        let reclaimed = self.reclaimer.reclaim()?;
        self.log.reserve().make();
        Ok(reclaimed)
    }

    /// Brings back all swept packs that are in the grave, and all condemned frames: for the store's operator, when a
    /// prune has taken too much.
    pub fn revive_all(&self) -> Result<Revived> {
        let mut revived = Revived::default();
        {
            let _lock = self.log.lock_for_append()?;
            revived.spared = self.revive_condemned()?;
            self.grave.move_swept()?;
            (revived.packs, revived.bytes) = self.grave.bring_back_all()?;
        }
        self.finder.read_in()?;
        Ok(revived)
    }
}
