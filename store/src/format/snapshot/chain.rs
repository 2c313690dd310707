//! Chains of snapshots: each client numbers its own snapshots from 1, and each snapshot names the previous one.

use std::collections::HashMap;

use super::{Snapshot, StoredSnapshot};
use crate::base::{
    error::{Error, Result},
    id::{ClientId, SnapshotId},
};

/// The newest snapshot of each client so far. Pass it all snapshots of a repository in the order of the log. A gap, a
/// swap, or a second snapshot with one number is evidence that the store drops, reorders or rolls back.
#[derive(Debug, Clone, Default)]
pub struct Chains {
    heads: HashMap<ClientId, (u64, SnapshotId)>,
}

impl Chains {
    /// Skips a committed snapshot that is gone. The log names it and its client. The client's next snapshot must name
    /// it.
    pub fn skip(&mut self, client: ClientId, sequence: u64, id: SnapshotId) {
        self.heads.insert(client, (sequence, id));
    }

    /// Accepts a client's next snapshot. The snapshot becomes the head even on error, so that a gap is reported once.
    pub fn admit(&mut self, id: SnapshotId, stored: &StoredSnapshot, snapshot: &Snapshot) -> Result<()> {
        self.admit_link(id, stored.client, stored.sequence, snapshot.previous)
    }

    /// Does the same with what matters of the snapshot.
    pub fn admit_link(
        &mut self,
        id: SnapshotId,
        client: ClientId,
        sequence: u64,
        previous: Option<SnapshotId>,
    ) -> Result<()> {
        let before = self.heads.insert(client, (sequence, id));
        let (expected, head) = match before {
            Some((last, head)) => (last.saturating_add(1), Some(head)),
            None => (1, None),
        };
        if sequence == expected && previous == head {
            return Ok(());
        }
        let reason = match sequence == expected {
            true => "it does not name the snapshot before it".to_owned(),
            false => format!(
                "it is number {sequence} of its client, but {expected} is expected: snapshots are missing or out of \
                 order"
            ),
        };
        Err(Error::SnapshotDamaged { snapshot: id, reason })
    }
}
