//! The keys that are derived from the id key: for chunk ids, target tags, hard-link groups and cut points.
//!
//! Each purpose has its own key, derived from the id key under a context that names the purpose. Knowledge about one
//! key reveals nothing about another.

use crate::{
    base::{
        id::{ChunkId, HardLinkGroup, TargetTag},
        time::Time,
    },
    crypto::Secret,
};

/// The keys derived from a repository's id key. All clients of a repository derive the same keys.
#[derive(Clone, Debug)]
pub struct IdKeys {
    data: Secret,
    tree: Secret,
    target: Secret,
    hard_link: Secret,
    chunker: Secret,
    cut: Secret,
}

impl IdKeys {
    /// Derives all keys.
    pub fn new(id_key: Secret) -> Self {
        Self {
            data: id_key.derive("bkfs v1 data chunk id"),
            tree: id_key.derive("bkfs v1 tree chunk id"),
            target: id_key.derive("bkfs v1 target tag"),
            hard_link: id_key.derive("bkfs v1 hard link group"),
            chunker: id_key.derive("bkfs v1 chunker"),
            cut: id_key.derive("bkfs v1 tree cut"),
        }
    }

    /// Returns the id of a chunk of file contents.
    pub fn data_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.data.bytes(), plaintext).as_bytes())
    }

    /// Returns the id of a page of a directory's tree or a content tree.
    pub fn tree_id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(self.tree.bytes(), plaintext).as_bytes())
    }

    /// Returns the tag by which the server knows a target.
    pub fn target_tag(&self, target: &str) -> TargetTag {
        TargetTag(half(blake3::keyed_hash(self.target.bytes(), target.as_bytes())))
    }

    /// Returns the group of an inode's names. Two groups are equal only if mount root, inode, birth time and ordinal
    /// are. Device numbers change at reboot, so they are not included. The ordinal, which is 0 for nearly all inodes,
    /// tells apart different inodes for which the rest is the same, as behind an overlay of several file systems.
    pub fn hard_link(&self, mount_root: &[u8], inode: u64, btime: Option<Time>, ordinal: u32) -> HardLinkGroup {
        let mut hasher = blake3::Hasher::new_keyed(self.hard_link.bytes());
        hasher.update(&inode.to_le_bytes());
        let time = btime.unwrap_or_default();
        hasher.update(&[u8::from(btime.is_some()) | u8::from(ordinal > 0) << 1]);
        hasher.update(&time.secs.to_le_bytes());
        hasher.update(&time.nanos.to_le_bytes());
        if ordinal > 0 {
            hasher.update(&ordinal.to_le_bytes());
        }
        // The only part of variable length comes last.
        hasher.update(mount_root);
        HardLinkGroup(half(hasher.finalize()))
    }

    /// Returns the secret of the chunker's gear table and of the keyed function that accepts its candidates.
    pub fn chunker(&self) -> &Secret {
        &self.chunker
    }

    /// Returns the key of the hash that decides where directory trees are cut.
    pub fn cut_key(&self) -> &Secret {
        &self.cut
    }
}

fn half(hash: blake3::Hash) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_has_its_own_key() {
        let ids = IdKeys::new(Secret::new([1; 32]));
        let other = IdKeys::new(Secret::new([2; 32]));
        assert_ne!(ids.data_id(b"x"), ids.tree_id(b"x"));
        assert_ne!(ids.data_id(b"x"), other.data_id(b"x"));
        assert_eq!(ids.data_id(b"x"), ids.clone().data_id(b"x"));
        assert_ne!(ids.target_tag("home"), ids.target_tag("etc"));
        assert_ne!(ids.chunker(), ids.cut_key());
    }

    #[test]
    fn hard_link_groups_depend_on_mount_root_inode_birth_time_and_ordinal() {
        let ids = IdKeys::new(Secret::new([1; 32]));
        let born = Some(Time { secs: 5, nanos: 6 });
        let group = ids.hard_link(b"/home", 7, born, 0);
        assert_eq!(group, ids.hard_link(b"/home", 7, born, 0));
        assert_ne!(group, ids.hard_link(b"/", 7, born, 0));
        assert_ne!(group, ids.hard_link(b"/home", 8, born, 0));
        assert_ne!(group, ids.hard_link(b"/home", 7, None, 0));
        assert_ne!(ids.hard_link(b"/home", 7, None, 0), ids.hard_link(b"/home", 7, Some(Time::default()), 0));
        assert_ne!(group, ids.hard_link(b"/home", 7, born, 1));
        assert_ne!(ids.hard_link(b"/home", 7, born, 1), ids.hard_link(b"/home", 7, born, 2));
        // The ordinal is not taken for the beginning of the path.
        assert_ne!(ids.hard_link(b"/home", 7, born, 1), ids.hard_link(b"\x01\0\0\0/home", 7, born, 0));
    }

    /// The ids of a fixed key. A change here ends deduplication with every existing repository.
    #[test]
    fn golden_ids() {
        let ids = IdKeys::new(Secret::new([7; 32]));
        let born = Some(Time { secs: -1, nanos: 999_999_999 });
        let all = [
            ids.data_id(b"hello").to_string(),
            ids.tree_id(b"hello").to_string(),
            ids.target_tag("home").to_string(),
            ids.hard_link(b"/home", 1234, born, 0).to_string(),
            format!("{}", ChunkId(*ids.chunker().bytes())),
            format!("{}", ChunkId(*ids.cut_key().bytes())),
        ];
        let golden: Vec<_> = include_str!("../../../tests/golden/ids.txt").lines().collect();
        assert_eq!(all.as_slice(), golden);
    }
}
