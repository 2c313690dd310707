//! Every pack, byte for byte.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use super::{CheckReport, Findings, Progress};
use crate::{
    access::{Mending, PackInfo, SealedFrame},
    error::{Error, ErrorKind, Result},
    id::PackId,
    pack::Pack,
    reader::Reader,
    roster::Roster,
};

/// Packs listed at once.
const BATCH: u32 = 1024;

/// Checks them; returns whether any is damaged.
pub(super) fn check(
    reader: &Reader,
    threads: usize,
    findings: &Findings,
    progress: &Progress,
    report: &mut CheckReport,
) -> Result<bool> {
    let roster = reader.roster()?;
    let packs = list(reader, progress)?;
    report.packs = packs.len() as u64;
    report.bytes = packs.iter().map(|p| p.len).sum();
    let queue = Mutex::new(packs);
    let (damaged, mended) = (AtomicBool::new(false), AtomicU64::new(0));
    let work = || -> Result<()> {
        while let Some(info) = { queue.lock().pop_front() } {
            progress.go_on()?;
            let mut wrong = check_pack(reader, &roster, &info);
            let is_damaged = wrong.iter().any(|error| error.kind() == ErrorKind::Damaged);
            if is_damaged && matches!(reader.access().mend(info.id), Ok(Mending::Mended(_))) {
                mended.fetch_add(1, Relaxed);
                wrong = check_pack(reader, &roster, &info);
            }
            for error in wrong {
                damaged.store(true, Relaxed);
                findings.note(None, b"", error)?;
            }
            progress.packs.fetch_add(1, Relaxed);
            progress.bytes.fetch_add(info.len, Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut outcome = Ok(());
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(result);
        }
        outcome
    })?;
    report.packs_mended = mended.into_inner();
    Ok(damaged.into_inner())
}

fn list(reader: &Reader, progress: &Progress) -> Result<VecDeque<PackInfo>> {
    let mut packs = VecDeque::new();
    let mut after: Option<PackId> = None;
    loop {
        progress.go_on()?;
        let more = reader.access().packs(after, BATCH)?;
        let Some(last) = more.last() else { break };
        if after.is_some_and(|after| last.id <= after) {
            return Err(Error::Invalid("the store lists packs without end".into()));
        }
        after = Some(last.id);
        packs.extend(more);
    }
    progress.packs_total.store(packs.len() as u64, Relaxed);
    progress.bytes_total.store(packs.iter().map(|p| p.len).sum(), Relaxed);
    Ok(packs)
}

/// Everything that is wrong with one.
fn check_pack(reader: &Reader, roster: &Roster, info: &PackInfo) -> Vec<Error> {
    let mut wrong = Vec::new();
    if let Err(error) = look_at_pack(reader, roster, info, &mut wrong) {
        wrong.push(error);
    }
    wrong
}

/// Fails if there is nothing more to be looked at.
fn look_at_pack(reader: &Reader, roster: &Roster, info: &PackInfo, wrong: &mut Vec<Error>) -> Result<()> {
    let pack_damaged = |reason: String| Error::PackDamaged { pack: info.id, reason };
    let bytes = reader.access().read_pack(info.id)?;
    let pack = Pack::parse(&bytes).map_err(|error| match error {
        // The error names the pack by what its footer says, which need not be what was asked for.
        Error::PackDamaged { reason, .. } => pack_damaged(reason),
        error => pack_damaged(error.to_string()),
    })?;
    if pack.table.id != info.id {
        return Err(pack_damaged(format!("pack {} is stored in its place", pack.table.id)));
    }
    wrong.extend(pack.table.verify(roster).err());
    for wrap in &pack.table.wraps {
        if let Err(error) = reader.keys().learn(wrap) {
            wrong.push(pack_damaged(error.to_string()));
        }
    }
    for (number, entry) in pack.table.frames.iter().enumerate() {
        let frame_damaged = |reason: String| Error::FrameDamaged { pack: info.id, frame: number as u32, reason };
        let Some(bytes) = pack.frame(number) else {
            wrong.push(frame_damaged("it lies outside the pack".into()));
            continue;
        };
        let frame = SealedFrame { pack: info.id, frame: number as u32, bytes };
        match reader.open(pack.table.kind, &frame) {
            Ok(chunks) if chunks.iter().map(|(id, _)| id).eq(&entry.ids) => {}
            Ok(_) => wrong.push(frame_damaged("its chunks are not those that the table names".into())),
            Err(error) => wrong.push(error),
        }
    }
    Ok(())
}
