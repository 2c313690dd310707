//! The contents of a regular file: its extents, and its bytes at any offset.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::chunks::ChunkReader;
use crate::{
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::tree::{Content, Extent, Node, Page},
};

/// A file's contents. Cheap to create: pages and chunks are loaded when they are needed.
#[derive(Debug, Clone, Copy)]
pub struct FileContent<'a> {
    chunks: &'a ChunkReader,
    node: &'a Node,
}

impl<'a> FileContent<'a> {
    pub(super) fn new(chunks: &'a ChunkReader, node: &'a Node) -> Self {
        Self { chunks, node }
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.node.size
    }

    /// Whether the file is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the extents that touch `offset..offset + len`, whole and in order, each with its offset in the file. A
    /// file whose contents are in its node has no extents.
    pub fn extents(&self, offset: u64, len: u64) -> Result<Vec<(u64, Extent)>> {
        let end = offset.saturating_add(len).min(self.node.size);
        let mut found = Vec::new();
        match &self.node.content {
            None | Some(Content::Inline(_)) => {}
            Some(Content::Extents(extents)) => {
                pick(extents, 0, offset, end, &mut found);
            }
            Some(Content::Tree(root)) if offset < end => self.descend(*root, None, 0, offset, end, &mut found)?,
            Some(Content::Tree(_)) => {}
        }
        Ok(found)
    }

    /// Returns the bytes of `offset..offset + len`; fewer at the file's end. Holes read as zeros.
    pub fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.saturating_add(len as u64).min(self.node.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        if let Some(Content::Inline(bytes)) = &self.node.content {
            let part = bytes.get(offset as usize..end as usize);
            return part
                .map(Bytes::copy_from_slice)
                .ok_or_else(|| self.wrong("its contents are shorter than its size"));
        }
        let extents = self.extents(offset, end - offset)?;
        let ids: Vec<ChunkId> = extents.iter().filter_map(|(_, e)| data_id(e)).collect();
        let chunks = match ids.as_slice() {
            [id] => vec![self.chunks.data(*id)?],
            ids => self.chunks.data_many(ids)?,
        };
        let mut chunks = chunks.into_iter();
        let mut out = BytesMut::with_capacity((end - offset) as usize);
        let mut at = offset;
        for (start, extent) in &extents {
            // Extents follow one another without gaps, so each begins at or before `at`.
            let from = at - start;
            let part = extent.len().min(end - start) - from;
            match extent {
                Extent::Hole { .. } => out.resize(out.len() + part as usize, 0),
                Extent::Data { id, len } => {
                    let chunk = chunks.next().ok_or(Error::ChunkMissing { id: *id })?;
                    if chunk.len() as u64 != u64::from(*len) {
                        return Err(self.wrong("a chunk does not have the length of its extent"));
                    }
                    let slice = chunk.slice(from as usize..(from + part) as usize);
                    if extents.len() == 1 {
                        return Ok(slice);
                    }
                    out.extend_from_slice(&slice);
                }
            }
            at += part;
        }
        if at == end { Ok(out.freeze()) } else { Err(self.wrong("its extents end before its size")) }
    }

    /// Returns the first offset at or after `offset` that is not in a hole; none if no data follows.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.seek(offset, |extent| matches!(extent, Extent::Data { .. }))
    }

    /// Returns the first offset at or after `offset` that is in a hole; none if `offset` is beyond the end. The file's
    /// end counts as a hole.
    pub fn next_hole(&self, offset: u64) -> Result<Option<u64>> {
        if offset >= self.node.size {
            return Ok(None);
        }
        let hole = self.seek(offset, |extent| matches!(extent, Extent::Hole { .. }))?;
        Ok(Some(hole.unwrap_or(self.node.size)))
    }

    fn seek(&self, offset: u64, wanted: impl Fn(&Extent) -> bool) -> Result<Option<u64>> {
        if offset >= self.node.size {
            return Ok(None);
        }
        if let Some(Content::Inline(_)) = self.node.content {
            return Ok(wanted(&Extent::Data { id: ChunkId::default(), len: 1 }).then_some(offset));
        }
        // One window at a time, so that the extents of a large file are not all in memory.
        const WINDOW: u64 = 64 * 1024 * 1024;
        let mut at = offset;
        while at < self.node.size {
            let extents = self.extents(at, WINDOW)?;
            for (start, extent) in &extents {
                if wanted(extent) {
                    return Ok(Some(at.max(*start)));
                }
                at = start + extent.len();
            }
            if extents.is_empty() {
                return Err(self.wrong("its extents end before its size"));
            }
        }
        Ok(None)
    }

    fn descend(
        &self,
        id: ChunkId,
        above: Option<u8>,
        start: u64,
        offset: u64,
        end: u64,
        found: &mut Vec<(u64, Extent)>,
    ) -> Result<()> {
        let page: Arc<Page> = self.chunks.page(id)?;
        if above.is_some_and(|level| page.level() + 1 != level) {
            return Err(Error::damaged(format!("tree page {id}"), "its level does not fit its parent page"));
        }
        match &*page {
            Page::Extents(extents) => pick(extents, start, offset, end, found),
            Page::Spans(level, children) => {
                let mut at = start;
                for child in children {
                    let next = at.saturating_add(child.len);
                    if at >= end {
                        break;
                    }
                    if next > offset {
                        self.descend(child.id, Some(*level), at, offset, end, found)?;
                    }
                    at = next;
                }
            }
            _ => return Err(Error::damaged(format!("tree page {id}"), "it is not a page of a file's contents")),
        }
        Ok(())
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::damaged(format!("file `{}`", self.node.name.escape_ascii()), reason)
    }
}

/// Picks the extents that touch `offset..end`. The first of `extents` begins at `start`.
fn pick(extents: &[Extent], start: u64, offset: u64, end: u64, found: &mut Vec<(u64, Extent)>) {
    let mut at = start;
    for extent in extents {
        let next = at.saturating_add(extent.len());
        if at < end && next > offset {
            found.push((at, *extent));
        }
        at = next;
    }
}

fn data_id(extent: &Extent) -> Option<ChunkId> {
    match extent {
        Extent::Data { id, .. } => Some(*id),
        Extent::Hole { .. } => None,
    }
}
