//! Files that were read lately: their nodes, so that each read need not go through the directory again, and what is
//! known about how they are read.

use std::sync::Arc;

use bkfs_store::tree::{Content, Node};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use super::{inode::Dir, prefetch::Cursors};

/// Bytes that the nodes kept here may take. A node is some hundred bytes, so this is some ten thousand files.
const BUDGET: u64 = 8 * 1024 * 1024;

/// A file that is being read.
pub struct File {
    /// Its node.
    pub node: Arc<Node>,
    /// Where it lies (one of its places, if it has several).
    pub dir: Arc<Dir>,
    /// Its place there.
    pub index: u64,
    /// Its readers.
    pub cursors: Mutex<Cursors>,
}

#[derive(Clone)]
struct ByNode;

impl Weighter<u64, Arc<File>> for ByNode {
    fn weight(&self, _: &u64, file: &Arc<File>) -> u64 {
        let node = &file.node;
        let inline = match &node.content {
            Some(Content::Inline(bytes)) => bytes.len(),
            _ => 0,
        };
        let xattrs: usize = node.xattrs().iter().map(|xattr| xattr.name.len() + xattr.value.len() + 64).sum();
        (600 + node.name.len() + inline + xattrs) as u64
    }
}

/// The files read lately, by inode number.
pub struct Files {
    cache: Cache<u64, Arc<File>, ByNode>,
}

impl Files {
    /// None yet.
    pub fn new() -> Self {
        Self { cache: Cache::with_weighter((BUDGET / 600) as usize, BUDGET, ByNode) }
    }

    /// The file with that number, which must be the entry at this place: a number may have come to mean another file
    /// since. If it is not known, what `load` makes.
    pub fn get<E>(
        &self,
        ino: u64,
        dir: &Arc<Dir>,
        index: u64,
        load: impl FnOnce() -> Result<Arc<File>, E>,
    ) -> Result<Arc<File>, E> {
        match self.cache.get(&ino).filter(|file| file.dir.key == dir.key && file.index == index) {
            Some(file) => Ok(file),
            None => {
                // Two threads may load it at once; then one's cursors are lost, which costs a little read-ahead.
                let file = load()?;
                self.cache.insert(ino, file.clone());
                Ok(file)
            }
        }
    }

    /// The kernel has forgotten the inode.
    pub fn forget(&self, ino: u64) {
        self.cache.remove(&ino);
    }
}
