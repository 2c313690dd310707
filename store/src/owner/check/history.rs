//! The log, the rosters in it and the list of snapshots.

use std::collections::{HashMap, HashSet};

use super::{context::CheckContext, report::CheckReport};
use crate::{
    access::Opened,
    base::{
        codec,
        error::{Error, Result},
        id::{Hash, SnapshotId},
    },
    format::{
        config::Config,
        keys::SealKeys,
        log::{Event, LogRecord},
        roster::RosterView,
    },
    owner::reader::{Reader, SnapshotInfo, check_commits, check_len},
};

/// How many log records one request asks for.
const RECORDS_PER_REQUEST: u32 = 1024;

/// Checks the history. Returns the snapshots that count or are in the trash, oldest first.
pub(super) fn check(check: &CheckContext<'_>, opened: &Opened, report: &mut CheckReport) -> Result<Vec<SnapshotInfo>> {
    let committed = check_log(check, opened, report)?;
    let mut known_broken = Vec::new();
    check.reader.announce_log(opened.now);
    let (snapshots, problems) = check.reader.with_fetched_snapshots(|list| {
        // Snapshots in the trash can come back, so they must be whole, too.
        let trash = list.trash.iter().filter(|trashed| !trashed.is_broken).map(|trashed| &trashed.info);
        let mut all: Vec<SnapshotInfo> = list.snapshots.iter().chain(trash).cloned().collect();
        all.sort_by_key(|info| info.log_seq);
        // A key holder knows that these cannot be read, and has said so.
        let signed = list.broken.iter().filter(|broken| broken.is_signed).map(|broken| broken.id);
        let trash = list.trash.iter().filter(|trashed| trashed.is_broken).map(|trashed| trashed.info.id);
        known_broken.extend(signed.chain(trash));
        let broken = list.broken.iter().filter(|broken| !broken.is_signed);
        let broken = broken.map(|broken| {
            (Some((broken.id, broken.client)), format!("snapshot {}: {}", broken.id.short(), broken.error))
        });
        let problems = broken.chain(list.problems.iter().map(|e| (None, e.to_string())));
        report.contradictions = list.contradictions.clone();
        let problems = problems.chain(list.contradictions.iter().map(|found| (None, found.to_string())));
        (all, problems.chain(list.purged.iter().map(|purged| (None, purged.to_string()))).collect::<Vec<_>>())
    })?;
    report.broken_in_trash = known_broken.len() as u64;
    let mut shown: HashSet<SnapshotId> = snapshots.iter().map(|info| info.id).chain(known_broken).collect();
    for (snapshot, text) in problems {
        if let Some((id, client)) = snapshot {
            shown.insert(id);
            *report.clients.entry(client).or_default() += 1;
        }
        check.findings.note_general(Error::Invalid(text))?;
    }
    let withheld = committed.iter().filter(|(id, seq)| **seq < opened.now.log_len && !shown.contains(id));
    for (snapshot, seq) in withheld {
        // The list is newer than what was read of the log: the snapshot may have expired in between.
        if check.reader.is_gone(snapshot)? {
            continue;
        }
        let reason = format!("entry {seq} of the log committed it, but the store withholds it");
        check.findings.note_general(Error::SnapshotDamaged { snapshot: *snapshot, reason })?;
    }
    report.snapshots = snapshots.len() as u64;
    Ok(snapshots)
}

/// Reads the log from its beginning to its end at opening. Returns the snapshots that it committed and that have not
/// expired, with the records that committed them.
fn check_log(check: &CheckContext<'_>, opened: &Opened, report: &mut CheckReport) -> Result<HashMap<SnapshotId, u64>> {
    let damaged = |seq: u64, reason: &str| Error::damaged(format!("entry {seq} of the log"), reason);
    check_len(opened.now.log_len)?;
    let findings = check.findings;
    let mut committed = HashMap::new();
    let mut rosters = Rosters { reader: check.reader, view: None };
    let mut seal_keys = SealKeyLists { config: check.reader.config(), newest: None };
    let (mut seq, mut head) = (0u64, Hash::default());
    while seq < opened.now.log_len {
        check.progress.fail_if_stopped()?;
        let limit = (opened.now.log_len - seq).min(RECORDS_PER_REQUEST.into()) as u32;
        let records = check.access.log(seq, limit)?;
        if records.is_empty() {
            findings.note_general(damaged(seq, "it is missing, and so is what follows"))?;
            break;
        }
        check_commits(committed.len())?;
        for bytes in records.iter().take(limit as usize) {
            match codec::decode::<LogRecord>("an entry of the log", bytes) {
                Ok(record) if record.seq == seq => match record.event {
                    Event::Commit { snapshot, .. } => drop(committed.insert(snapshot, seq)),
                    Event::Expire { snapshot } => drop(committed.remove(&snapshot)),
                    Event::Roster { signed } => {
                        if let Err(error) = rosters.advance(&signed) {
                            findings.note_general(damaged(seq, &error.to_string()))?;
                        }
                    }
                    Event::SealKeys { signed } => {
                        if let Err(error) = seal_keys.advance(&signed) {
                            findings.note_general(damaged(seq, &error.to_string()))?;
                        }
                    }
                    _ => {}
                },
                Ok(record) => findings.note_general(damaged(seq, &format!("its own number is {}", record.seq)))?,
                Err(error) => findings.note_general(damaged(seq, &error.to_string()))?,
            }
            head = LogRecord::link(head, bytes);
            seq += 1;
            if seq == opened.now.log_len && head != opened.now.log_head {
                findings.note_general(damaged(seq - 1, "the chain of hashes does not lead to the log's head"))?;
            }
        }
    }
    report.log_records = seq;
    Ok(committed)
}

/// The rosters, in the order of the log.
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

/// The lists of seal keys, in the order of the log.
struct SealKeyLists<'a> {
    config: &'a Config,
    newest: Option<SealKeys>,
}

impl SealKeyLists<'_> {
    fn advance(&mut self, signed: &[u8]) -> Result<()> {
        let next = SealKeys::verify(signed, self.config)?;
        let before = self.newest.take().map_or_else(|| SealKeys::verify(&[], self.config), Ok)?;
        let follows = next.follows(&before);
        self.newest = Some(next);
        match follows {
            true => Ok(()),
            false => Err(Error::damaged(SealKeys::HEADER.what, "it does not follow the one before")),
        }
    }
}
