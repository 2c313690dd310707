//! What a restore needs of the store: a narrow view of [`Reader`], so that tests can hand in trees that no reader would
//! let through.

use bkfs_store::{
    Result,
    base::id::ChunkId,
    format::tree::{Extent, Node, Subtree},
    owner::reader::Reader,
};
use bytes::Bytes;

/// Where trees and contents come from.
pub(super) trait Source: Sync {
    /// Entries of a folder from number `from` on, at most `limit`.
    fn nodes(&self, subtree: &Subtree, from: u64, limit: usize) -> Result<Vec<Node>>;

    /// The entry of that name.
    fn lookup(&self, subtree: &Subtree, name: &[u8]) -> Result<Option<Node>>;

    /// The extents of a file that touch `offset..offset + len`, whole, with their offsets; inline files have none.
    fn extents(&self, node: &Node, offset: u64, len: u64) -> Result<Vec<(u64, Extent)>>;

    /// Chunks of data, in the order of the ids, verified.
    fn data(&self, ids: &[ChunkId]) -> Result<Vec<Bytes>>;

    /// Where chunks lie: see [`bkfs_store::access::Access::places`].
    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>>;
}

impl Source for Reader {
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

    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.access().places(ids)
    }
}
