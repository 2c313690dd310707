//! Carries out what was decided: signs tombstones and sends them.

use std::collections::BTreeMap;

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, FORGET_MAX, ForgetRequest, SignedTombstone},
    base::{id::SnapshotId, time::Time},
    format::{fate::protected_until, keys::FullKey, tombstone::Tombstone},
};

/// A snapshot to forget, and when the store received it. `None` if it is already gone: forgetting it takes note of
/// that.
pub type Chosen = (SnapshotId, Option<Time>);

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Snapshots that went to the trash.
    pub trashed: Vec<SnapshotId>,
    /// Snapshots that are gone for good.
    pub gone: Vec<SnapshotId>,
    /// Snapshots that should be gone but went to the trash, with the time until which the floor keeps each.
    pub protected: BTreeMap<SnapshotId, Time>,
    /// Snapshots that were already gone; note was taken of that.
    pub noted: Vec<SnapshotId>,
}

/// Signs tombstones and sends them.
pub struct Executor<'a> {
    /// The store.
    pub access: &'a dyn Access,
    /// The key that signs.
    pub full: &'a FullKey,
    /// Length of the log that the decision is based on.
    pub log_len: u64,
    /// The store's floor, in seconds.
    pub protect_secs: u64,
    /// The time by the store's clock when it was opened.
    pub time: Time,
    /// Whether the snapshots are forgotten because they cannot be read.
    pub is_broken: bool,
}

impl Executor<'_> {
    /// Forgets snapshots. With `now` they skip the trash, as far as the floor allows it.
    pub fn forget(&self, chosen: &[Chosen], now: bool) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let received: BTreeMap<SnapshotId, Time> = chosen.iter().filter_map(|(id, at)| Some((*id, (*at)?))).collect();
        outcome.noted = chosen.iter().filter(|(_, at)| at.is_none()).map(|(id, _)| *id).collect();
        self.send(&outcome.noted, false)?;
        let until = |at: Time| protected_until(at, self.time, self.protect_secs);
        let mut going: Vec<SnapshotId> = Vec::new();
        for (id, at) in &received {
            match until(*at).filter(|_| now) {
                Some(until) => drop(outcome.protected.insert(*id, until)),
                None if now => going.push(*id),
                None => outcome.trashed.push(*id),
            }
        }
        // The server's clock decides. If it differs from this machine's clock, the server's error names a snapshot that
        // it protects. Then it also protects all younger ones.
        while let Err(error) = self.send(&going, true) {
            let Error::Protected { snapshot, until_secs } = error else { return Err(error.into()) };
            let Some(at) = received.get(&snapshot).filter(|_| going.contains(&snapshot)) else {
                return Err(Error::Protected { snapshot, until_secs }.into());
            };
            let (young, old) = going.into_iter().partition(|id| received[id] >= *at);
            going = old;
            for id in young {
                let wait = received[&id].secs.saturating_sub(at.secs);
                outcome.protected.insert(id, Time { secs: until_secs.saturating_add(wait), nanos: 0 });
            }
        }
        outcome.gone = going;
        outcome.trashed.extend(outcome.protected.keys());
        self.send(&outcome.trashed, false)?;
        Ok(outcome)
    }

    fn send(&self, ids: &[SnapshotId], now: bool) -> Result<(), Error> {
        for ids in ids.chunks(FORGET_MAX) {
            let sign = |id: &SnapshotId| {
                let tombstone =
                    Tombstone { repo: self.full.repo, snapshot: *id, log_len: self.log_len, is_broken: self.is_broken };
                SignedTombstone(tombstone.sign(self.full))
            };
            let tombstones = ids.iter().map(sign).collect();
            self.access.forget(&ForgetRequest { tombstones, now, empty_trash: false })?;
        }
        Ok(())
    }
}

