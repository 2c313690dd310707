//! Verifying whole packs, and mending them in place with their parity. Parity that is missing or damaged is made again.
//!
//! A pack is replaced as it was written: into a temporary file, synced, renamed. So a reader sees either the damaged
//! pack or the mended one, whatever happens. Damage must be found twice, the second time under the repository's lock,
//! before anything is written. Only bytes that the pack's id vouches for replace others. If these cannot be had for all
//! of a pack, the other bytes stay as they are, and their frames go into [quarantine](super::quarantine).

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    files::PackFiles,
    quarantine::{Quarantine, frames_in},
    scan::{PackScan, is_pack},
};
use crate::{
    access::{Mending, Span},
    base::{error::Result, id::PackId},
    format::{
        erasure::{self, MendOutcome},
        loss::{DamagedFrames, FrameBits},
        pack::PackTable,
    },
    repository::{index::Index, log::Log, objects::Objects},
};

/// Mends packs.
#[derive(Debug)]
pub struct Mender {
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    quarantine: Arc<Quarantine>,
    /// One pack at a time: each takes the memory of several packs, and a second thread that waits for the same pack
    /// finds it mended.
    one_at_a_time: Mutex<()>,
}

/// What was found of a pack, and done about it.
#[derive(Debug)]
pub struct MendedPack {
    pub mending: Mending,
    pub parity: ParityState,
    /// The pack's bytes, if it is whole now.
    pub whole: Option<Bytes>,
    pub bytes_read: u64,
}

/// What was found of a pack's parity, and done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParityState {
    /// There is none, and there should be none.
    Off,
    Whole,
    /// It was missing, and was made.
    Made,
    /// It was damaged, and was made again.
    MadeAgain,
    /// It is missing or damaged, and so is the pack.
    Lost,
}

/// What is left of a pack.
pub struct Remains {
    /// None if it is unknown what was in the pack.
    pub table: Option<PackTable>,
    /// The pack, with the bytes that can be mended.
    pub bytes: Bytes,
    /// The frames that are still damaged in these bytes.
    pub damaged: DamagedFrames,
    /// Whether the pack is whole, or would be once it is mended.
    pub is_whole: bool,
}

impl Mender {
    pub fn new(
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        quarantine: Arc<Quarantine>,
    ) -> Self {
        Self { index, objects, log, files, quarantine, one_at_a_time: Mutex::new(()) }
    }

    /// Whether a pack should have parity, and has none.
    pub fn lacks_parity(&self, id: PackId) -> Result<bool> {
        Ok(self.objects.config()?.parity.is_some() && self.files.parity_len(id)?.is_none())
    }

    /// Whether the files of a pack of this length are not as long as they should be. `pending` are packs whose parity
    /// has still to be made.
    pub fn is_suspect(&self, id: PackId, len: u64, pending: &HashSet<PackId>) -> Result<bool> {
        if self.files.len(id)? != Some(len) {
            return Ok(true);
        }
        match self.files.parity_len(id)? {
            None => Ok(self.objects.config()?.parity.is_some() && !pending.contains(&id)),
            Some(len) => match self.files.parity_range(id, 0, erasure::START_LEN) {
                Ok(start) => Ok(start.and_then(|start| erasure::file_len(&start)) != Some(len)),
                // Its length is no sign of anything then. A scrub reads all of it.
                Err(error) if error.is_unreadable() => Ok(false),
                Err(error) => Err(error),
            },
        }
    }

    /// Verifies a pack and its parity, and mends what can be mended.
    pub fn mend(&self, id: PackId) -> Result<MendedPack> {
        let _one = self.one_at_a_time.lock();
        let scan = PackScan::new(&self.files, id)?;
        if scan.is_whole && scan.is_readable && !self.quarantine.has(id)? {
            let parity = self.mend_parity(id, &scan)?;
            let bytes_read = scan.bytes_read();
            return Ok(MendedPack { mending: Mending::Whole, parity, whole: Some(scan.pack), bytes_read });
        }
        // Another process may have mended it in the meantime, or it was misread.
        let _lock = self.log.lock()?;
        self.log.follow()?;
        if self.index.prunes().swept_at(&id)?.is_some() {
            // It was swept in the meantime, and must not come back by being mended.
            let (mending, parity, bytes_read) = (Mending::Whole, ParityState::Off, scan.bytes_read());
            return Ok(MendedPack { mending, parity, whole: None, bytes_read });
        }
        if !self.files.exists(id)? {
            // Before it counts as lost: a process that revived it may have died before it moved the file.
            self.files.take_out_of_grave(id)?;
        }
        self.mend_locked(id, PackScan::new(&self.files, id)?)
    }

