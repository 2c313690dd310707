//! Taking damaged packs away: what is whole in them is copied, what is lost goes.
//!
//! **Order.** What is lost by it and was not yet told is told first ([`crate::repository::packs::quarantine`]). Then the frames that are kept are copied, and
//! their new pack is durable and in the index; only then the log says that the damaged one is swept, and its file goes, to the
//! grave if there is a floor. A crash in between leaves a pack that is still damaged, and perhaps a copy of what was whole in it; the next
//! repair makes the same copy, which is then the same pack. Whoever puts the pack again takes its file out of the grave first. Every point of
//! it is crashed at in `store/tests/crash/hurt.rs`.
//!
//! No damaged byte gets into a new pack, whose id would vouch for it: a frame is copied if the parity's hashes vouch for all of it. Where
//! there is no parity nothing does, and what a key holder has opened is taken.

use bytes::Bytes;

use crate::{
    access::{Dropped, Keep, Mending, Span, Swept},
    base::{
        error::{Error, Result},
        id::{KeyId, PackId},
    },
    format::{
        erasure::{self, Mended},
        log::Event,
        loss::{FrameBits, Hurt, Lost, Quarantined},
        pack::{PackTable, PackWriter},
    },
    repository::{Repository, layout, packs::mend::is_pack, packs::quarantine::touched},
};

/// What is left of a pack.
struct Left {
    /// None: nobody can tell what was in it.
    table: Option<PackTable>,
    /// With what can be mended.
    bytes: Bytes,
    /// Frames that are damaged.
    damaged: Hurt,
    is_whole: bool,
}

impl Repository {
    /// What mending a pack would come to.
    pub(in crate::repository) fn look_at(&self, id: PackId) -> Result<Mending> {
        if !self.index.packs().has(&id)? {
            return Err(Error::PackDamaged { pack: id, reason: "it is not in the repository".into() });
        }
        let _one = self.mending.lock();
        self.verdict(id).map(|(mending, _)| mending)
    }

    /// What mending a pack would come to, and the bytes that it would then have.
    fn verdict(&self, id: PackId) -> Result<(Mending, Bytes)> {
        let found = self.find(id)?;
        if found.is_whole {
            return Ok((Mending::Whole, found.pack));
        }
        let (Some(_), Some(parity)) = (&found.damage, &found.parity) else {
            return Ok((Mending::NoParity, found.pack));
        };
        match erasure::mend(&found.pack, parity, id)? {
            Mended::Whole => Ok((Mending::Whole, found.pack)),
            Mended::Mended { bytes, shards } => {
                let bytes = Bytes::from(bytes);
                match is_pack(&bytes, id) {
                    true => Ok((Mending::Mended(shards as u32), bytes)),
                    false => Ok((Mending::NoParity, found.pack)),
                }
            }
            Mended::Lost { bytes, ranges } => {
                let spans = ranges.iter().map(|r| Span { start: r.start as u32, end: r.end as u32 }).collect();
                Ok((Mending::Lost(spans), bytes.into()))
            }
        }
    }

    fn left_of(&self, id: PackId) -> Result<Left> {
        let (mending, bytes) = self.verdict(id)?;
        let table = self.salvaged_table(id, &bytes)?;
        let damaged = match (&mending, &table) {
            (Mending::Lost(spans), Some(table)) => Hurt::Frames(touched(table, spans)),
            (Mending::Whole | Mending::Mended(_), Some(table)) => Hurt::Frames(FrameBits::none(table.frames.len())),
            _ => Hurt::All,
        };
        Ok(Left { table, bytes, damaged, is_whole: matches!(mending, Mending::Whole | Mending::Mended(_)) })
    }

