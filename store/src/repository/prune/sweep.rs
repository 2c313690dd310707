//! The second half of a prune: what is condemned goes, a little at a time.
//!
//! **Order.** The live frames of a pack are copied into new packs, which are durable and in the index, before the log says that
//! the pack is swept; only then its file moves to the grave. A crash in between leaves copies that are not needed, or a
//! file that is moved when the repository is opened again; both keep too much, never too little. What was put again
//! meanwhile is live, and left alone. Copies are made without the lock: pushes commit while a sweep runs. What another pack has already is
//! not copied; that pack is not condemned then, and if anything is condemned before this one goes, this one stays until the next call.
//!
//! **The grave** keeps swept packs for as long as the store's floor says, because the store cannot see whether a prune was told the
//! truth: a stolen key may call all ids dead. Until then the store's operator can bring them back
//! ([`Repository::revive_all`]). Without a floor they are removed at once. Their parity stays in its place and goes before them.

use std::collections::HashMap;

use crate::{
    access::{ForgetRequest, Mending, PruneReply, Swept},
    base::{
        error::{Error, ErrorKind, Result},
        id::{KeyId, PackId},
    },
    format::{
        log::Event,
        loss::FrameBits,
        pack::{FrameEntry, Pack, PackTable, PackWriter},
    },
    repository::{Repository, backend::Lock, layout},
};

/// How many packs one call takes away at most.
const PACKS: usize = 1024;
/// How many packs go while the lock is held: each waits for the disk twice, and pushes wait for the lock.
const AT_ONCE: usize = 32;
/// How many bytes one call copies, about.
const COPY_BYTES: u64 = 128 << 20;

/// What an operator brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Revived {
    /// Packs that were in the grave.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that were condemned and are so no more.
    pub spared: u64,
}

/// What was due and was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tidied {
    /// Snapshots that were in the trash.
    pub expired: u64,
    /// Packs that were in the grave.
    pub buried: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sets of what was condemned long ago.
    pub sets: u64,
}

impl Repository {
    pub(in crate::repository) fn abort_prune(&self) -> Result<PruneReply> {
        *self.marking.lock() = None;
        let _lock = self.writing()?;
        if self.index.prunes().condemned_count()? > 0 {
            self.append(&[Event::Abort])?;
        }
        Ok(PruneReply::Done)
    }

    /// Makes a pack that is condemned or swept live again in the log. The lock is held until its file and rows are there, and
    /// until it is out of quarantine ([`Repository::release_put`]) if it is in it; none is needed for any other pack.
    pub(in crate::repository) fn revive_for(&self, pack: PackId) -> Result<Option<Box<dyn Lock>>> {
        let is_gone = || {
            Ok::<_, Error>(
                self.index.prunes().condemned_frames(&pack)?.is_some()
                    || self.index.prunes().swept_at(&pack)?.is_some(),
            )
        };
        self.follow()?;
        if !is_gone()? && self.index.quarantine().frames_of(&pack)?.is_none() {
            return Ok(None);
        }
        let lock = self.writing()?;
        if is_gone()? {
            self.append(&[Event::Revive { packs: vec![pack] }])?;
        }
        self.take_out_of_grave(pack)?;
        Ok(Some(lock))
    }

    /// Takes away some of what is condemned.
    pub(in crate::repository) fn sweep(&self) -> Result<Swept> {
        let _one = self.sweeping.lock();
        self.follow()?;
        self.bury()?;
        // In this order: what is condemned later is left to the next call.
        let condemn = self.index.prunes().newest_condemnation()?;
        let condemned = self.index.prunes().condemned(PACKS)?;
        if condemned.is_empty() {
            self.remove_old_sets()?;
        }
        let mut swept = Swept::default();
        let (mut done, mut damaged) = (Vec::new(), Vec::new());
        let mut writers: HashMap<_, PackWriter> = HashMap::new();
        for (id, dead) in condemned {
            let mut copied = self.copy_live(id, &dead, &mut writers, &mut swept);
            if copied.as_ref().is_err_and(is_damage)
                && matches!(self.tend(id)?.mending, Mending::Whole | Mending::Mended(_))
            {
                copied = self.copy_live(id, &dead, &mut writers, &mut swept);
            }
            match copied {
                Ok(()) => done.push((id, dead)),
                Err(error) if is_damage(&error) => {
                    tracing::warn!(pack = %id, %error, "a damaged pack is not pruned");
                    damaged.push(id);
                }
                Err(error) => return Err(error),
            }
            if swept.written_bytes + writers.values().map(|w| w.len() as u64).sum::<u64>() > COPY_BYTES {
                break;
            }
        }
        for writer in writers.into_values() {
            self.store_copies(writer, &mut swept)?;
        }
        // What was not copied because it is in another pack already relies on that one, which whoever stored it may not have made durable.
        self.settle_packs()?;
        self.take_away(condemn, &[], &damaged, &mut swept)?;
        done.chunks(AT_ONCE).try_for_each(|some| self.take_away(condemn, some, &[], &mut swept))?;
        swept.damaged = damaged.len() as u64;
        swept.left = self.index.prunes().condemned_count()?;
        Ok(swept)
    }

