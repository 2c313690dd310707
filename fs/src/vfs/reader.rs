//! The repository's reader as a source.

use std::{ops::Range, sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    base::id::ChunkId,
    format::tree::{Extent, Node, Page, Subtree},
    owner::reader::Reader,
};
use bytes::Bytes;

use super::source::{Seek, Source, Version};

impl Source for Reader {
    fn find(&self, dir: &Subtree, name: &[u8]) -> Result<Option<(u64, Node)>> {
        self.dir(dir).find(name)
    }

    fn visit(&self, dir: &Subtree, from: u64, each: &mut dyn FnMut(u64, &Node) -> bool) -> Result<()> {
        let (dir, mut at) = (self.dir(dir), from);
        while let Some((page, first)) = dir.leaf(at)? {
            let Page::Nodes(nodes) = &*page else {
                return Err(Error::damaged("a folder's tree", "a page without nodes is where nodes should be"));
            };
            for node in nodes.get(first..).unwrap_or_default() {
                if !each(at, node) {
                    return Ok(());
                }
                at += 1;
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

    fn versions(&self) -> Result<Vec<Arc<Version>>> {
        let shown = |info: bkfs_store::owner::reader::SnapshotInfo| {
            Arc::new(Version { id: info.id, log_seq: info.log_seq, snapshot: info.snapshot })
        };
        Ok(self.snapshots()?.into_iter().map(shown).collect())
    }

    fn wait(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.access().wait_log(len, timeout)
    }
}
