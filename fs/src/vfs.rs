//! The read-only file system that a mount shows: snapshots as folders. It knows no FUSE.
//!
//! The top is a small tree of names ([`names`]) that follows the repository ([`refresh`]). Below it are the snapshots.
//! Their directories and files are read through a [`VfsSource`] and never change, so answers about them can be cached
//! forever ([`Ttl::Forever`]). [`inode`] has the inode numbers and the table of what the kernel holds; [`prefetch`]
//! reads ahead.
//!
//! There are no operations that write. The file system does not cache contents: the kernel's page cache and the source
//! do.

pub mod attr;
pub mod component;
pub mod entry;
pub mod error;
pub mod inode;
pub mod latest;
pub mod names;
pub mod options;
pub mod prefetch;
mod recent;
pub mod refresh;
pub mod source;
#[cfg(test)]
pub(crate) mod testing;
pub mod top;
mod warnings;

use std::sync::Arc;

use bkfs_store::{
    base::codec,
    format::tree::{Node, NodeKind},
};
use bytes::Bytes;
use parking_lot::Mutex;

pub use attr::{Attr, MountOwner};
pub use entry::{Entry, Listed, Ttl};
pub use error::{Error, Result};
pub use options::VfsOptions;
pub use source::{Seek, ShownSnapshot, VfsSource};

use inode::{DirInstance, DirKind, Inode, InodeTable, NewDir, PathKey};
use prefetch::{Cursors, PrefetchPool};
use recent::{RecentFile, RecentFiles};
use refresh::{CurrentSnapshots, SnapshotList};
use top::{TopDir, TopItem};
use warnings::Warnings;

use crate::privileges;

/// How many offsets of a listing `.` and `..` take; those of the entries follow.
const DOT_COOKIES: u64 = 2;
/// How many entries of a folder above the snapshots are listed at a time.
const TOP_BATCH: usize = 64;

/// The file system.
pub struct Vfs {
    source: Arc<dyn VfsSource>,
    options: VfsOptions,
    table: InodeTable,
    /// None if a snapshot is the root.
    current: Option<Arc<CurrentSnapshots>>,
    files: RecentFiles,
    pool: PrefetchPool,
    warnings: Warnings,
}

impl Vfs {
    /// Returns a file system that shows all snapshots that pass the filter of the options.
    pub fn all(source: Arc<dyn VfsSource>, options: VfsOptions) -> bkfs_store::Result<Self> {
        let current = Arc::new(CurrentSnapshots::load(source.clone(), options.filter.clone())?);
        let attr = Attr::top_dir(inode::ROOT, options.owner, current.known().changed);
        Ok(Self::new(source, options, DirKind::Top(TopDir::Root), attr, Some(current)))
    }

    /// Returns a file system whose root is a snapshot.
    pub fn one(
        source: Arc<dyn VfsSource>,
        snapshot: Arc<ShownSnapshot>,
        options: VfsOptions,
    ) -> bkfs_store::Result<Self> {
        let attr = Attr::of(inode::ROOT, &snapshot.record.root, snapshot.is_trusted);
        let kind = tree_of(&snapshot, PathKey::ROOT)?;
        Ok(Self::new(source, options, kind, attr, None))
    }

    fn new(
        source: Arc<dyn VfsSource>,
        options: VfsOptions,
        kind: DirKind,
        attr: Attr,
        current: Option<Arc<CurrentSnapshots>>,
    ) -> Self {
        let pool = PrefetchPool::new(&source, options.prefetch_threads);
        let (table, files, warnings) = (InodeTable::new(kind, attr), RecentFiles::new(), Warnings::default());
        Self { source, options, table, current, files, pool, warnings }
    }

    /// Starts a thread that watches for new snapshots. It calls `changed` with the inodes whose attributes and listings
    /// are out of date.
    pub fn watch(self: &Arc<Self>, changed: impl Fn(Vec<u64>) + Send + 'static) -> std::io::Result<()> {
        let Some(current) = &self.current else { return Ok(()) };
        let vfs = Arc::downgrade(self);
        let notify = move || {
            if let Some(top_dirs) = vfs.upgrade().map(|vfs| vfs.table.top_dirs()) {
                changed(top_dirs);
            }
        };
        CurrentSnapshots::watch(current, Box::new(notify))
    }

