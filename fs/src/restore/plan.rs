//! What to do with the contents of a file.

use bkfs_store::{
    base::id::ChunkId,
    format::tree::{Content, Extent, Node},
};

/// A file whose contents are to be written or compared.
pub(super) struct FilePlan {
    pub(super) node: Node,
    /// It is the first name of its hard-link group; the other names wait for it.
    pub(super) is_first_name: bool,
    pub(super) action: FileAction,
}

/// What to do with the contents.
pub(super) enum FileAction {
    /// Write them; with `replace`, in place of the existing entry.
    Write { replace: bool },
    /// Compare them with those of the existing file.
    Compare,
}

impl FilePlan {
    /// Returns the plan to write a file; with `replace`, in place of the existing entry.
    pub(super) fn write(node: Node, is_first_name: bool, replace: bool) -> Self {
        Self { node, is_first_name, action: FileAction::Write { replace } }
    }

    /// Returns the plan to compare a file with the existing one.
    pub(super) fn compare(node: Node, is_first_name: bool) -> Self {
        Self { node, is_first_name, action: FileAction::Compare }
    }

    /// Returns the ids and the total length of the chunks that the file needs, if one request of at most `window` bytes
    /// can fetch them all.
    pub(super) fn small(&self, window: u64) -> Option<(Vec<ChunkId>, u64)> {
        match &self.node.content {
            Some(Content::Inline(_)) => Some((Vec::new(), 0)),
            Some(Content::Extents(extents)) => {
                let data = || extents.iter().filter_map(chunk_of);
                let bytes = data().map(|(_, len)| u64::from(len)).sum();
                (bytes <= window).then(|| (data().map(|(id, _)| id).collect(), bytes))
            }
            _ => None,
        }
    }
}

/// Returns the id and the length of an extent's chunk; none for a hole.
pub(super) fn chunk_of(extent: &Extent) -> Option<(ChunkId, u32)> {
    match extent {
        Extent::Data { id, len } => Some((*id, *len)),
        Extent::Hole { .. } => None,
    }
}
