//! What the assembler gives away: new chunks grouped into frames, and pages of trees.
//!
//! Chunks of small files share frames in the order in which they come, which is that of their directories; each chunk of
//! a larger file has a frame of its own; pages share frames as well. Whether a page is new is asked when it is made and
//! needed only later, so pages wait a little: a tree costs no round trip a page.

use std::collections::VecDeque;

use bkfs_store::{
    Error, Result,
    content::ContentBuilder,
    frame::{ChunkKind, FrameBuilder, GATHER_BYTES},
    id::ChunkId,
    keys::IdKeys,
    tree::{Content, Extent, Node, Subtree, TreeBuilder},
};

use super::{
    dedup::{Announcer, Dedup},
    progress::{self, Progress},
    seal::Sealing,
};

/// Plaintext bytes in a frame of pages.
const PAGE_FRAME: usize = 256 * 1024;
/// Bytes of pages that wait for the answer whether they are new.
const PAGES_WAIT: usize = 2 << 20;
/// Chunks in one frame.
const FRAME_CHUNKS: usize = 4096;

/// A directory's tree in the making.
pub type DirWriter = TreeBuilder;
/// A file's extents in the making.
pub type ContentWriter = ContentBuilder;

/// The assembler's exit.
pub struct Output<'a> {
    ids: &'a IdKeys,
    dedup: &'a Dedup,
    announcer: Announcer,
    /// None in a dry run: all is counted, nothing is sealed.
    sealing: Option<&'a Sealing<'a>>,
    progress: &'a Progress,
    small: Group,
    pages: Group,
    waiting: VecDeque<(ChunkId, Vec<u8>)>,
    waiting_bytes: usize,
}

/// A frame in the making.
#[derive(Default)]
struct Group {
    frame: FrameBuilder,
    ids: Vec<ChunkId>,
}

impl<'a> Output<'a> {
    /// Nothing has been given yet.
    pub fn new(ids: &'a IdKeys, dedup: &'a Dedup, sealing: Option<&'a Sealing<'a>>, progress: &'a Progress) -> Self {
        Self {
            ids,
            dedup,
            announcer: dedup.announcer(),
            sealing,
            progress,
            small: Group::default(),
            pages: Group::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Begins a directory.
    pub fn dir(&self) -> DirWriter {
        TreeBuilder::new(self.ids)
    }

    /// Adds an entry to a directory; names come in order.
    pub fn add_node(&mut self, dir: &mut DirWriter, node: Node) -> Result<()> {
        let mut pages = Vec::new();
        dir.add(&node, &mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)
    }

    /// Ends a directory.
    pub fn finish_dir(&mut self, dir: DirWriter) -> Result<Subtree> {
        let mut pages = Vec::new();
        let subtree = dir.finish(&mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)?;
        Ok(subtree)
    }

    /// Begins a file.
    pub fn content(&self) -> ContentWriter {
        ContentBuilder::new(self.ids)
    }

    /// Adds to a file.
    pub fn add_extent(&mut self, content: &mut ContentWriter, extent: Extent) -> Result<()> {
        let mut pages = Vec::new();
        content.add(extent, &mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)
    }

    /// Ends a file.
    pub fn finish_content(&mut self, content: ContentWriter) -> Result<Content> {
        let mut pages = Vec::new();
        let content = content.finish(&mut |id, bytes| pages.push((id, bytes)))?;
        self.add_pages(pages)?;
        Ok(content)
    }

    /// Gives a new chunk of contents away.
    pub fn add_data(&mut self, id: ChunkId, bytes: &[u8], is_small: bool) -> Result<()> {
        self.count(bytes.len());
        let Some(sealing) = self.sealing else { return Ok(()) };
        if is_small {
            return self.small.add(ChunkKind::Data, GATHER_BYTES, id, bytes, sealing);
        }
        let mut alone = Group::default();
        alone.add(ChunkKind::Data, GATHER_BYTES, id, bytes, sealing)?;
        alone.flush(ChunkKind::Data, sealing)
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

    fn settle_page(&mut self) -> Result<()> {
        let Some((id, bytes)) = self.waiting.pop_front() else { return Ok(()) };
        self.waiting_bytes -= bytes.len();
        if !self.dedup.is_new(&id)? {
            return Ok(());
        }
        self.count(bytes.len());
        match self.sealing {
            Some(sealing) => self.pages.add(ChunkKind::Tree, PAGE_FRAME, id, &bytes, sealing),
            None => Ok(()),
        }
    }

    fn count(&self, bytes: usize) {
        progress::add(&self.progress.chunks_new, 1);
        progress::add(&self.progress.bytes_new, bytes as u64);
    }

    /// Gives away all that still waits.
    pub fn finish(&mut self) -> Result<()> {
        while !self.waiting.is_empty() {
            self.settle_page()?;
        }
        if let Some(sealing) = self.sealing {
            self.small.flush(ChunkKind::Data, sealing)?;
            self.pages.flush(ChunkKind::Tree, sealing)?;
        }
        Ok(())
    }
}

impl Group {
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
