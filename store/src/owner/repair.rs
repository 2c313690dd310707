//! Repairing a repository's packs, as the holder of the full key does it: all that can be mended is mended, damaged packs are taken
//! away after what is whole in them was copied, and what is hurt by the rest is named.
//!
//! ```text
//! every pack ─► verified and mended by the store ─► frames opened (if asked for) ─► damaged packs dropped ─► trees walked
//! ```
//!
//! The store verifies and copies by itself, so no data crosses the network; but where a pack has no parity, only who opens its frames can
//! tell which are whole, and it is fetched. Nothing that goes wrong with one pack keeps the others from being repaired. It may
//! be stopped at any moment, and run again.

mod damaged_snapshots;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::{
    access::{Access, Dropped, Keep, Mending, Opened, PackInfo, QUARANTINE_MAX, RepairReply, RepairRequest},
    base::{
        error::{Error, Result},
        id::{PackId, SnapshotId},
    },
    format::{
        loss::{DamagedFrames, FrameBits},
        pack::PackTable,
    },
    owner::{
        check::{self, CheckOptions, CheckReport, Problem, Progress, packs},
        reader::Reader,
    },
};

/// How to repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairOptions {
    /// Fetch every pack, too, and open every frame: finds what is as it was stored, and wrong.
    pub read_data: bool,
    /// Change nothing: say what would be done.
    pub dry_run: bool,
    /// Threads that deal with packs.
    pub threads: usize,
}

/// What was done, and what is hurt still.
#[derive(Debug, Default)]
pub struct PacksReport {
    /// Packs that were verified.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that were mended, or would be.
    pub mended: u64,
    /// Packs that are damaged beyond mending, and what became of each, or would.
    pub damaged: BTreeMap<PackId, Dropped>,
    /// What could not be done, or looked at.
    pub failed: Vec<Error>,
    /// What is hurt: files and folders by the newest snapshot that has them.
    pub problems: Vec<Problem>,
    /// How many of these there are in all.
    pub problems_total: u64,
    /// All snapshots that need something that cannot be read.
    pub snapshots: BTreeSet<SnapshotId>,
}

/// Repairs the packs of the repository that `opened` told of. `access` is the store that `reader` reads from. `progress` counts packs, then snapshots.
pub fn repair_packs(
    reader: &Reader,
    access: &dyn Access,
    opened: &Opened,
    options: &RepairOptions,
    progress: &Progress,
) -> Result<PacksReport> {
    let mut report = PacksReport::default();
    let packs = packs::list(access, progress)?;
    report.packs = packs.len() as u64;
    report.bytes = packs.iter().map(|pack| pack.len).sum();
    progress.packs_total.store(report.packs, Relaxed);
    progress.bytes_total.store(report.bytes, Relaxed);
    let mut hurt = verify(reader, access, packs, options, progress, &mut report)?;
    // Those too that are not listed, because their tables are lost.
    quarantined(access, &mut |pack, frames| {
        hurt.entry(pack).or_insert((frames, None));
    })?;
    for (pack, (frames, opened)) in hurt {
        progress.go_on()?;
        match take_away(access, pack, &frames, opened, options.dry_run) {
            Ok(dropped) => drop(report.damaged.insert(pack, dropped)),
            Err(error) if stops(&error) => return Err(error),
            Err(error) => report.failed.push(error),
        }
    }
    let check = CheckOptions { threads: options.threads, ..CheckOptions::default() };
    let CheckReport { problems, problems_total, .. } = check::check(reader, access, opened, &check, progress)?;
    report.snapshots = damaged_snapshots::snapshots(reader, access, &problems, progress)?;
    (report.problems, report.problems_total) = (problems, problems_total);
    Ok(report)
}

/// What is wrong with a pack: what the store knows, and which frames a key opens, if that was tried.
type Wrong = (DamagedFrames, Option<FrameBits>);

