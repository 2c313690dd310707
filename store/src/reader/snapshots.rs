//! The snapshots of a repository: fetched as the log grows, verified, opened, and checked for gaps in their chains.

use super::Reader;
use crate::{
    access::{OpenRequest, SnapshotObject},
    error::{Error, Result},
    id::{ClientId, SnapshotId},
    roster::{Roster, RosterView},
    snapshot::{self, Chains, Snapshot},
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
    roster: Option<RosterView>,
    chains: Chains,
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
        let verify = |view: &RosterView| snapshot::verify_stored(&object.bytes, view.newest(), object.received);
        let stored = match state.roster.as_ref().map(verify) {
            // The client may have been enrolled since: look at the newest roster before refusing it.
            None | Some(Err(Error::NotOnRoster { .. })) => verify(self.renew(&mut state.roster)?)?,
            Some(verified) => verified?,
        };
        let snapshot = snapshot::open(&stored, object.id, &self.keys)?;
        // A gap in a chain is a problem of the store; the snapshot itself is sound and counts.
        if let Err(problem) = state.chains.admit(object.id, &stored, &snapshot) {
            state.list.problems.push(problem);
        }
        let SnapshotObject { id, log_seq, received, .. } = *object;
        Ok(SnapshotInfo { id, log_seq, received, client: stored.client, snapshot })
    }

    /// The repository's newest roster, verified. Not to be called from within [`Reader::with_snapshots`].
    pub fn roster(&self) -> Result<Roster> {
        self.renew(&mut self.snapshots.lock().roster).map(|view| view.newest().clone())
    }

    fn renew<'a>(&self, view: &'a mut Option<RosterView>) -> Result<&'a RosterView> {
        let signed = self.access.open(&OpenRequest::default())?.roster;
        match view {
            Some(view) => {
                view.renew(&signed)?;
                Ok(view)
            }
            None => {
                let admin = self.keys.full().admin.verifying_key();
                Ok(view.insert(RosterView::new(&signed, admin, self.config.repo)?))
            }
        }
    }
}
