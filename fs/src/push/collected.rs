//! The result of one round through the source: everything is stored and ready to be committed.

use bkfs_store::{
    Result,
    access::{IDS_MAX, Push},
    base::id::{ChunkId, ClientId},
};

use super::{assemble::Assembled, dedup::NeededChunks, follow::Circumstances, scan::Scanned, seal::WrappedKey};
use crate::walk::Roots;

/// What is ready to be committed.
pub struct Collected {
    /// The snapshot's tree.
    pub assembled: Assembled,
    /// What the scanner counted.
    pub scanned: Scanned,
    /// What was pushed.
    pub roots: Roots,
    /// What the next push must compare with its own to follow this one.
    pub circumstances: Circumstances,
    /// Whether it looked only at what was reported as changed.
    pub follows: bool,
    /// The data key that the packs are sealed with.
    pub data_key: WrappedKey,
    /// Chunks that the repository did not have.
    pub chunks_new: u64,
    /// Bytes of these chunks.
    pub bytes_new: u64,
    /// The chunks that the snapshot needs, except those that the file cache remembers.
    pub needed: NeededChunks,
    /// Challenged chunks that the repository does not have, by its own word.
    pub missing: Vec<ChunkId>,
    /// Chunks that were sent, to be challenged. None in a push that challenges nothing.
    pub to_challenge: Vec<ChunkId>,
}

impl Collected {
    /// Whether the repository still has what the push took from the file cache: asks about the reused trees and a
    /// sample of the remembered chunks.
    pub fn is_still_stored(&self, access: &dyn Push, client: ClientId) -> Result<bool> {
        for ids in self.assembled.relied_on.chunks(IDS_MAX) {
            if access.has(Some(client), ids)?.contains(&false) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
