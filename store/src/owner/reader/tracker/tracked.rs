//! What a reader knows of the snapshots so far. Decides about each of them; fetches nothing.

use std::collections::HashMap;

use crate::{
    access::Seen,
    base::{error::Error, id::SnapshotId},
    format::{
        fate::Fate,
        snapshot::{Chains, Snapshot},
    },
    owner::reader::{
        commits::{Commit, CommitLog, log_entry},
        facts::{Facts, OpenedSnapshot},
        list::{BrokenSnapshot, Contradiction, PurgedSnapshot, SnapshotInfo, SnapshotList, TrashedSnapshot},
        memory::{Damaged, SnapshotMemory},
    },
};

/// What is known so far.
#[derive(Default)]
pub(super) struct Tracked {
    pub log: CommitLog,
    /// How many of the commits are judged, from the first on.
    judged: usize,
    chains: Chains,
    pub list: SnapshotList,
    /// Judged snapshots whose records are not read from the memory yet, in the order of the log.
    pub remembered: Vec<Commit>,
    /// Snapshots that were opened before it was their turn.
    pub opened: HashMap<SnapshotId, OpenedSnapshot>,
    /// What the snapshots in the list state that are not in the memory yet.
    fresh: HashMap<SnapshotId, Facts>,
    /// Whether a fate has changed since the list was sorted.
    pub is_unsorted: bool,
    /// Whether a fate has changed since the memory was saved.
    has_new_fates: bool,
    /// Whether the list has a snapshot that the store has not shown.
    pub is_some_unseen: bool,
    memory: Option<SnapshotMemory>,
    /// Whether a record of the log names another client or target than its snapshot has.
    pub is_log_wrong: bool,
    /// Whether a file of the memory turned out to be damaged.
    is_memory_damaged: bool,
    /// What the store said of its log when it was opened.
    announced: Option<Seen>,
    /// Whether the log that is remembered is another one.
    is_log_refused: bool,
}

impl Tracked {
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub fn remember(&mut self, memory: SnapshotMemory) {
        self.memory = Some(memory);
    }

    /// Notes what the store said of its log when it was opened.
    pub fn announce(&mut self, now: Seen) {
        self.announced = Some(now);
        self.log.chain.announce(now);
    }

    /// Begins with the log that is remembered, if the log that the store announces can have it as its beginning.
    /// Returns whether it does: then the log must lead to the head that was announced.
    pub fn recall_log(&mut self) -> bool {
        let Some(now) = self.log.chain.announced().filter(|_| self.log.chain.len() == 0 && !self.is_log_refused) else {
            return false;
        };
        let Some(log) = self.memory.as_mut().and_then(SnapshotMemory::log) else { return false };
        let (len, head) = (log.chain.len(), log.chain.head());
        let is_beginning = len < now.log_len || (len == now.log_len && head == now.log_head);
        if is_beginning {
            self.log = log;
            self.log.chain.announce(now);
            // It holds fates, and what was purged.
            self.is_unsorted = true;
        }
        is_beginning
    }

    /// Begins again without the log that is remembered.
    pub fn restart(&mut self) {
        let (memory, opened) = (self.memory.take(), std::mem::take(&mut self.opened));
        *self = Self { memory, opened, is_log_refused: true, ..Self::announced(self.announced) };
    }

    fn announced(announced: Option<Seen>) -> Self {
        let mut new = Self::default();
        announced.into_iter().for_each(|now| new.announce(now));
        new
    }

    /// Whether it has begun again, and nothing was read since.
    pub fn is_restarted(&self) -> bool {
        self.is_log_refused && self.log.chain.len() == 0
    }

    /// Begins again without anything that is remembered.
    pub fn forget_memory(&mut self) {
        self.restart();
        self.memory.iter_mut().for_each(SnapshotMemory::clear);
    }

    /// Returns what is remembered of a snapshot.
    pub fn facts(&self, id: &SnapshotId) -> Option<&Facts> {
        self.memory.as_ref()?.facts(id)
    }

    /// Notes whether the log has changed the fate of a snapshot.
    pub fn note_fates(&mut self) {
        let is_changed = self.log.take_fate_changed();
        self.is_unsorted |= is_changed;
        self.has_new_fates |= is_changed;
    }

    /// The first commit that is not judged.
    pub fn next_commit(&self) -> Option<Commit> {
        self.log.at(self.judged)
    }

