//! Inode numbers, and the table of what the kernel holds.
//!
//! ```text
//! bit 63  62  61                  27 26                    0
//!      0 | L | instance (35 bits)   | entry + 1, or 0       |      L = 0
//!      0 | 1 | hash of the hard-link group (62 bits)        |      L = 1
//! ```
//!
//! A *directory instance* is a directory at one path of the mount. An entry's number is (instance of its directory,
//! place in it), so files need no table: the number leads back to the node through the directory's tree, which never
//! changes. The directory itself has the entry field 0. Instance numbers are taken from a hash of the path, so that a
//! directory that the kernel forgot and asks for again has its old number, and so have all entries in it; two
//! directories that are held at once never share one (the later moves to the next free number). The same snapshot under
//! two paths (`snapshots/`, `ids/`) is two instances: FUSE lets a directory have one path only.
//!
//! Names of one hard-linked inode must show one number wherever they lie, so those have a number of their own, hashed
//! from the group, and a table that says where one of the names is.
//!
//! A record lives as long as the kernel holds a reference to the directory or to an entry in it. Memory therefore grows
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

use super::{attr::Attr, names::Place, source::Version};

/// The mount's root, by FUSE's convention.
pub const ROOT: u64 = 1;

const ENTRY_BITS: u32 = 27;
const INSTANCE_BITS: u32 = 35;
const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;
const INSTANCE_MASK: u64 = (1 << INSTANCE_BITS) - 1;
const LINK: u64 = 1 << 62;
const LINK_MASK: u64 = LINK - 1;
const ROOT_INSTANCE: u64 = 1;

/// How many entries of one directory can have numbers (134 million).
pub const ENTRIES_MAX: u64 = ENTRY_MASK;

/// What a number is hashed from: a path, or a hard-link group below one. 128 bits, so that equal means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of the mount's root.
    pub const ROOT: Self = Self([0; 16]);

    /// The key of something below `self`. `kind` keeps the sorts of children apart.
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
pub enum What {
    /// A place of the mount's own, above the snapshots.
    Top(Place),
    /// A directory of a snapshot.
    Tree {
        /// Its entries.
        subtree: Subtree,
        /// The snapshot.
        version: Arc<Version>,
        /// Key of the snapshot's root here, to which hard-link groups belong.
        root: Key,
    },
}

/// A directory at one path of the mount.
#[derive(Debug)]
pub struct Dir {
    /// Its instance number.
    pub instance: u64,
    /// Its path, hashed.
    pub key: Key,
    /// Its name; empty for the mount's root.
    pub name: Box<[u8]>,
    /// The directory that holds it; none for the mount's root.
    pub parent: Option<Arc<Dir>>,
    /// Its place in that directory, if that is one of a snapshot.
    pub index: u64,
    /// What it shows.
    pub what: What,
    /// Its attributes; those of [`What::Top`] change, and are made anew.
    pub attr: Attr,
    /// The kernel's references to it and to entries in it that are neither directories nor hard links.
    refs: AtomicU64,
}

impl Dir {
    /// The directory's inode number.
    pub fn ino(&self) -> u64 {
        match self.instance {
            ROOT_INSTANCE => ROOT,
            instance => instance << ENTRY_BITS,
        }
    }

    /// The number of the entry at a place; none if the directory has too many.
    pub fn entry_ino(&self, index: u64) -> Option<u64> {
        (index < ENTRIES_MAX).then_some(self.instance << ENTRY_BITS | (index + 1))
    }

    /// The directory that `..` leads to.
    pub fn parent_ino(&self) -> u64 {
        self.parent.as_ref().map_or(ROOT, |parent| parent.ino())
    }

    /// Its path below the mountpoint, for people.
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

/// What a number stands for.
#[derive(Debug, Clone)]
pub enum Inode {
    /// A directory.
    Dir(Arc<Dir>),
    /// An entry that is no directory: where it lies, and its place there.
    Entry(Arc<Dir>, u64),
}

#[derive(Default)]
struct Dirs {
    by_instance: HashMap<u64, Arc<Dir>>,
    /// Those that did not get the number that their key asks for.
    displaced: HashMap<Key, u64>,
}

struct Link {
    key: Key,
    dir: Arc<Dir>,
    index: u64,
    refs: u64,
}

#[derive(Default)]
struct Links {
    by_ino: HashMap<u64, Link>,
    displaced: HashMap<Key, u64>,
}

/// What the kernel holds.
pub struct Table {
    dirs: RwLock<Dirs>,
    links: Mutex<Links>,
}

impl Table {
    /// A table that holds the mount's root, which is never forgotten.
    pub fn new(what: What, attr: Attr) -> Self {
        let root = Dir {
            instance: ROOT_INSTANCE,
            key: Key::ROOT,
            name: Box::default(),
            parent: None,
            index: 0,
            what,
            attr: Attr { ino: ROOT, ..attr },
            refs: AtomicU64::new(1),
        };
        let mut dirs = Dirs::default();
        dirs.by_instance.insert(ROOT_INSTANCE, Arc::new(root));
        Self { dirs: RwLock::new(dirs), links: Mutex::default() }
    }

    /// What the number stands for; none if the kernel was never told of it, or has forgotten it.
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

