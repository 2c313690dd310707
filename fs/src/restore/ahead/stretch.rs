//! Stretches of small files.

use std::sync::Arc;

use bkfs_store::base::id::ChunkId;

use crate::restore::{folder::Folder, plan::FilePlan};

/// Bytes of contents of one request. The frames at its two ends may be requested twice; they should be a small part of
/// it.
pub(super) const REQUEST_BYTES: u64 = 8 << 20;

/// A small file that waits to be requested.
pub(super) struct SmallFile {
    pub(super) folder: Arc<Folder>,
    pub(super) plan: FilePlan,
    pub(super) ids: Vec<ChunkId>,
    pub(super) bytes: u64,
}

/// Small files, in the order of the tree.
#[derive(Default)]
pub(super) struct Stretch {
    pub(super) files: Vec<SmallFile>,
    pub(super) bytes: u64,
}
