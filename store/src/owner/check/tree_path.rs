//! The path of an entry in a snapshot, as a chain of names. A tree can be very deep: each entry holds only its own
//! name, and the path is put together for the few entries that have problems.

use std::sync::Arc;

/// The longest path that is shown, in bytes. Of a longer one, the end is shown.
const SHOWN_MAX: usize = 4096;

/// The path of an entry. The default is the root.
#[derive(Debug, Default)]
pub(super) struct TreePath {
    parent: Option<Arc<TreePath>>,
    name: Box<[u8]>,
}

impl TreePath {
    /// The path of an entry in a folder.
    pub fn child(parent: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self { parent: Some(parent.clone()), name: name.into() })
    }

    /// Names joined by `/`; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut names, mut len, mut at) = (Vec::new(), 0, self);
        while let Some(parent) = &at.parent {
            if len > SHOWN_MAX {
                names.push(&b"..."[..]);
                break;
            }
            names.push(&*at.name);
            len += at.name.len() + 1;
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

impl Drop for TreePath {
    /// Drops the ancestors in a loop: recursion could overflow the stack in a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut path| path.parent.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_path_is_short_to_show_and_drops_without_recursion() {
        let path = TreePath::child(&TreePath::child(&Arc::default(), b"a"), b"b");
        assert_eq!((TreePath::default().to_bytes(), path.to_bytes()), (b"".to_vec(), b"a/b".to_vec()));
        let mut deep = Arc::<TreePath>::default();
        for _ in 0..200_000 {
            deep = TreePath::child(&deep, b"d");
        }
        let shown = deep.to_bytes();
        assert!(shown.starts_with(b".../d/d") && shown.len() < SHOWN_MAX + 300, "{}", shown.len());
    }
}
