//! Packs, read whole: every byte of them is checked. Which packs to read is chosen. Packs whose files are missing or
//! have a wrong length are always read, and so are, within a budget, packs whose copies of chunks may differ from the
//! copies that others made. What is found of a whole pack is signed as a verdict.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use super::{context::CheckContext, options::CheckOptions, report::CheckReport, subset::choose};
use crate::{
    access::{Judged, Mending, PackInfo},
    base::{
        error::{Error, ErrorKind, Result},
        id::{ChunkId, ClientId, PackId},
    },
    format::{
        pack::{Pack, PackTable},
        roster::Roster,
    },
    owner::{
        packs::{self, PackFindings, find, is_listed, list, list_contested},
        verdicts::{Verdicts, maker},
        workers,
    },
};

/// How many bytes of contested packs are read at most, if not all packs are.
const CONTESTED_BYTES_MAX: u64 = 1 << 30;
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

/// Checks the chosen packs, and those whose files have a wrong length.
pub(super) fn check(check: &CheckContext<'_>, options: &CheckOptions, report: &mut CheckReport) -> Result<BadChunks> {
    let progress = check.progress;
    let mut packs = list(check.access, || progress.fail_if_stopped())?;
    // The roster is fetched after the list, because a client that stored one of the packs may have been enrolled just
    // now.
    let roster = check.reader.roster()?;
    report.packs_total = packs.len() as u64;
    let suspects: Vec<PackInfo> = packs.iter().filter(|pack| pack.is_suspect).copied().collect();
    // What is wrong with refused packs is known, nothing relies on them, and the next prune removes them.
    let refused = packs.iter().filter(|pack| pack.judged == Judged::Refused).count();
    report.packs_refused = refused as u64;
    let all = packs.clone();
    packs.retain(|pack| pack.judged != Judged::Refused);
    let mut packs = choose(packs, options.read_data);
    report.packs = packs.len() as u64;
    report.bytes = packs::bytes(&packs);
    report.reached = packs.last().map(|pack| pack.id);
    // Packs whose files have a wrong length are read in any case. Usually there are none.
    let chosen: HashSet<PackId> = packs.iter().map(|pack| pack.id).collect();
    packs.extend(suspects.into_iter().filter(|pack| !chosen.contains(&pack.id)));
    packs.extend(contested(check, &all, &packs, report)?);
    drop(all);
    let verdicts = Verdicts::new(check.access, check.reader.keys().full());
    let refused = AtomicU64::new(0);
    progress.packs_total.store(report.packs, Relaxed);
    progress.bytes_total.store(report.bytes, Relaxed);
    let (bad, mended, remade) = (Mutex::new(BadChunks::default()), AtomicU64::new(0), AtomicU64::new(0));
    workers::for_each(packs.into_iter(), options.threads, |info| {
        progress.fail_if_stopped()?;
        let mut checked = check_pack(check, &roster, &info)?;
        if info.judged != Judged::Verified && checked.judge(check, &roster, &verdicts, info.id) {
            refused.fetch_add(1, Relaxed);
        }
        let found = checked.found;
        if info.is_suspect && found.errors.is_empty() && !checked.is_mended {
            remade.fetch_add(u64::from(remake_parity(check, info.id)?), Relaxed);
        }
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
    verdicts.finish();
    report.packs_refused += refused.into_inner();
    report.packs_mended = mended.into_inner();
    report.parity_remade = remade.into_inner();
    Ok(bad.into_inner())
}

/// The contested packs, whose copies of chunks may differ from those of other domains, except those that are read
/// anyway. Once they are read they are judged, so they are read only once. Counts those for which this check has no
/// time.
fn contested(
    check: &CheckContext<'_>,
    all: &[PackInfo],
    chosen: &[PackInfo],
    report: &mut CheckReport,
) -> Result<Vec<PackInfo>> {
    let chosen: HashSet<PackId> = chosen.iter().map(|pack| pack.id).collect();
    if chosen.len() == all.len() {
        return Ok(Vec::new());
    }
    let contested: HashSet<PackId> = list_contested(check.access)?.into_iter().collect();
    let (mut found, mut bytes) = (Vec::new(), 0);
    for pack in all.iter().filter(|pack| contested.contains(&pack.id) && !chosen.contains(&pack.id)) {
        if pack.len > CONTESTED_BYTES_MAX - bytes {
            report.packs_not_compared += 1;
            continue;
        }
        bytes += pack.len;
        found.push(*pack);
    }
    report.packs_compared = found.len() as u64;
    Ok(found)
}

/// Has the store make the parity of a whole pack again, whose file is missing or has a wrong length. Returns whether it
/// did; if it cannot, that is a problem.
fn remake_parity(check: &CheckContext<'_>, id: PackId) -> Result<bool> {
    // Whether it worked is seen below.
    let failure = check.access.mend(id).err();
    if find(check.access, id)?.is_none_or(|pack| !pack.is_suspect) {
        return Ok(true);
    }
    let reason = match failure {
        Some(error) => format!("its file is missing or has a wrong length, and it cannot be made again: {error}"),
        None => "its file is missing or has a wrong length".into(),
    };
    check.findings.note_general(Error::damaged(format!("the parity of pack {id}"), reason)).map(|()| false)
}

/// The state of a pack after the store has had a chance to mend it.
struct CheckedPack {
    found: PackFindings,
    is_mended: bool,
    /// The check finds damage, and the store finds none or fails to say. (If the store itself finds frames lost, its
    /// replies about their chunks show that.)
    is_disputed: bool,
    /// The client that made the pack, and how many frames it has; none if the pack does not have its id.
    table: Option<(ClientId, usize)>,
}

impl CheckedPack {
    /// Adds a verdict on the pack. What is refused becomes one problem, which names the pack's maker. Returns whether
    /// anything is refused.
    fn judge(&mut self, check: &CheckContext<'_>, roster: &Roster, verdicts: &Verdicts<'_>, pack: PackId) -> bool {
        let Some((client, frames)) = self.table else { return false };
        // The pack has its id, so what is wrong with it is its maker's doing.
        if !verdicts.add(pack, &self.found, frames) {
            return false;
        }
        let maker = maker(check.reader.keys().full(), roster, client);
        let bad = self.found.bad_frames.len();
        let reason = format!(
            "{bad} of its {frames} frames do not hold the chunks that its table names; {maker} made it. These frames \
             are not used any more, and the next prune removes them"
        );
        self.found.errors = vec![Error::PackDamaged { pack, reason }];
        true
    }
}

/// Checks a pack and, if it is damaged, has the store mend it. Others mend and prune at the same time. So damage only
/// counts if it is still there after the store has reported the pack as whole, and a pack that was pruned has none.
fn check_pack(check: &CheckContext<'_>, roster: &Roster, info: &PackInfo) -> Result<CheckedPack> {
    let access = check.access;
    let (mut is_mended, mut reads) = (false, 0);
    loop {
        let (found, table) = read_pack(check, roster, info);
        reads += 1;
        let done = |found, is_mended, is_disputed| Ok(CheckedPack { found, is_mended, is_disputed, table });
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
fn read_pack(check: &CheckContext<'_>, roster: &Roster, info: &PackInfo) -> (PackFindings, Option<(ClientId, usize)>) {
    let mut found = PackFindings::default();
    match try_read_pack(check, roster, info, &mut found) {
        Ok(table) => (found, Some((table.client, table.frames.len()))),
        Err(error) => {
            found.errors.push(error);
            (found, None)
        }
    }
}

/// Fails if the pack's frames cannot be opened because its table is not readable.
fn try_read_pack(
    check: &CheckContext<'_>,
    roster: &Roster,
    info: &PackInfo,
    found: &mut PackFindings,
) -> Result<PackTable> {
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
    found.open_frames(check.reader.keys(), &pack.table, &bytes);
    Ok(pack.table)
}
