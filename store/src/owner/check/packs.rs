//! Packs, read whole: every byte of them is checked.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use super::{context::CheckContext, options::CheckOptions, report::CheckReport, subset::choose};
use crate::{
    access::{Mending, PackInfo},
    base::{
        error::{Error, ErrorKind, Result},
        id::ChunkId,
    },
    format::{pack::Pack, roster::Roster},
    owner::{
        packs::{PackFindings, is_listed, list},
        workers,
    },
};

/// How often a pack is read if the check finds damage in it while the store reports it as whole.
const READS_MAX: usize = 3;

/// The chunks that were found to be in bad frames or unreadable packs.
#[derive(Debug, Default)]
pub(super) struct BadChunks {
    /// The chunks that bad frames should hold.
    pub ids: HashSet<ChunkId>,
    /// Whether there are others whose ids are unknown.
    pub has_unknown: bool,
}

/// Checks the chosen packs.
pub(super) fn check(check: &CheckContext<'_>, options: &CheckOptions, report: &mut CheckReport) -> Result<BadChunks> {
    let progress = check.progress;
    let packs = list(check.access, || progress.fail_if_stopped())?;
    // The roster is fetched after the list, because a client that stored one of the packs may have been enrolled just
    // now.
    let roster = check.reader.roster()?;
    report.packs_total = packs.len() as u64;
    let packs = choose(packs, options.read_data);
    report.packs = packs.len() as u64;
    report.bytes = packs.iter().map(|p| p.len).sum();
    report.reached = packs.last().map(|pack| pack.id);
    progress.packs_total.store(report.packs, Relaxed);
    progress.bytes_total.store(report.bytes, Relaxed);
    let (bad, mended) = (Mutex::new(BadChunks::default()), AtomicU64::new(0));
    workers::for_each(packs.into_iter(), options.threads, |info| {
        progress.fail_if_stopped()?;
        let checked = check_pack(check, &roster, &info)?;
        let found = checked.found;
        mended.fetch_add(u64::from(checked.is_mended), Relaxed);
        {
            let mut bad = bad.lock();
            bad.has_unknown |= checked.is_disputed && !found.has_opened_frames;
            bad.ids.extend(found.bad_chunks);
        }
        for error in found.errors {
            check.findings.note_general(error)?;
        }
        progress.packs.fetch_add(1, Relaxed);
        progress.bytes.fetch_add(info.len, Relaxed);
        Ok(())
    })?;
    report.packs_mended = mended.into_inner();
    Ok(bad.into_inner())
}

/// The state of a pack after the store has had a chance to mend it.
struct CheckedPack {
    found: PackFindings,
    is_mended: bool,
    /// The check finds damage, and the store finds none or fails to say. (If the store itself finds frames lost, its
    /// replies about their chunks show that.)
    is_disputed: bool,
}

/// Checks a pack and, if it is damaged, has the store mend it. Others mend and prune at the same time. So damage only
/// counts if it is still there after the store has reported the pack as whole, and a pack that was pruned has none.
fn check_pack(check: &CheckContext<'_>, roster: &Roster, info: &PackInfo) -> Result<CheckedPack> {
    let access = check.access;
    let (mut is_mended, mut reads) = (false, 0);
    loop {
        let found = read_pack(check, roster, info);
        reads += 1;
        let done = |found, is_mended, is_disputed| Ok(CheckedPack { found, is_mended, is_disputed });
        if found.errors.is_empty() {
            return done(found, is_mended, false);
        }
        if !is_listed(access, info.id)? {
            return done(PackFindings::default(), is_mended, false);
        }
        if found.errors.iter().all(|error| error.kind() != ErrorKind::Damaged) {
            return done(found, is_mended, false);
        }
        if reads == READS_MAX {
            return done(found, is_mended, true);
        }
        match access.mend(info.id) {
            Ok(Mending::Mended(_)) => is_mended = true,
            // Another process may have mended it since it was read.
            Ok(Mending::Whole) => {}
            Ok(Mending::Lost(_) | Mending::NoParity) => return done(found, is_mended, false),
            // It was pruned since.
            Err(_) if !is_listed(access, info.id)? => return done(PackFindings::default(), is_mended, false),
            Err(_) => return done(found, is_mended, true),
        }
    }
}

/// Reads a pack and returns everything that is wrong with it.
fn read_pack(check: &CheckContext<'_>, roster: &Roster, info: &PackInfo) -> PackFindings {
    let mut found = PackFindings::default();
    if let Err(error) = try_read_pack(check, roster, info, &mut found) {
        found.errors.push(error);
    }
    found
}

/// Fails if the pack's frames cannot be opened because its table is not readable.
fn try_read_pack(check: &CheckContext<'_>, roster: &Roster, info: &PackInfo, found: &mut PackFindings) -> Result<()> {
    let pack_damaged = |reason: String| Error::PackDamaged { pack: info.id, reason };
    let bytes = check.access.read_pack(info.id)?;
    let pack = Pack::parse(&bytes).map_err(|error| match error {
        // This error names the pack that the footer names, which may be another one.
        Error::PackDamaged { reason, .. } => pack_damaged(reason),
        error => pack_damaged(error.to_string()),
    })?;
    if pack.table.id != info.id {
        return Err(pack_damaged(format!("pack {} is stored in its place", pack.table.id)));
    }
    found.errors.extend(pack.table.verify(roster).err());
    found.open_frames(check.reader, &pack.table, &bytes);
    Ok(())
}
