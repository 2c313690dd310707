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
    list::{BrokenSnapshot, Contradiction, PurgedSnapshot, SnapshotInfo, SnapshotList, TrashedSnapshot},
    log::{LogChain, SlowLog, check_commits},
    roster::RosterCache,
};
use crate::{
    access::{Read, Seen},
    base::{
        codec,
        error::{Error, Result},
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::{
        fate::{Fate, FateStep},
        log::{Event, LogRecord},
        snapshot::{Chains, Snapshot, SnapshotObject},
        tombstone::Tombstone,
    },
    owner::{keyring::KeyRing, pages::expect_count},
};

/// How many snapshots one request asks for.
const SNAPSHOTS_PER_REQUEST: u32 = 256;
/// The most entries of the log that may make no sense, or name snapshots that cannot be shown. More are not collected:
/// a store could invent them without end.
const UNSOUND_MAX: usize = 65_536;
/// The reason of an incarnation that begins with a log that was repaired: its chain is not the one of before.
const REPAIR: &str = "repair";

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
    log: LogChain,
    /// The last record that says that the log was repaired.
    repaired_at: Option<u64>,
    /// The records that made seal keys, in the order of the log.
    rotations: Vec<u64>,
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
    log_seq: u64,
    client: ClientId,
    sequence: u64,
    received: Time,
}

impl Commit {
    fn broken(&self, error: Error) -> BrokenSnapshot {
        BrokenSnapshot {
            id: self.id,
            log_seq: self.log_seq,
            client: self.client,
            received: self.received,
            is_trashed: false,
            is_signed: false,
            error,
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::SnapshotDamaged { snapshot: self.id, reason }
    }
}

/// What the log records about a snapshot.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The record that committed it.
    log_seq: u64,
    client: ClientId,
    received: Time,
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
        all.sort_by_key(SnapshotInfo::order);
        for info in all {
            match self.known.get(&info.id).and_then(|known| known.fate) {
                None => list.snapshots.push(info),
                Some(Fate::Trash { since, is_broken }) => {
                    list.trash.push(TrashedSnapshot { info, since, is_broken });
                }
                Some(Fate::Expired { .. }) => {}
            }
        }
        list.broken.retain_mut(|broken| {
            let fate = self.known.get(&broken.id).and_then(|known| known.fate);
            broken.is_trashed = matches!(fate, Some(Fate::Trash { .. }));
            broken.is_signed = matches!(fate, Some(Fate::Trash { is_broken: true, .. }));
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
            tracked.list.check_unsound(UNSOUND_MAX)?;
        }
        if std::mem::take(&mut tracked.is_unsorted) {
            tracked.sort();
        }
        tracked.list.log_len = tracked.log.len();
        Ok(show(&tracked.list))
    }

    /// Notes what the store said of its log when it was opened.
    pub fn announce(&self, now: Seen) {
        self.tracked.lock().log.announce(now);
    }

