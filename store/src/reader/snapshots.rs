//! The snapshots of a repository: fetched as the log grows, verified, opened, and checked for gaps in their chains.

use std::collections::HashMap;

use super::Reader;
use crate::{
    access::{OpenRequest, SnapshotObject},
    error::{Error, Result},
    id::{ClientId, SnapshotId},
    keys,
    roster::Roster,
    snapshot::{self, Snapshot},
    tree::Time,
};

/// How many snapshots one request asks for.
const BATCH: u32 = 256;

/// A snapshot, verified and opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Place of its commit in the log.
    pub log_seq: u64,
    /// When the store received it.
    pub received: Time,
    /// Who pushed it.
    pub client: ClientId,
    /// Its record.
    pub snapshot: Snapshot,
}

/// What is known of the snapshots.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The snapshots that count, in the order of their commits.
    pub snapshots: Vec<SnapshotInfo>,
    /// What is wrong: snapshots that do not open or are of no client on the roster, gaps in chains.
    pub problems: Vec<Error>,
}

#[derive(Default)]
pub(super) struct State {
    next: u64,
    roster: Option<Roster>,
    last: HashMap<ClientId, (u64, SnapshotId)>,
    list: SnapshotList,
}

impl Reader {
    /// All snapshots, oldest first. Asks only for those that are new since the last call.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.with_snapshots(|list| list.snapshots.clone())
    }

    /// Brings the list up to date and shows it, with what is wrong about it.
    pub fn with_snapshots<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut state = self.snapshots.lock();
        loop {
            let objects = self.access.snapshots(state.next, BATCH)?;
            let Some(newest) = objects.last().map(|o| o.log_seq) else { break };
            if newest < state.next {
                return Err(Error::Invalid("the store answered with older snapshots than were asked for".into()));
            }
            for object in &objects {
                match self.admit(&mut state, object) {
                    Ok(info) => state.list.snapshots.push(info),
                    Err(error) => state.list.problems.push(error),
                }
            }
            state.next = newest + 1;
        }
        Ok(show(&state.list))
    }

    fn admit(&self, state: &mut State, object: &SnapshotObject) -> Result<SnapshotInfo> {
        if snapshot::snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not have its id".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: object.id, reason });
        }
        let stored = match &state.roster {
            Some(roster) => snapshot::verify_stored(&object.bytes, roster, object.received),
            None => Err(Error::NotOnRoster { what: String::new(), client: ClientId::default() }),
        };
        let stored = match stored {
            // The client may have been enrolled since: look at the newest roster before refusing it.
            Err(Error::NotOnRoster { .. }) => {
                let roster = self.roster()?;
                let stored = snapshot::verify_stored(&object.bytes, &roster, object.received);
                state.roster = Some(roster);
                stored?
            }
            other => other?,
        };
        let snapshot = snapshot::open(&stored, object.id, &self.keys)?;
        let expected = state.last.get(&stored.client).copied();
        let continues = match expected {
            Some((sequence, id)) => snapshot.sequence == sequence + 1 && snapshot.previous == Some(id),
            None => snapshot.sequence == 1 && snapshot.previous.is_none(),
        };
        if !continues {
            state.list.problems.push(Error::SnapshotDamaged {
                snapshot: object.id,
                reason: format!(
                    "it is number {} of client {}, but the one before it is {}: snapshots are missing",
                    snapshot.sequence,
                    stored.client,
                    expected.map_or("none".to_owned(), |(sequence, _)| format!("number {sequence}")),
                ),
            });
        }
        state.last.insert(stored.client, (snapshot.sequence, object.id));
        let SnapshotObject { id, log_seq, received, .. } = *object;
        Ok(SnapshotInfo { id, log_seq, received, client: stored.client, snapshot })
    }

    /// The repository's newest roster, verified.
    pub fn roster(&self) -> Result<Roster> {
        let opened = self.access.open(&OpenRequest::default())?;
        keys::verify_roster(&opened.roster, &self.keys.full().admin.verifying_key(), self.config.repo)
    }
}
