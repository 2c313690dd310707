//! The second half of a prune: condemned frames go, some packs at a time.
//!
//! **Order.** The live frames of a pack are copied into new packs, which are durable and in the index before the log
//! says that the pack is swept. Only then does its file move to the grave. A crash in between leaves copies that are
//! not needed, or a file that is moved when the repository is opened again. Both keep too much, never too little.
//!
//! What was put again in the meantime is live, and is left alone. Copies are made without the repository's lock, so
//! pushes commit while a sweep runs. A frame that another pack has already is not copied. That other pack is not
//! condemned at that time; if anything is condemned before this pack is swept, this pack stays until the next call.

use std::{collections::HashMap, sync::Arc};

use super::{
    condemn::live_bytes,
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
        pack::{FrameEntry, PACK_MAX, Pack, PackTable, PackWriter},
    },
    repository::{
        index::{Index, Trust},
        log::Log,
        packs::{files::PackFiles, mend::Mender},
    },
};

/// How many packs one call sweeps at most.
const PACKS: usize = 1024;
/// How many copies of a frame's first chunk a sweep looks at, to find out whether the frame was copied already. If it
/// stops too early, it copies the frame once more.
const COPIES_COMPARED: usize = 64;
/// How many packs are swept while the lock is held: each waits for the disk twice, and pushes wait for the lock.
const PACKS_PER_LOCK: usize = 32;
/// About how many bytes one call copies.
const COPY_BYTES: u64 = 128 << 20;
/// About how many bytes are copied before the packs that they come from go, at least. So a disk with little room needs
/// room for this much, and not for all copies.
const STEP_BYTES: u64 = 16 << 20;

/// A pack with condemned frames, and which they are.
type CondemnedPack = (PackId, FrameBits);
/// The same, with the bytes of its live frames.
type MixedPack = (u64, CondemnedPack);

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