    /// Copies the frames of a pack that are not dead.
    fn copy_live(
        &self,
        id: PackId,
        dead: &FrameBits,
        writers: &mut HashMap<(crate::base::id::ClientId, u8), PackWriter>,
        swept: &mut Swept,
    ) -> Result<()> {
        let Some(len) = self.backend.len(&layout::pack(id))? else {
            // Nothing is there to be lost.
            return Ok(());
        };
        let table = self.table_of(id, len)?;
        if (0..table.frames.len() as u32).all(|frame| dead.has(frame)) {
            return Ok(());
        }
        let bytes = self.backend.get(&layout::pack(id))?.unwrap_or_default();
        let pack = Pack::parse(&bytes)?;
        for (number, entry) in pack.table.frames.iter().enumerate().filter(|(number, _)| !dead.has(*number as u32)) {
            let frame = pack.frame(number).unwrap_or_default();
            if self.is_copied(id, entry, &frame)? {
                continue;
            }
            let key = frame.first_chunk::<{ KeyId::LEN }>().map(|key| KeyId(*key)).unwrap_or_default();
            let wrap = pack.table.wraps.iter().find(|wrap| wrap.key == key);
            let wrap = wrap.ok_or_else(|| Error::PackDamaged { pack: id, reason: "it lacks a wrap".into() })?;
            let group = (pack.table.client, pack.table.kind.number());
            let make = || PackWriter::copying(pack.table.kind, pack.table.repo, pack.table.client);
            let mut writer = writers.remove(&group).unwrap_or_else(make);
            if writer.is_full() || !writer.fits(frame.len(), entry.ids.len()) || !writer.has_wrap_room() {
                self.store_copies(writer, swept)?;
                writer = make();
            }
            writer.add_wrap(wrap);
            writer.add(&frame, &entry.ids);
            writers.insert(group, writer);
        }
        Ok(())
    }

