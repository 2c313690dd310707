//! The newest snapshot of each series, for `latest`: without opening all the others.
//!
//! The log names the client and the target tag of every commit, so it tells which snapshots are the newest. If few
//! snapshots are new to this machine, all of them are judged as for the whole list, and only the records of the newest
//! are read. If many are new, as on a machine that sees the repository for the first time, only the newest are fetched.
//! Then gaps, forks and what the store withholds of the others are not noticed: that takes the whole list.
//!
//! The log is not signed. A store that names a wrong target could hide that a snapshot is the newest of its series. So
//! the whole list is read as soon as an opened snapshot has another client or target than the log says. What such a
//! store can still do is what it can do to a new machine anyway, which is to leave out the newest snapshots.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::{
    Fetch, SnapshotTracker, UNSOUND_MAX,
    opening::Opening,
    tracked::{Tracked, broken, info},
    withheld,
};
use crate::{
    base::{
        error::{Error, Result},
        id::{ClientId, SnapshotId, TargetTag},
    },
    format::snapshot::SnapshotObject,
    owner::{
        reader::{
            commits::Commit,
            facts::Facts,
            list::{BrokenSnapshot, SnapshotInfo, SnapshotList},
        },
        workers,
    },
};

/// If no more snapshots than this are new, they are all opened: that takes 0.1 s.
const NEW_MAX: usize = 256;
/// How often the next older snapshot of a series is looked at if the newest cannot be shown.
const ROUNDS_MAX: usize = 8;
/// Snapshots between two that are wanted, if they are fetched together rather than with two requests.
const GAP_MAX: usize = 16;
/// How many requests are made at a time.
const REQUESTS: usize = 8;

impl SnapshotTracker {
    /// Passes a list to `show` that has only the newest snapshot of each series that counts, and no trash.
    pub fn with_newest<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut tracked = self.tracked.lock();
        self.follow_log(&mut tracked)?;
        let is_new = |commit: &&Commit| {
            let id = &commit.id;
            !commit.is_expired() && tracked.facts(id).is_none() && !tracked.opened.contains_key(id)
        };
        let new = tracked.unjudged().iter().filter(is_new).take(NEW_MAX + 1).count();
        let found = match new > NEW_MAX {
            true => self.fetch_newest(&mut tracked)?,
            false => {
                self.advance(&mut tracked, Fetch::New)?;
                tracked.newest_judged().map(|newest| (newest, Vec::new()))
            }
        };
        let Some((mut newest, unshown)) = found else {
            self.complete(&mut tracked, Fetch::New)?;
            return Ok(show(&tracked.list));
        };
        newest.sort_by_key(SnapshotInfo::order);
        tracked.sort_if_needed();
        tracked.save();
        let tracked = &mut *tracked;
        let list = &mut tracked.list;
        list.log_len = tracked.log.chain.len();
        let (snapshots, trash) = (std::mem::replace(&mut list.snapshots, newest), std::mem::take(&mut list.trash));
        let judged = list.broken.len();
        list.broken.extend(unshown);
        let shown = show(list);
        list.broken.truncate(judged);
        (list.snapshots, list.trash) = (snapshots, trash);
        Ok(shown)
    }

    /// Fetches the newest snapshot of each series. Returns them, and those that cannot be shown; none if the whole list
    /// must be read to know.
    fn fetch_newest(&self, tracked: &mut Tracked) -> Result<Option<(Vec<SnapshotInfo>, Vec<BrokenSnapshot>)>> {
        let (mut unshown, mut refused) = (Vec::new(), HashSet::new());
        for _ in 0..ROUNDS_MAX {
            let newest = newest_of_each(tracked.log.commits(), |commit| {
                tracked.log.fate_of(commit).is_none() && !refused.contains(&commit.id)
            });
            let mut missing = Vec::new();
            for commit in &newest {
                if !tracked.opened.contains_key(&commit.id)
                    && !tracked.is_listed(commit)
                    && !self.is_known(tracked, commit)?
                {
                    missing.push(*commit);
                }
            }
            if missing.is_empty() {
                return Ok(tracked.newest_of(&newest).map(|infos| (infos, unshown)));
            }
            let openings = self.open_some(tracked, &missing)?;
            if openings.iter().any(|(_, opening)| opening.is_err()) {
                // It may have expired just now.
                self.read_log(tracked)?;
            }
            for (commit, opening) in openings {
                match opening {
                    Ok(Opening::New(opened)) => drop(tracked.opened.insert(commit.id, *opened)),
                    Ok(Opening::Remembered) => {}
                    Err(error @ (Error::Unreachable(_) | Error::NoPermission { .. })) => return Err(error),
                    Err(_) if tracked.log.is_expired(&commit.id) => {}
                    Err(error) => {
                        refused.insert(commit.id);
                        unshown.push(broken(&commit, error));
                    }
                }
            }
            if unshown.len() > UNSOUND_MAX {
                break;
            }
        }
        Ok(None)
    }

    /// Fetches and opens the snapshots of some commits, which are in the order of the log.
    fn open_some(&self, tracked: &Tracked, wanted: &[Commit]) -> Result<Vec<(Commit, Result<Opening>)>> {
        let commits = tracked.log.commits();
        let index = |commit: &Commit| commits.partition_point(|other| other.log_seq < commit.log_seq);
        // The first commit of each request, and the number of snapshots up to its last.
        let mut requests: Vec<(u64, usize)> = Vec::new();
        let mut end = 0;
        for commit in wanted {
            let at = index(commit);
            let gap = commits[end.min(at)..at].iter().filter(|between| !between.is_expired()).count();
            match requests.last_mut() {
                Some((_, limit)) if gap <= GAP_MAX && *limit + gap < super::SNAPSHOTS_PER_REQUEST => *limit += gap + 1,
                _ => requests.push((commit.log_seq, 1)),
            }
            end = at + 1;
        }
        let fetched: Mutex<HashMap<u64, SnapshotObject>> = Mutex::default();
        workers::for_each(requests.into_iter(), REQUESTS, |(first, limit)| {
            let objects = self.request(first, limit)?;
            fetched.lock().extend(objects.into_iter().map(|object| (object.log_seq, object)));
            Ok(())
        })?;
        let remembered = |id: &SnapshotId| -> Option<Facts> { tracked.facts(id).cloned() };
        let mut openings = self.opener.open_all(wanted, fetched.into_inner(), remembered);
        let opening = |commit: &Commit| openings.remove(&commit.log_seq).unwrap_or_else(|| Err(withheld(commit)));
        let opened = wanted.iter().map(opening).collect::<Vec<_>>();
        Ok(wanted.iter().copied().zip(opened).collect())
    }
}

