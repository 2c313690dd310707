//! The second half of a prune: condemned frames go, some packs at a time.
//!
//! **Order.** The live frames of a pack are copied into new packs, which are durable and in the index before the log
//! says that the pack is swept. Only then does its file move to the grave. A crash in between leaves copies that are
//! not needed, or a file that is moved when the repository is opened again. Both keep too much, never too little.
//!
//! What was put again in the meantime is live, and is left alone. PackCopies are made without the repository's lock, so
//! pushes commit while a sweep runs. A frame that another pack has already is not copied. That other pack is not
//! condemned at that time; if anything is condemned before this pack is swept, this pack stays until the next call.

use std::{collections::HashMap, sync::Arc};

use super::{
    condemned_sets::CondemnedSets,
    copier::{Copier, Copying},
    grave::Grave,
};
use crate::{
    access::{Mending, Swept},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ClientId, KeyId, PackId},
    },
    format::{
        log::Event,
        loss::FrameBits,
        pack::{FrameEntry, Pack, PackTable, PackWriter},
    },
    repository::{
        index::Index,
        log::Log,
        packs::{files::PackFiles, mend::Mender},
    },
};

/// How many packs one call sweeps at most.
const PACKS: usize = 1024;
/// How many packs are swept while the lock is held: each waits for the disk twice, and pushes wait for the lock.
const PACKS_PER_LOCK: usize = 32;
/// About how many bytes one call copies.
const COPY_BYTES: u64 = 128 << 20;

/// Sweeps condemned packs.
#[derive(Debug)]
pub(super) struct Sweeper {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    mender: Arc<Mender>,
    copier: Arc<Copier>,
    grave: Arc<Grave>,
    sets: Arc<CondemnedSets>,
}

/// The packs into which a sweep copies frames: one for each client and kind of chunks.
struct PackCopies<'a> {
    copying: Copying<'a>,
    writers: HashMap<(ClientId, u8), PackWriter>,
    written_bytes: u64,
}

impl Sweeper {
    pub fn new(
        index: Arc<Index>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        mender: Arc<Mender>,
        copier: Arc<Copier>,
        grave: Arc<Grave>,
        sets: Arc<CondemnedSets>,
    ) -> Self {
        Self { index, log, files, mender, copier, grave, sets }
    }

    /// Sweeps some of the condemned packs.
    pub fn sweep(&self) -> Result<Swept> {
        let mut copies = PackCopies { copying: self.copier.begin(), writers: HashMap::new(), written_bytes: 0 };
        self.log.follow()?;
        self.grave.remove_due()?;
        // In this order: what is condemned later is left to the next call.
        let condemnation = self.index.prunes().newest_condemnation()?;
        let condemned = self.index.prunes().condemned(PACKS)?;
        if condemned.is_empty() {
            self.sets.remove_old()?;
        }
        let (mut done, mut damaged) = (Vec::new(), Vec::new());
        for (id, dead) in condemned {
            let mut copied = self.copy_live(id, &dead, &mut copies);
            if copied.as_ref().is_err_and(is_damage)
                && matches!(self.mender.mend(id)?.mending, Mending::Whole | Mending::Mended(_))
            {
                copied = self.copy_live(id, &dead, &mut copies);
            }
            match copied {
                Ok(()) => done.push((id, dead)),
                Err(error) if is_damage(&error) => {
                    tracing::warn!(pack = %id, %error, "a damaged pack is not pruned");
                    damaged.push(id);
                }
                Err(error) => return Err(error),
            }
            if copies.bytes() > COPY_BYTES {
                break;
            }
        }
        copies.finish()?;
        // A frame may not have been copied because another pack has it. The process that stored that pack may not have
        // made it durable.
        self.files.settle_found()?;
        let mut swept = Swept { written_bytes: copies.written_bytes, ..Swept::default() };
        self.remove(condemnation, &[], &damaged, &mut swept)?;
        done.chunks(PACKS_PER_LOCK).try_for_each(|some| self.remove(condemnation, some, &[], &mut swept))?;
        swept.damaged = damaged.len() as u64;
        swept.left = self.index.prunes().condemned_count()?;
        Ok(swept)
    }

