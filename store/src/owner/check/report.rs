//! What a check reports.

use std::{collections::BTreeMap, fmt};

use crate::{
    base::{
        error::Error,
        id::{ClientId, PackId, SnapshotId},
    },
    owner::reader::Contradiction,
};

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// The snapshot in which it was found first; none if it belongs to no snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The damaged file or folder, relative to the snapshot's root; empty if there is none.
    pub path: Vec<u8>,
    /// What is wrong.
    pub error: Error,
    /// In how many further places the same file or folder is damaged.
    pub more: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(snapshot) = self.snapshot {
            write!(f, "snapshot {}: ", snapshot.short())?;
        }
        if !self.path.is_empty() {
            write!(f, "/{}: ", self.path.escape_ascii())?;
        }
        write!(f, "{}", self.error)?;
        match self.more {
            0 => Ok(()),
            1 => write!(f, " (and 1 more damaged part)"),
            more => write!(f, " (and {more} more damaged parts)"),
        }
    }
}

/// What a check looked at and what it found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Records of the log.
    pub log_records: u64,
    /// Snapshots that count or are in the trash.
    pub snapshots: u64,
    /// Snapshots in the trash that a key holder forgot as broken. They are not checked.
    pub broken_in_trash: u64,
    /// The clients of snapshots that have problems, and how many each.
    pub clients: BTreeMap<ClientId, u64>,
    /// Distinct tree pages that they reach.
    pub pages: u64,
    /// References to chunks of data in those pages. A chunk that several files use counts for each of them.
    pub chunks: u64,
    /// Packs that were read.
    pub packs: u64,
    /// Bytes of those packs.
    pub bytes: u64,
    /// Packs that were read because others have copies of their chunks.
    pub packs_compared: u64,
    /// Such packs that were not read, because there were too many.
    pub packs_not_compared: u64,
    /// Packs with frames that do not hold the chunks that their tables name.
    pub packs_refused: u64,
    /// Packs in the repository.
    pub packs_total: u64,
    /// The last pack that was read, in the order of [`super::ReadData::Next`].
    pub reached: Option<PackId>,
    /// References to chunks that are in damaged packs only and can still be read. The store does not count them as
    /// stored.
    pub chunks_at_risk: u64,
    /// Packs that were damaged and were mended by the store.
    pub packs_mended: u64,
    /// Packs whose parity was missing or had a wrong length, and was made again by the store.
    pub parity_remade: u64,
    /// Signs that the store has shown others another log. They are among the problems, too.
    pub contradictions: Vec<Contradiction>,
    /// What is wrong; at most [`CheckReport::PROBLEMS_MAX`] problems.
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problems_total: u64,
}

impl CheckReport {
    /// How many problems a report holds at most. Further ones are only counted.
    pub const PROBLEMS_MAX: usize = 10_000;
}
