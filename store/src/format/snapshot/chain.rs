//! The chains of snapshots: each client counts its own from 1, and each names the one before it.

use std::collections::HashMap;

use super::{Snapshot, StoredSnapshot};
use crate::base::{
    error::{Error, Result},
    id::{ClientId, SnapshotId},
};

/// The newest snapshot seen of each client. Feed it all snapshots of a repository in the order of the log; a gap, a
/// swap or a second snapshot in one place is evidence of a store that drops, reorders or rolls back.
#[derive(Debug, Clone, Default)]
pub struct Chains {
    heads: HashMap<ClientId, (u64, SnapshotId)>,
}

impl Chains {
    /// Passes over a snapshot that was committed and is gone: the log says whose it was and which. The next one must name it.
    pub fn skip(&mut self, client: ClientId, sequence: u64, id: SnapshotId) {
        self.heads.insert(client, (sequence, id));
    }

    /// Takes the client's next snapshot. On error the snapshot becomes the head all the same, so that one gap is
    /// reported once.
    pub fn admit(&mut self, id: SnapshotId, stored: &StoredSnapshot, snapshot: &Snapshot) -> Result<()> {
        let before = self.heads.insert(stored.client, (stored.sequence, id));
        let (sequence, previous) = match before {
            Some((sequence, head)) => (sequence.saturating_add(1), Some(head)),
            None => (1, None),
        };
        if stored.sequence == sequence && snapshot.previous == previous {
            return Ok(());
        }
        let reason = match stored.sequence == sequence {
            true => "it does not name the snapshot that lies before it".to_owned(),
            false => format!(
                "it is number {} of its client, where number {sequence} is due: snapshots are missing or out of order",
                stored.sequence
            ),
        };
        Err(Error::SnapshotDamaged { snapshot: id, reason })
    }
}
