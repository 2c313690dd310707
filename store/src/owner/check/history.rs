//! The log, the rosters and the snapshots.

use std::collections::{HashMap, HashSet};

use super::{CheckReport, Findings, Progress};
use crate::{
    access::Opened,
    base::{
        codec,
        error::{Error, Result},
        id::{Hash, SnapshotId},
    },
    format::{
        log::{Event, LogRecord},
        roster::RosterView,
    },
    owner::reader::{Reader, SnapshotInfo},
};

/// Records of the log fetched at once.
const BATCH: u32 = 1024;

/// Checks them; returns the snapshots that count, oldest first.
pub(super) fn check(
    reader: &Reader,
    opened: &Opened,
    findings: &Findings,
    progress: &Progress,
    report: &mut CheckReport,
) -> Result<Vec<SnapshotInfo>> {
    let committed = check_log(reader, opened, findings, progress, report)?;
    let (snapshots, problems) = reader.with_snapshots(|list| {
        // What is in the trash can come back, so it must be whole.
        let all = list.snapshots.iter().chain(list.trash.iter().map(|trashed| &trashed.info)).cloned();
        let mut all: Vec<SnapshotInfo> = all.collect();
        all.sort_by_key(|info| info.log_seq);
        let broken = list.broken.iter().map(|broken| (Some(broken.id), broken.error.to_string()));
        let problems = broken.chain(list.problems.iter().map(|e| (None, e.to_string())));
        (all, problems.chain(list.purged.iter().map(|purged| (None, purged.to_string()))).collect::<Vec<_>>())
    })?;
    let mut shown: HashSet<SnapshotId> = snapshots.iter().map(|info| info.id).collect();
    for (snapshot, text) in problems {
        shown.extend(snapshot);
        findings.note(None, b"", Error::Invalid(text))?;
    }
    let hidden = committed.iter().filter(|(id, seq)| **seq < opened.now.log_len && !shown.contains(id));
    for (snapshot, seq) in hidden {
        // The list is newer than what was read of the log.
        if reader.is_gone(snapshot)? {
            continue;
        }
        let reason = format!("entry {seq} of the log committed it, but it is not handed out");
        findings.note(None, b"", Error::SnapshotDamaged { snapshot: *snapshot, reason })?;
    }
    report.snapshots = snapshots.len() as u64;
    Ok(snapshots)
}

/// Follows the log from its beginning; returns the snapshots that it committed and that are not gone for good, with their places.
fn check_log(
    reader: &Reader,
    opened: &Opened,
    findings: &Findings,
    progress: &Progress,
    report: &mut CheckReport,
) -> Result<HashMap<SnapshotId, u64>> {
    let damaged = |seq: u64, reason: &str| Error::damaged(format!("entry {seq} of the log"), reason);
    let mut committed = HashMap::new();
    let mut rosters = Rosters { reader, view: None };
    let (mut seq, mut head) = (0u64, Hash::default());
    while seq < opened.now.log_len {
        progress.go_on()?;
        let records = reader.access().log(seq, BATCH)?;
        if records.is_empty() {
            findings.note(None, b"", damaged(seq, "it is missing, and so is what follows"))?;
            break;
        }
        for bytes in &records {
            match codec::decode::<LogRecord>("an entry of the log", bytes) {
                Ok(record) if record.seq == seq => match record.event {
                    Event::Commit { snapshot, .. } => drop(committed.insert(snapshot, seq)),
                    Event::Expire { snapshot } => drop(committed.remove(&snapshot)),
                    Event::Roster { signed } => {
                        if let Err(error) = rosters.advance(&signed) {
                            findings.note(None, b"", damaged(seq, &error.to_string()))?;
                        }
                    }
                    _ => {}
                },
                Ok(record) => findings.note(None, b"", damaged(seq, &format!("it says that it is {}", record.seq)))?,
                Err(error) => findings.note(None, b"", damaged(seq, &error.to_string()))?,
            }
            head = LogRecord::link(head, bytes);
            seq += 1;
            if seq == opened.now.log_len && head != opened.now.log_head {
                findings.note(None, b"", damaged(seq - 1, "the chain of hashes does not lead to the log's head"))?;
            }
        }
    }
    report.log_records = seq;
    Ok(committed)
}

/// The rosters in the order of the log.
struct Rosters<'a> {
    reader: &'a Reader,
    view: Option<RosterView>,
}

impl Rosters<'_> {
    fn advance(&mut self, signed: &[u8]) -> Result<()> {
        match &mut self.view {
            Some(view) => view.advance(signed).map(drop),
            None => {
                let admin = self.reader.keys().full().admin.verifying_key();
                self.view = Some(RosterView::new(signed, admin, self.reader.config().repo)?);
                Ok(())
            }
        }
    }
}