    /// The commits that are not judged.
    pub fn unjudged(&self) -> &[Commit] {
        self.log.commits().get(self.judged..).unwrap_or_default()
    }

    /// The commits that are not judged, up to a log record.
    pub fn due(&self, covered: u64) -> impl Iterator<Item = &Commit> {
        self.unjudged().iter().take_while(move |commit| commit.log_seq <= covered)
    }

    /// How many snapshots to ask for: up to the last of the next `max` that is not known.
    pub fn unknown_ahead(&self, max: usize, is_unknown: impl Fn(&SnapshotId) -> bool) -> usize {
        let next = self.unjudged().iter().filter(|commit| !self.log.is_expired(&commit.id)).take(max);
        let unknown = next.enumerate().filter(|(_, commit)| is_unknown(&commit.id));
        unknown.last().map_or(1, |(at, _)| at + 1)
    }

    /// Skips a snapshot that is gone.
    pub fn skip(&mut self, commit: &Commit) {
        self.judged += 1;
        self.chains.skip(commit.client, commit.sequence, commit.id);
    }

    /// Adds a snapshot that cannot be shown. Its sequence number and its id are known all the same, so the next
    /// snapshot of the chain does not count as a gap.
    pub fn add_broken(&mut self, commit: &Commit, error: Error) {
        self.skip(commit);
        self.list.broken.push(broken(commit, error));
        self.is_unsorted |= self.log.fate(&commit.id).is_some();
    }

    /// Adds a snapshot that was opened.
    pub fn add_opened(&mut self, commit: &Commit, opened: OpenedSnapshot) {
        let OpenedSnapshot { facts, snapshot } = opened;
        self.judged += 1;
        self.judge(commit, &facts, |_| Some(snapshot.host.clone()));
        self.is_unsorted |= self.log.fate(&commit.id).is_some();
        self.list.snapshots.push(info(commit, &facts, snapshot));
        if self.memory.is_some() {
            self.fresh.insert(commit.id, facts);
        }
    }

    /// Adds a snapshot that is remembered. `is_shown`: the store has shown it, too.
    pub fn add_remembered(&mut self, commit: &Commit, is_shown: bool) {
        let Some(facts) = self.facts(&commit.id).cloned() else { return };
        self.judged += 1;
        self.is_some_unseen |= !is_shown;
        self.judge(commit, &facts, |tracked| {
            let records = tracked.memory.as_ref()?.records(&[commit.id]);
            records.ok().and_then(|mut records| records.pop()).map(|snapshot| snapshot.host)
        });
        self.remembered.push(*commit);
    }