    /// The directory with that key, with one more reference. `make` gets the number that it shall have.
    pub fn hold_dir(&self, seed: DirSeed<'_>) -> Arc<Dir> {
        if let Some(dir) = find(&self.dirs.read(), seed.key) {
            // Under the lock that removal needs for writing, so it cannot vanish now.
            dir.refs.fetch_add(1, Ordering::AcqRel);
            return dir.clone();
        }
        let mut dirs = self.dirs.write();
        if let Some(dir) = find(&dirs, seed.key) {
            dir.refs.fetch_add(1, Ordering::AcqRel);
            return dir.clone();
        }
        let wanted = wanted_instance(seed.key);
        let mut instance = wanted;
        while dirs.by_instance.contains_key(&instance) {
            instance = (instance + 1) & INSTANCE_MASK;
            instance = instance.max(ROOT_INSTANCE + 1);
        }
        if instance != wanted {
            dirs.displaced.insert(seed.key, instance);
        }
        let dir = Arc::new(Dir {
            instance,
            key: seed.key,
            name: seed.name.into(),
            parent: Some(seed.parent.clone()),
            index: seed.index,
            what: seed.what,
            attr: Attr { ino: instance << ENTRY_BITS, ..seed.attr },
            refs: AtomicU64::new(1),
        });
        dirs.by_instance.insert(instance, dir.clone());
        dir
    }

    /// The number that a directory has or would have now; nothing is held.
    pub fn peek_dir(&self, key: Key) -> u64 {
        match find(&self.dirs.read(), key) {
            Some(dir) => dir.ino(),
            None => wanted_instance(key) << ENTRY_BITS,
        }
    }

    /// Adds a reference to an entry that is neither a directory nor a hard link.
    pub fn hold_entry(&self, dir: &Arc<Dir>) {
        let dirs = self.dirs.read();
        match dirs.by_instance.get(&dir.instance) {
            Some(held) if held.key == dir.key => drop(held.refs.fetch_add(1, Ordering::AcqRel)),
            _ => {
                // The kernel forgot the directory between finding it and now, which it does not do while it asks about
                // it; if it does, the record comes back with this one reference.
                drop(dirs);
                let mut dirs = self.dirs.write();
                dir.refs.store(1, Ordering::Release);
                dirs.by_instance.entry(dir.instance).or_insert_with(|| dir.clone());
            }
        }
    }

    /// The number of a hard-linked inode of which one name lies at `index` of `dir`, with one more reference.
    pub fn hold_link(&self, key: Key, dir: &Arc<Dir>, index: u64) -> u64 {
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

    /// The number that a hard-linked inode has or would have now; nothing is held.
    pub fn peek_link(&self, key: Key) -> u64 {
        link_ino(&self.links.lock(), key)
    }

    /// Drops references; what has none left goes.
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
        // Somebody may have taken a reference before the lock was had.
        let gone = dirs.by_instance.get(&instance).filter(|dir| dir.refs.load(Ordering::Acquire) == 0).map(|d| d.key);
        if let Some(key) = gone {
            dirs.by_instance.remove(&instance);
            dirs.displaced.remove(&key);
        }
    }

    /// The directories above the snapshots that are held.
    pub fn tops(&self) -> Vec<u64> {
        let dirs = self.dirs.read();
        dirs.by_instance.values().filter(|dir| matches!(dir.what, What::Top(_))).map(|dir| dir.ino()).collect()
    }

    /// How many directories and hard-linked inodes are held.
    pub fn len(&self) -> (usize, usize) {
        (self.dirs.read().by_instance.len(), self.links.lock().by_ino.len())
    }
}

/// What a new record of a directory is made of.
pub struct DirSeed<'a> {
    /// Its path, hashed.
    pub key: Key,
    /// Its name.
    pub name: &'a [u8],
    /// The directory that holds it.
    pub parent: &'a Arc<Dir>,
    /// Its place there.
    pub index: u64,
    /// What it shows.
    pub what: What,
    /// Its attributes.
    pub attr: Attr,
}

/// The key of a hard-linked inode: of its group below one snapshot's root, and of what the name at hand holds. A file
/// that changed while it was pushed may be stored differently under two of its names; those must not become one.
pub fn link_key(root: &Key, group: HardLinkGroup, size: u64, content: &[u8]) -> Key {
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

fn wanted_instance(key: Key) -> u64 {
    (key.number() & INSTANCE_MASK).max(ROOT_INSTANCE + 1)
}

fn find(dirs: &Dirs, key: Key) -> Option<&Arc<Dir>> {
    let instance = dirs.displaced.get(&key).copied().unwrap_or_else(|| wanted_instance(key));
    dirs.by_instance.get(&instance).filter(|dir| dir.key == key)
}

fn link_ino(links: &Links, key: Key) -> u64 {
    if let Some(ino) = links.displaced.get(&key) {
        return *ino;
    }
    let mut number = key.number() & LINK_MASK;
    while links.by_ino.get(&(LINK | number)).is_some_and(|link| link.key != key) {
        number = (number + 1) & LINK_MASK;
    }
    LINK | number
}

fn drop_refs(dir: &Dir, count: u64) -> u64 {
    let floor = |refs: u64| Some(refs.saturating_sub(count));
    match dir.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, floor) {
        Ok(before) | Err(before) => before.saturating_sub(count),
    }
}

#[cfg(test)]
mod tests;
