//! Keeps the list of snapshots up to date: follows the log, fetches new snapshots, verifies and opens them, looks for
//! gaps in their chains, and sorts them by their fates.
//!
//! The log records what was committed, forgotten and brought back. A snapshot only counts as forgotten if a tombstone
//! of the admin key covers it ([`crate::format::tombstone`]). A snapshot that is gone without one is listed as removed
//! by the store's operator. Chains are followed across snapshots that are gone: the log names them, and the next
//! snapshot of the client must name the same predecessor.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    list::{BrokenSnapshot, PurgedSnapshot, SnapshotInfo, SnapshotList, TrashedSnapshot},
    roster::RosterCache,
};
use crate::{
    access::{LOG_BYTES, Read},
    base::{
        codec,
        error::{Error, Result},
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::{
        fate::{Fate, FateStep},
        log::{Event, LogRecord},
        snapshot::{Chains, SnapshotObject},
        tombstone::Tombstone,
    },
    owner::keyring::KeyRing,
};

/// How many snapshots one request asks for.
const SNAPSHOTS_PER_REQUEST: u32 = 256;
/// How many log records one request asks for.
const RECORDS_PER_REQUEST: u32 = 4096;

/// Follows the snapshots of a repository.
pub(super) struct SnapshotTracker {
    access: Arc<dyn Read>,
    keys: Arc<KeyRing>,
    roster: Arc<RosterCache>,
    tracked: Mutex<Tracked>,
}

/// What is known so far.
#[derive(Default)]
struct Tracked {
    /// How many log records were read.
    log_len: u64,
    /// What the log records about each snapshot that was ever committed.
    known: HashMap<SnapshotId, Known>,
    /// Commits whose snapshots are still to be fetched, by log record.
    waiting: BTreeMap<u64, Commit>,
    /// Whether a fate has changed since the list was sorted.
    is_unsorted: bool,
    chains: Chains,
    list: SnapshotList,
}

/// A commit, as the log records it.
#[derive(Debug, Clone, Copy)]
struct Commit {
    id: SnapshotId,
    client: ClientId,
    sequence: u64,
    received: Time,
}

impl Commit {
    fn broken(&self, error: Error) -> BrokenSnapshot {
        BrokenSnapshot { id: self.id, received: self.received, is_trashed: false, error }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::SnapshotDamaged { snapshot: self.id, reason }
    }
}

/// What the log records about a snapshot.
#[derive(Debug, Clone, Copy)]
struct Known {
    fate: Option<Fate>,
    /// The record that committed it, or that last brought it back.
    changed_seq: u64,
    /// The record that expired it.
    expired_seq: u64,
}

impl Tracked {
    fn fate(&self, id: &SnapshotId) -> Option<Fate> {
        self.known.get(id).and_then(|known| known.fate)
    }

    fn is_expired(&self, id: &SnapshotId) -> bool {
        Fate::is_expired(self.fate(id))
    }

    /// Adds a snapshot that cannot be shown. Its sequence number and its id are known all the same, so the next
    /// snapshot of the chain does not count as a gap.
    fn add_broken(&mut self, commit: &Commit, error: Error) {
        self.chains.skip(commit.client, commit.sequence, commit.id);
        self.list.broken.push(commit.broken(error));
        self.is_unsorted |= self.fate(&commit.id).is_some();
    }

    /// Sorts the snapshots by their fates.
    fn sort(&mut self) {
        let list = &mut self.list;
        let mut all = std::mem::take(&mut list.snapshots);
        all.extend(std::mem::take(&mut list.trash).into_iter().map(|trashed| trashed.info));
        all.sort_by_key(|info| info.log_seq);
        for info in all {
            match self.known.get(&info.id).and_then(|known| known.fate) {
                None => list.snapshots.push(info),
                Some(Fate::Trash { since }) => list.trash.push(TrashedSnapshot { info, since }),
                Some(Fate::Expired { .. }) => {}
            }
        }
        list.broken.retain_mut(|broken| {
            let fate = self.known.get(&broken.id).and_then(|known| known.fate);
            broken.is_trashed = matches!(fate, Some(Fate::Trash { .. }));
            !Fate::is_expired(fate)
        });
        let purged = self.known.iter().filter(|(_, known)| known.fate == Some(Fate::Expired { is_signed: false }));
        list.purged = purged.map(|(id, known)| PurgedSnapshot { id: *id, log_seq: known.expired_seq }).collect();
        list.purged.sort_by_key(|purged| purged.log_seq);
    }
}

impl SnapshotTracker {
    pub fn new(access: Arc<dyn Read>, keys: Arc<KeyRing>, roster: Arc<RosterCache>) -> Self {
        Self { access, keys, roster, tracked: Mutex::default() }
    }

    /// Brings the list up to date and passes it to `show`.
    pub fn with_list<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        while let Some((first, _)) = tracked.waiting.first_key_value() {
            let first = *first;
            self.fetch_waiting(&mut tracked, first)?;
        }
        if std::mem::take(&mut tracked.is_unsorted) {
            tracked.sort();
        }
        tracked.list.log_len = tracked.log_len;
        Ok(show(&tracked.list))
    }

    /// Returns whether a snapshot has expired by now, according to the log.
    pub fn is_gone(&self, id: &SnapshotId) -> Result<bool> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        Ok(tracked.is_expired(id))
    }

    /// Reads what was appended to the log.
    fn follow_log(&self, tracked: &mut Tracked) -> Result<()> {
        loop {
            let records = self.access.log(tracked.log_len, RECORDS_PER_REQUEST)?;
            let bytes: usize = records.iter().map(Vec::len).sum();
            let is_end = records.is_empty() || (records.len() < RECORDS_PER_REQUEST as usize && bytes < LOG_BYTES);
            for bytes in &records {
                let seq = tracked.log_len;
                tracked.log_len += 1;
                match codec::decode::<LogRecord>("an entry of the log", bytes) {
                    Ok(record) if record.seq == seq => self.apply_record(tracked, record),
                    Ok(record) => {
                        let reason = format!("its own number is {}", record.seq);
                        tracked.list.problems.push(Error::damaged(log_entry(seq), reason));
                    }
                    Err(error) => tracked.list.problems.push(Error::damaged(log_entry(seq), error)),
                }
            }
            if is_end {
                return Ok(());
            }
        }
    }

    fn apply_record(&self, tracked: &mut Tracked, record: LogRecord) {
        let LogRecord { seq, time, event } = record;
        let (id, step, signed) = match event {
            Event::Commit { snapshot: id, client, sequence, .. } => {
                tracked.known.insert(id, Known { fate: None, changed_seq: seq, expired_seq: 0 });
                tracked.waiting.insert(seq, Commit { id, client, sequence, received: time });
                return;
            }
            Event::Forget { snapshot, signed } => (snapshot, FateStep::Forget, signed),
            Event::Unforget { snapshot } => (snapshot, FateStep::Unforget, Vec::new()),
            Event::Expire { snapshot } => (snapshot, FateStep::Expire, Vec::new()),
            _ => return,
        };
        let mut problem = |reason: String| tracked.list.problems.push(Error::damaged(log_entry(seq), reason));
        let Some(known) = tracked.known.get_mut(&id) else {
            return problem(format!("it is about snapshot {id}, which was never committed"));
        };
        if step == FateStep::Forget {
            let admin = self.keys.full().admin.verifying_key();
            let is_covered = match Tombstone::verify(&signed, &admin, self.keys.repo()) {
                Ok(tombstone) => tombstone.applies_to(id, known.changed_seq),
                Err(_) => false,
            };
            if !is_covered {
                return problem(format!(
                    "it forgets snapshot {id} without a valid tombstone of this repository's owner"
                ));
            }
        }
        let before = known.fate;
        known.fate = Fate::after(before, step, time);
        if before.is_some() && known.fate.is_none() {
            known.changed_seq = seq;
        }
        if step == FateStep::Expire && !Fate::is_expired(before) {
            known.expired_seq = seq;
        }
        tracked.is_unsorted |= known.fate != before;
    }

    /// Fetches the snapshots of waiting commits, from log record `first`, and adds them to the list.
    fn fetch_waiting(&self, tracked: &mut Tracked, first: u64) -> Result<()> {
        let fetched = self.access.snapshots(first, SNAPSHOTS_PER_REQUEST)?;
        if fetched.windows(2).any(|two| two[0].log_seq >= two[1].log_seq)
            || fetched.first().is_some_and(|object| object.log_seq < first)
        {
            return Err(Error::Invalid("the store returned other snapshots than it was asked for".into()));
        }
        let covered = fetched.last().map_or(u64::MAX, |newest| newest.log_seq);
        let mut objects: HashMap<u64, SnapshotObject> = fetched.into_iter().map(|o| (o.log_seq, o)).collect();
        let is_one_absent = |tracked: &Tracked| {
            let mut due = tracked.waiting.range(first..=covered);
            due.any(|(seq, commit)| !objects.contains_key(seq) && !tracked.is_expired(&commit.id))
        };
        if is_one_absent(tracked) {
            // It may have expired just now.
            self.follow_log(tracked)?;
        }
        let due: Vec<(u64, Commit)> =
            tracked.waiting.range(first..=covered).map(|(seq, commit)| (*seq, *commit)).collect();
        for (seq, commit) in due {
            let is_expired = tracked.is_expired(&commit.id);
            match objects.remove(&seq) {
                Some(object) => self.add(tracked, seq, &commit, &object)?,
                None if is_expired => {
                    tracked.waiting.remove(&seq);
                    tracked.chains.skip(commit.client, commit.sequence, commit.id);
                }
                // It may have been committed just now: ask for it by itself before it counts as withheld.
                None if seq > first => return Ok(()),
                None => {
                    tracked.waiting.remove(&seq);
                    let reason = format!("{} committed it, but the store withholds it", log_entry(seq));
                    tracked.add_broken(&commit, commit.damaged(reason));
                }
            }
        }
        Ok(())
    }

    /// Adds the fetched snapshot of a commit. Fails only if it may be fetched later: the commit keeps waiting then.
    fn add(&self, tracked: &mut Tracked, seq: u64, commit: &Commit, object: &SnapshotObject) -> Result<()> {
        let opened = match object.id == commit.id {
            true => self.open(tracked, object),
            false => {
                let reason = format!("{} committed it, but the store returns {} instead", log_entry(seq), object.id);
                Err(commit.damaged(reason))
            }
        };
        if let Err(error @ (Error::Unreachable(_) | Error::NoPermission { .. })) = opened {
            return Err(error);
        }
        tracked.waiting.remove(&seq);
        match opened {
            Ok(info) => {
                tracked.is_unsorted |= tracked.fate(&info.id).is_some();
                tracked.list.snapshots.push(info);
            }
            Err(error) => tracked.add_broken(commit, error),
        }
        Ok(())
    }

    fn open(&self, tracked: &mut Tracked, object: &SnapshotObject) -> Result<SnapshotInfo> {
        let stored = self.roster.verify(object)?;
        let snapshot = self.keys.open_snapshot(&stored, object.id)?;
        // A gap in a chain is a problem of the store. The snapshot itself is sound and counts.
        if let Err(problem) = tracked.chains.admit(object.id, &stored, &snapshot) {
            tracked.list.problems.push(problem);
        }
        let SnapshotObject { id, log_seq, received, .. } = *object;
        Ok(SnapshotInfo { id, log_seq, received, client: stored.client, snapshot })
    }
}

fn log_entry(seq: u64) -> String {
    format!("entry {seq} of the log")
}
