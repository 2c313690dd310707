//! Putting frames into quarantine, and letting packs out of it.
//!
//! A lost chunk must not count as stored: not in the index, and not at clients, which keep sets of the chunks that they
//! know to be stored. So a loss is a record of the log, and it begins a generation as a condemnation does: a session
//! that may rely on the frames commits only after it was told of the loss ([`crate::format::loss`],
//! `docs/design/0015-quarantine.md`).
//!
//! **Order.** Into quarantine: nothing comes before the record, since what is lost is lost already. Out of quarantine:
//! the whole pack is durable before the record releases it. The caller holds the repository's lock, unless a method
//! takes it.

use std::sync::Arc;

use super::files::PackFiles;
use crate::{
    access::Span,
    base::{
        error::Result,
        id::{ChunkId, PackId},
    },
    format::{
        log::Event,
        loss::{DamagedFrames, FrameBits, Lost, Quarantined},
        pack::PackTable,
    },
    repository::{
        backend::Lock,
        index::{Index, LostChunks},
        log::Log,
        prune::condemned::LOST_MAX,
    },
};

/// How many ids are looked up at a time.
const BATCH: usize = 8192;

/// The quarantine of a repository.
#[derive(Debug)]
pub struct Quarantine {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
}

impl Quarantine {
    pub fn new(index: Arc<Index>, log: Arc<Log>, files: Arc<PackFiles>) -> Self {
        Self { index, log, files }
    }

    /// The frames of a pack that are in quarantine.
    pub fn frames_of(&self, id: PackId) -> Result<Option<DamagedFrames>> {
        self.index.quarantine().frames_of(&id)
    }

    /// Whether frames of a pack are in quarantine.
    pub fn has(&self, id: PackId) -> Result<bool> {
        Ok(self.frames_of(id)?.is_some())
    }

    /// The packs that have frames in quarantine, in the order of their ids.
    pub fn list(&self, after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        self.index.quarantine().list(after, limit)
    }

