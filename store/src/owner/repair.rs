//! Repairing the packs of a repository with its full key: what parity can mend is mended, damaged packs are dropped
//! after their whole frames were copied, and what is still damaged is named.
//!
//! ```text
//! the store verifies and mends every pack ─► frames are opened, on request ─► damaged packs are dropped
//!                                                                                        │
//!                                  trees are walked, to name damaged files and snapshots ◄┘
//! ```
//!
//! The store verifies and copies by itself, so no data crosses the network. The exception is a damaged pack without
//! parity: only a key can tell which of its frames are whole, so it is fetched. An error with one pack does not keep
//! the others from being repaired. A repair may be stopped at any moment and run again.

mod damaged_snapshots;
mod errors;
mod report;
mod requests;
mod verify;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use self::{
    errors::stops,
    verify::{PackDamage, verify_pack},
};
use crate::{
    access::{Access, Dropped, Keep, Opened, PackInfo},
    base::{error::Result, id::PackId},
    format::{loss::DamagedFrames, pack::PackTable},
    owner::{
        check::{CheckOptions, CheckProgress, CheckReport, check},
        packs,
        reader::Reader,
        workers,
    },
};

pub use report::{RepairOptions, RepairReport};

/// Repairs the packs of a repository. `access` is the store that `reader` reads from, and `opened` its reply to opening
/// it. `progress` counts packs, then snapshots. Returns an error only if the repair cannot continue.
pub fn repair_packs(
    reader: &Reader,
    access: &dyn Access,
    opened: &Opened,
    options: &RepairOptions,
    progress: &CheckProgress,
) -> Result<RepairReport> {
    let mut report = RepairReport::default();
    let packs = packs::list(access, || progress.fail_if_stopped())?;
    report.packs = packs.len() as u64;
    report.bytes = packs::bytes(&packs);
    progress.packs_total.store(report.packs, Relaxed);
    progress.bytes_total.store(report.bytes, Relaxed);
    let mut damaged = verify(reader, access, packs, options, progress, &mut report)?;
    // Packs whose tables are lost are not listed, but they are in quarantine.
    for quarantined in requests::quarantined(access)? {
        let damage = || PackDamage { known: quarantined.frames, opened: None };
        damaged.entry(quarantined.pack).or_insert_with(damage);
    }
    for (pack, damage) in damaged {
        progress.fail_if_stopped()?;
        match drop_pack(access, pack, damage, options.dry_run) {
            Ok(dropped) => drop(report.damaged.insert(pack, dropped)),
            Err(error) if stops(&error) => return Err(error),
            Err(error) => report.failed.push(error),
        }
    }
    let options = CheckOptions { threads: options.threads, ..CheckOptions::default() };
    let CheckReport { problems, problems_total, .. } = check(reader, access, opened, &options, progress)?;
    report.snapshots = damaged_snapshots::find(reader, access, &problems, progress)?;
    (report.problems, report.problems_total) = (problems, problems_total);
    Ok(report)
}

/// Verifies packs, and returns those that are damaged beyond mending.
fn verify(
    reader: &Reader,
    access: &dyn Access,
    packs: Vec<PackInfo>,
    options: &RepairOptions,
    progress: &CheckProgress,
    report: &mut RepairReport,
) -> Result<BTreeMap<PackId, PackDamage>> {
    let (damaged, failed, mended) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()), AtomicU64::new(0));
    workers::for_each(packs.into_iter(), options.threads, |info| {
        progress.fail_if_stopped()?;
        match verify_pack(reader, access, &info, options) {
            Ok(verdict) => {
                mended.fetch_add(u64::from(verdict.is_mended), Relaxed);
                // A pack that was pruned since is not lost.
                if let Some(damage) = verdict.damage
                    && packs::is_listed(access, info.id)?
                {
                    damaged.lock().insert(info.id, damage);
                }
            }
            Err(error) if stops(&error) => return Err(error),
            Err(_) if !packs::is_listed(access, info.id)? => {}
            Err(error) => failed.lock().push(error),
        }
        progress.packs.fetch_add(1, Relaxed);
        progress.bytes.fetch_add(info.len, Relaxed);
        Ok(())
    })?;
    report.mended = mended.into_inner();
    report.failed = failed.into_inner();
    Ok(damaged.into_inner())
}

/// Drops a damaged pack. On a dry run, returns what dropping it would do.
fn drop_pack(access: &dyn Access, pack: PackId, damage: PackDamage, dry_run: bool) -> Result<Dropped> {
    let PackDamage { known, opened } = damage;
    if !dry_run {
        return requests::drop_pack(access, pack, opened.map_or(Keep::Whole, Keep::Opened));
    }
    let table = access.read_pack(pack).ok().and_then(|bytes| PackTable::salvage(&bytes));
    let total = table.map_or(0, |table| table.frames.len() as u32);
    let is_kept = |frame: &u32| match &opened {
        Some(opened) => opened.has(*frame) && (known == DamagedFrames::All || !known.has(*frame)),
        None => !known.has(*frame),
    };
    let kept = (0..total).filter(is_kept).count() as u32;
    Ok(Dropped { is_gone: true, kept, lost: total - kept })
}
