//! Where a directory stands: a chain of names, without the cost of a whole path each.
//!
//! Paths may be deeper than the system's longest path, so they exist as chains; bytes are put together only for
//! patterns and messages.

use std::{path::PathBuf, sync::Arc};

use crate::metadata;

/// A directory's place in the snapshot. The root's name is empty.
#[derive(Debug)]
pub struct Place {
    parent: Option<Arc<Place>>,
    name: Box<[u8]>,
    key: [u8; 16],
}

impl Place {
    /// The root; `key` is what all keys below derive from.
    pub fn root(key: [u8; 16]) -> Arc<Self> {
        Arc::new(Self { parent: None, name: Box::default(), key })
    }

    /// The place of a directory in this one.
    pub fn child(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self { parent: Some(self.clone()), name: name.into(), key: child_key(&self.key, name) })
    }

    /// A key that names this place and no other: derived from the root's and from the names on the way.
    pub fn key(&self) -> [u8; 16] {
        self.key
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// The path below the root, names joined by `/`; empty for the root.
    pub fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = self;
        while let Some(parent) = &at.parent {
            names.push(&*at.name);
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The path of an entry.
    pub fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// The path of an entry, for messages.
    pub fn display(&self, name: &[u8]) -> PathBuf {
        metadata::display(&self.path_of(name))
    }
}

/// The key of a place, from that of the directory that holds it.
pub fn child_key(parent: &[u8; 16], name: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(parent);
    hasher.update(name);
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

impl Drop for Place {
    /// Takes the chain apart in a loop: dropping it link by link would recurse as deep as the path.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_keys() {
        let root = Place::root([1; 16]);
        let b = root.child(b"a").child(b"b");
        assert_eq!((b.path().as_slice(), b.path_of(b"c").as_slice()), (&b"a/b"[..], &b"a/b/c"[..]));
        assert_eq!((root.path().as_slice(), root.path_of(b"c").as_slice()), (&b""[..], &b"c"[..]));
        assert_eq!(b.key(), root.child(b"a").child(b"b").key());
        assert_ne!(b.key(), root.child(b"ab").key());
        assert!(root.is_root() && !b.is_root());
    }

    #[test]
    fn a_very_deep_place_is_dropped() {
        let mut place = Place::root([0; 16]);
        for _ in 0..200_000 {
            place = place.child(b"d");
        }
        drop(place);
    }
}
