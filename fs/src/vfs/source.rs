//! What the file system reads from: the narrow view of a repository that it needs.
//!
//! [`bkfs_store::owner::reader::Reader`] is the source in use. The trait is there so that the file system can be tested against
//! sources that count, fail, lose chunks or grow, without a repository.

use std::{ops::Range, sync::Arc, time::Duration};

use bkfs_store::{
    Result,
    base::id::SnapshotId,
    format::{
        snapshot::Snapshot,
        tree::{Node, Subtree},
    },
};
use bytes::Bytes;

/// A snapshot as the file system knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: SnapshotId,
    /// Place of its commit in the log; later snapshots have larger ones.
    pub log_seq: u64,
    /// Its record.
    pub snapshot: Snapshot,
}

/// What lseek(2) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is not in a hole.
    Data,
    /// The next byte that is in a hole; the file's end is one.
    Hole,
}

/// A repository to show. All calls may block and may be made from many threads.
pub trait Source: Send + Sync {
    /// The entry of that name and its place in the directory.
    fn find(&self, dir: &Subtree, name: &[u8]) -> Result<Option<(u64, Node)>>;

    /// Shows the entries from place `from` on, with their places, until `each` returns false.
    fn visit(&self, dir: &Subtree, from: u64, each: &mut dyn FnMut(u64, &Node) -> bool) -> Result<()>;

    /// Bytes of a file: `len` of them, or fewer where the file ends.
    fn read(&self, file: &Node, offset: u64, len: usize) -> Result<Bytes>;

    /// Brings a range of a file into the cache.
    fn prefetch(&self, file: &Node, range: Range<u64>) -> Result<()>;

    /// The first place at or after `offset` of what is sought; none if there is none.
    fn seek(&self, file: &Node, offset: u64, what: Seek) -> Result<Option<u64>>;

    /// All snapshots, in the order of their commits.
    fn versions(&self) -> Result<Vec<Arc<Version>>>;

    /// Waits until the log is longer than `len` records or the time is over; returns its length.
    fn wait(&self, len: u64, timeout: Duration) -> Result<u64>;
}