    /// Mends a pack as it was found under the lock.
    fn mend_locked(&self, id: PackId, scan: PackScan) -> Result<MendedPack> {
        let bytes_read = scan.bytes_read();
        let lost = |mending| MendedPack { mending, parity: ParityState::Lost, whole: None, bytes_read };
        let (bytes, mending) = match (&scan.damage, &scan.parity) {
            _ if scan.is_whole && scan.is_readable => (scan.pack.clone(), Mending::Whole),
            // It was read with gaps, and the gaps turned out to be zeros: it is written again, elsewhere on the disk.
            _ if scan.is_whole => (scan.pack.clone(), Mending::Mended(0)),
            (Some(_), Some(parity)) => match erasure::mend(&scan.pack, parity, id)? {
                MendOutcome::Whole => (scan.pack.clone(), Mending::Whole),
                MendOutcome::Mended { bytes, shards } => {
                    let bytes = Bytes::from(bytes);
                    if !is_pack(&bytes, id) {
                        tracing::error!(pack = %id, "a pack is damaged, and its parity does not restore a pack");
                        return Ok(self.quarantine_lost(id, &scan.pack, lost(Mending::NoParity)));
                    }
                    (bytes, Mending::Mended(shards as u32))
                }
                MendOutcome::Lost { bytes, ranges } => {
                    self.mend_ends(id, &scan, &bytes)?;
                    let spans = spans(&ranges);
                    tracing::error!(pack = %id, ?spans, "a pack has more damage than its parity can mend");
                    return Ok(self.quarantine_lost(id, &bytes, lost(Mending::Lost(spans))));
                }
            },
            _ => {
                tracing::error!(pack = %id, "a pack is damaged, and has no parity to mend it with");
                return Ok(self.quarantine_lost(id, &scan.pack, lost(Mending::NoParity)));
            }
        };
        if let Mending::Mended(shards) = mending {
            self.files.put(id, &bytes)?;
            tracing::warn!(pack = %id, shards, "a damaged pack was mended");
        }
        let scan = PackScan { pack: bytes, is_whole: true, is_readable: true, ..scan };
        let parity = self.mend_parity(id, &scan)?;
        self.quarantine.release(id)?;
        Ok(MendedPack { mending, parity, whole: Some(scan.pack), bytes_read })
    }

    /// Puts the lost frames of a pack into quarantine. If that cannot be logged, as on a full disk, it is done when the
    /// damage is met again.
    fn quarantine_lost(&self, id: PackId, bytes: &[u8], outcome: MendedPack) -> MendedPack {
        let spans = match &outcome.mending {
            Mending::Lost(spans) => Some(&spans[..]),
            _ => None,
        };
        if let Err(error) = self.quarantine.put(id, spans, bytes) {
            tracing::error!(pack = %id, %error, "the lost frames of a pack cannot be put into quarantine");
        }
        outcome
    }

    /// Gives a pack that cannot be mended its length, its footer and its table back: without them none of it would be
    /// found.
    fn mend_ends(&self, id: PackId, scan: &PackScan, bytes: &[u8]) -> Result<()> {
        // What cannot be read today may be readable tomorrow, so zeros do not replace it.
        if !scan.is_readable || scan.pack.is_empty() || *bytes == scan.pack {
            return Ok(());
        }
        // The hashes vouch for the shards, not for a footer.
        if PackTable::salvage(bytes).is_none_or(|table| table.id != id) {
            return Ok(());
        }
        self.files.put(id, bytes)?;
        tracing::warn!(pack = %id, "a damaged pack got its table back");
        Ok(())
    }

    /// Makes the parity of a whole pack if it is not as it should be.
    fn mend_parity(&self, id: PackId, scan: &PackScan) -> Result<ParityState> {
        let was_there = scan.parity.is_some();
        if scan.is_parity_whole() {
            return Ok(ParityState::Whole);
        }
        let Some(parity) = self.objects.config()?.parity else { return Ok(ParityState::Off) };
        self.files.put_parity(id, &erasure::encode(&scan.pack, parity)?)?;
        match was_there {
            true => tracing::warn!(pack = %id, "the damaged parity of a pack was made again"),
            false => tracing::info!(pack = %id, "the missing parity of a pack was made"),
        }
        Ok(if was_there { ParityState::MadeAgain } else { ParityState::Made })
    }

    /// What mending a pack would result in. Changes nothing.
    pub fn preview(&self, id: PackId) -> Result<Mending> {
        let _one = self.one_at_a_time.lock();
        self.assess(id).map(|(mending, _)| mending)
    }

    /// What is left of a pack. Changes nothing.
    pub fn remains(&self, id: PackId) -> Result<Remains> {
        let _one = self.one_at_a_time.lock();
        let (mending, bytes) = self.assess(id)?;
        let table = self.quarantine.salvage_table(id, &bytes)?;
        let damaged = match (&mending, &table) {
            (Mending::Lost(spans), Some(table)) => DamagedFrames::Frames(frames_in(table, spans)),
            (Mending::Whole | Mending::Mended(_), Some(table)) => {
                DamagedFrames::Frames(FrameBits::none(table.frames.len()))
            }
            _ => DamagedFrames::All,
        };
        Ok(Remains { table, bytes, damaged, is_whole: matches!(mending, Mending::Whole | Mending::Mended(_)) })
    }

    /// What mending a pack would result in, and the bytes that the pack would then have.
    fn assess(&self, id: PackId) -> Result<(Mending, Bytes)> {
        let scan = PackScan::new(&self.files, id)?;
        if scan.is_whole {
            return Ok((Mending::Whole, scan.pack));
        }
        let (Some(_), Some(parity)) = (&scan.damage, &scan.parity) else {
            return Ok((Mending::NoParity, scan.pack));
        };
        match erasure::mend(&scan.pack, parity, id)? {
            MendOutcome::Whole => Ok((Mending::Whole, scan.pack)),
            MendOutcome::Mended { bytes, shards } => {
                let bytes = Bytes::from(bytes);
                match is_pack(&bytes, id) {
                    true => Ok((Mending::Mended(shards as u32), bytes)),
                    false => Ok((Mending::NoParity, scan.pack)),
                }
            }
            MendOutcome::Lost { bytes, ranges } => Ok((Mending::Lost(spans(&ranges)), bytes.into())),
        }
    }
}

fn spans(ranges: &[std::ops::Range<usize>]) -> Vec<Span> {
    ranges.iter().map(|range| Span { start: range.start as u32, end: range.end as u32 }).collect()
}