fn verify(
    reader: &Reader,
    access: &dyn Access,
    packs: Vec<PackInfo>,
    options: &RepairOptions,
    progress: &Progress,
    report: &mut PacksReport,
) -> Result<BTreeMap<PackId, Wrong>> {
    let queue = Mutex::new(packs.into_iter());
    let (hurt, failed, mended) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()), AtomicU64::new(0));
    let work = || -> Result<()> {
        while let Some(info) = { queue.lock().next() } {
            progress.go_on()?;
            match verify_one(reader, access, &info, options) {
                Ok(Verdict { is_mended, wrong, .. }) => {
                    mended.fetch_add(u64::from(is_mended), Relaxed);
                    // One that was pruned meanwhile is not lost.
                    if let Some(wrong) = wrong
                        && packs::is_listed(access, info.id)?
                    {
                        hurt.lock().insert(info.id, wrong);
                    }
                }
                Err(error) if stops(&error) => return Err(error),
                Err(_) if !packs::is_listed(access, info.id)? => {}
                Err(error) => failed.lock().push(error),
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
    report.mended = mended.into_inner();
    report.failed = failed.into_inner();
    Ok(hurt.into_inner())
}

struct Verdict {
    is_mended: bool,
    /// The store finds nothing lost.
    is_whole: bool,
    wrong: Option<Wrong>,
}

fn verify_one(reader: &Reader, access: &dyn Access, info: &PackInfo, options: &RepairOptions) -> Result<Verdict> {
    let first = look_at(reader, access, info, options)?;
    if !first.is_whole || first.wrong.is_none() {
        return Ok(first);
    }
    // What the store calls whole and no key opens is dropped on our word alone: it is looked at once more, because it may have been damaged between
    // the store's look and ours, and then parity has it.
    let second = look_at(reader, access, info, options)?;
    Ok(Verdict { is_mended: first.is_mended || second.is_mended, ..second })
}

fn look_at(reader: &Reader, access: &dyn Access, info: &PackInfo, options: &RepairOptions) -> Result<Verdict> {
    let request = RepairRequest::Verify { pack: info.id, dry_run: options.dry_run };
    let RepairReply::Verified(mending) = access.repair(&request)? else { return Err(unexpected()) };
    let is_mended = matches!(mending, Mending::Mended(_));
    let known = match &mending {
        // Which frames they are the store says later; if nothing is to be changed, the table tells.
        Mending::Lost(spans) => Some(match access.read_pack(info.id).ok().and_then(|b| PackTable::salvage(&b)) {
            Some(table) if options.dry_run => DamagedFrames::Frames(touched(&table, spans)),
            Some(table) => DamagedFrames::Frames(FrameBits::none(table.frames.len())),
            None => DamagedFrames::All,
        }),
        Mending::NoParity => Some(DamagedFrames::All),
        Mending::Whole | Mending::Mended(_) => None,
    };
    // Without parity only a key can tell.
    let is_to_be_opened = options.read_data || known == Some(DamagedFrames::All);
    let opened = match is_to_be_opened && !(is_mended && options.dry_run) {
        true => Some(opened_frames(reader, access, info)?),
        false => None,
    };
    let is_whole = known.is_none();
    let wrong = match (known, opened) {
        (None, Some((table, bits))) if bits.count() < table => {
            Some((DamagedFrames::Frames(FrameBits::none(0)), Some(bits)))
        }
        (None, _) => None,
        (Some(known), opened) => Some((known, opened.map(|(_, bits)| bits))),
    };
    Ok(Verdict { is_mended, is_whole, wrong })
}

/// How many frames a pack has, and which of them open and hold what they should.
fn opened_frames(reader: &Reader, access: &dyn Access, info: &PackInfo) -> Result<(usize, FrameBits)> {
    let bytes = access.read_pack(info.id)?;
    let Some(table) = PackTable::salvage(&bytes).filter(|table| table.id == info.id) else {
        return Ok((0, FrameBits::none(0)));
    };
    let mut found = packs::PackFound::default();
    packs::open_frames(reader, &table, &bytes, &mut found);
    if let Some(error) = found.wrong.into_iter().find(stops) {
        return Err(error);
    }
    let bad: BTreeSet<u32> = found.frames.into_iter().collect();
    let mut bits = FrameBits::none(table.frames.len());
    (0..table.frames.len() as u32).filter(|frame| !bad.contains(frame)).for_each(|frame| bits.set(frame));
    Ok((table.frames.len(), bits))
}

fn quarantined(access: &dyn Access, each: &mut dyn FnMut(PackId, DamagedFrames)) -> Result<()> {
    let mut after: Option<PackId> = None;
    loop {
        let RepairReply::Quarantine(packs) = access.repair(&RepairRequest::Quarantine { after })? else {
            return Err(unexpected());
        };
        let count = packs.len();
        for quarantined in packs {
            if after.is_some_and(|after| quarantined.pack <= after) {
                return Err(Error::Invalid("the store lists packs without end".into()));
            }
            after = Some(quarantined.pack);
            each(quarantined.pack, quarantined.frames);
        }
        if count < QUARANTINE_MAX {
            return Ok(());
        }
    }
}

fn take_away(
    access: &dyn Access,
    pack: PackId,
    frames: &DamagedFrames,
    opened: Option<FrameBits>,
    dry_run: bool,
) -> Result<Dropped> {
    if dry_run {
        let total = access.read_pack(pack).ok().and_then(|bytes| PackTable::salvage(&bytes));
        let total = total.map_or(0, |table| table.frames.len() as u32);
        let is_kept = |frame: &u32| match &opened {
            Some(opened) => opened.has(*frame) && (*frames == DamagedFrames::All || !frames.has(*frame)),
            None => !frames.has(*frame),
        };
        let kept = (0..total).filter(is_kept).count() as u32;
        return Ok(Dropped { is_gone: true, kept, lost: total - kept });
    }
    let keep = opened.map_or(Keep::Whole, Keep::Opened);
    match access.repair(&RepairRequest::Drop { pack, keep })? {
        RepairReply::Dropped(dropped) => Ok(dropped),
        _ => Err(unexpected()),
    }
}

fn touched(table: &PackTable, spans: &[crate::access::Span]) -> FrameBits {
    let mut bits = FrameBits::none(table.frames.len());
    for (frame, entry) in table.frames.iter().enumerate() {
        if spans.iter().any(|span| span.start < entry.offset + entry.len && span.end > entry.offset) {
            bits.set(frame as u32);
        }
    }
    bits
}

/// Whether an error ends the repair: everything else is noted, and the next pack has its turn.
fn stops(error: &Error) -> bool {
    matches!(error, Error::Interrupted | Error::Unreachable(_) | Error::NoPermission { .. } | Error::Full { .. })
}

fn unexpected() -> Error {
    Error::Invalid("the store answered a step of the repair with another one".into())
}
