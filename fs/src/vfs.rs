//! The read-only file system that a mount shows: snapshots as folders. It knows no FUSE.
//!
//! Above the snapshots lies a small tree of names ([`names`]) that follows the repository ([`refresh`]); below, a
//! snapshot's directories and files are read through a [`Source`] and never change, so whatever is told about them holds
//! for good ([`Ttl::Forever`]). Inode numbers and what the kernel holds: [`inode`]. Reading ahead: [`prefetch`].
//!
//! It is never written to; there are no operations for that. It does not cache contents: the kernel's page cache does,
//! and the source.

pub mod attr;
pub mod error;
pub mod inode;
pub mod names;
pub mod prefetch;
mod reader;
mod recent;
pub mod refresh;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    codec,
    tree::{Node, NodeKind},
};
use bytes::Bytes;
use parking_lot::Mutex;

pub use attr::{Attr, Owner};
pub use error::{Error, Result};
pub use source::{Seek, Source, Version};

use inode::{Dir, DirSeed, Inode, Key, Table, What};
use names::{Item, Place};
use prefetch::{Cursors, Pool};
use recent::{File, Files};
use refresh::{Current, State};

/// How often one inode's failure is logged: the kernel retries a failed read page by page.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// Of how many inodes it is remembered.
const WARNED_MAX: usize = 1024;
/// Listing cookies of `.` and `..`; the entries' own follow.
const COOKIES_OWN: u64 = 2;

/// How a file system is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who owns the folders above the snapshots.
    pub owner: Owner,
    /// Threads that read ahead; 0 for no reading ahead.
    pub prefetch_threads: usize,
    /// How far ahead of one reader, in bytes.
    pub prefetch_bytes: u64,
}

impl Options {
    /// Settings for a mount by this owner.
    pub fn new(owner: Owner) -> Self {
        Self { owner, prefetch_threads: 4, prefetch_bytes: 8 * 1024 * 1024 }
    }
}

/// How long an answer may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// It will never change.
    Forever,
    /// It may change when snapshots come and go.
    Short,
    /// It is to be asked again each time.
    Never,
}

/// An answer about an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its attributes.
    pub attr: Attr,
    /// How long they, and the name that led to them, may be believed.
    pub ttl: Ttl,
}

/// An entry in a listing.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// What it is.
    pub entry: Entry,
    /// Whether it is `.` or `..`, to which no reference is taken.
    pub own: bool,
    /// Where the listing goes on behind it.
    pub next: u64,
}

/// What statfs(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Bytes of all files shown.
    pub bytes: u64,
    /// Entries shown.
    pub entries: u64,
}

/// The file system.
pub struct Vfs {
    source: Arc<dyn Source>,
    options: Options,
    table: Table,
    /// None if one snapshot is the root.
    current: Option<Arc<Current>>,
    files: Files,
    pool: Pool,
    warned: Mutex<HashMap<u64, Instant>>,
}

impl Vfs {
    /// Shows all snapshots.
    pub fn all(source: Arc<dyn Source>, options: Options) -> bkfs_store::Result<Self> {
        let current = Arc::new(Current::load(source.clone())?);
        let attr = Attr::top_dir(inode::ROOT, options.owner, current.state().changed);
        Self::new(source, options, What::Top(Place::Root), attr, Some(current))
    }

    /// Shows one snapshot.
    pub fn one(source: Arc<dyn Source>, version: Arc<Version>, options: Options) -> bkfs_store::Result<Self> {
        let attr = Attr::of(inode::ROOT, &version.snapshot.root);
        let what = tree_of(&version, Key::ROOT)?;
        Self::new(source, options, what, attr, None)
    }

    fn new(
        source: Arc<dyn Source>,
        options: Options,
        what: What,
        attr: Attr,
        current: Option<Arc<Current>>,
    ) -> bkfs_store::Result<Self> {
        let pool = Pool::new(&source, options.prefetch_threads)
            .map_err(|e| bkfs_store::Error::Invalid(format!("cannot start threads: {e}")))?;
        let (table, files, warned) = (Table::new(what, attr), Files::new(), Mutex::default());
        Ok(Self { source, options, table, current, files, pool, warned })
    }

