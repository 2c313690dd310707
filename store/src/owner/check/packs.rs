//! Packs, byte for byte.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{CheckOptions, CheckReport, Findings, Progress, subset::choose};
use crate::{
    access::{Access, Mending, PackInfo, SealedFrame},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, PackId},
    },
    format::{
        pack::{Pack, PackTable},
        roster::Roster,
    },
    owner::reader::Reader,
};

/// Packs listed at once.
const BATCH: u32 = 1024;
/// How often a pack is read in which something is wrong while the store says that it is whole.
const LOOKS: usize = 3;

/// The chunks that were met where something is wrong.
#[derive(Debug, Default)]
pub(super) struct Hurt {
    /// Those in frames that do not hold what they should.
    pub ids: HashSet<ChunkId>,
    /// There are others that nobody can name.
    pub is_more: bool,
}

/// Checks those that are to be read.
pub(super) fn check(
    reader: &Reader,
    access: &dyn Access,
    options: &CheckOptions,
    findings: &Findings,
    progress: &Progress,
    report: &mut CheckReport,
) -> Result<Hurt> {
    let packs = list(access, progress)?;
    // Only now: a client may have been enrolled and have stored some of them meanwhile.
    let roster = reader.roster()?;
    report.packs_total = packs.len() as u64;
    let packs = choose(packs, options.read_data);
    report.packs = packs.len() as u64;
    report.bytes = packs.iter().map(|p| p.len).sum();
    report.reached = packs.back().map(|pack| pack.id);
    progress.packs_total.store(report.packs, Relaxed);
    progress.bytes_total.store(report.bytes, Relaxed);
    let queue = Mutex::new(packs);
    let (hurt, mended) = (Mutex::new(Hurt::default()), AtomicU64::new(0));
    let work = || -> Result<()> {
        while let Some(info) = { queue.lock().pop_front() } {
            progress.go_on()?;
            let settled = settle_pack(reader, access, &roster, &info)?;
            let found = settled.found;
            mended.fetch_add(u64::from(settled.is_mended), Relaxed);
            hurt.lock().is_more |= settled.is_doubtful && !found.is_opened;
            hurt.lock().ids.extend(found.ids);
            for error in found.wrong {
                findings.note(None, b"", error)?;
            }
            progress.packs.fetch_add(1, Relaxed);
            progress.bytes.fetch_add(info.len, Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut outcome = Ok(());
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(result);
        }
        outcome
    })?;
    report.packs_mended = mended.into_inner();
    Ok(hurt.into_inner())
}

/// What a pack is, after mending.
struct Settled {
    found: PackFound,
    is_mended: bool,
    /// Something is wrong, and the store says that nothing is, or nothing at all. (What it found lost it says by itself of each chunk.)
    is_doubtful: bool,
}

/// Checks a pack, and if it is damaged, has it mended. Others mend and prune meanwhile, so what is wrong counts only if it is so still
/// when the store says that nothing is; and nothing is wrong with a pack that was pruned.
fn settle_pack(reader: &Reader, access: &dyn Access, roster: &Roster, info: &PackInfo) -> Result<Settled> {
    let (mut is_mended, mut looks) = (false, 0);
    loop {
        let found = check_pack(reader, access, roster, info);
        looks += 1;
        let settled = |found, is_mended, is_doubtful| Ok(Settled { found, is_mended, is_doubtful });
        if found.wrong.is_empty() {
            return settled(found, is_mended, false);
        }
        if !is_listed(access, info.id)? {
            return settled(PackFound::default(), is_mended, false);
        }
        if found.wrong.iter().all(|error| error.kind() != ErrorKind::Damaged) {
            return settled(found, is_mended, false);
        }
        if looks == LOOKS {
            return settled(found, is_mended, true);
        }
        match access.mend(info.id) {
            Ok(Mending::Mended(_)) => is_mended = true,
            // Perhaps somebody has mended it since it was read.
            Ok(Mending::Whole) => {}
            Ok(Mending::Lost(_) | Mending::NoParity) => return settled(found, is_mended, false),
            // The store no longer knows it.
            Err(_) if !is_listed(access, info.id)? => return settled(PackFound::default(), is_mended, false),
            Err(_) => return settled(found, is_mended, true),
        }
    }
}