    /// Returns whether a snapshot has expired by now, according to the log.
    pub fn is_gone(&self, id: &SnapshotId) -> Result<bool> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        Ok(tracked.is_expired(id))
    }

    /// Returns what the log records about a snapshot that cannot be read because of `error`.
    pub fn broken(&self, id: SnapshotId, error: Error) -> Result<BrokenSnapshot> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        let Some(known) = tracked.known.get(&id) else { return Err(error) };
        let Known { log_seq, client, received, fate, .. } = *known;
        let is_trashed = matches!(fate, Some(Fate::Trash { .. }));
        let is_signed = matches!(fate, Some(Fate::Trash { is_broken: true, .. }));
        Ok(BrokenSnapshot { id, log_seq, client, received, is_trashed, is_signed, error })
    }

    /// Reads what was appended to the log, up to what the store announces.
    fn follow_log(&self, tracked: &mut Tracked) -> Result<()> {
        let target = tracked.log.target(self.access.as_ref())?;
        let mut slow = SlowLog::new();
        while tracked.log.len() < target.len {
            let records = tracked.log.read(self.access.as_ref(), target.len)?;
            if records.is_empty() {
                tracked.list.contradict(Contradiction::Short { announced: target.len, found: tracked.log.len() });
                return Ok(());
            }
            for bytes in &records {
                let seq = tracked.log.len();
                tracked.log.add(bytes);
                match codec::decode::<LogRecord>("an entry of the log", bytes) {
                    Ok(record) if record.seq == seq => self.apply_record(tracked, record),
                    Ok(record) => {
                        let reason = format!("its own number is {}", record.seq);
                        tracked.list.problems.push(Error::damaged(log_entry(seq), reason));
                    }
                    Err(error) => tracked.list.problems.push(Error::damaged(log_entry(seq), error)),
                }
            }
            check_commits(tracked.known.len())?;
            tracked.list.check_unsound(UNSOUND_MAX)?;
            slow.at(tracked.log.len(), target.len);
        }
        if target.head.is_some_and(|head| head != tracked.log.head()) {
            tracked.list.contradict(Contradiction::OtherHead { len: target.len });
        }
        Ok(())
    }

    fn apply_record(&self, tracked: &mut Tracked, record: LogRecord) {
        let LogRecord { seq, time, event } = record;
        let (id, step, signed) = match event {
            Event::Commit { snapshot: id, client, sequence, .. } => {
                tracked.known.insert(
                    id,
                    Known { log_seq: seq, client, received: time, fate: None, changed_seq: seq, expired_seq: 0 },
                );
                tracked.waiting.insert(seq, Commit { id, log_seq: seq, client, sequence, received: time });
                return;
            }
            Event::Incarnation { reason, .. } => {
                if reason == REPAIR {
                    tracked.repaired_at = Some(seq);
                }
                return;
            }
            Event::SealKeys { .. } => {
                tracked.rotations.push(seq);
                return;
            }
            Event::Forget { snapshot, signed } => {
                let is_broken = Tombstone::says_broken(&signed);
                (snapshot, FateStep::Forget { is_broken }, signed)
            }
            Event::Unforget { snapshot } => (snapshot, FateStep::Unforget, Vec::new()),
            Event::Expire { snapshot } => (snapshot, FateStep::Expire, Vec::new()),
            _ => return,
        };
        let mut problem = |reason: String| tracked.list.problems.push(Error::damaged(log_entry(seq), reason));
        let Some(known) = tracked.known.get_mut(&id) else {
            return problem(format!("it is about snapshot {id}, which was never committed"));
        };
        if matches!(step, FateStep::Forget { .. }) {
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
        expect_count(fetched.len(), SNAPSHOTS_PER_REQUEST as usize, "snapshots")?;
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
        let info = SnapshotInfo { id, log_seq, received, client: stored.client, snapshot };
        let before = tracked.rotations.iter().filter(|rotated| **rotated < info.log_seq).count();
        let (used, newest) = (stored.wrap.seal_key.0, u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1));
        if used < newest {
            let (snapshot, client, host) = (info.id, info.client, info.snapshot.host.clone());
            tracked.list.contradict(Contradiction::OldSealKey { snapshot, client, host, used, newest });
        }
        // What the owner has forgotten, they have seen. So a client that lies about the log cannot go on for ever.
        if tracked.fate(&info.id).is_none() && is_of_another_log(tracked, &info) {
            tracked.list.contradict(Contradiction::Fork {
                snapshot: info.id,
                client: info.client,
                host: info.snapshot.host.clone(),
                log_len: info.snapshot.log_len,
            });
        }
        Ok(info)
    }
}

/// Whether the client of a snapshot has seen another log than this one, before the place at which the snapshot was
/// committed. A repair makes a new chain, so it explains what was seen before it.
fn is_of_another_log(tracked: &Tracked, info: &SnapshotInfo) -> bool {
    let Snapshot { log_len, log_head, .. } = &info.snapshot;
    let is_explained = tracked.repaired_at.is_some_and(|repaired| repaired > info.log_seq);
    !is_explained && (*log_len > info.log_seq || tracked.log.had(*log_len, log_head) == Some(false))
}

fn log_entry(seq: u64) -> String {
    format!("entry {seq} of the log")
}