    /// Watches for new snapshots on a thread, and calls `changed` with the inodes whose attributes and listings are no
    /// longer right.
    pub fn watch(self: &Arc<Self>, changed: impl Fn(Vec<u64>) + Send + 'static) -> std::io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let vfs = Arc::downgrade(self);
        let tell = move || {
            if let Some(tops) = vfs.upgrade().map(|vfs| vfs.table.tops()) {
                changed(tops);
            }
        };
        Current::watch(current, Box::new(tell))
    }

    /// Finds a name in a directory and takes a reference to what it found. None if there is nothing of that name and
    /// never will be; [`Error::NotFound`] if there may be some day.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Entry>> {
        let dir = self.dir(parent)?;
        match &dir.what {
            What::Top(place) => {
                let state = self.fresh()?;
                let item = state.names.find(place, name).ok_or(Error::NotFound)?;
                self.hold_item(&state, &dir, name, &item).map(Some)
            }
            What::Tree { subtree, .. } => match self.source.find(subtree, name) {
                Ok(Some((index, node))) => self.hold_node(&dir, index, &node).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(self.failed(&dir, None, dir.ino(), "cannot look into a folder", &error)),
            },
        }
    }

    /// Drops references that look-ups and listings took.
    pub fn forget(&self, ino: u64, count: u64) {
        self.table.forget(ino, count);
        self.files.forget(ino);
    }

    /// Attributes.
    pub fn getattr(&self, ino: u64) -> Result<Entry> {
        match self.inode(ino)? {
            Inode::Dir(dir) => match &dir.what {
                What::Tree { .. } => Ok(Entry { attr: dir.attr, ttl: Ttl::Forever }),
                // Asked each time, so that a listing that the kernel keeps is known to be old.
                What::Top(_) => {
                    let attr = Attr::top_dir(ino, self.options.owner, self.fresh()?.changed);
                    Ok(Entry { attr, ttl: Ttl::Never })
                }
            },
            Inode::Entry(dir, index) => match &dir.what {
                What::Tree { .. } => {
                    let attr = self.with_node(&dir, index, ino, |node| Attr::of(ino, node))?;
                    Ok(Entry { attr, ttl: Ttl::Forever })
                }
                What::Top(place) => {
                    let (state, target) = self.latest(place, index)?;
                    let attr = Attr::top_link(ino, self.options.owner, state.changed, &target);
                    Ok(Entry { attr, ttl: Ttl::Short })
                }
            },
        }
    }

    /// The target of a symbolic link.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        let Inode::Entry(dir, index) = self.inode(ino)? else { return Err(Error::Invalid) };
        match &dir.what {
            What::Top(place) => self.latest(place, index).map(|(_, target)| target),
            What::Tree { .. } => self
                .with_node(&dir, index, ino, |node| node.target.clone().filter(|_| node.kind == NodeKind::Symlink))?
                .ok_or(Error::Invalid),
        }
    }

    /// Lists a directory from an offset on (0, or [`Listed::next`] of an entry) until `add` returns false. With `hold`
    /// a reference is taken to each entry that `add` accepted, but `.` and `..`.
    pub fn readdir(&self, ino: u64, offset: u64, hold: bool, add: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let dir = self.dir(ino)?;
        for (at, name, number) in [(0, b".".as_slice(), ino), (1, b"..", dir.parent_ino())] {
            let entry = Entry { attr: Attr { ino: number, ..dir.attr }, ttl: Ttl::Never };
            if offset <= at && !add(&Listed { name, entry, own: true, next: at + 1 }) {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(COOKIES_OWN);
        match &dir.what {
            What::Top(place) => self.list_top(&dir, place, from, hold, add),
            What::Tree { subtree, .. } => {
                let (mut listed, mut failed) = (false, None);
                let done = self.source.visit(subtree, from, &mut |index, node| {
                    let entry = match self.hold_node(&dir, index, node) {
                        Ok(entry) => entry,
                        Err(error) => {
                            failed = Some(error);
                            return false;
                        }
                    };
                    let next = index.saturating_add(COOKIES_OWN + 1);
                    let more = add(&Listed { name: &node.name, entry, own: false, next });
                    if !more || !hold {
                        self.table.forget(entry.attr.ino, 1);
                    }
                    listed |= more;
                    more
                });
                match (done, failed) {
                    // What comes before the failure is shown; asking for what follows fails.
                    _ if listed => Ok(()),
                    (Err(error), _) => Err(self.failed(&dir, None, ino, "cannot list a folder", &error)),
                    (Ok(()), Some(error)) => Err(error),
                    (Ok(()), None) => Ok(()),
                }
            }
        }
    }

    /// Bytes of a file; fewer than `len` only at its end.
    pub fn read(&self, ino: u64, offset: u64, len: usize) -> Result<Bytes> {
        let file = self.file(ino)?;
        let node = &file.node;
        if offset >= node.size {
            return Ok(Bytes::new());
        }
        let len = (node.size - offset).min(len as u64) as usize;
        let _demand = self.pool.demand();
        let ahead = file.cursors.lock().read(offset, len as u64, node.size);
        if let Some(range) = ahead {
            self.pool.submit(node, range);
        }
        match self.source.read(node, offset, len) {
            Ok(bytes) if bytes.len() == len => Ok(bytes),
            Ok(bytes) => {
                let reason = format!("{} bytes came at {offset} where {len} are stored", bytes.len());
                let error = bkfs_store::Error::damaged("the file's contents", reason);
                Err(self.failed(&file.dir, Some(&node.name), ino, "cannot read a file", &error))
            }
            Err(error) => {
                let doing = format!("cannot read bytes {offset} to {} of a file", offset + len as u64);
                Err(self.failed(&file.dir, Some(&node.name), ino, &doing, &error))
            }
        }
    }

    /// What lseek(2) does for `SEEK_DATA` and `SEEK_HOLE`.
    pub fn seek(&self, ino: u64, offset: u64, what: Seek) -> Result<u64> {
        let file = self.file(ino)?;
        let found = self.source.seek(&file.node, offset, what);
        let found = found.map_err(|error| {
            self.failed(&file.dir, Some(&file.node.name), ino, "cannot find a file's holes", &error)
        })?;
        found.ok_or(Error::NoMore)
    }

    /// The value of an extended attribute.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let find = |node: &Node| node.xattrs().iter().find(|xattr| xattr.name == name).map(|x| x.value.clone());
        self.xattrs(ino, find)?.flatten().ok_or(Error::NoAttribute)
    }

    /// The names of the extended attributes, each with a NUL behind it.
    pub fn listxattr(&self, ino: u64) -> Result<Vec<u8>> {
        let list = |node: &Node| {
            let names = node.xattrs().iter().flat_map(|xattr| [xattr.name.as_slice(), b"\0"]);
            names.collect::<Vec<_>>().concat()
        };
        Ok(self.xattrs(ino, list)?.unwrap_or_default())
    }

    /// How much is shown.
    pub fn statfs(&self) -> Statfs {
        let add = |all: Statfs, version: &Version| {
            let totals = version.snapshot.root.subtree.map(|subtree| subtree.totals).unwrap_or_default();
            let entries = totals.files.saturating_add(totals.dirs).saturating_add(totals.others).saturating_add(1);
            Statfs { bytes: all.bytes.saturating_add(totals.bytes), entries: all.entries.saturating_add(entries) }
        };
        let none = Statfs { bytes: 0, entries: 0 };
        match (&self.current, self.table.get(inode::ROOT)) {
            (Some(current), _) => current.state().names.versions().fold(none, |all, version| add(all, version)),
            (None, Some(Inode::Dir(root))) => match &root.what {
                What::Tree { version, .. } => add(none, version),
                What::Top(_) => none,
            },
            _ => none,
        }
    }

    /// How many directories and hard-linked inodes the kernel holds.
    pub fn held(&self) -> (usize, usize) {
        self.table.len()
    }

    fn inode(&self, ino: u64) -> Result<Inode> {
        self.table.get(ino).ok_or(Error::Stale)
    }

    fn dir(&self, ino: u64) -> Result<Arc<Dir>> {
        match self.inode(ino)? {
            Inode::Dir(dir) => Ok(dir),
            Inode::Entry(..) => Err(Error::NotADirectory),
        }
    }

    fn file(&self, ino: u64) -> Result<Arc<File>> {
        let Inode::Entry(dir, index) = self.inode(ino)? else { return Err(Error::IsADirectory) };
        if let What::Top(_) = dir.what {
            return Err(Error::Invalid);
        }
        self.files.get(ino, &dir, index, || {
            let node = self.with_node(&dir, index, ino, |node| (node.kind == NodeKind::File).then(|| node.clone()))?;
            let node = Arc::new(node.ok_or(Error::Invalid)?);
            let cursors = Mutex::new(Cursors::new(self.options.prefetch_bytes));
            Ok(Arc::new(File { node, dir: dir.clone(), index, cursors }))
        })
    }

    fn fresh(&self) -> Result<Arc<State>> {
        self.current.as_ref().map(|current| current.fresh()).ok_or(Error::Stale)
    }

    /// Where `latest` of a folder leads, if it is still the one that the inode stands for.
    fn latest(&self, place: &Place, index: u64) -> Result<(Arc<State>, Vec<u8>)> {
        let state = self.fresh()?;
        match state.names.find(place, b"latest") {
            Some(Item::Latest { target, log_seq }) if latest_index(log_seq) == index => Ok((state, target)),
            _ => Err(Error::Stale),
        }
    }

    fn list_top(
        &self,
        dir: &Arc<Dir>,
        place: &Place,
        mut after: u64,
        hold: bool,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        const BATCH: usize = 64;
        let state = if after == 0 { self.fresh()? } else { self.current.as_ref().ok_or(Error::Stale)?.state() };
        loop {
            let items = state.names.list(place, after, BATCH);
            let Some(last) = items.last() else { return Ok(()) };
            after = last.cookie;
            for listed in &items {
                let entry = self.hold_item(&state, dir, &listed.name, &listed.item)?;
                let next = listed.cookie + COOKIES_OWN;
                let more = add(&Listed { name: &listed.name, entry, own: false, next });
                if !more || !hold {
                    self.table.forget(entry.attr.ino, 1);
                }
                if !more {
                    return Ok(());
                }
            }
        }
    }

    /// Takes a reference to something above the snapshots, or to a snapshot's root.
    fn hold_item(&self, state: &State, dir: &Arc<Dir>, name: &[u8], item: &Item) -> Result<Entry> {
        let owner = self.options.owner;
        match item {
            Item::Latest { target, log_seq } => {
                let ino = dir.entry_ino(latest_index(*log_seq)).ok_or(Error::Overflow)?;
                self.table.hold_entry(dir);
                Ok(Entry { attr: Attr::top_link(ino, owner, state.changed, target), ttl: Ttl::Short })
            }
            Item::Place(place) => {
                let (key, what) = (dir.key.child(b'p', &[name]), What::Top(place.clone()));
                let attr = Attr::top_dir(0, owner, state.changed);
                let held = self.table.hold_dir(DirSeed { key, name, parent: dir, index: 0, what, attr });
                Ok(Entry { attr: Attr { ino: held.ino(), ..attr }, ttl: Ttl::Short })
            }
            Item::Version(version) => {
                let key = dir.key.child(b'v', &[name, &version.id.0]);
                let what = tree_of(version, key).map_err(|_| Error::Io)?;
                let attr = Attr::of(0, &version.snapshot.root);
                let held = self.table.hold_dir(DirSeed { key, name, parent: dir, index: 0, what, attr });
                Ok(Entry { attr: held.attr, ttl: Ttl::Short })
            }
        }
    }

    /// Takes a reference to an entry of a snapshot's directory.
    fn hold_node(&self, dir: &Arc<Dir>, index: u64, node: &Node) -> Result<Entry> {
        let What::Tree { version, root, .. } = &dir.what else { return Err(Error::Stale) };
        let attr = match (&node.subtree, node.hard_link) {
            (Some(subtree), _) if node.is_dir() => {
                let what = What::Tree { subtree: *subtree, version: version.clone(), root: *root };
                let key = dir.key.child(b'd', &[&index.to_le_bytes()]);
                let (name, attr) = (node.name.as_slice(), Attr::of(0, node));
                self.table.hold_dir(DirSeed { key, name, parent: dir, index, what, attr }).attr
            }
            (_, Some(group)) => {
                let content = match (&node.content, &node.target) {
                    (Some(content), _) => codec::encode(content),
                    (None, target) => target.clone().unwrap_or_default(),
                };
                let key = inode::link_key(root, group, node.size, &content);
                Attr::of(self.table.hold_link(key, dir, index), node)
            }
            _ => {
                let ino = dir.entry_ino(index).ok_or(Error::Overflow)?;
                self.table.hold_entry(dir);
                Attr::of(ino, node)
            }
        };
        Ok(Entry { attr, ttl: Ttl::Forever })
    }

    fn with_node<T>(&self, dir: &Dir, index: u64, ino: u64, mut show: impl FnMut(&Node) -> T) -> Result<T> {
        let What::Tree { subtree, .. } = &dir.what else { return Err(Error::Stale) };
        let mut shown = None;
        let visited = self.source.visit(subtree, index, &mut |at, node| {
            shown = (at == index).then(|| show(node));
            false
        });
        match visited {
            Ok(()) => shown.ok_or(Error::Stale),
            Err(error) => Err(self.failed(dir, None, ino, "cannot look into a folder", &error)),
        }
    }

    /// Shows the node that holds an inode's attributes; none for what lies above the snapshots.
    fn xattrs<T>(&self, ino: u64, mut show: impl FnMut(&Node) -> T) -> Result<Option<T>> {
        match self.inode(ino)? {
            Inode::Entry(dir, index) => match dir.what {
                What::Top(_) => Ok(None),
                What::Tree { .. } => self.with_node(&dir, index, ino, show).map(Some),
            },
            Inode::Dir(dir) => match (&dir.what, &dir.parent) {
                (What::Top(_), _) => Ok(None),
                (What::Tree { .. }, Some(parent)) if matches!(parent.what, What::Tree { .. }) => {
                    self.with_node(parent, dir.index, ino, show).map(Some)
                }
                (What::Tree { version, .. }, _) => Ok(Some(show(&version.snapshot.root))),
            },
        }
    }

    /// Logs what failed and where, and says what the caller is to be told.
    fn failed(&self, dir: &Dir, name: Option<&[u8]>, ino: u64, doing: &str, error: &bkfs_store::Error) -> Error {
        let gone = || match (&dir.what, &self.current) {
            (What::Tree { version, .. }, Some(current)) => !current.state().names.contains(&version.id),
            _ => false,
        };
        let told = error::classify(error, gone);
        let now = Instant::now();
        let mut warned = self.warned.lock();
        if warned.get(&ino).is_some_and(|last| now.duration_since(*last) < WARN_EVERY) {
            return told;
        }
        if warned.len() >= WARNED_MAX {
            warned.clear();
        }
        warned.insert(ino, now);
        drop(warned);
        let mut path = dir.path();
        if let Some(name) = name {
            path = format!("{path}/{}", name.escape_ascii());
        }
        tracing::warn!(path, %error, "{doing}: {told}");
        told
    }
}

fn tree_of(version: &Arc<Version>, root: Key) -> bkfs_store::Result<What> {
    let subtree = version.snapshot.root.subtree.ok_or_else(|| bkfs_store::Error::SnapshotDamaged {
        snapshot: version.id,
        reason: "its root is no directory".into(),
    })?;
    Ok(What::Tree { subtree, version: version.clone(), root })
}

/// `latest` is another inode whenever it leads elsewhere, so that no cache can show an old target.
fn latest_index(log_seq: u64) -> u64 {
    log_seq % inode::ENTRIES_MAX
}

#[cfg(test)]
mod tests;
