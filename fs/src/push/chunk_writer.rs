//! Grouping the assembler's new chunks into frames: data from files, and pages of trees.
//!
//! Chunks of small files share frames in the order in which they come, which is that of their directories. Each chunk
//! of a larger file has a frame of its own. Pages share frames as well. Whether a page is new is asked as soon as the
//! page is made, and the page waits a little for the answer, so a tree does not cost one round trip for each page.

use std::collections::VecDeque;

use bkfs_store::{
    Error, Result,
    base::id::ChunkId,
    format::{
        content::ContentBuilder,
        frame::{ChunkKind, FrameBuilder, GATHER_BYTES},
        keys::IdKeys,
        tree::{Content, Extent, Node, Subtree, TreeBuilder},
    },
};

use super::{
    dedup::{Announcer, Dedup},
    progress::{self, PushProgress},
    seal::Sealing,
};

/// Plaintext bytes in a frame of pages, at most.
const PAGE_FRAME: usize = 256 * 1024;
/// Bytes of pages that may wait for the answer whether they are new.
const PAGES_WAIT: usize = 2 << 20;
/// Chunks in one frame, at most.
const FRAME_CHUNKS: usize = 4096;

/// Gives new chunks to the sealing stage, grouped into frames. It is the only way out of the assembler.
pub struct ChunkWriter<'a> {
    ids: &'a IdKeys,
    dedup: &'a Dedup,
    announcer: Announcer,
    sealing: &'a Sealing<'a>,
    progress: &'a PushProgress,
    small: FrameGroup,
    pages: FrameGroup,
    waiting: VecDeque<(ChunkId, Vec<u8>)>,
    waiting_bytes: usize,
}

/// A frame that is being filled.
#[derive(Default)]
struct FrameGroup {
    frame: FrameBuilder,
    ids: Vec<ChunkId>,
}

impl<'a> ChunkWriter<'a> {
    /// A writer that has been given no chunks yet.
    pub fn new(ids: &'a IdKeys, dedup: &'a Dedup, sealing: &'a Sealing<'a>, progress: &'a PushProgress) -> Self {
        Self {
            ids,
            dedup,
            announcer: dedup.announcer(),
            sealing,
            progress,
            small: FrameGroup::default(),
            pages: FrameGroup::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Whether storing has failed, so that nothing more is wanted.
    pub fn has_failed(&self) -> bool {
        self.sealing.has_failed()
    }

    /// Starts the tree of a directory.
    pub fn dir(&self) -> TreeBuilder {
        TreeBuilder::new(self.ids)
    }

    /// Adds an entry to a directory. Names must come in order.
    pub fn add_node(&mut self, dir: &mut TreeBuilder, node: Node) -> Result<()> {
        let mut pages = Vec::new();
        dir.add(&node, &mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)
    }

    /// Ends the tree of a directory.
    pub fn finish_dir(&mut self, dir: TreeBuilder) -> Result<Subtree> {
        let mut pages = Vec::new();
        let subtree = dir.finish(&mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)?;
        Ok(subtree)
    }

    /// Starts the contents of a file.
    pub fn content(&self) -> ContentBuilder {
        ContentBuilder::new(self.ids)
    }

    /// Adds an extent to the contents of a file.
    pub fn add_extent(&mut self, content: &mut ContentBuilder, extent: Extent) -> Result<()> {
        let mut pages = Vec::new();
        content.add(extent, &mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)
    }

    /// Ends the contents of a file.
    pub fn finish_content(&mut self, content: ContentBuilder) -> Result<Content> {
        let mut pages = Vec::new();
        let content = content.finish(&mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)?;
        Ok(content)
    }

    /// Adds a new chunk of contents. A small one shares a frame.
    pub fn add_data(&mut self, id: ChunkId, bytes: &[u8], is_small: bool) -> Result<()> {
        self.count(bytes.len());
        if is_small {
            return self.small.add(ChunkKind::Data, GATHER_BYTES, id, bytes, self.sealing);
        }
        let mut alone = FrameGroup::default();
        alone.add(ChunkKind::Data, GATHER_BYTES, id, bytes, self.sealing)?;
        alone.flush(ChunkKind::Data, self.sealing)
    }

    fn add_pages(&mut self, pages: Vec<(ChunkId, Vec<u8>)>) -> Result<()> {
        for (id, bytes) in pages {
            self.announcer.announce(&[id]);
            self.waiting_bytes += bytes.len();
            self.waiting.push_back((id, bytes));
        }
        while self.waiting_bytes > PAGES_WAIT {
            self.settle_page()?;
        }
        Ok(())
    }

    /// Adds the page that has waited longest, if it is new.
    fn settle_page(&mut self) -> Result<()> {
        let Some((id, bytes)) = self.waiting.pop_front() else { return Ok(()) };
        self.waiting_bytes -= bytes.len();
        if !self.dedup.is_new(&id)? {
            return Ok(());
        }
        self.count(bytes.len());
        self.pages.add(ChunkKind::Tree, PAGE_FRAME, id, &bytes, self.sealing)
    }

    fn count(&self, bytes: usize) {
        progress::add(&self.progress.chunks_new, 1);
        progress::add(&self.progress.bytes_new, bytes as u64);
    }

    /// Adds all pages that still wait, and ends the open frames.
    pub fn finish(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.settle_page()?;
        }
        self.small.flush(ChunkKind::Data, self.sealing)?;
        self.pages.flush(ChunkKind::Tree, self.sealing)
    }
}

impl FrameGroup {
    fn add(&mut self, kind: ChunkKind, limit: usize, id: ChunkId, bytes: &[u8], sealing: &Sealing<'_>) -> Result<()> {
        if !self.ids.is_empty() && (self.frame.len() + bytes.len() > limit || self.ids.len() >= FRAME_CHUNKS) {
            self.flush(kind, sealing)?;
        }
        self.frame.push(bytes);
        self.ids.push(id);
        Ok(())
    }

    fn flush(&mut self, kind: ChunkKind, sealing: &Sealing<'_>) -> Result<()> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(self);
        sealing.frame(kind, group.frame, group.ids).map_err(|_| Error::Interrupted)
    }
}