    /// PackCopies the frames of a pack that are not dead.
    fn copy_live(&self, id: PackId, dead: &FrameBits, copies: &mut PackCopies<'_>) -> Result<()> {
        let Some(len) = self.files.len(id)? else {
            // There is nothing to lose.
            return Ok(());
        };
        let table = self.files.table(id, len)?;
        if (0..table.frames.len() as u32).all(|frame| dead.has(frame)) {
            return Ok(());
        }
        let bytes = self.files.bytes(id)?.unwrap_or_default();
        let pack = Pack::parse(&bytes)?;
        for (number, entry) in pack.table.frames.iter().enumerate().filter(|(number, _)| !dead.has(*number as u32)) {
            let frame = pack.frame(number).unwrap_or_default();
            if !self.is_copied(id, entry, &frame)? {
                copies.add(&pack.table, entry, &frame)?;
            }
        }
        Ok(())
    }

    /// Whether another pack holds a frame as well, byte for byte: a sweep that died has copied it. A new copy would go
    /// into the same pack only if this sweep were given the same packs.
    fn is_copied(&self, pack: PackId, entry: &FrameEntry, frame: &[u8]) -> Result<bool> {
        let Some(id) = entry.ids.first() else { return Ok(false) };
        // Only packs without condemned frames count: of two that both go, each would be dropped for the other's sake.
        for (other, number) in self.index.chunks().kept_copies(id)? {
            let Some((start, len)) = other.frame(number).filter(|(_, len)| *len as usize == frame.len()) else {
                continue;
            };
            if other.id == pack {
                continue;
            }
            let holds = || -> Result<bool> {
                let bytes = self.files.range(other.id, start.into(), len as usize)?;
                let table = self.files.table(other.id, other.len)?;
                let ids = table.frames.get(number as usize).map(|entry| &entry.ids);
                Ok(bytes.is_some_and(|bytes| bytes == frame) && ids == Some(&entry.ids))
            };
            match holds() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Logs which packs are swept, and moves their files. Sweeps nothing if something was condemned since
    /// `condemnation`: a frame that was not copied because another pack has it may have been condemned there in the
    /// meantime, and that pack may be gone.
    fn remove(
        &self,
        condemnation: Option<u64>,
        done: &[(PackId, FrameBits)],
        damaged: &[PackId],
        swept: &mut Swept,
    ) -> Result<()> {
        let _lock = self.log.lock_for_append()?;
        let done = if self.index.prunes().newest_condemnation()? == condemnation { done } else { &[] };
        let mut packs = Vec::new();
        for (id, dead) in done {
            // What was put again in the meantime is not condemned any more.
            if self.index.prunes().condemned_frames(id)?.as_ref() == Some(dead) {
                swept.packs += 1;
                swept.bytes += self.files.len(*id)?.unwrap_or(0);
                packs.push(*id);
            }
        }
        let mut events = Vec::new();
        if !packs.is_empty() {
            events.push(Event::Sweep { packs });
        }
        if !damaged.is_empty() {
            events.push(Event::Revive { packs: damaged.to_vec() });
        }
        if !events.is_empty() {
            self.log.append(&events)?;
        }
        self.grave.move_swept()
    }
}

impl PackCopies<'_> {
    /// PackCopies a frame of a pack.
    fn add(&mut self, table: &PackTable, entry: &FrameEntry, frame: &[u8]) -> Result<()> {
        let key = frame.first_chunk::<{ KeyId::LEN }>().map(|key| KeyId(*key)).unwrap_or_default();
        let wrap = table.wraps.iter().find(|wrap| wrap.key == key);
        let wrap = wrap.ok_or_else(|| Error::PackDamaged { pack: table.id, reason: "it lacks a wrap".into() })?;
        let group = (table.client, table.kind.number());
        let make = || PackWriter::copying(table.kind, table.repo, table.client);
        let mut writer = self.writers.remove(&group).unwrap_or_else(make);
        if writer.is_full() || !writer.fits(frame.len(), entry.ids.len()) || !writer.has_wrap_room() {
            self.written_bytes += self.copying.store(writer)?;
            writer = make();
        }
        writer.add_wrap(wrap);
        writer.add(frame, &entry.ids);
        self.writers.insert(group, writer);
        Ok(())
    }

    /// How many bytes were copied so far.
    fn bytes(&self) -> u64 {
        self.written_bytes + self.writers.values().map(|writer| writer.len() as u64).sum::<u64>()
    }

    /// Stores the packs that are not full.
    fn finish(&mut self) -> Result<()> {
        for (_, writer) in self.writers.drain() {
            self.written_bytes += self.copying.store(writer)?;
        }
        Ok(())
    }
}

/// Whether a pack cannot be read as it was written.
fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Damaged || error.is_unreadable()
}
