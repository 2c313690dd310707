//! What a restore needs of the store: a narrow view of [`Reader`], so that tests can supply trees that no reader would
//! accept.

use bkfs_store::{
    Result,
    base::id::ChunkId,
    format::tree::{Extent, Node, Subtree},
    owner::reader::Reader,
};
use bytes::Bytes;

/// Where trees and contents come from.
pub(super) trait RestoreSource: Sync {
    /// Returns entries of a folder, from index `from` on, at most `limit`.
    fn nodes(&self, subtree: &Subtree, from: u64, limit: usize) -> Result<Vec<Node>>;

    /// Returns the entry with that name.
    fn lookup(&self, subtree: &Subtree, name: &[u8]) -> Result<Option<Node>>;

    /// Returns the extents of a file that overlap `offset..offset + len`, uncut, with their offsets; none for an inline
    /// file.
    fn extents(&self, node: &Node, offset: u64, len: u64) -> Result<Vec<(u64, Extent)>>;

    /// Returns chunks of data, in the order of the ids, verified.
    fn data(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>>;

    /// Returns a number for each chunk: the same for the chunks of one frame, and ascending in the order in which
    /// frames are stored. Use them only for ordering.
    fn storage_order(&self, ids: &[ChunkId]) -> Result<Vec<u64>>;
}

impl RestoreSource for Reader {
    fn nodes(&self, subtree: &Subtree, from: u64, limit: usize) -> Result<Vec<Node>> {
        self.dir(subtree).read_from(from, limit)
    }

    fn lookup(&self, subtree: &Subtree, name: &[u8]) -> Result<Option<Node>> {
        self.dir(subtree).lookup(name)
    }

    fn extents(&self, node: &Node, offset: u64, len: u64) -> Result<Vec<(u64, Extent)>> {
        self.file(node).extents(offset, len)
    }

    fn data(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>> {
        self.data_many(ids)
    }

    fn storage_order(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.access().places(ids)
    }
}
