//! Rows of the index's tables, and the records of the log from which they follow.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        id::{ClientId, Hash, Incarnation, KeyId, PackId, SnapshotId, TargetTag},
        time::Time,
    },
    format::{
        fate::{Fate, FateStep},
        frame::ChunkKind,
        loss::{Lost, Quarantined},
        pack::PackTable,
        verdict::Verdict,
    },
    repository::prune::condemned::CondemnedSet,
};

/// A pack, and where its frames are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: PackId,
    /// Its length in bytes.
    pub len: u64,
    /// The kind of its chunks.
    pub kind: ChunkKind,
    /// The client that made its frames.
    pub client: ClientId,
    /// The offset of each frame, followed by the end of the last frame.
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

    /// The pack of a row, and the client that made its frames.
    pub(super) fn maker(row: &[u8]) -> Option<(PackId, ClientId)> {
        let (id, rest) = row.split_at_checked(PackId::LEN)?;
        Some((PackId::from_slice(id)?, ClientId::from_slice(rest.get(9..9 + ClientId::LEN)?)?))
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
    /// The network identity that sent it.
    #[n(6)]
    pub sender: Option<Hash>,
    /// What became of the snapshot; none while it counts.
    #[n(7)]
    pub fate: Option<Fate>,
    /// Place in the log of the commit, or of the record that last brought the snapshot back from the trash.
    #[n(8)]
    pub changed: u64,
}

impl Batch {
    /// Whether packs were swept.
    pub fn sweeps_any(&self) -> bool {
        self.liveness.iter().any(|change| !change.swept().is_empty())
    }
}

impl CommitRow {
    /// Applies a change.
    pub(super) fn apply(&mut self, change: &SnapshotChange) {
        let after = Fate::after(self.fate, change.step, change.time);
        if self.fate.is_some() && after.is_none() {
            self.changed = change.seq;
        }
        self.fate = after;
    }
}

/// A change to a snapshot's fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotChange {
    /// Place of the record in the log.
    pub seq: u64,
    /// When the store wrote it.
    pub time: Time,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What happened to it.
    pub step: FateStep,
}

/// What a record of the log changes about which packs and frames are live.
#[derive(Debug)]
pub enum LivenessChange {
    /// Frames were condemned.
    Condemn {
        /// The condemnation.
        row: CondemnRow,
        /// The generation that began with it.
        generation: u64,
        /// The set. None if it cannot be read: then nothing is condemned, which only keeps too much.
        set: Option<CondemnedSet>,
    },
    /// Packs were swept.
    Sweep {
        /// The packs, with their tables if those can be read.
        packs: Vec<(PackId, Option<PackTable>)>,
        /// When, in seconds.
        secs: i64,
    },
    /// Packs are live again.
    Revive {
        /// The packs.
        packs: Vec<PackId>,
    },
    /// All condemned frames are live again.
    Abort,
    /// Frames went into quarantine.
    Quarantine {
        /// Place of the record in the log.
        seq: u64,
        /// The generation that began with it.
        generation: u64,
        /// The frames.
        packs: Vec<Quarantined>,
        /// The chunks that lost their last live copy.
        lost: Lost,
    },
    /// Packs are out of quarantine.
    Release {
        /// The packs.
        packs: Vec<PackId>,
    },
    /// A key holder has opened packs.
    Verdict {
        /// Place of the record in the log.
        seq: u64,
        /// The verdict.
        verdict: Verdict,
        /// The generation that began with it, if any did.
        generation: Option<u64>,
        /// The chunks that were lost with the refused frames.
        lost: Lost,
    },
    /// Packs hold copies of verified frames only.
    Inherit {
        /// The packs.
        packs: Vec<PackId>,
    },
}

impl LivenessChange {
    /// The packs that were swept, with their tables if those can be read.
    pub fn swept(&self) -> &[(PackId, Option<PackTable>)] {
        match self {
            LivenessChange::Sweep { packs, .. } => packs,
            _ => &[],
        }
    }
}

/// A condemnation in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CondemnRow {
    /// Its place in the log.
    pub seq: u64,
    /// Hash of the set.
    pub set: Hash,
    /// When, in seconds.
    pub secs: i64,
}

impl CondemnRow {
    pub(super) fn encode(&self) -> [u8; 40] {
        let mut row = [0; 40];
        row[..32].copy_from_slice(&self.set.0);
        row[32..].copy_from_slice(&self.secs.to_le_bytes());
        row
    }

    pub(super) fn decode(seq: u64, row: &[u8]) -> Self {
        let set = row.first_chunk().map(|hash| Hash(*hash)).unwrap_or_default();
        Self { seq, set, secs: row.last_chunk().map_or(0, |secs| i64::from_le_bytes(*secs)) }
    }
}

/// A swept pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct SweptRow {
    /// When it was swept, in seconds.
    pub secs: i64,
    /// Whether its file has been moved out of the way.
    pub is_moved: bool,
}

impl SweptRow {
    pub fn encode(self) -> [u8; 9] {
        let mut row = [0; 9];
        row[..8].copy_from_slice(&self.secs.to_le_bytes());
        row[8] = u8::from(self.is_moved);
        row
    }

    pub fn decode(row: &[u8]) -> Self {
        let secs = row.first_chunk().map_or(0, |secs| i64::from_le_bytes(*secs));
        Self { secs, is_moved: row.last() != Some(&0) }
    }
}

/// A session's claim on a pack that it has stored.
#[derive(Debug, Clone, Copy)]
pub struct Pin {
    /// The session.
    pub session: u64,
    /// When, in seconds.
    pub secs: i64,
}

impl Pin {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&self.session.to_le_bytes());
        row[8..].copy_from_slice(&self.secs.to_le_bytes());
        row
    }

    /// None if the row is damaged.
    pub(super) fn decode(row: &[u8]) -> Option<Self> {
        let (session, secs) = (row.first_chunk()?, row.last_chunk()?);
        Some(Self { session: u64::from_le_bytes(*session), secs: i64::from_le_bytes(*secs) })
    }
}

/// The key of a wrap. The store cannot tell a good wrap from rubbish that names a good key, so a client's wrap never
/// replaces another client's.
pub(super) fn wrap_key(key: &KeyId, client: &ClientId) -> [u8; KeyId::LEN + ClientId::LEN] {
    let mut row = [0; KeyId::LEN + ClientId::LEN];
    row[..KeyId::LEN].copy_from_slice(&key.0);
    row[KeyId::LEN..].copy_from_slice(&client.0);
    row
}

/// What a stretch of the log changes in the index.
#[derive(Debug, Default)]
pub struct Batch {
    /// Place in the log and offset in the file of each record.
    pub starts: Vec<(u64, u64)>,
    /// The commits.
    pub commits: Vec<CommitRow>,
    /// The changes to these commits and to older ones, in the order of the log.
    pub changes: Vec<SnapshotChange>,
    /// The changes to which packs and frames are live, in the order of the log.
    pub liveness: Vec<LivenessChange>,
    /// The newest incarnation.
    pub incarnation: Option<Incarnation>,
    /// The newest roster, signed.
    pub roster: Option<Vec<u8>>,
    /// The newest list of seal keys, signed.
    pub seal_keys: Option<Vec<u8>>,
}
