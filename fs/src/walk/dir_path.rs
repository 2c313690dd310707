//! The path of a directory in the snapshot, as a chain of names.
//!
//! Paths may be deeper than the system's longest path, and most are never needed as bytes, so each directory holds only
//! its own name and its parent. Bytes are put together for patterns and messages.

use std::{path::PathBuf, sync::Arc};

use crate::metadata;

/// The path of a directory in the snapshot. The root's name is empty.
#[derive(Debug)]
pub struct DirPath {
    parent: Option<Arc<DirPath>>,
    name: Box<[u8]>,
    key: [u8; 16],
}

impl DirPath {
    /// The root. All keys below derive from `key`.
    pub fn root(key: [u8; 16]) -> Arc<Self> {
        Arc::new(Self { parent: None, name: Box::default(), key })
    }

    /// The path of a directory in this one.
    pub fn child(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self { parent: Some(self.clone()), name: name.into(), key: child_key(&self.key, name) })
    }

    /// A key that names this path and no other. It derives from the root's key and the names on the way.
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// The path below the root, names joined by `/`; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = &at.parent {
            names.push(&*at.name);
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of an entry of this directory.
    pub fn entry(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.to_bytes();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// The path of an entry, for messages.
    pub fn display_entry(&self, name: &[u8]) -> PathBuf {
        metadata::display(&self.entry(name))
    }
}

/// The key of a path, from the key of the directory that holds it.
pub fn child_key(parent: &[u8; 16], name: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(parent);
    hasher.update(name);
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

impl Drop for DirPath {
    /// Takes the chain apart in a loop. Dropping it link by link would recurse as deep as the path.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut path) = next.and_then(Arc::into_inner) {
            next = path.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_keys() {
        let root = DirPath::root([1; 16]);
        let b = root.child(b"a").child(b"b");
        assert_eq!((b.to_bytes().as_slice(), b.entry(b"c").as_slice()), (&b"a/b"[..], &b"a/b/c"[..]));
        assert_eq!((root.to_bytes().as_slice(), root.entry(b"c").as_slice()), (&b""[..], &b"c"[..]));
        assert_eq!(b.key(), root.child(b"a").child(b"b").key());
        assert_ne!(b.key(), root.child(b"ab").key());
    }

    #[test]
    fn a_very_deep_path_is_dropped() {
        let mut path = DirPath::root([0; 16]);
        for _ in 0..200_000 {
            path = path.child(b"d");
        }
        drop(path);
    }
}
