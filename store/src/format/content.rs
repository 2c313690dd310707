//! Content trees: the extents of a large file, cut by content into pages. The pages above hold the lengths of those
//! below.
//!
//! Equal spans of two versions, or of two files, have equal pages, so a changed byte rewrites one page per level. A
//! read at any offset loads as many pages as the tree has levels: four for a file of 200 GiB.

use crate::{
    base::{error::Result, id::ChunkId},
    format::{
        keys::IdKeys,
        tree::{Content, Extent, PageKind, PageWriter, SpanChild},
    },
};

/// Minimum number of entries in a page, unless it is the last of its level.
const ENTRIES_MIN: u32 = 32;
/// Beyond the minimum, one entry in this many ends its page.
const CUT_ONE_IN: u32 = 96;
/// Maximum number of entries in a page.
const ENTRIES_MAX: u32 = 512;

/// Builds the contents of one file from its extents. Every function that takes `out` passes it the finished pages.
pub struct ContentBuilder {
    ids: IdKeys,
    /// The first extents. No page is begun while there are few.
    few: Vec<Extent>,
    levels: Vec<Level>,
    /// The length of a hole that may still grow, in bytes.
    hole: u64,
}

struct Level {
    page: PageWriter,
    len: u64,
    pages: u64,
}

impl ContentBuilder {
    /// Returns a file without extents.
    pub fn new(ids: &IdKeys) -> Self {
        Self { ids: ids.clone(), few: Vec::new(), levels: Vec::new(), hole: 0 }
    }

    /// Adds an extent. Empty extents are dropped, and adjacent holes are merged.
    pub fn add(&mut self, extent: Extent, out: &mut dyn FnMut(ChunkId, Vec<u8>)) -> Result<()> {
        match extent {
            Extent::Hole { len } => self.hole += len,
            Extent::Data { len: 0, .. } => {}
            data => {
                self.end_hole(out);
                self.put(data, out);
            }
        }
        Ok(())
    }

    /// Ends the file and returns its contents.
    pub fn finish(mut self, out: &mut dyn FnMut(ChunkId, Vec<u8>)) -> Result<Content> {
        self.end_hole(out);
        if self.levels.is_empty() {
            return Ok(Content::Extents(self.few));
        }
        let mut depth = 0;
        loop {
            let topmost = depth + 1 == self.levels.len();
            let level = &mut self.levels[depth];
            if level.pages == 0 && topmost {
                let bytes = level.page.take();
                let id = self.ids.tree_id(&bytes);
                out(id, bytes);
                return Ok(Content::Tree(id));
            }
            if level.page.count() > 0 {
                self.flush(depth, out);
            }
            depth += 1;
        }
    }

    fn end_hole(&mut self, out: &mut dyn FnMut(ChunkId, Vec<u8>)) {
        if self.hole > 0 {
            let len = std::mem::take(&mut self.hole);
            self.put(Extent::Hole { len }, out);
        }
    }

    fn put(&mut self, extent: Extent, out: &mut dyn FnMut(ChunkId, Vec<u8>)) {
        if self.levels.is_empty() {
            if self.few.len() < Content::EXTENTS_MAX {
                return self.few.push(extent);
            }
            self.levels.push(Level::new(0));
            for extent in std::mem::take(&mut self.few) {
                self.put(extent, out);
            }
        }
        let level = &mut self.levels[0];
        level.page.add(&extent);
        level.len += extent.len();
        let id = match &extent {
            Extent::Data { id, .. } => Some(id),
            Extent::Hole { .. } => None,
        };
        if level.ends(id) {
            self.flush(0, out);
        }
    }

    fn flush(&mut self, mut depth: usize, out: &mut dyn FnMut(ChunkId, Vec<u8>)) {
        loop {
            let level = &mut self.levels[depth];
            let bytes = level.page.take();
            let child = SpanChild { id: self.ids.tree_id(&bytes), len: std::mem::take(&mut level.len) };
            level.pages += 1;
            out(child.id, bytes);
            depth += 1;
            if depth == self.levels.len() {
                self.levels.push(Level::new(depth as u8));
            }
            let level = &mut self.levels[depth];
            level.page.add(&child);
            level.len += child.len;
            if !level.ends(Some(&child.id)) {
                return;
            }
        }
    }
}

impl Level {
    fn new(level: u8) -> Self {
        Self { page: PageWriter::new(PageKind::File, level), len: 0, pages: 0 }
    }

    /// Whether the page ends after the entry with this id. Ids are keyed hashes, so four of their bytes can decide.
    fn ends(&self, id: Option<&ChunkId>) -> bool {
        let count = self.page.count();
        let number = id.map(|id| u32::from_le_bytes([id.0[28], id.0[29], id.0[30], id.0[31]]));
        count >= ENTRIES_MAX || (count >= ENTRIES_MIN && number.is_some_and(|n| n.is_multiple_of(CUT_ONE_IN)))
    }
}