    /// Finds a name in a directory, and takes a reference to the entry. Returns none if the name does not exist and
    /// never will; fails with [`Error::NotFound`] if it may exist later.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Option<Entry>> {
        let dir = self.dir(parent)?;
        match &dir.kind {
            DirKind::Top(top) => {
                let list = self.list_for(top, Some(name))?;
                let item = list.names.find(top, name).ok_or(Error::NotFound)?;
                self.hold_item(&list, &dir, name, &item).map(Some)
            }
            DirKind::Tree { subtree, .. } => match self.source.find(subtree, name) {
                Ok(Some((index, node))) => self.hold_node(&dir, index, &node).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(self.failed(&dir, None, dir.ino(), "cannot read a folder", &error)),
            },
        }
    }

    /// Drops references that lookups and listings took.
    pub fn forget(&self, ino: u64, count: u64) {
        self.table.forget(ino, count);
        self.files.forget(ino);
    }

    /// Returns attributes.
    pub fn getattr(&self, ino: u64) -> Result<Entry> {
        match self.inode(ino)? {
            Inode::Dir(dir) => match &dir.kind {
                DirKind::Tree { .. } => Ok(Entry { attr: dir.attr, ttl: Ttl::Forever }),
                // Never cached: the kernel asks each time, and so notices that its cached listing is out of date.
                DirKind::Top(_) => {
                    let attr = Attr::top_dir(ino, self.options.owner, self.up_to_date()?.changed);
                    Ok(Entry { attr, ttl: Ttl::Never })
                }
            },
            Inode::Entry(dir, index) => match &dir.kind {
                DirKind::Tree { snapshot, .. } => {
                    let attr = self.with_node(&dir, index, ino, |node| Attr::of(ino, node, snapshot.is_trusted))?;
                    Ok(Entry { attr, ttl: Ttl::Forever })
                }
                DirKind::Top(top) => {
                    let (list, target) = self.latest(top, index)?;
                    let attr = Attr::top_link(ino, self.options.owner, list.changed, &target);
                    Ok(Entry { attr, ttl: Ttl::Short })
                }
            },
        }
    }

    /// Returns the target of a symbolic link.
    pub fn readlink(&self, ino: u64) -> Result<Vec<u8>> {
        let Inode::Entry(dir, index) = self.inode(ino)? else { return Err(Error::Invalid) };
        match &dir.kind {
            DirKind::Top(top) => self.latest(top, index).map(|(_, target)| target),
            DirKind::Tree { .. } => self
                .with_node(&dir, index, ino, |node| node.target.clone().filter(|_| node.kind == NodeKind::Symlink))?
                .ok_or(Error::Invalid),
        }
    }

    /// Lists a directory from an offset on (0, or [`Listed::next`] of an entry) until `add` returns false. With `hold`,
    /// takes a reference to each entry that `add` accepts, except `.` and `..`.
    pub fn readdir(&self, ino: u64, offset: u64, hold: bool, add: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let dir = self.dir(ino)?;
        for (cookie, name, number) in [(0, b".".as_slice(), ino), (1, b"..", dir.parent_ino())] {
            let entry = Entry { attr: Attr { ino: number, ..dir.attr }, ttl: Ttl::Never };
            if offset <= cookie && !add(&Listed { name, entry, is_dot: true, next: cookie + 1 }) {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(DOT_COOKIES);
        match &dir.kind {
            DirKind::Top(top) => self.list_top(&dir, top, from, hold, add),
            DirKind::Tree { subtree, .. } => {
                let (mut has_listed, mut failed) = (false, None);
                let done = self.source.visit(subtree, from, &mut |index, node| {
                    let entry = match self.hold_node(&dir, index, node) {
                        Ok(entry) => entry,
                        Err(error) => {
                            failed = Some(error);
                            return false;
                        }
                    };
                    let next = index.saturating_add(DOT_COOKIES + 1);
                    let more = add(&Listed { name: &node.name, entry, is_dot: false, next });
                    if !more || !hold {
                        self.table.forget(entry.attr.ino, 1);
                    }
                    has_listed |= more;
                    more
                });
                match (done, failed) {
                    // Entries before the failure are listed. The next call, for those after them, fails.
                    _ if has_listed => Ok(()),
                    (Err(error), _) => Err(self.failed(&dir, None, ino, "cannot list a folder", &error)),
                    (Ok(()), Some(error)) => Err(error),
                    (Ok(()), None) => Ok(()),
                }
            }
        }
    }

    /// Returns bytes of a file; fewer than `len` only at its end.
    pub fn read(&self, ino: u64, offset: u64, len: usize) -> Result<Bytes> {
        let file = self.file(ino)?;
        let node = &file.node;
        if offset >= node.size {
            return Ok(Bytes::new());
        }
        let len = (node.size - offset).min(len as u64) as usize;
        let _read = self.pool.begin_read();
        let ahead = file.cursors.lock().read(offset, len as u64, node.size);
        if let Some(range) = ahead {
            self.pool.submit(node, range);
        }
        match self.source.read(node, offset, len) {
            Ok(bytes) if bytes.len() == len => Ok(bytes),
            Ok(bytes) => {
                let reason = format!("a read at {offset} returned {} bytes instead of {len}", bytes.len());
                let error = bkfs_store::Error::damaged("the file's contents", reason);
                Err(self.failed(&file.dir, Some(&node.name), ino, "cannot read a file", &error))
            }
            Err(error) => {
                let doing = format!("cannot read bytes {offset} to {} of a file", offset + len as u64);
                Err(self.failed(&file.dir, Some(&node.name), ino, &doing, &error))
            }
        }
    }

    /// Returns what lseek(2) returns for `SEEK_DATA` and `SEEK_HOLE`.
    pub fn seek(&self, ino: u64, offset: u64, what: Seek) -> Result<u64> {
        let file = self.file(ino)?;
        let found = self.source.seek(&file.node, offset, what);
        let found = found.map_err(|error| {
            self.failed(&file.dir, Some(&file.node.name), ino, "cannot find a file's holes", &error)
        })?;
        found.ok_or(Error::NoMore)
    }

    /// Returns the value of an extended attribute.
    pub fn getxattr(&self, ino: u64, name: &[u8]) -> Result<Vec<u8>> {
        let find = |node: &Node, is_shown: &dyn Fn(&[u8]) -> bool| {
            let found = node.xattrs().iter().find(|xattr| xattr.name == name && is_shown(name));
            found.map(|xattr| xattr.value.clone())
        };
        self.xattrs(ino, find)?.flatten().ok_or(Error::NoAttribute)
    }

    /// Returns the names of the extended attributes, each followed by a NUL.
    pub fn listxattr(&self, ino: u64) -> Result<Vec<u8>> {
        let list = |node: &Node, is_shown: &dyn Fn(&[u8]) -> bool| {
            let shown = node.xattrs().iter().filter(|xattr| is_shown(&xattr.name));
            shown.flat_map(|xattr| [xattr.name.as_slice(), b"\0"]).collect::<Vec<_>>().concat()
        };
        Ok(self.xattrs(ino, list)?.unwrap_or_default())
    }

    /// Returns how many directories and hard-linked inodes the kernel holds.
    pub fn held(&self) -> (usize, usize) {
        self.table.len()
    }

    fn inode(&self, ino: u64) -> Result<Inode> {
        self.table.get(ino).ok_or(Error::Stale)
    }

    fn dir(&self, ino: u64) -> Result<Arc<DirInstance>> {
        match self.inode(ino)? {
            Inode::Dir(dir) => Ok(dir),
            Inode::Entry(..) => Err(Error::NotADirectory),
        }
    }

    fn file(&self, ino: u64) -> Result<Arc<RecentFile>> {
        let Inode::Entry(dir, index) = self.inode(ino)? else { return Err(Error::IsADirectory) };
        if let DirKind::Top(_) = dir.kind {
            return Err(Error::Invalid);
        }
        self.files.get(ino, &dir, index, || {
            let node = self.with_node(&dir, index, ino, |node| (node.kind == NodeKind::File).then(|| node.clone()))?;
            let node = Arc::new(node.ok_or(Error::Invalid)?);
            let cursors = Mutex::new(Cursors::new(self.options.prefetch_bytes));
            Ok(Arc::new(RecentFile { node, dir: dir.clone(), index, cursors }))
        })
    }

    fn up_to_date(&self) -> Result<Arc<SnapshotList>> {
        self.current.as_ref().map(|current| current.up_to_date()).ok_or(Error::Stale)
    }

    /// Returns the list to find a name in a folder above the snapshots, or to list the folder.
    fn list_for(&self, top: &TopDir, name: Option<&[u8]>) -> Result<Arc<SnapshotList>> {
        let current = self.current.as_ref().ok_or(Error::Stale)?;
        current.list_for(top, name).map_err(|error| {
            let reply = error::classify(&error, || false);
            tracing::warn!(%error, "cannot load the list of snapshots: {reply}");
            reply
        })
    }

    /// Returns the target of a link to a newest snapshot, if the inode still represents it.
    fn latest(&self, top: &TopDir, index: u64) -> Result<(Arc<SnapshotList>, Vec<u8>)> {
        let list = self.up_to_date()?;
        let target = list.names.link_target(top, |log_seq| latest_index(log_seq) == index).ok_or(Error::Stale)?;
        Ok((list, target))
    }

    fn list_top(
        &self,
        dir: &Arc<DirInstance>,
        top: &TopDir,
        mut after: u64,
        hold: bool,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<()> {
        let list =
            if after == 0 { self.list_for(top, None)? } else { self.current.as_ref().ok_or(Error::Stale)?.known() };
        loop {
            let items = list.names.list(top, after, TOP_BATCH);
            let Some(last) = items.last() else { return Ok(()) };
            after = last.cookie;
            for listed in &items {
                let entry = self.hold_item(&list, dir, &listed.name, &listed.item)?;
                let next = listed.cookie + DOT_COOKIES;
                let more = add(&Listed { name: &listed.name, entry, is_dot: false, next });
                if !more || !hold {
                    self.table.forget(entry.attr.ino, 1);
                }
                if !more {
                    return Ok(());
                }
            }
        }
    }

    /// Takes a reference to an entry above the snapshots, or to a snapshot's root.
    fn hold_item(&self, list: &SnapshotList, dir: &Arc<DirInstance>, name: &[u8], item: &TopItem) -> Result<Entry> {
        let owner = self.options.owner;
        match item {
            TopItem::Latest { target, log_seq } => {
                let ino = dir.entry_ino(latest_index(*log_seq)).ok_or(Error::Overflow)?;
                self.table.hold_entry(dir);
                Ok(Entry { attr: Attr::top_link(ino, owner, list.changed, target), ttl: Ttl::Short })
            }
            TopItem::Dir(top) => {
                let (key, kind) = (dir.key.child(b'p', &[name]), DirKind::Top(top.clone()));
                let attr = Attr::top_dir(0, owner, list.changed);
                let held = self.table.hold_dir(NewDir { key, name, parent: dir, index: 0, kind, attr });
                Ok(Entry { attr: Attr { ino: held.ino(), ..attr }, ttl: Ttl::Short })
            }
            TopItem::Snapshot(snapshot) => {
                let key = dir.key.child(b'v', &[name, &snapshot.id.0]);
                let kind = tree_of(snapshot, key).map_err(|_| Error::Io)?;
                let attr = Attr::of(0, &snapshot.record.root, snapshot.is_trusted);
                let held = self.table.hold_dir(NewDir { key, name, parent: dir, index: 0, kind, attr });
                Ok(Entry { attr: held.attr, ttl: Ttl::Short })
            }
        }
    }

    /// Takes a reference to an entry of a snapshot's directory.
    fn hold_node(&self, dir: &Arc<DirInstance>, index: u64, node: &Node) -> Result<Entry> {
        let DirKind::Tree { snapshot, root, .. } = &dir.kind else { return Err(Error::Stale) };
        let attr = match (&node.subtree, node.hard_link) {
            (Some(subtree), _) if node.is_dir() => {
                let kind = DirKind::Tree { subtree: *subtree, snapshot: snapshot.clone(), root: *root };
                let key = dir.key.child(b'd', &[&index.to_le_bytes()]);
                let (name, attr) = (node.name.as_slice(), Attr::of(0, node, snapshot.is_trusted));
                self.table.hold_dir(NewDir { key, name, parent: dir, index, kind, attr }).attr
            }
            (_, Some(group)) => {
                let content = match (&node.content, &node.target) {
                    (Some(content), _) => codec::encode(content),
                    (None, target) => target.clone().unwrap_or_default(),
                };
                let key = inode::link_key(root, group, node.size, &content);
                Attr::of(self.table.hold_link(key, dir, index), node, snapshot.is_trusted)
            }
            _ => {
                let ino = dir.entry_ino(index).ok_or(Error::Overflow)?;
                self.table.hold_entry(dir);
                Attr::of(ino, node, snapshot.is_trusted)
            }
        };
        Ok(Entry { attr, ttl: Ttl::Forever })
    }

    fn with_node<T>(&self, dir: &DirInstance, index: u64, ino: u64, mut show: impl FnMut(&Node) -> T) -> Result<T> {
        let DirKind::Tree { subtree, .. } = &dir.kind else { return Err(Error::Stale) };
        let mut shown = None;
        let visited = self.source.visit(subtree, index, &mut |found, node| {
            shown = (found == index).then(|| show(node));
            false
        });
        match visited {
            Ok(()) => shown.ok_or(Error::Stale),
            Err(error) => Err(self.failed(dir, None, ino, "cannot read a folder", &error)),
        }
    }

    /// Calls `show` with the node that has an inode's extended attributes, and with what decides by its name whether an
    /// attribute is shown. Returns none for an inode above the snapshots.
    fn xattrs<T>(&self, ino: u64, show: impl Fn(&Node, &dyn Fn(&[u8]) -> bool) -> T) -> Result<Option<T>> {
        let (Inode::Entry(dir, _) | Inode::Dir(dir)) = &self.inode(ino)?;
        let DirKind::Tree { snapshot, .. } = &dir.kind else { return Ok(None) };
        let show = |node: &Node| show(node, &|name| snapshot.is_trusted || !privileges::is_privileged_xattr(name));
        match self.inode(ino)? {
            Inode::Entry(dir, index) => self.with_node(&dir, index, ino, show).map(Some),
            Inode::Dir(dir) => match &dir.parent {
                Some(parent) if matches!(parent.kind, DirKind::Tree { .. }) => {
                    self.with_node(parent, dir.index, ino, show).map(Some)
                }
                _ => Ok(Some(show(&snapshot.record.root))),
            },
        }
    }

    /// Logs what failed and where. Returns the error for the caller.
    fn failed(
        &self,
        dir: &DirInstance,
        name: Option<&[u8]>,
        ino: u64,
        doing: &str,
        error: &bkfs_store::Error,
    ) -> Error {
        let is_gone = || match (&dir.kind, &self.current) {
            (DirKind::Tree { snapshot, .. }, Some(current)) => !current.known().names.contains(&snapshot.id),
            _ => false,
        };
        let reply = error::classify(error, is_gone);
        if self.warnings.is_due(ino) {
            let mut path = dir.path();
            if let Some(name) = name {
                path = format!("{path}/{}", name.escape_ascii());
            }
            tracing::warn!(path, %error, "{doing}: {reply}");
        }
        reply
    }
}

fn tree_of(snapshot: &Arc<ShownSnapshot>, root: PathKey) -> bkfs_store::Result<DirKind> {
    let subtree = snapshot.record.root.subtree.ok_or_else(|| bkfs_store::Error::SnapshotDamaged {
        snapshot: snapshot.id,
        reason: "its root is not a directory".into(),
    })?;
    Ok(DirKind::Tree { subtree, snapshot: snapshot.clone(), root })
}

/// Returns the entry index of `latest`. A new target gives it a new inode, so no cache can show the old target.
fn latest_index(log_seq: u64) -> u64 {
    log_seq % inode::ENTRIES_MAX
}

#[cfg(test)]
mod tests;
