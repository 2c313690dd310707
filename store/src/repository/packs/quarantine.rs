//! Putting frames into quarantine, and letting packs out of it.
//!
//! What is lost must not be taken for stored, neither by the index nor by clients, who keep sets of what they know to be stored.
//! So a loss is a record of the log, and begins a generation as what a prune condemns does: no session commits that may rely
//! on the frames and has not been told ([`crate::format::loss`], `docs/design/0015-quarantine.md`).
//!
//! **Order.** Into quarantine: the record, nothing else; what is lost is lost already. Out of it: the whole pack is durable before
//! the record says so. Whoever calls holds the backend's lock.

use crate::{
    access::Span,
    base::{
        error::Result,
        id::{ChunkId, PackId},
    },
    format::{
        log::Event,
        loss::{FrameBits, Hurt, Lost, Quarantined},
        pack::PackTable,
    },
    repository::{Repository, backend::Lock, layout, prune::condemned::LOST_MAX},
};

/// How many ids are looked up at once.
const BATCH: usize = 8192;

impl Repository {
    /// The packs of which frames are in quarantine, in the order of their ids.
    pub fn quarantine(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        self.index.quarantine().list(after, limit)
    }

    /// The same without those that a repair need not look at: they lie in the grave already, as damaged as they may come back.
    pub(in crate::repository) fn quarantine_to_repair(
        &self,
        mut after: Option<PackId>,
        limit: usize,
    ) -> Result<Vec<Quarantined>> {
        let mut found = Vec::new();
        loop {
            let packs = self.index.quarantine().list(after, limit)?;
            let is_last = packs.len() < limit;
            after = packs.last().map(|last| last.pack);
            for quarantined in packs {
                let is_buried = self.backend.len(&layout::grave(quarantined.pack))?.is_some()
                    && self.backend.len(&layout::pack(quarantined.pack))?.is_none();
                if !is_buried && found.len() < limit {
                    found.push(quarantined);
                }
            }
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// Puts into quarantine what was found lost of a pack: the frames in these spans, or all if nobody can tell. `bytes` is the
    /// pack as it is now.
    pub(in crate::repository) fn put_into_quarantine(
        &self,
        id: PackId,
        spans: Option<&[Span]>,
        bytes: &[u8],
    ) -> Result<()> {
        self.log.settle(&*self.backend)?;
        self.follow()?;
        let is_there = self.index.packs().has(&id)? || self.backend.len(&layout::pack(id))?.is_some();
        if !is_there || self.index.prunes().swept_at(&id)?.is_some() {
            return Ok(());
        }
        let table = self.salvaged_table(id, bytes)?;
        let frames = match (&table, spans) {
            (Some(table), Some(spans)) => Hurt::Frames(touched(table, spans)),
            _ => Hurt::All,
        };
        let before = self.index.quarantine().frames_of(&id)?;
        let is_known = |frame: u32| before.as_ref().is_some_and(|before| before.has(frame));
        let is_news = match (&frames, &before) {
            (_, Some(Hurt::All)) => false,
            (Hurt::All, _) => true,
            (Hurt::Frames(bits), _) => bits.iter().any(|frame| !is_known(frame)),
        };
        if !is_news {
            return Ok(());
        }
        let lost = match table {
            Some(table) => self.lost_with(&table, &|frame| frames.has(frame) && !is_known(frame))?,
            None => Lost::Everything,
        };
        let (generation, packs) = (self.generation()? + 1, vec![Quarantined { pack: id, frames }]);
        let count = match &lost {
            Lost::Ids(ids) => ids.len().to_string(),
            Lost::Everything => "all of its".into(),
        };
        self.append(&[Event::Quarantine { generation, packs, lost }])?;
        tracing::error!(pack = %id, "{count} chunks are lost; a push that has them stores them again");
        Ok(())
    }

    /// The table of a pack of which all else may be damaged; none if it is not to be had, or not as it was written.
    pub(in crate::repository) fn salvaged_table(&self, id: PackId, bytes: &[u8]) -> Result<Option<PackTable>> {
        let roster = self.roster()?;
        let is_right = |table: &PackTable| table.id == id && table.proves_itself() && table.verify(&roster).is_ok();
        Ok(PackTable::salvage(bytes).filter(is_right))
    }

    /// The chunks that lose their last live copy with some frames of a pack.
    pub(in crate::repository) fn lost_with(&self, table: &PackTable, is_lost: &dyn Fn(u32) -> bool) -> Result<Lost> {
        // Copies that lie in packs which were found, and not put.
        self.settle_packs()?;
        let number = self.index.packs().number_of(&table.id)?;
        let is_taken = |pack: u32, frame: u32| Some(pack) == number && is_lost(frame);
        let mut ids: Vec<ChunkId> = Vec::new();
        for (_, entry) in table.frames.iter().enumerate().filter(|(frame, _)| is_lost(*frame as u32)) {
            ids.extend(&entry.ids);
        }
        let mut lost = Vec::new();
        for ids in ids.chunks(BATCH) {
            let elsewhere = self.index.chunks().live_elsewhere(ids, &is_taken)?;
            lost.extend(ids.iter().zip(elsewhere).filter(|(_, live)| !live).map(|(id, _)| *id));
        }
        Ok(if lost.len() > LOST_MAX { Lost::Everything } else { Lost::Ids(lost) })
    }

    /// Lets a pack out of quarantine that is whole, and durably so.
    pub(in crate::repository) fn release(&self, id: PackId) -> Result<()> {
        if self.index.quarantine().frames_of(&id)?.is_none() {
            return Ok(());
        }
        self.log.settle(&*self.backend)?;
        self.follow()?;
        self.append(&[Event::Release { packs: vec![id] }])?;
        tracing::info!(pack = %id, "a pack that was damaged is whole again, and out of quarantine");
        Ok(())
    }

    /// The same of a pack that was just put, under the lock if there is one already.
    pub(in crate::repository) fn release_put(&self, id: PackId, lock: Option<Box<dyn Lock>>) -> Result<()> {
        if self.index.quarantine().frames_of(&id)?.is_none() {
            return Ok(());
        }
        let _lock = match lock {
            Some(lock) => lock,
            None => self.writing()?,
        };
        self.release(id)
    }

    /// Takes the file of a pack that is live in the log out of the grave; it is put back, unless there is another already. To be called before the
    /// pack is put again: its file lies in one place, or what comes back from the grave would replace what was put, with the damage that it was
    /// dropped for. The caller holds the lock.
    pub(in crate::repository) fn take_out_of_grave(&self, id: PackId) -> Result<()> {
        let (grave, pack) = (layout::grave(id), layout::pack(id));
        match self.backend.len(&grave)?.is_some() && self.backend.len(&pack)?.is_none() {
            true => self.backend.rename(&grave, &pack),
            // Even if there is nothing: somebody may have taken it out and died before that was durable.
            false => self.backend.delete(&grave),
        }
    }

    /// Tells that packs are gone, whose chunks nobody can name any more, and takes them out of the index.
    pub(in crate::repository) fn tell_gone(&self, gone: &[PackId]) -> Result<()> {
        let mut hurt = Vec::new();
        for id in gone {
            hurt.extend(self.index.quarantine().frames_of(id)?.map(|_| *id));
        }
        let generation = self.generation()? + 1;
        let mut events = vec![Event::Quarantine { generation, packs: vec![], lost: Lost::Everything }];
        if !hurt.is_empty() {
            events.push(Event::Release { packs: hurt });
        }
        // In this order: a crash in between finds them missing once more.
        self.append(&events)?;
        self.index.packs().remove(gone)
    }

    /// Removes a pack for good, with its parity, and from quarantine.
    pub(in crate::repository) fn remove_pack(&self, id: PackId, name: &str, released: &mut Vec<PackId>) -> Result<()> {
        self.backend.delete(&layout::parity(id))?;
        self.backend.delete(name)?;
        released.extend(self.index.quarantine().frames_of(&id)?.map(|_| id));
        Ok(())
    }

    /// Forgets that packs were in quarantine which are gone for good. Until then they are not, because an operator may bring
    /// them back, as damaged as they were.
    pub(in crate::repository) fn release_gone(&self, packs: Vec<PackId>) -> Result<()> {
        if packs.is_empty() { Ok(()) } else { self.append(&[Event::Release { packs }]) }
    }
}

/// The frames that touch one of the spans.
pub(in crate::repository) fn touched(table: &PackTable, spans: &[Span]) -> FrameBits {
    let mut bits = FrameBits::none(table.frames.len());
    for (frame, entry) in table.frames.iter().enumerate() {
        if spans.iter().any(|span| span.start < entry.offset + entry.len && span.end > entry.offset) {
            bits.set(frame as u32);
        }
    }
    bits
}