/// All packs, in the order of their ids.
pub(crate) fn list(access: &dyn Access, progress: &Progress) -> Result<Vec<PackInfo>> {
    let mut packs = Vec::new();
    let mut after: Option<PackId> = None;
    loop {
        progress.go_on()?;
        let more = access.packs(after, BATCH)?;
        let Some(last) = more.last() else { break };
        if after.is_some_and(|after| last.id <= after) {
            return Err(Error::Invalid("the store lists packs without end".into()));
        }
        after = Some(last.id);
        packs.extend(more);
    }
    Ok(packs)
}

/// Whether a pack is still among those that the store lists.
pub(crate) fn is_listed(access: &dyn Access, id: PackId) -> Result<bool> {
    let listed = access.packs(before(id), 1)?;
    Ok(listed.first().is_some_and(|pack| pack.id == id))
}

/// The id that comes before, if it is not the first.
fn before(mut id: PackId) -> Option<PackId> {
    for byte in id.0.iter_mut().rev() {
        let (less, borrows) = byte.overflowing_sub(1);
        *byte = less;
        if !borrows {
            return Some(id);
        }
    }
    None
}

/// What was found of one pack.
#[derive(Debug, Default)]
pub(crate) struct PackFound {
    /// Everything that is wrong.
    pub wrong: Vec<Error>,
    /// Frames that do not hold what the table says, by number.
    pub frames: Vec<u32>,
    /// The chunks that should be in them.
    pub ids: Vec<ChunkId>,
    /// Whether its frames could be looked at.
    pub is_opened: bool,
}

/// Everything that is wrong with one.
pub(crate) fn check_pack(reader: &Reader, access: &dyn Access, roster: &Roster, info: &PackInfo) -> PackFound {
    let mut found = PackFound::default();
    if let Err(error) = look_at_pack(reader, access, roster, info, &mut found) {
        found.wrong.push(error);
    }
    found
}

/// Fails if there is nothing more to be looked at.
fn look_at_pack(
    reader: &Reader,
    access: &dyn Access,
    roster: &Roster,
    info: &PackInfo,
    found: &mut PackFound,
) -> Result<()> {
    let pack_damaged = |reason: String| Error::PackDamaged { pack: info.id, reason };
    let bytes = access.read_pack(info.id)?;
    let pack = Pack::parse(&bytes).map_err(|error| match error {
        // The error names the pack by what its footer says, which need not be what was asked for.
        Error::PackDamaged { reason, .. } => pack_damaged(reason),
        error => pack_damaged(error.to_string()),
    })?;
    if pack.table.id != info.id {
        return Err(pack_damaged(format!("pack {} is stored in its place", pack.table.id)));
    }
    found.wrong.extend(pack.table.verify(roster).err());
    found.is_opened = true;
    open_frames(reader, &pack.table, &bytes, found);
    Ok(())
}

/// Opens each frame of a pack of which all but the table may be damaged.
pub(crate) fn open_frames(reader: &Reader, table: &PackTable, bytes: &Bytes, found: &mut PackFound) {
    for wrap in &table.wraps {
        if let Err(error) = reader.keys().learn(wrap) {
            found.wrong.push(Error::PackDamaged { pack: table.id, reason: error.to_string() });
        }
    }
    for (number, entry) in table.frames.iter().enumerate() {
        let number = number as u32;
        let (start, end) = (entry.offset as usize, (entry.offset + entry.len) as usize);
        let frame = SealedFrame {
            pack: table.id,
            frame: number,
            bytes: bytes.slice(start.min(bytes.len())..end.min(bytes.len())),
        };
        let wrong = match reader.open(table.kind, &frame) {
            Ok(chunks) if chunks.iter().map(|(id, _)| id).eq(&entry.ids) => continue,
            Ok(_) => {
                let reason = "its chunks are not those that the table names".into();
                Error::FrameDamaged { pack: table.id, frame: number, reason }
            }
            Err(error) => error,
        };
        found.wrong.push(wrong);
        found.frames.push(number);
        found.ids.extend(&entry.ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_an_id_is_the_next_smaller_one() {
        let id = |bytes: [u8; 2]| {
            let mut id = PackId::default();
            id.0[30..].copy_from_slice(&bytes);
            id
        };
        assert_eq!(before(id([0, 7])), Some(id([0, 6])));
        assert_eq!(before(id([3, 0])), Some(id([2, 255])));
        assert_eq!(before(id([0, 0])), None);
    }
}
