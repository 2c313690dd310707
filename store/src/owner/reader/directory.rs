//! A directory of a snapshot. Looking up a name and listing from an index both load one page per level of the tree.

use std::sync::Arc;

use super::chunks::ChunkReader;
use crate::{
    base::{
        error::{Error, Result},
        id::ChunkId,
    },
    format::tree::{Node, Page, Subtree},
};

/// A directory. Cheap to create: pages are loaded when they are needed.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    chunks: &'a ChunkReader,
    subtree: Subtree,
}

impl<'a> Directory<'a> {
    pub(super) fn new(chunks: &'a ChunkReader, subtree: Subtree) -> Self {
        Self { chunks, subtree }
    }

    /// Returns the number of entries.
    pub fn len(&self) -> u64 {
        self.subtree.entries
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entry with this name.
    pub fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.find(name)?.map(|(_, node)| node))
    }

    /// Returns the entry with this name, and its index in the directory, counted from 0.
    pub fn find(&self, name: &[u8]) -> Result<Option<(u64, Node)>> {
        let (mut id, mut above, mut before) = (self.subtree.id, None, 0u64);
        loop {
            match &*self.load(id, above)? {
                Page::Nodes(nodes) => {
                    let found = nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok();
                    return Ok(found.map(|i| (before + i as u64, nodes[i].clone())));
                }
                Page::Dirs(level, children) => {
                    let behind = children.partition_point(|child| child.first.as_slice() <= name);
                    let Some(at) = behind.checked_sub(1) else { return Ok(None) };
                    before += children[..at].iter().map(|child| child.entries).sum::<u64>();
                    (id, above) = (children[at].id, Some(*level));
                }
                _ => return Err(not_a_directory(id)),
            }
        }
    }

    /// Returns the entry at an index.
    pub fn get(&self, index: u64) -> Result<Option<Node>> {
        Ok(self.leaf(index)?.and_then(|(page, at)| match &*page {
            Page::Nodes(nodes) => nodes.get(at).cloned(),
            _ => None,
        }))
    }

    /// Returns the entries from an index on, at most `limit`. Returns fewer only at the directory's end.
    pub fn read_from(&self, index: u64, limit: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        while nodes.len() < limit {
            let Some((page, at)) = self.leaf(index + nodes.len() as u64)? else { break };
            let Page::Nodes(leaf) = &*page else { break };
            let part = leaf.get(at..).unwrap_or_default();
            if part.is_empty() {
                break;
            }
            nodes.extend(part.iter().take(limit - nodes.len()).cloned());
        }
        Ok(nodes)
    }

    /// Returns the leaf page that holds the entry at an index, and the entry's index in that page; none beyond the end.
    /// For a cursor that lists in order this is cheaper than [`Directory::read_from`], which copies nodes.
    pub fn leaf(&self, index: u64) -> Result<Option<(Arc<Page>, usize)>> {
        if index >= self.subtree.entries {
            return Ok(None);
        }
        let (mut id, mut above, mut rest) = (self.subtree.id, None, index);
        loop {
            let page = self.load(id, above)?;
            match &*page {
                Page::Nodes(nodes) => {
                    let inside = (rest as usize) < nodes.len();
                    return if inside { Ok(Some((page, rest as usize))) } else { Err(miscounted(id)) };
                }
                Page::Dirs(level, children) => {
                    let child = children.iter().find(|child| match rest.checked_sub(child.entries) {
                        Some(less) => {
                            rest = less;
                            false
                        }
                        None => true,
                    });
                    let child = child.ok_or_else(|| miscounted(id))?;
                    (id, above) = (child.id, Some(*level));
                }
                _ => return Err(not_a_directory(id)),
            }
        }
    }

    /// Loads a page. Its level must be one below `above`, so that no walk is endless.
    fn load(&self, id: ChunkId, above: Option<u8>) -> Result<Arc<Page>> {
        let page = self.chunks.page(id)?;
        match above {
            Some(level) if page.level() + 1 != level => {
                Err(Error::damaged(format!("tree page {id}"), "its level does not fit its parent page"))
            }
            _ => Ok(page),
        }
    }
}

fn miscounted(id: ChunkId) -> Error {
    Error::damaged(format!("tree page {id}"), "it has fewer entries than its parent page states")
}

fn not_a_directory(id: ChunkId) -> Error {
    Error::damaged(format!("tree page {id}"), "it is not a page of a directory")
}
