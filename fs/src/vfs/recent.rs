//! Files that were read recently: their nodes, which saves a lookup in the directory for each read, and how they are
//! being read.

use std::sync::Arc;

use bkfs_store::format::tree::{Content, Node};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use super::{inode::DirInstance, prefetch::Cursors};

/// The least weight of a node.
const NODE_BYTES: usize = 600;
/// Bytes that the cached nodes may take. A node takes several hundred bytes, so this is about ten thousand files.
const BUDGET: u64 = 8 * 1024 * 1024;

/// A file that is being read.
pub struct RecentFile {
    /// Its node.
    pub node: Arc<Node>,
    /// The directory that it is in (one of them, if it has several names).
    pub dir: Arc<DirInstance>,
    /// Its index there.
    pub index: u64,
    /// Its readers.
    pub cursors: Mutex<Cursors>,
}

#[derive(Clone)]
struct ByNodeSize;

impl Weighter<u64, Arc<RecentFile>> for ByNodeSize {
    fn weight(&self, _: &u64, file: &Arc<RecentFile>) -> u64 {
        let node = &file.node;
        let inline = match &node.content {
            Some(Content::Inline(bytes)) => bytes.len(),
            _ => 0,
        };
        let xattrs: usize = node.xattrs().iter().map(|xattr| xattr.name.len() + xattr.value.len() + 64).sum();
        (NODE_BYTES + node.name.len() + inline + xattrs) as u64
    }
}

/// The files that were read recently, by inode number.
pub struct RecentFiles {
    cache: Cache<u64, Arc<RecentFile>, ByNodeSize>,
}

impl RecentFiles {
    /// Returns an empty cache.
    pub fn new() -> Self {
        Self { cache: Cache::with_weighter(BUDGET as usize / NODE_BYTES, BUDGET, ByNodeSize) }
    }

    /// Returns the file with that number, if it is the entry `index` of `dir`: the number may have been given to
    /// another file since. Otherwise returns, and caches, the result of `load`.
    pub fn get<E>(
        &self,
        ino: u64,
        dir: &Arc<DirInstance>,
        index: u64,
        load: impl FnOnce() -> Result<Arc<RecentFile>, E>,
    ) -> Result<Arc<RecentFile>, E> {
        match self.cache.get(&ino).filter(|file| file.dir.key == dir.key && file.index == index) {
            Some(file) => Ok(file),
            None => {
                // Two threads may load it at the same time. Then one's cursors are lost, which costs a little
                // read-ahead.
                let file = load()?;
                self.cache.insert(ino, file.clone());
                Ok(file)
            }
        }
    }

    /// Removes an inode that the kernel has forgotten.
    pub fn forget(&self, ino: u64) {
        self.cache.remove(&ino);
    }
}
