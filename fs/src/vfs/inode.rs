//! Inode numbers, and the table of the inodes that the kernel holds.
//!
//! ```text
//! bit 63  62  61                  27 26                    0
//!      0 | L | instance (35 bits)   | entry + 1, or 0       |      L = 0
//!      0 | 1 | hash of the hard-link group (62 bits)        |      L = 1
//! ```
//!
//! A *directory instance* is a directory at one path of the mount. An entry's number is (instance of its directory,
//! index in it), so files need no table: the number leads back to the node through the directory's tree, which never
//! changes. In the number of the directory itself, the entry field is 0. Instance numbers are taken from a hash of the
//! path. If the kernel forgets a directory and looks it up again, the directory and all its entries have their old
//! numbers. Two directories that are held at the same time never share a number: the later one gets the next free
//! number. The same snapshot under two paths (`snapshots/`, `ids/`) is two instances, because in FUSE a directory can
//! have only one path.
//!
//! All names of a hard-linked inode must show the same number, wherever they are. Therefore such an inode has a number
//! of its own, hashed from the group, and an entry in a table that has the location of one of its names.
//!
//! A record is kept while the kernel holds a reference to the directory or to an entry in it. Memory therefore grows
//! with the directories (and hard-linked files) that the kernel holds, not with the files.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bkfs_store::{base::id::HardLinkGroup, format::tree::Subtree};
use parking_lot::{Mutex, RwLock};

use super::{attr::Attr, source::ShownSnapshot, top::TopDir};

/// The number of the mount's root, by FUSE's convention.
pub const ROOT: u64 = 1;

const ENTRY_BITS: u32 = 27;
const INSTANCE_BITS: u32 = 35;
const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;
const INSTANCE_MASK: u64 = (1 << INSTANCE_BITS) - 1;
const LINK: u64 = 1 << 62;
const LINK_MASK: u64 = LINK - 1;
const ROOT_INSTANCE: u64 = 1;

/// How many entries of a directory can have numbers (134 million).
pub const ENTRIES_MAX: u64 = ENTRY_MASK;

/// What a number is derived from: the hash of a path, or of a hard-link group below a path. With 128 bits, equal keys
/// mean the same path or group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathKey([u8; 16]);

impl PathKey {
    /// The key of the mount's root.
    pub const ROOT: Self = Self([0; 16]);

    /// Returns the key of a child. `kind` keeps different kinds of children apart.
    pub fn child(&self, kind: u8, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0).update(&[kind]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(key)
    }

    fn number(&self) -> u64 {
        let mut low = [0; 8];
        low.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(low)
    }
}

/// What a directory shows.
#[derive(Debug, Clone)]
pub enum DirKind {
    /// A directory above the snapshots.
    Top(TopDir),
    /// A directory of a snapshot.
    Tree {
        /// Its entries.
        subtree: Subtree,
        /// The snapshot.
        snapshot: Arc<ShownSnapshot>,
        /// Key of the snapshot's root at this path; hard-link groups belong to it.
        root: PathKey,
    },
}

/// A directory at one path of the mount.
#[derive(Debug)]
pub struct DirInstance {
    /// Its instance number.
    pub instance: u64,
    /// Hash of its path.
    pub key: PathKey,
    /// Its name; empty for the mount's root.
    pub name: Box<[u8]>,
    /// Its parent; none for the mount's root.
    pub parent: Option<Arc<DirInstance>>,
    /// Its index in the parent, if that is a directory of a snapshot.
    pub index: u64,
    /// What it shows.
    pub kind: DirKind,
    /// Its attributes; those of [`DirKind::Top`] change, and are computed when they are asked for.
    pub attr: Attr,
    /// The kernel's references to it, and to entries in it that are neither directories nor hard links.
    refs: AtomicU64,
}

impl DirInstance {
    /// Returns the directory's inode number.
    pub fn ino(&self) -> u64 {
        match self.instance {
            ROOT_INSTANCE => ROOT,
            instance => instance << ENTRY_BITS,
        }
    }

    /// Returns the number of the entry at an index; none if the directory has too many entries.
    pub fn entry_ino(&self, index: u64) -> Option<u64> {
        (index < ENTRIES_MAX).then_some(self.instance << ENTRY_BITS | (index + 1))
    }

    /// Returns the number of the directory that `..` leads to.
    pub fn parent_ino(&self) -> u64 {
        self.parent.as_ref().map_or(ROOT, |parent| parent.ino())
    }

    /// Returns the path relative to the mountpoint, for messages.
    pub fn path(&self) -> String {
        let mut names = Vec::new();
        let mut dir = Some(self);
        while let Some(d) = dir.filter(|d| d.parent.is_some()) {
            names.push(d.name.escape_ascii().to_string());
            dir = d.parent.as_deref();
        }
        names.reverse();
        names.join("/")
    }
}

