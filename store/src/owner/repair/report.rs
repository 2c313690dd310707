//! How to repair, and what a repair did.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    access::Dropped,
    base::{
        error::Error,
        id::{PackId, SnapshotId},
    },
    owner::check::Problem,
};

/// How to repair packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairOptions {
    /// Also fetch every pack and open every frame. This finds frames that are stored exactly as they were put, and were
    /// wrong from the beginning.
    pub read_data: bool,
    /// Change nothing: only report what would be done.
    pub dry_run: bool,
    /// Threads that verify packs, at least one.
    pub threads: usize,
}

/// What a repair did, and what is still damaged.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// Packs that were verified.
    pub packs: u64,
    /// Bytes of those packs.
    pub bytes: u64,
    /// Packs that were mended; on a dry run, those that would be.
    pub mended: u64,
    /// Packs that parity cannot mend, and what became of each; on a dry run, what would.
    pub damaged: BTreeMap<PackId, Dropped>,
    /// Packs that could not be verified or repaired.
    pub failed: Vec<Error>,
    /// The damaged files and folders, each with the newest snapshot that has it. Bounded like
    /// [`crate::owner::check::CheckReport::problems`].
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problems_total: u64,
    /// All snapshots that need data that cannot be read.
    pub snapshots: BTreeSet<SnapshotId>,
}
