//! What the file system reads from: a narrow view of a repository.
//!
//! [`Reader`] is the source in use. The trait exists for the tests: their sources count, fail, lose chunks or grow,
//! without a repository.

use std::{ops::Range, sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    base::{
        id::{ChunkId, ClientId, SnapshotId},
        time::Time,
    },
    format::{
        snapshot::{Snapshot, SnapshotOrder},
        tree::{Extent, Node, Page, Subtree},
    },
    owner::reader::{Reader, SnapshotInfo},
};
use bytes::Bytes;

use crate::select::Candidate;

/// A snapshot that is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct ShownSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Number of its commit in the log; later snapshots have larger numbers.
    pub log_seq: u64,
    /// When the store received it.
    pub received: Time,
    /// The client that pushed it.
    pub client: ClientId,
    /// Whether its client holds the full key. What gives rights on the machine that reads it is not shown otherwise
    /// ([`crate::privileges`]).
    pub is_trusted: bool,
    /// Its record.
    pub record: Snapshot,
}

impl ShownSnapshot {
    /// Its place among all snapshots.
    pub fn order(&self) -> SnapshotOrder {
        SnapshotOrder::received(self.log_seq)
    }
}

impl<'a> From<&'a ShownSnapshot> for Candidate<'a> {
    fn from(shown: &'a ShownSnapshot) -> Self {
        Self { id: shown.id, order: shown.order(), client: shown.client, snapshot: &shown.record }
    }
}

/// What lseek(2) looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is not in a hole.
    Data,
    /// The next byte that is in a hole. The end of the file counts as a hole.
    Hole,
}

/// A repository to show. All calls may block, and may be made from many threads.
pub trait VfsSource: Send + Sync {
    /// Returns the entry with that name, and its index in the directory.
    fn find(&self, dir: &Subtree, name: &[u8]) -> Result<Option<(u64, Node)>>;

    /// Calls `each` with the entries from index `from` on, and their indexes, until it returns false.
    fn visit(&self, dir: &Subtree, from: u64, each: &mut dyn FnMut(u64, &Node) -> bool) -> Result<()>;

    /// Returns `len` bytes of a file, or fewer at its end.
    fn read(&self, file: &Node, offset: u64, len: usize) -> Result<Bytes>;

    /// Reads a range of a file into the cache.
    fn prefetch(&self, file: &Node, range: Range<u64>) -> Result<()>;

    /// Returns the first offset, at or after `offset`, of what is sought; none if there is none.
    fn seek(&self, file: &Node, offset: u64, what: Seek) -> Result<Option<u64>>;

    /// Returns all snapshots, in the order of their commits.
    fn snapshots(&self) -> Result<Vec<Arc<ShownSnapshot>>>;

    /// Returns the newest snapshot of each series, if that is much faster than to return all.
    fn newest(&self) -> Result<Option<Vec<Arc<ShownSnapshot>>>> {
        Ok(None)
    }

    /// Waits until the log is longer than `len` records, or until the timeout. Returns its length.
    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64>;
}

/// If there are no more snapshots than this, all are loaded at once: that takes a few hundredths of a second, or half a
/// second if all are new to the machine.
const ALL_AT_ONCE: usize = 1000;

fn shown(reader: &Reader, info: SnapshotInfo) -> Result<Arc<ShownSnapshot>> {
    let SnapshotInfo { id, log_seq, received, client, snapshot: record } = info;
    let is_trusted = reader.is_trusted(client)?;
    Ok(Arc::new(ShownSnapshot { id, log_seq, received, client, is_trusted, record }))
}

impl VfsSource for Reader {
    fn find(&self, dir: &Subtree, name: &[u8]) -> Result<Option<(u64, Node)>> {
        self.dir(dir).find(name)
    }

    fn visit(&self, dir: &Subtree, from: u64, each: &mut dyn FnMut(u64, &Node) -> bool) -> Result<()> {
        let (dir, mut index) = (self.dir(dir), from);
        while let Some((page, first)) = dir.leaf(index)? {
            let Page::Nodes(nodes) = &*page else {
                return Err(Error::damaged("a folder's tree", "one of its pages has no nodes"));
            };
            for node in nodes.get(first..).unwrap_or_default() {
                if !each(index, node) {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    fn read(&self, file: &Node, offset: u64, len: usize) -> Result<Bytes> {
        self.file(file).read_at(offset, len)
    }

    fn prefetch(&self, file: &Node, range: Range<u64>) -> Result<()> {
        let extents = self.file(file).extents(range.start, range.end.saturating_sub(range.start))?;
        let ids: Vec<ChunkId> = (extents.into_iter())
            .filter_map(|(_, extent)| match extent {
                Extent::Data { id, .. } => Some(id),
                Extent::Hole { .. } => None,
            })
            .collect();
        Reader::prefetch(self, &ids)
    }

    fn seek(&self, file: &Node, offset: u64, what: Seek) -> Result<Option<u64>> {
        match what {
            Seek::Data => self.file(file).next_data(offset),
            Seek::Hole => self.file(file).next_hole(offset),
        }
    }

    fn snapshots(&self) -> Result<Vec<Arc<ShownSnapshot>>> {
        self.snapshots()?.into_iter().map(|info| shown(self, info)).collect()
    }

    fn newest(&self) -> Result<Option<Vec<Arc<ShownSnapshot>>>> {
        if self.snapshot_count()? <= ALL_AT_ONCE {
            return Ok(None);
        }
        let newest = self.with_newest_snapshots(|list| list.snapshots.clone())?;
        newest.into_iter().map(|info| shown(self, info)).collect::<Result<_>>().map(Some)
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.access().wait_log(len, timeout)
    }
}
