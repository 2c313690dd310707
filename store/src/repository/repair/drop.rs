//! Dropping damaged packs: what is whole in them is copied, and what is lost goes.
//!
//! **Order.** Losses that were not announced yet are announced first ([`crate::repository::packs::quarantine`]). Then
//! the kept frames are copied, and their new pack is durable and in the index. Only then the log says that the damaged
//! pack is swept, and its file goes, to the grave if there is a floor. A crash in between leaves a pack that is still
//! damaged, and perhaps a copy of what was whole in it; the next repair makes the same copy, which is the same pack.
//! Storing the dropped pack again takes its file out of the grave first. `store/tests/crash/hurt.rs` crashes at every
//! point of this.
//!
//! No damaged byte gets into a new pack, whose id would vouch for it. A frame is copied only if the parity's hashes
//! vouch for all of it. Without parity nothing does, and the frames are copied that a key holder has opened.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    access::{Dropped, Keep},
    base::{
        error::{Error, Result},
        id::{KeyId, PackId},
    },
    format::{
        log::Event,
        loss::{DamagedFrames, FrameBits, Lost, Quarantined},
        pack::{PackTable, PackWriter},
    },
    repository::{
        index::Index,
        log::Log,
        packs::{files::PackFiles, mend::Mender, quarantine::Quarantine},
        prune::{
            copier::{Copier, Copying},
            grave::Grave,
        },
    },
};

/// Drops damaged packs.
#[derive(Debug)]
pub struct PackDropper {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    mender: Arc<Mender>,
    quarantine: Arc<Quarantine>,
    copier: Arc<Copier>,
    grave: Arc<Grave>,
}

impl PackDropper {
    pub fn new(
        index: Arc<Index>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        mender: Arc<Mender>,
        quarantine: Arc<Quarantine>,
        copier: Arc<Copier>,
        grave: Arc<Grave>,
    ) -> Self {
        Self { index, log, files, mender, quarantine, copier, grave }
    }

    /// Drops a damaged pack, after copying the frames that are kept.
    pub fn drop_pack(&self, id: PackId, keep: &Keep) -> Result<Dropped> {
        let copying = self.copier.begin(false);
        self.log.follow()?;
        // A pack whose table is lost is not in the index, only in quarantine.
        let is_known = self.index.packs().has(&id)? || self.quarantine.has(id)?;
        if !is_known || self.index.prunes().swept_at(&id)?.is_some() || !self.files.exists(id)? {
            self.release_absent(id)?;
            return Ok(Dropped::default());
        }
        let remains = self.mender.remains(id)?;
        let frames = remains.table.as_ref().map_or(0, |table| table.frames.len() as u32);
        // A copy of a refused frame would not be known as refused.
        let refused = self.index.verdicts().refused_frames(&id)?.unwrap_or_default();
        let is_kept = |frame: u32| match (keep, &remains.damaged) {
            _ if refused.has(frame) => false,
            // Nothing vouches for any frame except the key holder's word.
            (Keep::Opened(opened), DamagedFrames::All) => opened.has(frame),
            (Keep::Opened(opened), damaged) => opened.has(frame) && !damaged.has(frame),
            (Keep::Whole, damaged) => !damaged.has(frame),
        };
        let kept = (0..frames).filter(|frame| is_kept(*frame)).count() as u32;
        if remains.is_whole && kept == frames {
            // Nothing is wrong with it. If its parity can mend it, it is mended now.
            self.mender.mend(id)?;
            return Ok(Dropped { kept, ..Dropped::default() });
        }
        self.announce_losses(id, remains.table.as_ref(), &is_kept)?;
        if let Some(table) = &remains.table {
            let is_verified = self.index.verdicts().is_verified(&id)?;
            copy_frames(&copying, table, &remains.bytes, is_verified, &is_kept)?;
        }
        let _lock = self.log.lock_for_append()?;
        if (kept < frames && !self.quarantine.has(id)?) || self.index.prunes().swept_at(&id)?.is_some() {
            // It was stored again in the meantime, and something may rely on it; or it was swept.
            return Ok(Dropped { kept, ..Dropped::default() });
        }
        self.log.append(&[Event::Sweep { packs: vec![id] }])?;
        self.grave.move_swept()?;
        tracing::warn!(pack = %id, kept, lost = frames - kept, "a damaged pack was dropped");
        Ok(Dropped { is_gone: true, kept, lost: frames - kept })
    }

    /// Announces the loss of frames that go with a pack and counted as stored until now.
    fn announce_losses(&self, id: PackId, table: Option<&PackTable>, is_kept: &dyn Fn(u32) -> bool) -> Result<()> {
        let _lock = self.log.lock_for_append()?;
        let before = self.quarantine.frames_of(id)?;
        let is_news = |frame: u32| !is_kept(frame) && before.as_ref().is_none_or(|before| !before.has(frame));
        let (frames, lost) = match table {
            _ if before == Some(DamagedFrames::All) => return Ok(()),
            Some(table) => {
                let mut bits = FrameBits::none(table.frames.len());
                (0..table.frames.len() as u32).filter(|frame| is_news(*frame)).for_each(|frame| bits.set(frame));
                (DamagedFrames::Frames(bits), self.quarantine.lost_with(table, &is_news)?)
            }
            None => (DamagedFrames::All, Lost::Everything),
        };
        if frames.is_empty() {
            return Ok(());
        }
        self.quarantine.announce(vec![Quarantined { pack: id, frames }], lost)
    }

    /// Ends the quarantine of a pack whose file is gone, and is not in the grave either.
    fn release_absent(&self, id: PackId) -> Result<()> {
        let _lock = self.log.lock_for_append()?;
        let is_there = self.files.exists(id)? || self.files.is_in_grave(id)?;
        match self.quarantine.has(id)? && !is_there {
            // Only out of quarantine, all its frames would count as live.
            true if self.index.packs().has(&id)? => self.quarantine.announce_missing(&[id]),
            true => self.quarantine.release_gone(vec![id]),
            false => Ok(()),
        }
    }
}

/// Copies frames of a pack into new packs.
fn copy_frames(
    copying: &Copying<'_>,
    table: &PackTable,
    bytes: &Bytes,
    is_verified: bool,
    is_kept: &dyn Fn(u32) -> bool,
) -> Result<()> {
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
            copying.store(std::mem::replace(&mut writer, make()), is_verified)?;
        }
        // There is room for the wrap: all wraps come from one pack.
        writer.add_wrap(wrap.ok_or_else(|| damaged("its pack lacks its wrap"))?);
        writer.add(frame, &entry.ids);
    }
    copying.store(writer, is_verified).map(drop)
}
