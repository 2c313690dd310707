//! The grave: swept packs, until their time is over.
//!
//! The grave keeps swept packs for as long as the store's floor says, because the store cannot see whether a prune was
//! told the truth: a stolen key may call all ids dead. Until then the store's operator can bring them back. Without a
//! floor, swept packs are removed immediately. A pack's parity stays in its place, and is removed before the pack.

use std::sync::Arc;

use crate::{
    base::{error::Result, id::PackId, time::Time},
    format::log::Event,
    repository::{
        clock::TrustedNow,
        index::Index,
        log::Log,
        packs::{files::PackFiles, quarantine::Quarantine},
        snapshots::floor::Floor,
    },
};

/// How many packs one record of the log brings back at most.
const PACKS: usize = 1024;

/// The swept packs of a repository.
#[derive(Debug)]
pub struct Grave {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    quarantine: Arc<Quarantine>,
    floor: Arc<Floor>,
}

impl Grave {
    pub fn new(
        index: Arc<Index>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        quarantine: Arc<Quarantine>,
        floor: Arc<Floor>,
    ) -> Self {
        Self { index, log, files, quarantine, floor }
    }

    /// Whether swept packs stay in the grave for a while.
    pub fn keeps_packs(&self) -> bool {
        !self.floor.is_none()
    }

    /// Moves the files of swept packs into the grave, or removes them if there is no floor. The caller holds the lock,
    /// so that none of these packs comes back in the meantime.
    pub fn move_swept(&self) -> Result<()> {
        let (packs, mut released) = (self.index.prunes().unmoved()?, Vec::new());
        for id in &packs {
            match self.floor.is_none() {
                true => {
                    self.files.remove(*id)?;
                    self.note_removed(*id, &mut released)?;
                }
                false => self.log.reserve().use_for(|| self.files.move_to_grave(*id))?,
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        self.log.reserve().use_for(|| self.index.prunes().set_moved(&packs))?;
        self.quarantine.release_gone(released)
    }

    /// Moves the files of packs that a crash left between their record in the log and the move. This must not be done
    /// while a [`crate::repository::Repository`] is constructed: its floor is set afterwards, and without a floor the
    /// packs would be removed.
    pub fn finish_moves(&self) -> Result<()> {
        if self.index.prunes().unmoved()?.is_empty() {
            return Ok(());
        }
        let _lock = self.log.lock_for_append()?;
        self.move_swept()
    }

    /// Removes the packs whose time in the grave is over. Returns how many, and their bytes with their parity.
    pub fn remove_due(&self) -> Result<(u64, u64)> {
        self.remove(&|at, now| self.floor.is_over(at, now))
    }

    /// Removes all packs in the grave, whatever the floor says: for the store's operator.
    pub fn remove_all(&self) -> Result<(u64, u64)> {
        self.remove(&|_, _| true)
    }

    fn remove(&self, is_over: &dyn Fn(i64, &TrustedNow) -> bool) -> Result<(u64, u64)> {
        let packs = self.files.list_grave()?;
        let (mut removed, mut released) = ((0, 0), Vec::new());
        if packs.is_empty() {
            return Ok(removed);
        }
        let _lock = self.log.lock_for_append()?;
        let now = self.log.look_at_clock()?;
        for (id, len) in packs {
            match self.index.prunes().swept_at(&id)? {
                Some(at) if is_over(at, &now) => {
                    let parity = self.files.parity_len(id)?.unwrap_or(0);
                    self.files.remove_from_grave(id)?;
                    self.note_removed(id, &mut released)?;
                    removed = (removed.0 + 1, removed.1 + len + parity);
                }
                Some(_) => {}
                // It is live again, but its file was not moved back yet.
                None => self.log.reserve().use_for(|| self.files.take_out_of_grave(id))?,
            }
        }
        self.quarantine.release_gone(released)?;
        Ok(removed)
    }

    /// Until when a pack stays in the grave; none if it is not swept, or if its time is over.
    pub fn until(&self, id: &PackId, now: &TrustedNow) -> Result<Option<Time>> {
        let swept_at = self.index.prunes().swept_at(id)?;
        let at = swept_at.map(|secs| Time { secs, nanos: 0 });
        Ok(at.and_then(|at| self.floor.protected_until(at, now)))
    }

    /// A pack that was removed for good leaves the quarantine.
    fn note_removed(&self, id: PackId, released: &mut Vec<PackId>) -> Result<()> {
        if self.quarantine.has(id)? {
            released.push(id);
        }
        Ok(())
    }

    /// Brings all packs back. Returns how many, and their bytes. The caller holds the lock.
    pub fn bring_back_all(&self) -> Result<(u64, u64)> {
        let packs = self.files.list_grave()?;
        for packs in packs.chunks(PACKS) {
            let ids: Vec<PackId> = packs.iter().map(|(id, _)| *id).collect();
            // The log comes first: the next sweep moves a file back that is in the grave although its pack is live.
            self.log.append_to_free(&[Event::Revive { packs: ids.clone() }])?;
            let reserve = self.log.reserve();
            ids.into_iter().try_for_each(|id| reserve.use_for(|| self.files.move_from_grave(id)))?;
        }
        Ok((packs.len() as u64, packs.iter().map(|(_, len)| len).sum()))
    }
}
