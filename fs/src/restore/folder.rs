//! Folders of a restore: created when their turn comes, and given their attributes when everything in them is done.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bkfs_store::{
    Error,
    format::tree::{Node, NodeKind},
};
use rustix::{
    fs::{AtFlags, Mode, OFlags, Stat},
    io::Errno,
};

use super::{
    attributes::{EntryHandle, has_default_acl},
    decide::kind_of,
    destination::{Attributed, Destination},
    handle::{DestDir, is_file_name, open_beneath, open_dir},
    report::Reason,
    shared::Shared,
    temp::{MARK, create_mark, is_temp, remove_leftover},
};

/// How many entries of a folder are listed at a time. While the tree is read ahead, that many are held of each folder
/// on the path.
const LISTED_MAX: usize = 256;

/// A folder that is being restored. Every task below it holds a reference; dropping the last one through
/// [`Folders::release`] finishes the folder.
pub(super) struct Folder {
    /// Where it is.
    pub(super) dir: Arc<DestDir>,
    /// The stored folder.
    pub(super) node: Node,
    /// Entries created in it inherit an ACL, which must be removed again.
    pub(super) hands_down_acl: bool,
    parent: Option<Arc<Folder>>,
    /// This run created it, so it contains only what this run created.
    is_new: bool,
    /// Its own ACLs are removed if they are not stored.
    strip_acl: bool,
    /// It gets its stored attributes.
    sets_attributes: bool,
}

impl Folder {
    /// Returns the destination itself.
    pub(super) fn destination(fd: OwnedFd, node: Node, sets_attributes: bool) -> Arc<Self> {
        let hands_down_acl = has_default_acl(&fd);
        let dir = DestDir::root(fd);
        Arc::new(Self { dir, node, hands_down_acl, parent: None, is_new: false, strip_acl: true, sets_attributes })
    }

    /// Returns the existing entry with that name, if there is one. `fd` is the folder's handle. In a folder that this
    /// run created there is none, and the system is not asked.
    pub(super) fn find(&self, fd: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Reason> {
        if self.is_new {
            return Ok(None);
        }
        match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Reason::System { what: "inspect the existing entry", error: error.into() }),
        }
    }
}

impl Drop for Folder {
    /// Drops the parents in a loop, for the same reason as [`DestDir`].
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut folder| folder.parent.take());
        }
    }
}

/// Some entries of a folder.
pub(super) struct Listing {
    pub(super) nodes: Vec<Node>,
    /// Index of the first entry after these; none if these are the last.
    pub(super) next: Option<u64>,
}

/// Creates and finishes folders.
pub(super) struct Folders<'a> {
    shared: &'a Shared<'a>,
    destination: &'a Destination<'a>,
    /// The mark is in the destination.
    is_marked: AtomicBool,
}

impl<'a> Folders<'a> {
    /// Returns the owner of the destination's folders.
    pub(super) fn new(shared: &'a Shared<'a>, destination: &'a Destination<'a>) -> Self {
        Self { shared, destination, is_marked: AtomicBool::new(false) }
    }

    /// Puts the mark into the destination. It is removed when the destination gets its attributes.
    pub(super) fn mark(&self, fd: &OwnedFd) -> io::Result<()> {
        create_mark(fd)?;
        self.is_marked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Creates a folder, or opens the existing one. If neither is possible, reports that and skips everything in it.
    pub(super) fn create(&self, parent: &Arc<Folder>, node: Node) -> Option<Arc<Folder>> {
        match self.open_or_create(parent, &node) {
            Ok(folder) => Some(Arc::new(folder)),
            Err(reason) => {
                let totals = node.subtree.map(|s| s.totals).unwrap_or_default();
                let entries = [totals.files, totals.dirs, totals.others].into_iter().fold(1, u64::saturating_add);
                self.shared.progress.entries_done.fetch_add(entries, Ordering::Relaxed);
                self.shared.progress.bytes_done.fetch_add(totals.bytes, Ordering::Relaxed);
                self.shared.problem(&parent.dir, &node.name, reason);
                None
            }
        }
    }

    fn open_or_create(&self, parent: &Arc<Folder>, node: &Node) -> Result<Folder, Reason> {
        let handles = &self.destination.handles;
        let parent_fd = handles.get(&parent.dir).map_err(Reason::system("open the parent folder"))?;
        let is_new = self.create_dir(&parent_fd, &node.name)?;
        let fd = match is_new {
            true => open_dir(&parent_fd, &node.name),
            false => open_existing(&parent_fd, &node.name, self.destination.is_root),
        };
        let fd = fd.map_err(Reason::system("open the folder"))?;
        let inherits = !is_new && has_default_acl(&fd);
        let dir = DestDir::child(&parent.dir, &node.name);
        if !is_new {
            self.remove_leftovers(&fd, node).map_err(Reason::system("remove leftovers of an earlier restore"))?;
        }
        handles.adopt(&dir, fd).map_err(Reason::system("open the folder"))?;
        let strip_acl = is_new && parent.hands_down_acl;
        Ok(Folder {
            dir,
            node: node.clone(),
            // A new folder has inherited the ACL that its parent hands down, and hands it on until it is finished.
            hands_down_acl: inherits || strip_acl,
            parent: Some(parent.clone()),
            is_new,
            strip_acl,
            sets_attributes: true,
        })
    }

    /// Creates the folder; returns false if it exists.
    fn create_dir(&self, parent: &OwnedFd, name: &[u8]) -> Result<bool, Reason> {
        let failed = Reason::system("create the folder");
        for _ in 0..2 {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            if kind_of(&stat) == Some(NodeKind::Directory) {
                return Ok(false);
            }
            if !self.shared.options.overwrite {
                return Err(Reason::Differs);
            }
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
        }
        Err(Reason::Differs)
    }

    /// Removes the temporary files that a killed restore left in a folder, except those that are stored entries. `node`
    /// is the stored folder, or the single entry that is restored into the folder.
    pub(super) fn remove_leftovers(&self, fd: &OwnedFd, node: &Node) -> io::Result<()> {
        let is_stored = |name: &[u8]| match &node.subtree {
            // What cannot be looked up may be stored.
            Some(subtree) => self.shared.source.lookup(subtree, name).map_or(true, |found| found.is_some()),
            None => name == node.name,
        };
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if is_temp(name) && !is_stored(name) {
                remove_leftover(fd, name)?;
            }
        }
        Ok(())
    }