/// Deletes the snapshots that have been in the trash for the age of the floor. Returns them.
pub fn empty_trash(access: &dyn Access) -> Result<Vec<SnapshotId>> {
    let request = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
    Ok(access.forget(&request)?.expired)
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        access::{InitRequest, Manage, Open, OpenRequest, Push},
        base::id::{ChunkId, DomainId, RepoId},
        crypto::{DataKey, random},
        format::{
            config::ChunkerParams,
            keys::PushKey,
            roster::Roster,
            snapshot::{self, PushStats, Snapshot},
            tree::{Node, NodeKind, Subtree, Totals},
        },
        repository::Repository,
    };

    use super::*;
    use crate::output;

    const DAY: u64 = 86_400;

    /// A clock that is ten days behind.
    fn slow_clock() -> Time {
        let now = output::now();
        Time { secs: now.secs - 10 * DAY as i64, ..now }
    }

    fn commit(repo: &Repository, push: &PushKey) -> SnapshotId {
        let opened = repo.open(&OpenRequest { client: Some(push.client_id()), seen: None }).unwrap();
        let subtree = Some(Subtree { id: ChunkId::default(), entries: 0, totals: Totals::default() });
        let time = Time::default();
        let root = Node { mode: 0o755, mtime: time, subtree, ..Node::new(b"", NodeKind::Directory) };
        let record = Snapshot {
            time,
            host: "h".into(),
            user: "u".into(),
            target: "t".into(),
            paths: vec![],
            tags: vec![],
            root,
            stats: PushStats::default(),
            program: "test".into(),
            sequence: opened.last.map_or(1, |last| last.sequence + 1),
            previous: opened.last.map(|last| last.id),
            log_len: opened.now.log_len,
            log_head: opened.now.log_head,
        };
        let key = DataKey::random();
        let wrap = push.seal().unwrap().wrap(push.repo, &key);
        let bytes = snapshot::seal(&record, push, &push.ids(), &key, &wrap);
        repo.commit(opened.lease, &bytes).unwrap().snapshot
    }

    /// The store protects snapshots for five days. This machine's clock is ten days ahead, so it considers them old
    /// enough.
    #[test]
    fn the_clock_of_the_store_decides_what_is_protected() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repository::local(&dir.path().join("repo"), &dir.path().join("index")).unwrap();
        let repo = repo.with_floor(5 * DAY).with_clock(slow_clock);
        let full = FullKey::random(RepoId(random()));
        let (push, client) = full.new_client("h", None, DomainId::OWNER, Time::default());
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
        let config = full.config(Time::default(), ChunkerParams::default());
        repo.init(&InitRequest { config, roster, slots: vec![] }).unwrap();
        let ids = [commit(&repo, &push), commit(&repo, &push), commit(&repo, &push)];
        let received: Vec<Time> = repo.operator().commits().unwrap().iter().map(|commit| commit.received).collect();
        let executor = || Executor {
            access: &repo,
            full: &full,
            log_len: repo.operator().commits().unwrap().len() as u64 + 9,
            protect_secs: 5 * DAY,
            time: output::now(),
            is_broken: false,
        };
        let chosen: Vec<Chosen> = ids.iter().zip(&received).map(|(id, at)| (*id, Some(*at))).collect();
        let outcome = executor().forget(&chosen, true).unwrap();
        assert_eq!((outcome.gone.len(), outcome.trashed.len(), outcome.protected.len()), (0, 3, 3));
        for (id, until) in &outcome.protected {
            let at = received[ids.iter().position(|other| other == id).unwrap()];
            assert!((until.secs - at.secs - 5 * DAY as i64).abs() <= 1, "{until:?} {at:?}");
        }
        // As if the first snapshot had arrived long before the others.
        let old = |at: &Time| Time { secs: at.secs - 100 * DAY as i64, ..*at };
        let chosen: Vec<Chosen> = vec![(ids[0], Some(old(&received[0]))), (ids[1], Some(received[1]))];
        let outcome = Executor { protect_secs: 0, ..executor() }.forget(&chosen, true);
        assert!(outcome.is_ok_and(|outcome| outcome.gone.is_empty() && outcome.trashed.len() == 2));
    }
}