    pub(in crate::repository) fn drop_pack(&self, id: PackId, keep: &Keep) -> Result<Dropped> {
        // Sweeps copy, too, and must not take the pack away in between.
        let _one = self.sweeping.lock();
        self.follow()?;
        // One whose table is lost is not in the index.
        let is_known = self.index.packs().has(&id)? || self.index.quarantine().frames_of(&id)?.is_some();
        if !is_known || self.index.prunes().swept_at(&id)?.is_some() || self.backend.len(&layout::pack(id))?.is_none() {
            self.release_absent(id)?;
            return Ok(Dropped::default());
        }
        let left = {
            let _one = self.mending.lock();
            self.left_of(id)?
        };
        let frames = left.table.as_ref().map_or(0, |table| table.frames.len() as u32);
        let is_kept = |frame: u32| match (keep, &left.damaged) {
            // Nothing vouches for any frame but the key holder's word.
            (Keep::Opened(opened), Hurt::All) => opened.has(frame),
            (Keep::Opened(opened), damaged) => opened.has(frame) && !damaged.has(frame),
            (Keep::Whole, damaged) => !damaged.has(frame),
        };
        let kept = (0..frames).filter(|frame| is_kept(*frame)).count() as u32;
        if left.is_whole && kept == frames {
            // There is nothing wrong with it; if it is mended only in what was just read, it becomes so now.
            self.tend(id)?;
            return Ok(Dropped { kept, ..Dropped::default() });
        }
        self.tell_dropped(id, left.table.as_ref(), &is_kept)?;
        if let Some(table) = &left.table {
            self.copy_frames(table, &left.bytes, &is_kept)?;
        }
        let _lock = self.writing()?;
        if (kept < frames && self.index.quarantine().frames_of(&id)?.is_none())
            || self.index.prunes().swept_at(&id)?.is_some()
        {
            // Somebody has put it again meanwhile, and relies on it; or it was taken away.
            return Ok(Dropped { kept, ..Dropped::default() });
        }
        self.append(&[Event::Sweep { packs: vec![id] }])?;
        self.move_swept()?;
        tracing::warn!(pack = %id, kept, lost = frames - kept, "a damaged pack was taken away");
        Ok(Dropped { is_gone: true, kept, lost: frames - kept })
    }

    /// Tells of the frames that go with a pack and count as stored until now.
    fn tell_dropped(&self, id: PackId, table: Option<&PackTable>, is_kept: &dyn Fn(u32) -> bool) -> Result<()> {
        let _lock = self.writing()?;
        let before = self.index.quarantine().frames_of(&id)?;
        let is_news = |frame: u32| !is_kept(frame) && before.as_ref().is_none_or(|before| !before.has(frame));
        let (frames, lost) = match table {
            _ if before == Some(Hurt::All) => return Ok(()),
            Some(table) => {
                let mut bits = FrameBits::none(table.frames.len());
                (0..table.frames.len() as u32).filter(|frame| is_news(*frame)).for_each(|frame| bits.set(frame));
                (Hurt::Frames(bits), self.lost_with(table, &is_news)?)
            }
            None => (Hurt::All, Lost::Everything),
        };
        if frames.is_empty() {
            return Ok(());
        }
        let (generation, packs) = (self.generation()? + 1, vec![Quarantined { pack: id, frames }]);
        self.append(&[Event::Quarantine { generation, packs, lost }])
    }

    /// Copies frames of a pack into a new one.
    fn copy_frames(&self, table: &PackTable, bytes: &Bytes, is_kept: &dyn Fn(u32) -> bool) -> Result<()> {
        let make = || PackWriter::copying(table.kind, table.repo, table.client);
        let mut writer = make();
        for (number, entry) in table.frames.iter().enumerate().filter(|(number, _)| is_kept(*number as u32)) {
            let damaged =
                |reason: &str| Error::FrameDamaged { pack: table.id, frame: number as u32, reason: reason.into() };
            let frame = bytes.get(entry.offset as usize..(entry.offset + entry.len) as usize);
            let frame = frame.ok_or_else(|| damaged("it is cut off"))?;
            let key = frame.first_chunk::<{ KeyId::LEN }>().map(|key| KeyId(*key)).unwrap_or_default();
            let wrap = table.wraps.iter().find(|wrap| wrap.key == key);
            if writer.is_full() || !writer.fits(frame.len(), entry.ids.len()) {
                self.store_copies(std::mem::replace(&mut writer, make()), &mut Swept::default())?;
            }
            // There is room for it: they all come out of one pack.
            writer.add_wrap(wrap.ok_or_else(|| damaged("its pack lacks its wrap"))?);
            writer.add(frame, &entry.ids);
        }
        self.store_copies(writer, &mut Swept::default())
    }

    /// Forgets that a pack was in quarantine which is not there at all, nor in the grave.
    fn release_absent(&self, id: PackId) -> Result<()> {
        let _lock = self.writing()?;
        let is_there =
            self.backend.len(&layout::pack(id))?.is_some() || self.backend.len(&layout::grave(id))?.is_some();
        match self.index.quarantine().frames_of(&id)?.is_some() && !is_there {
            // Out of quarantine its frames would count as live, all of them.
            true if self.index.packs().has(&id)? => self.tell_gone(&[id]),
            true => self.release_gone(vec![id]),
            false => Ok(()),
        }
    }
}
