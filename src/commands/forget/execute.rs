//! Carrying out what was decided: tombstones are signed and sent.

use std::collections::BTreeMap;

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, FORGET_MAX, ForgetRequest, Signature},
    fate::protected_until,
    id::SnapshotId,
    keys::FullKey,
    tombstone::Tombstone,
    tree::Time,
};

use crate::output;

/// A snapshot to be forgotten, and when the store received it; none if it is gone, and this takes note of it.
pub type Chosen = (SnapshotId, Option<Time>);

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that are in the trash.
    pub trashed: Vec<SnapshotId>,
    /// Those that are gone for good.
    pub gone: Vec<SnapshotId>,
    /// Those that should have gone and are in the trash: until when the floor keeps each.
    pub protected: BTreeMap<SnapshotId, Time>,
    /// Those that were gone already, of which note was taken.
    pub noted: Vec<SnapshotId>,
}

/// Signs and sends.
pub struct Executor<'a> {
    /// The store.
    pub access: &'a dyn Access,
    /// Signs.
    pub full: &'a FullKey,
    /// Length of the log that was looked at.
    pub log_len: u64,
    /// The store's floor.
    pub protect_secs: u64,
}

impl Executor<'_> {
    /// Forgets; `now` skips the trash as far as the floor allows.
    pub fn forget(&self, chosen: &[Chosen], now: bool) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let received: BTreeMap<SnapshotId, Time> = chosen.iter().filter_map(|(id, at)| Some((*id, (*at)?))).collect();
        outcome.noted = chosen.iter().filter(|(_, at)| at.is_none()).map(|(id, _)| *id).collect();
        self.send(&outcome.noted, false)?;
        let clock = output::now();
        let until = |at: Time| protected_until(at, clock, self.protect_secs);
        let mut going: Vec<SnapshotId> = Vec::new();
        for (id, at) in &received {
            match until(*at).filter(|_| now) {
                Some(until) => drop(outcome.protected.insert(*id, until)),
                None if now => going.push(*id),
                None => outcome.trashed.push(*id),
            }
        }
        // The server's clock decides. Where it differs from this machine's, it names one that it protects: then it protects
        // what is younger, too.
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
                let tombstone = Tombstone { repo: self.full.repo, snapshot: *id, log_len: self.log_len };
                Signature(tombstone.sign(self.full))
            };
            let tombstones = ids.iter().map(sign).collect();
            self.access.forget(&ForgetRequest { tombstones, now, empty_trash: false })?;
        }
        Ok(())
    }
}

/// Empties the trash of what has been there for as long as the floor says; returns what went.
pub fn empty_trash(access: &dyn Access) -> Result<Vec<SnapshotId>> {
    let request = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
    Ok(access.forget(&request)?.expired)
}
