//! What keeps a store in order besides prunes: scrubbing, and dropping damaged packs.

use std::sync::Arc;

use super::{
    index::Index,
    packs::files::PackFiles,
    repair::{
        drop::PackDropper,
        index_report::{IndexReport, index_report},
    },
    scrub::{ScrubOptions, ScrubProgress, ScrubReport, Scrubber},
    snapshots::Snapshots,
};
use crate::{
    access::{Dropped, Keep},
    base::{error::Result, id::PackId},
};

/// Scrubs and repairs of a repository.
#[derive(Debug)]
pub(super) struct Maintenance {
    index: Arc<Index>,
    files: Arc<PackFiles>,
    snapshots: Arc<Snapshots>,
    scrubber: Scrubber,
    dropper: PackDropper,
}

impl Maintenance {
    pub fn new(
        index: Arc<Index>,
        files: Arc<PackFiles>,
        snapshots: Arc<Snapshots>,
        scrubber: Scrubber,
        dropper: PackDropper,
    ) -> Self {
        Self { index, files, snapshots, scrubber, dropper }
    }

    /// Verifies everything that is stored, and mends what can be mended.
    pub fn scrub(&self, options: &ScrubOptions, progress: &ScrubProgress) -> Result<ScrubReport> {
        self.scrubber.scrub(options, progress)
    }

    /// What the last scrub found, or the one that runs has found so far.
    pub fn last_scrub(&self) -> Result<Option<ScrubReport>> {
        self.scrubber.last_scrub()
    }

    /// Drops a damaged pack, after copying the frames that are kept.
    pub fn drop_pack(&self, id: PackId, keep: &Keep) -> Result<Dropped> {
        self.dropper.drop_pack(id, keep)
    }

    /// What the index holds.
    pub fn index_report(&self) -> Result<IndexReport> {
        index_report(&self.index, &self.files, &self.snapshots)
    }
}
