//! What a snapshot states that the log is compared with: its place in its client's chain, and the log and the seal key
//! that the client knew.

use super::fields::Fields;
use crate::{
    base::id::{ClientId, Hash, SnapshotId, TargetTag},
    format::snapshot::{Snapshot, StoredSnapshot},
};

/// What a verified snapshot states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The client that signed it.
    pub client: ClientId,
    pub target: TargetTag,
    pub sequence: u64,
    pub previous: Option<SnapshotId>,
    pub log_len: u64,
    pub log_head: Hash,
    /// The seal key that its data key is sealed to.
    pub seal_key: u32,
}

/// A snapshot, verified and opened.
#[derive(Debug)]
pub(super) struct OpenedSnapshot {
    pub facts: Facts,
    pub snapshot: Snapshot,
}

impl Facts {
    /// Length of encoded facts in bytes.
    pub const LEN: usize = 16 + 16 + 8 + 1 + 32 + 8 + 32 + 4;

    pub fn of(stored: &StoredSnapshot, snapshot: &Snapshot) -> Self {
        Self {
            client: stored.client,
            target: stored.target,
            sequence: stored.sequence,
            previous: snapshot.previous,
            log_len: snapshot.log_len,
            log_head: snapshot.log_head,
            seal_key: stored.wrap.seal_key.0,
        }
    }

    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let Self { client, target, sequence, previous, log_len, log_head, seal_key } = self;
        bytes.extend_from_slice(&client.0);
        bytes.extend_from_slice(&target.0);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.push(previous.is_some().into());
        bytes.extend_from_slice(&previous.unwrap_or_default().0);
        bytes.extend_from_slice(&log_len.to_le_bytes());
        bytes.extend_from_slice(&log_head.0);
        bytes.extend_from_slice(&seal_key.to_le_bytes());
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (client, target, sequence) = (ClientId(fields.array()?), TargetTag(fields.array()?), fields.u64()?);
        let ([has_previous], previous) = (fields.array()?, SnapshotId(fields.array()?));
        let previous = match has_previous {
            0 => None,
            1 => Some(previous),
            _ => return None,
        };
        let (log_len, log_head, seal_key) = (fields.u64()?, Hash(fields.array()?), fields.u32()?);
        Some(Self { client, target, sequence, previous, log_len, log_head, seal_key })
    }
}
