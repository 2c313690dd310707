//! Keeps the list of snapshots up to date: follows the log, fetches new snapshots, verifies and opens them, looks for
//! gaps in their chains, and sorts them by their fates.
//!
//! The log records what was committed, forgotten and brought back. A snapshot only counts as forgotten if a tombstone
//! of the admin key covers it ([`crate::format::tombstone`]). A snapshot that is gone without one is listed as removed
//! by the store's operator. Chains are followed across snapshots that are gone: the log names them, and the next
//! snapshot of the client must name the same predecessor.
//!
//! What was opened once, and the log up to where it was followed, can be remembered ([`super::memory`]). Everything is
//! judged in the same way with it and without it.

mod newest;
mod opening;
mod tracked;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use self::{
    opening::{Opener, Opening},
    tracked::Tracked,
};
use super::{
    commits::{Commit, LogOwner, log_entry},
    list::{BrokenSnapshot, Contradiction, SnapshotList},
    log::{SlowLog, check_commits},
    memory::SnapshotMemory,
    roster::RosterCache,
};
use crate::{
    access::{Read, Seen},
    base::{
        error::{Error, Result},
        id::SnapshotId,
    },
    format::{fate::Fate, snapshot::SnapshotObject, tree::Node},
    owner::{keyring::KeyRing, pages::expect_count},
};

/// How many snapshots one request asks for.
const SNAPSHOTS_PER_REQUEST: usize = 256;
/// The most entries of the log that may make no sense, or name snapshots that cannot be shown. More are not collected:
/// a store could invent them without end.
const UNSOUND_MAX: usize = 65_536;

/// Follows the snapshots of a repository.
pub(super) struct SnapshotTracker {
    access: Arc<dyn Read>,
    opener: Opener,
    owner: LogOwner,
    /// Where to remember snapshots.
    folder: OnceLock<PathBuf>,
    tracked: Mutex<Tracked>,
}

/// Which snapshots are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    /// Those that are not remembered.
    New,
    /// All, to see whether the store has them. Those that are remembered need only have their id.
    All,
}

impl SnapshotTracker {
    pub fn new(access: Arc<dyn Read>, keys: Arc<KeyRing>, roster: Arc<RosterCache>) -> Self {
        let owner = LogOwner { repo: keys.repo(), admin: keys.full().admin.verifying_key() };
        let opener = Opener { keys, roster };
        Self { access, opener, owner, folder: OnceLock::new(), tracked: Mutex::default() }
    }

    /// Remembers snapshots in a folder from now on, and uses what is remembered there.
    pub fn remember_in(&self, folder: PathBuf) {
        let _ = self.folder.set(folder);
    }