    /// Lists a folder's entries from an index on. Returns none if there are no more, or if they cannot be read, which
    /// is reported.
    pub(super) fn list(&self, folder: &Folder, from: u64) -> Option<Listing> {
        let subtree = folder.node.subtree.as_ref().filter(|subtree| from < subtree.entries)?;
        let reason: Reason = match self.shared.source.nodes(subtree, from, LISTED_MAX) {
            Ok(nodes) if nodes.is_empty() => {
                let text = format!("it states {} entries but has {from}", subtree.entries);
                Error::damaged("a tree", text).into()
            }
            Ok(nodes) => {
                let next = from.saturating_add(nodes.len() as u64);
                return Some(Listing { nodes, next: (next < subtree.entries).then_some(next) });
            }
            Err(error) => error.into(),
        };
        self.shared.problem(&folder.dir, b"", reason);
        None
    }

    /// Skips an entry whose name or node is invalid, and reports it.
    pub(super) fn skip_invalid(&self, folder: &Folder) {
        self.shared.progress.entries_done.fetch_add(1, Ordering::Relaxed);
        self.shared.problem(&folder.dir, b"", Reason::BadName);
    }

    /// Drops a reference to a folder. If it was the last, finishes the folder, and likewise the folders above it.
    pub(super) fn release(&self, folder: Arc<Folder>) {
        let mut next = Some(folder);
        while let Some(mut folder) = next.and_then(Arc::into_inner) {
            if !self.shared.is_stopped() {
                self.finish(&folder);
                // Its turn comes next, unless something else in it is not done.
                self.destination.handles.open_parent(&folder.dir);
            }
            next = folder.parent.take();
        }
    }

    fn finish(&self, folder: &Folder) {
        let is_destination = folder.parent.is_none();
        if folder.sets_attributes {
            match self.destination.handles.get(&folder.dir) {
                Ok(fd) => {
                    if is_destination && self.is_marked.load(Ordering::Relaxed) {
                        // If this fails, the next run sets these attributes once more, which does no harm.
                        let _ = rustix::fs::unlinkat(&fd, MARK, AtFlags::empty());
                    }
                    let handle = EntryHandle::Open(fd.as_fd());
                    let strip_acl = folder.strip_acl;
                    let how = match folder.is_new {
                        true => Attributed::New { strip_acl },
                        false => Attributed::Existing { strip_acl },
                    };
                    if let Err(reason) = self.destination.set_attributes(&folder.dir, b"", handle, &folder.node, how) {
                        self.shared.problem(&folder.dir, b"", reason);
                    }
                }
                Err(error) => self.shared.problem(&folder.dir, b"", Reason::System { what: "open the folder", error }),
            }
        }
        if !is_destination {
            self.shared.progress.entries_done.fetch_add(1, Ordering::Relaxed);
            let counts = &self.shared.counts;
            let counter = if folder.is_new { &counts.dirs } else { &counts.kept };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Returns whether a stored entry is valid, and its name can be the name of a file.
pub(super) fn is_valid(node: &Node) -> bool {
    is_file_name(&node.name) && node.validate(false).is_ok()
}

/// Opens an existing folder. If its mode denies its owner access, and the owner is running this restore, grants it.
fn open_existing(parent: &OwnedFd, name: &[u8], is_root: bool) -> io::Result<OwnedFd> {
    if !is_root {
        let path = open_beneath(parent, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let mode = rustix::fs::fstat(&path)?.st_mode;
        if mode & 0o700 != 0o700 {
            EntryHandle::Path(path.as_fd()).set_mode(Mode::from_raw_mode(mode & 0o7777 | 0o700))?;
        }
    }
    open_dir(parent, name)
}