impl Tracked {
    /// The newest snapshot of each series, if all commits are judged. None if the log cannot be relied on for that, or
    /// a record cannot be read.
    fn newest_judged(&self) -> Option<Vec<SnapshotInfo>> {
        let listed: HashSet<SnapshotId> = self.list.snapshots.iter().map(|info| info.id).collect();
        let mut remembered = self.remembered.iter().rev().map(|commit| commit.log_seq).peekable();
        let newest = newest_of_each(self.log.commits(), |commit| {
            while remembered.next_if(|seq| *seq > commit.log_seq).is_some() {}
            let is_shown = remembered.peek() == Some(&commit.log_seq) || listed.contains(&commit.id);
            is_shown && self.log.fate_of(commit).is_none()
        });
        if self.is_log_wrong { None } else { self.newest_of(&newest) }
    }

    fn is_listed(&self, commit: &Commit) -> bool {
        self.list.snapshots.iter().any(|info| info.id == commit.id)
    }

    /// Returns snapshots that are opened, listed or remembered. None if one has another client or target than the log
    /// says, or cannot be read.
    fn newest_of(&self, commits: &[Commit]) -> Option<Vec<SnapshotInfo>> {
        let (mut infos, mut remembered) = (Vec::with_capacity(commits.len()), Vec::new());
        let wanted: HashSet<SnapshotId> = commits.iter().map(|commit| commit.id).collect();
        let listed = self.list.snapshots.iter().filter(|info| wanted.contains(&info.id));
        let listed: HashMap<SnapshotId, &SnapshotInfo> = listed.map(|info| (info.id, info)).collect();
        for commit in commits {
            let facts = match (listed.get(&commit.id), self.opened.get(&commit.id)) {
                (Some(info), _) => {
                    infos.push(SnapshotInfo::clone(info));
                    continue;
                }
                (None, Some(opened)) => {
                    infos.push(info(commit, &opened.facts, opened.snapshot.clone()));
                    &opened.facts
                }
                (None, None) => {
                    remembered.push(*commit);
                    self.facts(&commit.id)?
                }
            };
            if (facts.client, facts.target) != (commit.client, commit.target) {
                return None;
            }
        }
        infos.extend(self.infos(&remembered).ok()?);
        Some(infos)
    }
}

/// The newest commit of each series that `counts`, in the order of the log. Asks from the newest on, and no more of a
/// series that it has.
fn newest_of_each(commits: &[Commit], mut counts: impl FnMut(&Commit) -> bool) -> Vec<Commit> {
    let (mut found, mut newest) = (HashSet::new(), Vec::new());
    for commit in commits.iter().rev() {
        let series: (ClientId, TargetTag) = (commit.client, commit.target);
        if !found.contains(&series) && counts(commit) {
            found.insert(series);
            newest.push(*commit);
        }
    }
    newest.reverse();
    newest
}
