//! Folders of a restore: made when their turn comes, given their attributes when nothing below is left to do.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use bkfs_store::tree::{Node, NodeKind};
use rustix::{
    fs::{AtFlags, Mode, OFlags},
    io::Errno,
};

use super::{
    Reason,
    attributes::{Handle, has_default_acl},
    decide::kind_of,
    handle::{Dir, open_beneath, open_dir},
    run::{Engine, Task},
    temp::{MARK, is_temp},
};

/// A folder that is being restored. Every task below it holds it; whoever lets go last finishes it.
pub(super) struct Folder {
    /// Where it is.
    pub(super) dir: Arc<Dir>,
    /// What is stored of it.
    pub(super) node: Node,
    /// The folder that holds it.
    pub(super) parent: Option<Arc<Folder>>,
    /// It was made by this run, so nothing is in it but what this run made.
    pub(super) fresh: bool,
    /// What is made in it gets an ACL that must go again.
    pub(super) inherits: bool,
    /// Its own ACLs go if they are not stored.
    pub(super) strip: bool,
    /// It gets its stored attributes.
    pub(super) apply: bool,
}

impl Drop for Folder {
    /// Not by recursion, for the same reason as [`Dir`].
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut folder| folder.parent.take());
        }
    }
}

impl Engine<'_> {
    /// Makes a folder, or opens the one that is there, and pushes the task that walks it.
    pub(super) fn enter(&self, parent: &Arc<Folder>, node: Node) {
        if let Some(folder) = self.make(parent, node) {
            self.queue.push(Task::Walk { folder, from: 0 });
        }
    }

    /// Makes a folder, or opens the one that is there; if neither can be done, all of it is passed over.
    pub(super) fn make(&self, parent: &Arc<Folder>, node: Node) -> Option<Arc<Folder>> {
        match self.open_or_make(parent, &node) {
            Ok(folder) => Some(Arc::new(folder)),
            Err(reason) => {
                let totals = node.subtree.map(|s| s.totals).unwrap_or_default();
                let entries = [totals.files, totals.dirs, totals.others].into_iter().fold(1, u64::saturating_add);
                self.progress.entries_done.fetch_add(entries, Ordering::Relaxed);
                self.progress.bytes_done.fetch_add(totals.bytes, Ordering::Relaxed);
                self.problem(&parent.dir, &node.name, reason);
                None
            }
        }
    }

    fn open_or_make(&self, parent: &Arc<Folder>, node: &Node) -> Result<Folder, Reason> {
        let what = |what| move |error| Reason::System { what, error };
        let at = self.handles.get(&parent.dir).map_err(what("open the folder above"))?;
        let fresh = self.make_dir(&at, &node.name)?;
        let fd = if fresh { open_dir(&at, &node.name) } else { open_existing(&at, &node.name, self.root) };
        let fd = fd.map_err(what("open the folder"))?;
        let inherits = !fresh && has_default_acl(&fd);
        let dir = Dir::child(&parent.dir, &node.name);
        if !fresh {
            self.remove_leftovers(&fd, node).map_err(what("remove what an earlier restore left"))?;
        }
        self.handles.adopt(&dir, fd).map_err(what("open the folder"))?;
        let strip = fresh && parent.inherits;
        let node = node.clone();
        // A fresh folder in one that hands down an ACL has got that ACL too, and hands it on until it is finished.
        Ok(Folder { dir, node, parent: Some(parent.clone()), fresh, inherits: inherits || strip, strip, apply: true })
    }

    /// Makes the folder; false if there is one.
    fn make_dir(&self, at: &OwnedFd, name: &[u8]) -> Result<bool, Reason> {
        let what = |error: Errno| Reason::System { what: "make the folder", error: error.into() };
        for _ in 0..2 {
            match rustix::fs::mkdirat(at, name, Mode::RWXU) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(what(error)),
            }
            let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(what)?;
            if kind_of(&stat) == Some(NodeKind::Directory) {
                return Ok(false);
            }
            if !self.options.overwrite {
                return Err(Reason::Differs);
            }
            rustix::fs::unlinkat(at, name, AtFlags::empty()).map_err(what)?;
        }
        Err(Reason::Differs)
    }

    /// Removes temporary files that a killed restore left in a folder; not those that are themselves stored.
    pub(super) fn remove_leftovers(&self, fd: &OwnedFd, node: &Node) -> io::Result<()> {
        let Some(subtree) = &node.subtree else { return Ok(()) };
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            let stored = || self.source.lookup(subtree, name).map(|found| found.is_some());
            if is_temp(name) && name != MARK && !stored().unwrap_or(true) {
                match rustix::fs::unlinkat(fd, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Lets go of a folder, and finishes it and those above it if nobody else holds them.
    pub(super) fn release(&self, folder: Arc<Folder>) {
        let mut next = Some(folder);
        while let Some(mut folder) = next.and_then(Arc::into_inner) {
            if !self.stopped() {
                self.finish(&folder);
            }
            next = folder.parent.take();
        }
    }

    fn finish(&self, folder: &Folder) {
        let is_dest = folder.parent.is_none();
        if folder.apply {
            match self.handles.get(&folder.dir) {
                Ok(fd) => {
                    if is_dest && self.marked.load(Ordering::Relaxed) {
                        // If it stays, the next run sets these attributes once more.
                        let _ = rustix::fs::unlinkat(&fd, MARK, AtFlags::empty());
                    }
                    self.attributes(&folder.dir, b"", Handle::Open(fd.as_fd()), &folder.node, folder.strip);
                }
                Err(error) => self.problem(&folder.dir, b"", Reason::System { what: "open the folder", error }),
            }
        }
        if !is_dest {
            self.progress.entries_done.fetch_add(1, Ordering::Relaxed);
            let counter = if folder.fresh { &self.counts.dirs } else { &self.counts.kept };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Opens a folder that was there before; a person who owns it but denied it to themselves lets themselves in.
fn open_existing(at: &OwnedFd, name: &[u8], root: bool) -> io::Result<OwnedFd> {
    if !root {
        let path = open_beneath(at, name, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let mode = rustix::fs::fstat(&path)?.st_mode;
        if mode & 0o700 != 0o700 {
            Handle::Path(path.as_fd()).set_mode(Mode::from_raw_mode(mode & 0o7777 | 0o700))?;
        }
    }
    open_dir(at, name)
}