    /// Compares what a snapshot states with the log. A contradiction is a problem of the store. The snapshot itself is
    /// sound and counts. `host` returns the name of its machine.
    fn judge(&mut self, commit: &Commit, facts: &Facts, host: impl FnOnce(&Self) -> Option<String>) {
        let Facts { client, target, sequence, previous, .. } = *facts;
        if let Err(problem) = self.chains.admit_link(commit.id, client, sequence, previous) {
            self.list.problems.push(problem);
        }
        if (client, target) != (commit.client, commit.target) {
            let reason = format!("it names another client or target than snapshot {} has", commit.id);
            self.list.problems.push(Error::damaged(log_entry(commit.log_seq), reason));
            self.is_log_wrong = true;
        }
        let before = self.log.rotations.iter().filter(|rotated| **rotated < commit.log_seq).count();
        let (used, newest) = (facts.seal_key, u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1));
        let is_old = used < newest;
        // What the owner has forgotten, they have seen. So a client that lies about the log cannot go on for ever.
        let is_fork = commit.fate.is_none() && self.is_of_another_log(commit, facts);
        if !is_old && !is_fork {
            return;
        }
        let host = host(self).unwrap_or_else(|| {
            self.is_memory_damaged = true;
            String::new()
        });
        if is_old {
            let (snapshot, host) = (commit.id, host.clone());
            self.list.contradict(Contradiction::OldSealKey { snapshot, client, host, used, newest });
        }
        if is_fork {
            let (snapshot, log_len) = (commit.id, facts.log_len);
            self.list.contradict(Contradiction::Fork { snapshot, client, host, log_len });
        }
    }

    /// Whether the client of a snapshot has seen another log than this one, before the place at which the snapshot was
    /// committed. A repair makes a new chain, so it explains what was seen before it.
    fn is_of_another_log(&self, commit: &Commit, facts: &Facts) -> bool {
        let is_explained = self.log.repaired_at.is_some_and(|repaired| repaired > commit.log_seq);
        let is_other = || self.log.chain.had(facts.log_len, &facts.log_head) == Some(false);
        !is_explained && (facts.log_len > commit.log_seq || is_other())
    }

    /// Reads the records of all remembered snapshots into the list.
    pub fn open_remembered(&mut self) -> Result<(), Damaged> {
        if self.is_memory_damaged {
            return Err(Damaged);
        }
        let due: Vec<Commit> =
            std::mem::take(&mut self.remembered).into_iter().filter(|c| !self.log.is_expired(&c.id)).collect();
        if due.is_empty() {
            return Ok(());
        }
        let infos = self.infos(&due)?;
        self.list.snapshots.extend(infos);
        self.is_unsorted = true;
        Ok(())
    }

    /// Reads the records of remembered snapshots.
    pub fn infos(&self, commits: &[Commit]) -> Result<Vec<SnapshotInfo>, Damaged> {
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let memory = self.memory.as_ref().ok_or(Damaged)?;
        let ids: Vec<SnapshotId> = commits.iter().map(|commit| commit.id).collect();
        let records = memory.records(&ids)?;
        let made = commits.iter().zip(records).map(|(commit, snapshot)| {
            memory.facts(&commit.id).map(|facts| info(commit, facts, snapshot)).ok_or(Damaged)
        });
        made.collect()
    }

    /// Sorts the snapshots by their fates, if one has changed.
    pub fn sort_if_needed(&mut self) {
        if std::mem::take(&mut self.is_unsorted) {
            self.sort();
        }
    }

    fn sort(&mut self) {
        let list = &mut self.list;
        let mut all = std::mem::take(&mut list.snapshots);
        all.extend(std::mem::take(&mut list.trash).into_iter().map(|trashed| trashed.info));
        all.sort_by_key(SnapshotInfo::order);
        for info in all {
            match self.log.fate(&info.id) {
                None => list.snapshots.push(info),
                Some(Fate::Trash { since, is_broken }) => {
                    list.trash.push(TrashedSnapshot { info, since, is_broken });
                }
                Some(Fate::Expired { .. }) => {}
            }
        }
        let log = &self.log;
        list.broken.retain_mut(|broken| {
            let fate = log.fate(&broken.id);
            broken.is_trashed = matches!(fate, Some(Fate::Trash { .. }));
            broken.is_signed = matches!(fate, Some(Fate::Trash { is_broken: true, .. }));
            !Fate::is_expired(fate)
        });
        let purged = log.commits().iter().filter(|commit| commit.fate == Some(Fate::Expired { is_signed: false }));
        list.purged = purged.map(|c| PurgedSnapshot { id: c.id, log_seq: c.expired_seq }).collect();
        list.purged.sort_by_key(|purged| purged.log_seq);
    }

    /// Remembers what was opened, and the log.
    pub fn save(&mut self) {
        let Some(memory) = &mut self.memory else { return };
        let listed = self.list.snapshots.iter().chain(self.list.trash.iter().map(|trashed| &trashed.info));
        let mut new: Vec<(SnapshotId, Facts, &Snapshot)> = Vec::with_capacity(self.fresh.len());
        if !self.fresh.is_empty() {
            new.extend(listed.filter_map(|info| Some((info.id, self.fresh.get(&info.id)?.clone(), &info.snapshot))));
        }
        let ahead = self.opened.iter().filter(|(id, _)| memory.facts(id).is_none());
        new.extend(ahead.map(|(id, opened)| (*id, opened.facts.clone(), &opened.snapshot)));
        memory.save(&new, &self.log, std::mem::take(&mut self.has_new_fates));
        self.fresh.clear();
    }
}

/// A snapshot as it is listed.
pub(super) fn info(commit: &Commit, facts: &Facts, snapshot: Snapshot) -> SnapshotInfo {
    let Commit { id, log_seq, received, .. } = *commit;
    SnapshotInfo { id, log_seq, received, client: facts.client, snapshot }
}

/// A snapshot that cannot be shown.
pub(super) fn broken(commit: &Commit, error: Error) -> BrokenSnapshot {
    let Commit { id, log_seq, client, received, .. } = *commit;
    BrokenSnapshot { id, log_seq, client, received, is_trashed: false, is_signed: false, error }
}