impl Drop for DirInstance {
    /// Drops the ancestors in a loop: recursion could overflow the stack in a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut dir| dir.parent.take());
        }
    }
}

/// What a number represents.
#[derive(Debug, Clone)]
pub enum Inode {
    /// A directory.
    Dir(Arc<DirInstance>),
    /// An entry that is not a directory: the directory that it is in, and its index there.
    Entry(Arc<DirInstance>, u64),
}

#[derive(Default)]
struct DirTable {
    by_instance: HashMap<u64, Arc<DirInstance>>,
    /// Directories that did not get the number that their key gives, because it was taken.
    displaced: HashMap<PathKey, u64>,
}

struct Link {
    key: PathKey,
    dir: Arc<DirInstance>,
    index: u64,
    refs: u64,
}

#[derive(Default)]
struct LinkTable {
    by_ino: HashMap<u64, Link>,
    displaced: HashMap<PathKey, u64>,
}

/// The directories and hard-linked inodes that the kernel holds.
pub struct InodeTable {
    dirs: RwLock<DirTable>,
    links: Mutex<LinkTable>,
}

impl InodeTable {
    /// Returns a table with the mount's root, which is never forgotten.
    pub fn new(kind: DirKind, attr: Attr) -> Self {
        let root = DirInstance {
            instance: ROOT_INSTANCE,
            key: PathKey::ROOT,
            name: Box::default(),
            parent: None,
            index: 0,
            kind,
            attr: Attr { ino: ROOT, ..attr },
            refs: AtomicU64::new(1),
        };
        let mut dirs = DirTable::default();
        dirs.by_instance.insert(ROOT_INSTANCE, Arc::new(root));
        Self { dirs: RwLock::new(dirs), links: Mutex::default() }
    }

    /// Returns what a number represents; none if the kernel was never given it, or has forgotten it.
    pub fn get(&self, ino: u64) -> Option<Inode> {
        if ino & LINK != 0 {
            return self.links.lock().by_ino.get(&ino).map(|link| Inode::Entry(link.dir.clone(), link.index));
        }
        let dir = self.dirs.read().by_instance.get(&instance_of(ino)?)?.clone();
        match ino & ENTRY_MASK {
            _ if ino == ROOT => Some(Inode::Dir(dir)),
            0 => Some(Inode::Dir(dir)),
            entry => Some(Inode::Entry(dir, entry - 1)),
        }
    }

    /// Returns the directory with that key, with one more reference. Adds it if it is not held yet.
    pub fn hold_dir(&self, new: NewDir<'_>) -> Arc<DirInstance> {
        if let Some(dir) = find(&self.dirs.read(), new.key) {
            // Removal needs this lock for writing, so the directory cannot be removed now.
            dir.refs.fetch_add(1, Ordering::AcqRel);
            return dir.clone();
        }
        let mut dirs = self.dirs.write();
        if let Some(dir) = find(&dirs, new.key) {
            dir.refs.fetch_add(1, Ordering::AcqRel);
            return dir.clone();
        }
        let wanted = wanted_instance(new.key);
        let mut instance = wanted;
        while dirs.by_instance.contains_key(&instance) {
            instance = (instance + 1) & INSTANCE_MASK;
            instance = instance.max(ROOT_INSTANCE + 1);
        }
        if instance != wanted {
            dirs.displaced.insert(new.key, instance);
        }
        let dir = Arc::new(DirInstance {
            instance,
            key: new.key,
            name: new.name.into(),
            parent: Some(new.parent.clone()),
            index: new.index,
            kind: new.kind,
            attr: Attr { ino: instance << ENTRY_BITS, ..new.attr },
            refs: AtomicU64::new(1),
        });
        dirs.by_instance.insert(instance, dir.clone());
        dir
    }

    /// Returns the number that a directory has, or would get now. Takes no reference.
    pub fn peek_dir(&self, key: PathKey) -> u64 {
        match find(&self.dirs.read(), key) {
            Some(dir) => dir.ino(),
            None => wanted_instance(key) << ENTRY_BITS,
        }
    }

    /// Adds a reference to an entry that is neither a directory nor a hard link.
    pub fn hold_entry(&self, dir: &Arc<DirInstance>) {
        let dirs = self.dirs.read();
        match dirs.by_instance.get(&dir.instance) {
            Some(held) if held.key == dir.key => drop(held.refs.fetch_add(1, Ordering::AcqRel)),
            _ => {
                // The kernel forgot the directory since it was found. It does not do so during a request about it; if
                // it does, the record is added again with this one reference.
                drop(dirs);
                let mut dirs = self.dirs.write();
                dir.refs.store(1, Ordering::Release);
                dirs.by_instance.entry(dir.instance).or_insert_with(|| dir.clone());
            }
        }
    }

