//! Rows of the index's tables.

use minicbor::{Decode, Encode};

use super::prunes::PruneStep;
use crate::{
    base::{
        id::{ClientId, Hash, PackId, SnapshotId, TargetTag},
        time::Time,
    },
    format::{
        fate::{Fate, Step},
        frame::ChunkKind,
        pack::PackTable,
    },
};

/// A pack: where its frames lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// What is in it.
    pub kind: ChunkKind,
    /// Who made its frames.
    pub client: ClientId,
    /// Where each frame begins, and at last where the last one ends.
    pub bounds: Vec<u32>,
}

impl PackRow {
    pub(super) fn encode(table: &PackTable, len: u64) -> Vec<u8> {
        let mut row = Vec::with_capacity(PackId::LEN + 8 + 1 + ClientId::LEN + 4 * table.frames.len() + 4);
        row.extend_from_slice(table.id.as_bytes());
        row.extend_from_slice(&len.to_le_bytes());
        row.push(table.kind.number());
        row.extend_from_slice(&table.client.0);
        for frame in &table.frames {
            row.extend_from_slice(&frame.offset.to_le_bytes());
        }
        let end = table.frames.last().map_or(0, |frame| frame.offset + frame.len);
        row.extend_from_slice(&end.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (id, rest) = row.split_at_checked(PackId::LEN)?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first()?;
        let (client, bounds) = rest.split_at_checked(ClientId::LEN)?;
        let (kind, client) = (ChunkKind::from_number(*kind)?, ClientId::from_slice(client)?);
        let bounds = bounds.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(*four)).collect();
        Some(Self { id: PackId::from_slice(id)?, len: u64::from_le_bytes(*len), kind, client, bounds })
    }

    /// How many frames it has.
    pub fn frames(&self) -> u32 {
        self.bounds.len().saturating_sub(1) as u32
    }

    /// Offset and length of a frame.
    pub fn frame(&self, number: u32) -> Option<(u32, u32)> {
        let start = *self.bounds.get(number as usize)?;
        let end = *self.bounds.get(number as usize + 1)?;
        Some((start, end.checked_sub(start)?))
    }
}

/// A commit of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CommitRow {
    /// Its place in the log.
    #[n(0)]
    pub seq: u64,
    /// When the store wrote it.
    #[n(1)]
    pub received: Time,
    /// The snapshot.
    #[n(2)]
    pub snapshot: SnapshotId,
    /// Its client.
    #[n(3)]
    pub client: ClientId,
    /// Its target.
    #[n(4)]
    pub target: TargetTag,
    /// The client's own count.
    #[n(5)]
    pub sequence: u64,
    /// Who sent it.
    #[n(6)]
    pub sender: Option<Hash>,
    /// What became of the snapshot; none while it counts.
    #[n(7)]
    pub fate: Option<Fate>,
    /// Place in the log of the commit, or of the record that last brought the snapshot back.
    #[n(8)]
    pub changed: u64,
}

/// A step of a snapshot's way that the log has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its place in the log.
    pub seq: u64,
    /// When the store wrote it.
    pub time: Time,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The step.
    pub step: Step,
}

impl CommitRow {
    /// Takes the step.
    pub(super) fn take(&mut self, change: &Change) {
        let after = Fate::after(self.fate, change.step, change.time);
        if self.fate.is_some() && after.is_none() {
            self.changed = change.seq;
        }
        self.fate = after;
    }
}

/// What of a stretch of the log goes into the index.
#[derive(Debug, Default)]
pub struct Batch {
    /// Where each record begins.
    pub starts: Vec<(u64, u64)>,
    /// The commits.
    pub commits: Vec<CommitRow>,
    /// The changes to these and older ones, in the order of the log.
    pub changes: Vec<Change>,
    /// The steps of prunes, in the order of the log.
    pub prunes: Vec<PruneStep>,
    /// What else is to be remembered.
    pub meta: Vec<(&'static str, Vec<u8>)>,
}