/// The packs into which a sweep copies frames: one for each client, kind of chunks and degree of trust. A copy is
/// trusted as far as its original, so frames that are trusted differently never share a pack.
struct PackCopies<'a> {
    copying: Copying<'a>,
    writers: HashMap<(ClientId, u8, Trust), PackWriter>,
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

    /// Sweeps some of the condemned packs. Copies at most `copies_max` bytes of frames, but in any case as much as the
    /// repository's packs have more than its grave: so all of it takes at most twice what is in use, however often a
    /// prune is repeated. Fails with [`Error::OverQuota`] if there are only packs left that need more.
    pub fn sweep(&self, copies_max: u64) -> Result<Swept> {
        let copying = self.copier.begin(!self.grave.keeps_packs());
        let mut copies = PackCopies { copying, writers: HashMap::new(), written_bytes: 0 };
        self.log.follow()?;
        self.grave.remove_due()?;
        // In this order: what is condemned later is left to the next call.
        let condemnation = self.index.prunes().newest_condemnation()?;
        let condemned = self.index.prunes().condemned(PACKS)?;
        if condemned.is_empty() {
            self.sets.remove_old()?;
        }
        let mut swept = Swept::default();
        // What needs no copies goes first, and makes room for the copies of the rest.
        let (dead, mixed) = self.split_dead(condemned)?;
        dead.chunks(PACKS_PER_LOCK).try_for_each(|some| self.remove(condemnation, some, &[], &mut swept))?;
        let copies_max = if mixed.is_empty() { 0 } else { self.copies_max(copies_max)? };
        let (mut done, mut damaged, mut step) = (Vec::new(), Vec::new(), 0);
        for (live, (id, dead)) in mixed {
            if copies.bytes().saturating_add(live) > copies_max {
                if swept.packs == 0 && done.is_empty() && damaged.is_empty() {
                    let reason = format!("a prune must copy {live} bytes, and may copy {copies_max}");
                    return Err(Error::OverQuota { reason });
                }
                break;
            }
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
            if copies.bytes().saturating_sub(step) > self.step_bytes() {
                self.end_step(condemnation, &mut copies, &mut done, &mut swept)?;
                step = copies.bytes();
            }
        }
        self.end_step(condemnation, &mut copies, &mut done, &mut swept)?;
        self.remove(condemnation, &[], &damaged, &mut swept)?;
        swept.written_bytes = copies.written_bytes;
        swept.damaged = damaged.len() as u64;
        self.log.reserve().make();
        swept.grave_bytes = if self.grave.keeps_packs() { swept.bytes } else { 0 };
        swept.left = self.index.prunes().condemned_count()?;
        Ok(swept)
    }

    fn copies_max(&self, wanted: u64) -> Result<u64> {
        if wanted >= COPY_BYTES + PACK_MAX as u64 || !self.grave.keeps_packs() {
            return Ok(u64::MAX);
        }
        let sum = |packs: Vec<(PackId, u64)>| packs.iter().map(|(_, len)| len).sum::<u64>();
        let in_grave = sum(self.files.list_grave()?);
        let mut in_use = 0;
        for first in 0..=u8::MAX {
            in_use += sum(self.files.list(first)?);
        }
        Ok(wanted.max(in_use.saturating_sub(in_grave)))
    }

    /// Tells packs of which nothing is left from those whose live frames must be copied.
    fn split_dead(&self, condemned: Vec<CondemnedPack>) -> Result<(Vec<CondemnedPack>, Vec<MixedPack>)> {
        let (mut wholly, mut mixed) = (Vec::new(), Vec::new());
        for (id, dead) in condemned {
            match self.is_dead(id, &dead) {
                Ok(true) => wholly.push((id, dead)),
                Ok(false) => mixed.push((id, dead)),
                Err(error) if is_damage(&error) => mixed.push((id, dead)),
                Err(error) => return Err(error),
            }
        }
        // Those whose copies need the least room make room for the others.
        let mut by_live = Vec::with_capacity(mixed.len());
        for (id, dead) in mixed {
            let row = self.index.packs().row_of(&id)?;
            by_live.push((row.map_or(0, |row| live_bytes(&row, &|frame| !dead.has(frame))), (id, dead)));
        }
        by_live.sort_by_key(|(live, _)| *live);
        Ok((wholly, by_live))
    }

    /// Whether all frames of a pack are dead, or the pack is gone.
    fn is_dead(&self, id: PackId, dead: &FrameBits) -> Result<bool> {
        let Some(len) = self.files.len(id)? else { return Ok(true) };
        let table = self.files.table(id, len)?;
        Ok((0..table.frames.len() as u32).all(|frame| dead.has(frame)))
    }

    /// How much to copy before the packs that it comes from go: little where there is little room. On a disk that is
    /// almost full, each pack goes by itself, unless it goes to the grave, which makes no room.
    fn step_bytes(&self) -> u64 {
        match self.files.free_bytes().filter(|_| !self.grave.keeps_packs()) {
            Some(free) if free < 4 * STEP_BYTES => 0,
            Some(free) => (free / 4).min(COPY_BYTES),
            None => COPY_BYTES,
        }
    }

    /// Stores the copies that were begun, and removes the packs that they come from.
    fn end_step(
        &self,
        condemnation: Option<u64>,
        copies: &mut PackCopies<'_>,
        done: &mut Vec<CondemnedPack>,
        swept: &mut Swept,
    ) -> Result<()> {
        copies.finish()?;
        // A frame may not have been copied because another pack has it. The process that stored that pack may not have
        // made it durable.
        self.files.settle_found()?;
        let done = std::mem::take(done);
        done.chunks(PACKS_PER_LOCK).try_for_each(|some| self.remove(condemnation, some, &[], swept))
    }

    /// Copies the frames of a pack that are not dead.
    fn copy_live(&self, id: PackId, dead: &FrameBits, copies: &mut PackCopies<'_>) -> Result<()> {
        if self.is_dead(id, dead)? {
            return Ok(());
        }
        let bytes = self.files.bytes(id)?.unwrap_or_default();
        let pack = Pack::parse(&bytes)?;
        let trust = match self.index.verdicts().is_verified(&id)? {
            true => Trust::Verified,
            false => Trust::Domain(self.log.domains()?.of(pack.table.client)),
        };
        // A copy of a refused frame would not be known as refused.
        let dead = dead.clone().with(&self.index.verdicts().refused_frames(&id)?.unwrap_or_default());
        for (number, entry) in pack.table.frames.iter().enumerate().filter(|(number, _)| !dead.has(*number as u32)) {
            let frame = pack.frame(number).unwrap_or_default();
            if !self.is_copied(id, trust, entry, &frame)? {
                copies.add(&pack.table, trust, entry, &frame)?;
            }
        }
        Ok(())
    }

    /// Whether another pack, on which everybody may rely who may rely on this one, holds a frame as well, byte for
    /// byte: a sweep that died has copied it. A new copy would go
    /// into the same pack only if this sweep were given the same packs.
    fn is_copied(&self, pack: PackId, trust: Trust, entry: &FrameEntry, frame: &[u8]) -> Result<bool> {
        let Some(id) = entry.ids.first() else { return Ok(false) };
        // Only packs without condemned frames count: of two that both go, each would be dropped for the other's sake.
        for (other, number, other_trust) in
            self.index.chunks().kept_copies(id, &*self.log.domains()?, COPIES_COMPARED)?
        {
            if !other_trust.covers(trust) {
                continue;
            }
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
        let (mut packs, mut bytes) = (Vec::new(), 0);
        for (id, dead) in done {
            // What was put again in the meantime is not condemned any more.
            if self.index.prunes().condemned_frames(id)?.as_ref() == Some(dead) {
                bytes += self.files.len(*id)?.unwrap_or(0);
                packs.push(*id);
            }
        }
        let (mut events, count) = (Vec::new(), packs.len() as u64);
        if !packs.is_empty() {
            events.push(Event::Sweep { packs });
        }
        if !damaged.is_empty() {
            events.push(Event::Revive { packs: damaged.to_vec() });
        }
        if !events.is_empty() {
            self.log.append_to_free(&events)?;
            (swept.packs, swept.bytes) = (swept.packs + count, swept.bytes + bytes);
        }
        self.grave.move_swept()
    }
}

impl PackCopies<'_> {
    /// Copies a frame of a pack.
    fn add(&mut self, table: &PackTable, trust: Trust, entry: &FrameEntry, frame: &[u8]) -> Result<()> {
        let key = frame.first_chunk::<{ KeyId::LEN }>().map(|key| KeyId(*key)).unwrap_or_default();
        let wrap = table.wraps.iter().find(|wrap| wrap.key == key);
        let wrap = wrap.ok_or_else(|| Error::PackDamaged { pack: table.id, reason: "it lacks a wrap".into() })?;
        let group = (table.client, table.kind.number(), trust);
        let make = || PackWriter::copying(table.kind, table.repo, table.client);
        let mut writer = self.writers.remove(&group).unwrap_or_else(make);
        if writer.is_full() || !writer.fits(frame.len(), entry.ids.len()) || !writer.has_wrap_room() {
            self.written_bytes += self.copying.store(writer, trust == Trust::Verified)?;
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
        for ((_, _, trust), writer) in self.writers.drain() {
            self.written_bytes += self.copying.store(writer, trust == Trust::Verified)?;
        }
        Ok(())
    }
}

/// Whether a pack cannot be read as it was written.
fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Damaged || error.is_unreadable()
}
