//! What a node or a page of a tree refers to: pages and chunks of data. Also the short form of their ids, for tables of
//! very many of them.

use crate::{
    base::id::ChunkId,
    format::tree::{Content, Extent, Node, Page},
};

/// The first half of an id. It is long enough to tell ids apart, and takes half of the memory.
pub(crate) type IdPrefix = [u8; 16];

/// Returns the first half of an id.
pub(crate) fn id_prefix(id: &[u8; 32]) -> IdPrefix {
    let mut prefix = [0; 16];
    prefix.copy_from_slice(&id[..16]);
    prefix
}

/// The ids that a node or page refers to, in the order of the tree. An id may come twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct References {
    /// Pages of the tree.
    pub pages: Vec<ChunkId>,
    /// Chunks of data.
    pub chunks: Vec<ChunkId>,
}

impl References {
    /// What a node refers to.
    pub fn of_node(node: &Node) -> Self {
        let mut found = Self::default();
        found.add_node(node);
        found
    }

    /// What a page refers to.
    pub fn of_page(page: &Page) -> Self {
        let mut found = Self::default();
        match page {
            Page::Nodes(nodes) => nodes.iter().for_each(|node| found.add_node(node)),
            Page::Dirs(_, children) => found.pages.extend(children.iter().map(|child| child.id)),
            Page::Spans(_, children) => found.pages.extend(children.iter().map(|child| child.id)),
            Page::Extents(extents) => found.add_extents(extents),
        }
        found
    }

    fn add_node(&mut self, node: &Node) {
        self.pages.extend(node.subtree.map(|subtree| subtree.id));
        match &node.content {
            Some(Content::Tree(id)) => self.pages.push(*id),
            Some(Content::Extents(extents)) => self.add_extents(extents),
            Some(Content::Inline(_)) | None => {}
        }
    }

    fn add_extents(&mut self, extents: &[Extent]) {
        self.chunks.extend(extents.iter().filter_map(|extent| match extent {
            Extent::Data { id, .. } => Some(*id),
            Extent::Hole { .. } => None,
        }));
    }
}