    /// Whether another pack holds a frame, too, byte for byte: a sweep that died has copied it. It would copy it into the same pack
    /// again only if it were given the same packs again.
    fn is_copied(&self, pack: PackId, entry: &FrameEntry, frame: &[u8]) -> Result<bool> {
        let Some(id) = entry.ids.first() else { return Ok(false) };
        // Of two that are both to go, each would be let go for the other's sake.
        for (other, number) in self.index.chunks().kept_copies(id)? {
            let Some((start, len)) = other.frame(number).filter(|(_, len)| *len as usize == frame.len()) else {
                continue;
            };
            if other.id == pack {
                continue;
            }
            let holds = || -> Result<bool> {
                let bytes = self.backend.get_range(&layout::pack(other.id), start.into(), len as usize)?;
                let table = self.table_of(other.id, other.len)?;
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

    /// Stores a pack of copies, if there are any in it.
    pub(in crate::repository) fn store_copies(&self, writer: PackWriter, swept: &mut Swept) -> Result<()> {
        if writer.is_empty() {
            return Ok(());
        }
        let upload = writer.finish();
        let table = Pack::parse(&upload.bytes)?.table;
        loop {
            // The same frames may have been copied into the same pack before, by a prune that was cut short and given up; or are now, by
            // another one, and that pack be pruned already.
            let lock = self.revive_for(upload.id)?;
            self.backend.put(&layout::pack(upload.id), &upload.bytes)?;
            self.take_in(&table, &upload.bytes, None)?;
            if lock.is_some() || self.index.packs().has(&upload.id)? {
                self.release_put(upload.id, lock)?;
                break;
            }
        }
        swept.written_bytes += upload.bytes.len() as u64;
        Ok(())
    }

    /// Says in the log what is swept, and moves the files. Nothing goes if something was condemned since `condemn`: what was not copied because
    /// another pack has it may have been condemned there meanwhile, and that pack be gone.
    fn take_away(
        &self,
        condemn: Option<u64>,
        done: &[(PackId, FrameBits)],
        damaged: &[PackId],
        swept: &mut Swept,
    ) -> Result<()> {
        let mut packs = Vec::new();
        {
            let _lock = self.writing()?;
            let done = if self.index.prunes().newest_condemnation()? == condemn { done } else { &[] };
            for (id, dead) in done {
                // What was put again meanwhile is not condemned any more.
                if self.index.prunes().condemned_frames(id)?.as_ref() == Some(dead) {
                    swept.packs += 1;
                    swept.bytes += self.backend.len(&layout::pack(*id))?.unwrap_or(0);
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
                self.append(&events)?;
            }
            self.move_swept()?;
        }
        Ok(())
    }

    /// Moves the files of swept packs out of the way. The caller holds the lock, so that none of them comes back meanwhile.
    pub(in crate::repository) fn move_swept(&self) -> Result<()> {
        let (packs, mut released) = (self.index.prunes().unmoved()?, Vec::new());
        for id in &packs {
            match self.protect_secs {
                0 => self.remove_pack(*id, &layout::pack(*id), &mut released)?,
                _ => self.backend.rename(&layout::pack(*id), &layout::grave(*id))?,
            }
        }
        if packs.is_empty() {
            return Ok(());
        }
        self.index.prunes().set_moved(&packs)?;
        self.release_gone(released)
    }

    /// Lets go what is due, without anybody's asking: what has been in the trash and in the grave for as long as the floor says. Without a
    /// floor the trash is left to whoever prunes: that may be at once, and should be somebody's will.
    pub fn tidy(&self) -> Result<Tidied> {
        self.state()?;
        self.follow()?;
        self.clear_away()?;
        let mut tidied = Tidied::default();
        if self.protect_secs > 0 {
            let due = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
            tidied.expired = self.forget_snapshots(&due)?.expired.len() as u64;
        }
        (tidied.buried, tidied.bytes) = self.bury()?;
        tidied.sets = self.remove_old_sets()?;
        Ok(tidied)
    }

    /// Removes the packs whose time in the grave is over; says how many they were, and their bytes.
    fn bury(&self) -> Result<(u64, u64)> {
        let protect = i64::try_from(self.protect_secs).unwrap_or(i64::MAX);
        let buried = self.backend.list(layout::GRAVE)?;
        let (mut gone, mut released) = ((0, 0), Vec::new());
        if buried.is_empty() {
            return Ok(gone);
        }
        let _lock = self.writing()?;
        // A clock that jumps ahead ends nothing before a record of the log has seen it, as with the trash.
        let now = (self.clock)().secs.min(self.newest_time()?.secs);
        for listed in buried {
            let Ok(id) = listed.name.parse::<PackId>() else { continue };
            match self.index.prunes().swept_at(&id)? {
                Some(at) if at.saturating_add(protect) <= now => {
                    self.remove_pack(id, &layout::grave(id), &mut released)?;
                    gone = (gone.0 + 1, gone.1 + listed.len);
                }
                Some(_) => {}
                // It is live again, and its file did not get so far.
                None => self.take_out_of_grave(id)?,
            }
        }
        self.release_gone(released)?;
        Ok(gone)
    }

    /// Moves what a crash has left between the log's word and the move. Not while the repository is being made: then the floor
    /// is not known yet, and without one this is the end of a pack.
    pub(in crate::repository) fn clear_away(&self) -> Result<()> {
        if self.index.prunes().unmoved()?.is_empty() {
            return Ok(());
        }
        let _lock = self.writing()?;
        self.move_swept()
    }

    /// Brings back every swept pack that is still in the grave, and gives up what is condemned and not yet swept: for the
    /// store's operator, when a prune has taken too much.
    pub fn revive_all(&self) -> Result<Revived> {
        self.state()?;
        let mut revived = Revived::default();
        {
            let _lock = self.writing()?;
            revived.spared = self.index.prunes().condemned_count()?;
            if revived.spared > 0 {
                self.append(&[Event::Abort])?;
            }
            self.move_swept()?;
            let mut ids = Vec::new();
            for listed in self.backend.list(layout::GRAVE)? {
                let Ok(id) = listed.name.parse::<PackId>() else { continue };
                revived.packs += 1;
                revived.bytes += listed.len;
                ids.push(id);
            }
            for packs in ids.chunks(PACKS) {
                // First the log: a file that lies in the grave against its word is put back by the next sweep.
                self.append(&[Event::Revive { packs: packs.to_vec() }])?;
                for id in packs {
                    self.backend.rename(&layout::grave(*id), &layout::pack(*id))?;
                }
            }
        }
        self.read_in()?;
        Ok(revived)
    }

    /// The table of a pack that the index has and the log says is swept, from wherever its file is now.
    pub(in crate::repository) fn table_of_swept(&self, id: PackId) -> Option<PackTable> {
        if !self.index.packs().has(&id).unwrap_or(false) {
            return None;
        }
        let len = self.backend.len(&layout::pack(id)).ok().flatten()?;
        self.table_of(id, len).ok()
    }
}

/// Whether a pack cannot be read as it was written.
fn is_damage(error: &Error) -> bool {
    error.kind() == ErrorKind::Damaged || error.is_unreadable()
}
