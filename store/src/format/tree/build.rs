//! Building the tree of a directory. Nodes are added in order and finished pages are passed on at once, so a directory
//! of any size takes the memory of one page per level.

use super::{
    node::{Node, Subtree, Totals},
    page::{DirChild, PAGE_MAX, PageKind, PageWriter},
};
use crate::{
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::keys::IdKeys,
};

/// Minimum number of entries in a page, unless it is the last of its level or its entries are large.
const ENTRIES_MIN: u32 = 16;
/// Beyond the minimum, one entry in this many ends its page. A page of nodes takes about 10 KiB, so one new file
/// rewrites that much per level.
const CUT_ONE_IN: u32 = 80;
/// Maximum number of entries in a page.
const ENTRIES_MAX: u32 = 512;
/// A page that reaches this many bytes ends.
const BYTES_MAX: usize = 64 * 1024;

/// Builds the tree of one directory. Every function that takes `out` passes it the finished pages.
pub struct TreeBuilder {
    ids: IdKeys,
    levels: Vec<Level>,
    last: Option<Vec<u8>>,
    entries: u64,
    totals: Totals,
}

struct Level {
    page: PageWriter,
    first: Vec<u8>,
    entries: u64,
    /// How many pages of this level are finished.
    pages: u64,
}

impl TreeBuilder {
    /// Returns a directory without nodes.
    pub fn new(ids: &IdKeys) -> Self {
        Self { ids: ids.clone(), levels: vec![Level::new(0)], last: None, entries: 0, totals: Totals::default() }
    }

    /// Adds a node. Its name must be greater than that of the previous node.
    pub fn add(&mut self, node: &Node, out: &mut dyn FnMut(ChunkId, Vec<u8>)) -> Result<()> {
        node.validate(false).map_err(|reason| Error::Invalid(format!("{}: {reason}", node.name.escape_ascii())))?;
        if self.last.as_ref().is_some_and(|last| *last >= node.name) {
            return Err(Error::Invalid(format!("{}: the node is out of order", node.name.escape_ascii())));
        }
        self.last = Some(node.name.clone());
        self.entries += 1;
        self.totals.add(node);
        let level = &mut self.levels[0];
        level.add(node, &node.name, 1);
        if level.page.len() > PAGE_MAX {
            return Err(Error::TooLarge { what: "a node", size: level.page.len() as u64, limit: PAGE_MAX as u64 });
        }
        if level.ends(0, &node.name, &self.ids) {
            self.flush(0, out);
        }
        Ok(())
    }

    /// Ends the directory and returns its tree.
    pub fn finish(mut self, out: &mut dyn FnMut(ChunkId, Vec<u8>)) -> Result<Subtree> {
        let mut depth = 0;
        loop {
            let topmost = depth + 1 == self.levels.len();
            let level = &mut self.levels[depth];
            // The root is the only page of the topmost level. An empty directory is one empty page.
            if level.pages == 0 && topmost {
                let bytes = level.page.take();
                let id = self.ids.tree_id(&bytes);
                out(id, bytes);
                return Ok(Subtree { id, entries: self.entries, totals: self.totals });
            }
            if level.page.count() > 0 {
                self.flush(depth, out);
            }
            depth += 1;
        }
    }

    /// Ends the page of a level, and the pages above that end with it.
    fn flush(&mut self, mut depth: usize, out: &mut dyn FnMut(ChunkId, Vec<u8>)) {
        loop {
            let level = &mut self.levels[depth];
            let bytes = level.page.take();
            let child = DirChild {
                first: std::mem::take(&mut level.first),
                id: self.ids.tree_id(&bytes),
                entries: std::mem::take(&mut level.entries),
            };
            level.pages += 1;
            out(child.id, bytes);
            depth += 1;
            if depth == self.levels.len() {
                self.levels.push(Level::new(depth as u8));
            }
            let level = &mut self.levels[depth];
            level.add(&child, &child.first, child.entries);
            if !level.ends(depth as u8, &child.first, &self.ids) {
                return;
            }
        }
    }
}

impl Level {
    fn new(level: u8) -> Self {
        Self { page: PageWriter::new(PageKind::Directory, level), first: Vec::new(), entries: 0, pages: 0 }
    }

    fn add<T: minicbor::Encode<()>>(&mut self, entry: &T, name: &[u8], entries: u64) {
        if self.page.count() == 0 {
            self.first = name.to_vec();
        }
        self.entries += entries;
        self.page.add(entry);
    }

    /// Whether the page ends after the entry with this name. A keyed hash of level and name decides; nothing else of
    /// the entry is hashed, so that a changed file does not move a boundary.
    fn ends(&self, level: u8, name: &[u8], ids: &IdKeys) -> bool {
        let count = self.page.count();
        if count >= ENTRIES_MAX || self.page.len() >= BYTES_MAX {
            return true;
        }
        if count < ENTRIES_MIN {
            return false;
        }
        let mut hasher = blake3::Hasher::new_keyed(ids.cut_key().bytes());
        let hash = hasher.update(&[level]).update(name).finalize();
        let number = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("4 of 32 bytes"));
        number.is_multiple_of(CUT_ONE_IN)
    }
}