    /// Brings the list up to date and passes it to `show`.
    pub fn with_list<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut tracked = self.tracked.lock();
        self.complete(&mut tracked, Fetch::New)?;
        Ok(show(&tracked.list))
    }

    /// Does the same, and has the store show every snapshot.
    pub fn with_fetched_list<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut tracked = self.tracked.lock();
        if tracked.is_some_unseen {
            tracked.restart();
        }
        self.complete(&mut tracked, Fetch::All)?;
        Ok(show(&tracked.list))
    }

    fn complete(&self, tracked: &mut Tracked, fetch: Fetch) -> Result<()> {
        self.follow_log(tracked)?;
        self.advance(tracked, fetch)?;
        if tracked.open_remembered().is_err() {
            // A file of the memory is damaged: open everything again.
            tracked.forget_memory();
            self.follow_log(tracked)?;
            self.advance(tracked, fetch)?;
        }
        tracked.sort_if_needed();
        tracked.save();
        tracked.list.log_len = tracked.log.chain.len();
        Ok(())
    }

    /// Notes what the store said of its log when it was opened.
    pub fn announce(&self, now: Seen) {
        self.tracked.lock().announce(now);
    }

    /// Returns how many snapshots have not expired, according to the log.
    pub fn count(&self) -> Result<usize> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        Ok(tracked.log.commits().iter().filter(|commit| !commit.is_expired()).count())
    }

    /// Returns whether a snapshot has expired by now, according to the log.
    pub fn is_gone(&self, id: &SnapshotId) -> Result<bool> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        Ok(tracked.log.is_expired(id))
    }

    /// Returns what the log records about a snapshot that cannot be read because of `error`.
    pub fn broken(&self, id: SnapshotId, error: Error) -> Result<BrokenSnapshot> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        let Some(commit) = tracked.log.get(&id) else { return Err(error) };
        let Commit { log_seq, client, received, fate, .. } = *commit;
        let is_trashed = matches!(fate, Some(Fate::Trash { .. }));
        let is_signed = matches!(fate, Some(Fate::Trash { is_broken: true, .. }));
        Ok(BrokenSnapshot { id, log_seq, client, received, is_trashed, is_signed, error })
    }

    /// Returns the roots of those of the snapshots that are remembered, and whose clients counted.
    pub fn remembered_roots(&self, ids: &[SnapshotId]) -> Result<HashMap<SnapshotId, Node>> {
        if self.folder.get().is_none() {
            return Ok(HashMap::new());
        }
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        let mut known = Vec::new();
        for commit in ids.iter().filter_map(|id| tracked.log.get(id)) {
            if self.is_known(&tracked, commit)? {
                known.push(*commit);
            }
        }
        let Ok(infos) = tracked.infos(&known) else {
            tracked.forget_memory();
            return Ok(HashMap::new());
        };
        Ok(infos.into_iter().map(|info| (info.id, info.snapshot.root)).collect())
    }

    /// Reads what was appended to the log, up to what the store announces.
    fn follow_log(&self, tracked: &mut Tracked) -> Result<()> {
        if let Some(folder) = self.folder.get().filter(|_| !tracked.has_memory()) {
            tracked.remember(SnapshotMemory::open(folder, self.opener.keys.full()));
        }
        if tracked.is_restarted() {
            // Up to what was announced, and then as far as it was read before.
            self.read_log(tracked)?;
        }
        let is_recalled = tracked.recall_log();
        if !self.read_log(tracked)? && is_recalled {
            // The store has another log than the one that is remembered.
            tracked.restart();
            self.read_log(tracked)?;
        }
        Ok(())
    }

    /// Returns whether the log is as the store announced it.
    fn read_log(&self, tracked: &mut Tracked) -> Result<bool> {
        let target = tracked.log.chain.target(self.access.as_ref())?;
        let mut slow = SlowLog::new();
        while tracked.log.chain.len() < target.len {
            let records = tracked.log.chain.read(self.access.as_ref(), target.len)?;
            if records.is_empty() {
                let found = tracked.log.chain.len();
                tracked.list.contradict(Contradiction::Short { announced: target.len, found });
                return Ok(false);
            }
            for bytes in &records {
                tracked.list.problems.extend(tracked.log.add(bytes, &self.owner));
            }
            tracked.note_fates();
            check_commits(tracked.log.commits().len())?;
            tracked.list.check_unsound(UNSOUND_MAX)?;
            slow.at(tracked.log.chain.len(), target.len);
        }
        let is_announced = target.head.is_none_or(|head| head == tracked.log.chain.head());
        if !is_announced {
            tracked.list.contradict(Contradiction::OtherHead { len: target.len });
        }
        Ok(is_announced)
    }

    /// Judges all commits that were not judged yet.
    fn advance(&self, tracked: &mut Tracked, fetch: Fetch) -> Result<()> {
        while let Some(commit) = tracked.next_commit() {
            if commit.is_expired() {
                tracked.skip(&commit);
            } else if let Some(opened) = tracked.opened.remove(&commit.id) {
                tracked.add_opened(&commit, opened);
            } else if fetch == Fetch::New && self.is_known(tracked, &commit)? {
                tracked.add_remembered(&commit, false);
            } else {
                self.fetch(tracked, &commit, fetch)?;
            }
            tracked.list.check_unsound(UNSOUND_MAX)?;
        }
        Ok(())
    }

    /// Whether a snapshot is remembered and its client counted when the store received it. Otherwise it is opened: the
    /// newest roster may say something else, and an error says what is wrong.
    fn is_known(&self, tracked: &Tracked, commit: &Commit) -> Result<bool> {
        let Some(facts) = tracked.facts(&commit.id) else { return Ok(false) };
        self.opener.counts(facts.client, commit)
    }

    /// Fetches the next snapshots, beginning with that of commit `first`, and adds them to the list.
    fn fetch(&self, tracked: &mut Tracked, first: &Commit, fetch: Fetch) -> Result<()> {
        let limit = tracked.unknown_ahead(SNAPSHOTS_PER_REQUEST, |id| {
            fetch == Fetch::All || (tracked.facts(id).is_none() && !tracked.opened.contains_key(id))
        });
        let fetched = self.request(first.log_seq, limit)?;
        let covered = fetched.last().map_or(u64::MAX, |newest| newest.log_seq);
        let objects: HashMap<u64, SnapshotObject> = fetched.into_iter().map(|o| (o.log_seq, o)).collect();
        let is_one_absent = |tracked: &Tracked| {
            let mut due = tracked.due(covered);
            due.any(|commit| !objects.contains_key(&commit.log_seq) && !tracked.log.is_expired(&commit.id))
        };
        if is_one_absent(tracked) {
            // It may have expired just now.
            self.read_log(tracked)?;
        }
        let due: Vec<Commit> = tracked.due(covered).copied().collect();
        let mut openings = self.opener.open_all(&due, objects, |id| tracked.facts(id).cloned());
        for commit in due {
            match openings.remove(&commit.log_seq) {
                Some(Err(error @ (Error::Unreachable(_) | Error::NoPermission { .. }))) => return Err(error),
                Some(Ok(Opening::New(opened))) => tracked.add_opened(&commit, *opened),
                Some(Ok(Opening::Remembered)) => tracked.add_remembered(&commit, true),
                Some(Err(error)) => tracked.add_broken(&commit, error),
                None if tracked.log.is_expired(&commit.id) => tracked.skip(&commit),
                // It may have been committed just now: ask for it by itself before it counts as withheld.
                None if commit.log_seq > first.log_seq => return Ok(()),
                None => tracked.add_broken(&commit, withheld(&commit)),
            }
        }
        Ok(())
    }

    /// Asks for snapshots, at most `limit`.
    fn request(&self, first: u64, limit: usize) -> Result<Vec<SnapshotObject>> {
        let fetched = self.access.snapshots(first, u32::try_from(limit).unwrap_or(u32::MAX))?;
        expect_count(fetched.len(), limit, "snapshots")?;
        if fetched.windows(2).any(|two| two[0].log_seq >= two[1].log_seq)
            || fetched.first().is_some_and(|object| object.log_seq < first)
        {
            return Err(Error::Invalid("the store returned other snapshots than it was asked for".into()));
        }
        Ok(fetched)
    }
}

fn withheld(commit: &Commit) -> Error {
    let reason = format!("{} committed it, but the store withholds it", log_entry(commit.log_seq));
    commit.damaged(reason)
}