    /// Returns the number of a hard-linked inode, with one more reference. One of its names is at `index` in `dir`.
    pub fn hold_link(&self, key: PathKey, dir: &Arc<DirInstance>, index: u64) -> u64 {
        let mut links = self.links.lock();
        let ino = link_ino(&links, key);
        if let Some(link) = links.by_ino.get_mut(&ino) {
            link.refs += 1;
            return ino;
        }
        if ino != LINK | (key.number() & LINK_MASK) {
            links.displaced.insert(key, ino);
        }
        links.by_ino.insert(ino, Link { key, dir: dir.clone(), index, refs: 1 });
        ino
    }

    /// Returns the number that a hard-linked inode has, or would get now. Takes no reference.
    pub fn peek_link(&self, key: PathKey) -> u64 {
        link_ino(&self.links.lock(), key)
    }

    /// Drops references. Removes a record without references.
    pub fn forget(&self, ino: u64, count: u64) {
        if ino & LINK != 0 {
            let mut links = self.links.lock();
            let Some(link) = links.by_ino.get_mut(&ino) else { return };
            link.refs = link.refs.saturating_sub(count);
            if link.refs == 0 {
                let key = link.key;
                links.by_ino.remove(&ino);
                links.displaced.remove(&key);
            }
            return;
        }
        let Some(instance) = instance_of(ino) else { return };
        let left = match self.dirs.read().by_instance.get(&instance) {
            Some(dir) => drop_refs(dir, count),
            None => return,
        };
        if left > 0 || instance == ROOT_INSTANCE {
            return;
        }
        let mut dirs = self.dirs.write();
        // Another thread may have taken a reference before this one had the lock.
        let unused = dirs.by_instance.get(&instance).filter(|dir| dir.refs.load(Ordering::Acquire) == 0).map(|d| d.key);
        if let Some(key) = unused {
            dirs.by_instance.remove(&instance);
            dirs.displaced.remove(&key);
        }
    }

    /// Returns the numbers of the directories above the snapshots that are held.
    pub fn top_dirs(&self) -> Vec<u64> {
        let dirs = self.dirs.read();
        dirs.by_instance.values().filter(|dir| matches!(dir.kind, DirKind::Top(_))).map(|dir| dir.ino()).collect()
    }

    /// Returns how many directories and hard-linked inodes are held.
    pub fn len(&self) -> (usize, usize) {
        (self.dirs.read().by_instance.len(), self.links.lock().by_ino.len())
    }
}

/// A directory to be held.
pub struct NewDir<'a> {
    /// Hash of its path.
    pub key: PathKey,
    /// Its name.
    pub name: &'a [u8],
    /// Its parent.
    pub parent: &'a Arc<DirInstance>,
    /// Its index there.
    pub index: u64,
    /// What it shows.
    pub kind: DirKind,
    /// Its attributes.
    pub attr: Attr,
}

/// Returns the key of a hard-linked inode: the hash of its group below a snapshot's root, and of the contents under one
/// of its names. A file that changed during the push may be stored with different contents under two names. These must
/// not share an inode.
pub fn link_key(root: &PathKey, group: HardLinkGroup, size: u64, content: &[u8]) -> PathKey {
    root.child(b'l', &[&group.0, &size.to_le_bytes(), content])
}

fn instance_of(ino: u64) -> Option<u64> {
    match ino {
        0 => None,
        ROOT => Some(ROOT_INSTANCE),
        ino if ino & !(LINK_MASK) != 0 => None,
        ino => Some(ino >> ENTRY_BITS),
    }
}

fn wanted_instance(key: PathKey) -> u64 {
    (key.number() & INSTANCE_MASK).max(ROOT_INSTANCE + 1)
}

fn find(dirs: &DirTable, key: PathKey) -> Option<&Arc<DirInstance>> {
    let instance = dirs.displaced.get(&key).copied().unwrap_or_else(|| wanted_instance(key));
    dirs.by_instance.get(&instance).filter(|dir| dir.key == key)
}

fn link_ino(links: &LinkTable, key: PathKey) -> u64 {
    if let Some(ino) = links.displaced.get(&key) {
        return *ino;
    }
    let mut number = key.number() & LINK_MASK;
    while links.by_ino.get(&(LINK | number)).is_some_and(|link| link.key != key) {
        number = (number + 1) & LINK_MASK;
    }
    LINK | number
}

fn drop_refs(dir: &DirInstance, count: u64) -> u64 {
    let floor = |refs: u64| Some(refs.saturating_sub(count));
    match dir.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, floor) {
        Ok(before) | Err(before) => before.saturating_sub(count),
    }
}

#[cfg(test)]
mod tests;
