//! What the scanner and the assembler both need of the file cache's records.

use std::os::unix::ffi::OsStrExt;

use bkfs_store::{
    base::id::ChunkId,
    format::{
        keys::IdKeys,
        tree::{Content, Extent, Node},
    },
};

use crate::walk::{self, DirPath, Roots};

/// The key of the root directory's record, by target and base.
pub fn root_key(ids: &IdKeys, target: &str, roots: &Roots) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("bkfs v1 file cache root");
    hasher.update(ids.target_tag(target).as_bytes());
    hasher.update(roots.base.as_os_str().as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

/// The key of the record that holds only the root's own entry: no directory holds the root.
pub fn root_entry_key(root: &DirPath) -> [u8; 16] {
    root_entry_key_of(&root.key())
}

/// The same, from the key of the root directory's record.
pub fn root_entry_key_of(root_key: &[u8; 16]) -> [u8; 16] {
    walk::child_key(root_key, b"/")
}

/// The chunks that a node names: of its contents, or the root page of its content tree.
pub fn chunks(node: &Node) -> Vec<ChunkId> {
    match &node.content {
        Some(Content::Tree(page)) => vec![*page],
        _ => data_chunks(node).collect(),
    }
}

/// The chunks of contents that a node names.
pub fn data_chunks(node: &Node) -> impl Iterator<Item = ChunkId> + '_ {
    let extents = match &node.content {
        Some(Content::Extents(extents)) => extents.as_slice(),
        _ => &[],
    };
    extents.iter().filter_map(|extent| match extent {
        Extent::Data { id, .. } => Some(*id),
        Extent::Hole { .. } => None,
    })
}