    /// Like [`Quarantine::list`], without packs that a repair can skip because they are in the grave already. They come
    /// back from there as damaged as they are.
    pub fn list_to_repair(&self, mut after: Option<PackId>, limit: usize) -> Result<Vec<Quarantined>> {
        let mut found = Vec::new();
        loop {
            let packs = self.list(after, limit)?;
            let is_last = packs.len() < limit;
            after = packs.last().map(|last| last.pack);
            for quarantined in packs {
                let is_only_in_grave =
                    self.files.is_in_grave(quarantined.pack)? && !self.files.exists(quarantined.pack)?;
                if !is_only_in_grave && found.len() < limit {
                    found.push(quarantined);
                }
            }
            if is_last || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// Puts frames of a pack into quarantine that cannot be mended: those that touch these spans, or all frames if it
    /// is unknown which are damaged. `bytes` is the pack as it is now.
    pub fn put(&self, id: PackId, spans: Option<&[Span]>, bytes: &[u8]) -> Result<()> {
        self.log.settle_and_follow()?;
        let is_known = self.index.packs().has(&id)? || self.files.exists(id)?;
        if !is_known || self.index.prunes().swept_at(&id)?.is_some() {
            return Ok(());
        }
        let table = self.salvage_table(id, bytes)?;
        let frames = match (&table, spans) {
            (Some(table), Some(spans)) => DamagedFrames::Frames(frames_in(table, spans)),
            _ => DamagedFrames::All,
        };
        let before = self.frames_of(id)?;
        let was_there = |frame: u32| before.as_ref().is_some_and(|before| before.has(frame));
        let is_news = match (&frames, &before) {
            (_, Some(DamagedFrames::All)) => false,
            (DamagedFrames::All, _) => true,
            (DamagedFrames::Frames(bits), _) => bits.iter().any(|frame| !was_there(frame)),
        };
        if !is_news {
            return Ok(());
        }
        let lost = match table {
            Some(table) => self.lost_with(&table, &|frame| frames.has(frame) && !was_there(frame))?,
            None => Lost::Everything,
        };
        let count = match &lost {
            Lost::Ids(ids) => ids.len().to_string(),
            Lost::Everything => "all of its".into(),
        };
        self.announce(vec![Quarantined { pack: id, frames }], lost)?;
        tracing::error!(pack = %id, "{count} chunks are lost; a push that has them stores them again");
        Ok(())
    }

    /// Appends a record that puts frames into quarantine and tells clients which chunks are lost.
    pub fn announce(&self, packs: Vec<Quarantined>, lost: Lost) -> Result<()> {
        let generation = self.log.generation()? + 1;
        self.log.append(&[Event::Quarantine { generation, packs, lost }])
    }

    /// The table of a damaged pack; none if it cannot be read as it was written.
    pub fn salvage_table(&self, id: PackId, bytes: &[u8]) -> Result<Option<PackTable>> {
        let roster = self.log.roster()?;
        let is_right = |table: &PackTable| table.id == id && table.proves_itself() && table.verify(&roster).is_ok();
        Ok(PackTable::salvage(bytes).filter(is_right))
    }

    /// The chunks that lose their last live copy with some frames of a pack.
    pub fn lost_with(&self, table: &PackTable, is_lost: &dyn Fn(u32) -> bool) -> Result<Lost> {
        // The other copies may be in packs that were found and not put.
        self.files.settle_found()?;
        let number = self.index.packs().number_of(&table.id)?;
        let is_taken = |pack: u32, frame: u32| Some(pack) == number && is_lost(frame);
        let mut ids: Vec<ChunkId> = Vec::new();
        for (_, entry) in table.frames.iter().enumerate().filter(|(frame, _)| is_lost(*frame as u32)) {
            ids.extend(&entry.ids);
        }
        self.lost_of(&ids, &is_taken)
    }

    /// Those of the chunks that are lost to somebody if frames are taken.
    pub fn lost_of(&self, ids: &[ChunkId], is_taken: &dyn Fn(u32, u32) -> bool) -> Result<Lost> {
        let (mut lost, mut remembered, domains) = (Vec::new(), LostChunks::default(), self.log.domains()?);
        for ids in ids.chunks(BATCH) {
            let is_lost = self.index.chunks().lost(ids, is_taken, &domains, &mut remembered)?;
            lost.extend(ids.iter().zip(is_lost).filter(|(_, is_lost)| *is_lost).map(|(id, _)| *id));
        }
        Ok(if lost.len() > LOST_MAX { Lost::Everything } else { Lost::Ids(lost) })
    }

    /// Lets a pack out of quarantine that is whole and durable.
    pub fn release(&self, id: PackId) -> Result<()> {
        if !self.has(id)? {
            return Ok(());
        }
        self.log.settle_and_follow()?;
        self.log.append(&[Event::Release { packs: vec![id] }])?;
        tracing::info!(pack = %id, "a damaged pack is whole again, and out of quarantine");
        Ok(())
    }

    /// Lets a pack out of quarantine that was just put. Takes the lock, unless the caller hands one over.
    pub fn release_put(&self, id: PackId, lock: Option<Box<dyn Lock>>) -> Result<()> {
        if !self.has(id)? {
            return Ok(());
        }
        let _lock = match lock {
            Some(lock) => lock,
            None => self.log.lock_for_append()?,
        };
        self.release(id)
    }

    /// Ends the quarantine of packs that are gone for good. As long as an operator can bring a pack back, it comes back
    /// as damaged as it was, and stays in quarantine.
    pub fn release_gone(&self, packs: Vec<PackId>) -> Result<()> {
        if packs.is_empty() { Ok(()) } else { self.log.append_to_free(&[Event::Release { packs }]) }
    }

    /// Announces that packs are gone, and removes them from the index. Their chunks cannot be named any more, so
    /// anything may be lost.
    pub fn announce_missing(&self, missing: &[PackId]) -> Result<()> {
        let mut quarantined = Vec::new();
        for id in missing {
            quarantined.extend(self.frames_of(*id)?.map(|_| *id));
        }
        let generation = self.log.generation()? + 1;
        let mut events = vec![Event::Quarantine { generation, packs: vec![], lost: Lost::Everything }];
        if !quarantined.is_empty() {
            events.push(Event::Release { packs: quarantined });
        }
        // In this order: after a crash in between, the packs are found missing once more.
        self.log.append(&events)?;
        self.index.packs().remove(missing)
    }
}

/// The frames of a pack that touch one of the spans.
pub fn frames_in(table: &PackTable, spans: &[Span]) -> FrameBits {
    let mut bits = FrameBits::none(table.frames.len());
    for (frame, entry) in table.frames.iter().enumerate() {
        if spans.iter().any(|span| span.start < entry.offset + entry.len && span.end > entry.offset) {
            bits.set(frame as u32);
        }
    }
    bits
}
