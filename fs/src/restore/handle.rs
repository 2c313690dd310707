//! Handles of folders in the destination.
//!
//! A folder is identified by its parent and its name. It is opened relative to its parent, one name at a time, and no
//! symbolic link is followed. Therefore no path is ever longer than a name, and nothing outside the destination can be
//! reached. The number of open handles is bounded: the oldest is closed, and opened again when it is needed. It must
//! then be the same folder as before (device and inode); otherwise it was replaced during the restore.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// A folder of the destination: the destination itself, or one below it.
pub(super) struct DestDir {
    parent: Option<Arc<DestDir>>,
    name: Vec<u8>,
    /// Device and inode, known once it was opened.
    identity: OnceLock<(u64, u64)>,
    open: Mutex<Option<Arc<OwnedFd>>>,
}

impl DestDir {
    /// Returns the destination itself.
    pub(super) fn root(fd: OwnedFd) -> Arc<Self> {
        let open = Mutex::new(Some(Arc::new(fd)));
        Arc::new(Self { parent: None, name: Vec::new(), identity: OnceLock::new(), open })
    }

    /// Returns a folder in `parent`.
    pub(super) fn child(parent: &Arc<DestDir>, name: &[u8]) -> Arc<Self> {
        let (identity, open) = (OnceLock::new(), Mutex::new(None));
        Arc::new(Self { parent: Some(parent.clone()), name: name.to_vec(), identity, open })
    }

    /// Returns the path relative to the destination, for messages; empty for the destination itself.
    pub(super) fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut next = Some(self);
        while let Some(dir) = next {
            names.push(OsStr::from_bytes(&dir.name));
            next = dir.parent.as_deref();
        }
        names.iter().rev().collect()
    }
}

impl Drop for DestDir {
    /// Drops the ancestors in a loop: recursion could overflow the stack in a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut dir| dir.parent.take());
        }
    }
}

/// The open handles.
pub(super) struct DirHandles {
    /// Folders in the order in which they were opened.
    opened: Mutex<VecDeque<Weak<DestDir>>>,
    max: usize,
}

impl DirHandles {
    /// Keeps at most `max` handles open, not counting those in use.
    pub(super) fn new(max: usize) -> Self {
        Self { opened: Mutex::new(VecDeque::new()), max: max.max(1) }
    }

    /// Keeps a quarter as many handles open as the process may have open files, but at least 16 and at most 512.
    pub(super) fn by_limit() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
        Self::new(usize::try_from(limit / 4).unwrap_or(512).clamp(16, 512))
    }

    /// Returns the folder's handle. Opens the folder, and as many of its ancestors as needed.
    pub(super) fn get(&self, dir: &Arc<DestDir>) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut nearest = dir;
        let mut fd = loop {
            if let Some(fd) = nearest.open.lock().clone() {
                break fd;
            }
            closed.push(nearest);
            nearest = nearest.parent.as_ref().ok_or_else(|| io::Error::other("the destination is not open"))?;
        };
        for dir in closed.into_iter().rev() {
            fd = self.adopt(dir, open_dir(&fd, &dir.name)?)?;
        }
        Ok(fd)
    }

    /// Opens the parent of an open folder, if it was closed, by the name `..`. On the way up from a deep folder this
    /// takes one call for each folder; from the top it would take one for each folder above. A folder that was moved
    /// has another parent, which its identity shows.
    pub(super) fn open_parent(&self, dir: &DestDir) {
        let Some(parent) = dir.parent.as_ref().filter(|parent| parent.identity.get().is_some()) else { return };
        let Some(fd) = dir.open.lock().clone().filter(|_| parent.open.lock().is_none()) else { return };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(above) = rustix::fs::openat(&fd, "..", flags, Mode::empty()) {
            // If it is another folder, it is looked for from the top.
            let _ = self.adopt(parent, above);
        }
    }

    /// Keeps a handle that the caller has just opened for `dir`.
    pub(super) fn adopt(&self, dir: &Arc<DestDir>, fd: OwnedFd) -> io::Result<Arc<OwnedFd>> {
        let stat = rustix::fs::fstat(&fd)?;
        let found = (stat.st_dev, stat.st_ino);
        if *dir.identity.get_or_init(|| found) != found {
            return Err(io::Error::other("the folder was replaced during the restore"));
        }
        let fd = Arc::new(fd);
        *dir.open.lock() = Some(fd.clone());
        let evicted = {
            let mut opened = self.opened.lock();
            opened.push_back(Arc::downgrade(dir));
            if opened.len() > self.max { opened.pop_front() } else { None }
        };
        if let Some(old) = evicted.and_then(|weak| weak.upgrade())
            && !Arc::ptr_eq(&old, dir)
        {
            *old.open.lock() = None;
        }
        Ok(fd)
    }
}

/// Opens a folder by its name in its parent.
pub(super) fn open_dir(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Opens an entry by its name in a folder. Never opens the target of a symbolic link, or anything outside the folder.
pub(super) fn open_beneath(parent: impl AsFd, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    /// Set once openat2 has proved unavailable: an old kernel, or a sandbox that forbids it.
    static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

    if !is_file_name(name) {
        return Err(Errno::INVAL.into());
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // With O_PATH, a symbolic link itself may be opened; without, it is refused.
        let resolve = if flags.contains(OFlags::PATH) { resolve } else { resolve | ResolveFlags::NO_SYMLINKS };
        match rustix::fs::openat2(&parent, name, flags, mode, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => {
                // EPERM may come from a sandbox or from the file: the older call decides which.
            }
            result => return Ok(result?),
        }
    }
    let result = rustix::fs::openat(parent, name, flags, mode);
    if result.is_ok() {
        NO_OPENAT2.store(true, Ordering::Relaxed);
    }
    Ok(result?)
}

/// Returns whether an entry of a folder can have this name.
pub(super) fn is_file_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= bkfs_store::format::tree::Node::NAME_MAX
        && !name.contains(&b'/')
        && !name.contains(&0)
        && name != b"."
        && name != b".."
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes folders in each other, with few handles open. Returns the deepest.
    fn chain(handles: &DirHandles, dir: &std::path::Path, depth: usize) -> Arc<DestDir> {
        let mut at = DestDir::root(std::fs::File::open(dir).unwrap().into());
        for _ in 0..depth {
            let fd = handles.get(&at).unwrap();
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            let below = DestDir::child(&at, b"d");
            handles.adopt(&below, open_dir(&fd, b"d").unwrap()).unwrap();
            at = below;
        }
        at
    }

    #[test]
    fn on_the_way_up_each_folder_is_opened_from_the_one_below() {
        let (dir, handles) = (tempfile::tempdir().unwrap(), DirHandles::new(16));
        let mut at = chain(&handles, dir.path(), 200);
        let mut reopened = 0;
        while let Some(parent) = at.parent.clone() {
            reopened += usize::from(parent.open.lock().is_none());
            handles.open_parent(&at);
            assert!(parent.open.lock().is_some(), "it would have to be opened from the top");
            at = parent;
        }
        assert!(reopened > 150, "most were closed on the way down: {reopened}");
    }

    #[test]
    fn a_folder_that_was_moved_does_not_lead_to_its_new_parent() {
        let (dir, handles) = (tempfile::tempdir().unwrap(), DirHandles::new(1));
        let deepest = chain(&handles, dir.path(), 3);
        std::fs::rename(dir.path().join("d/d/d"), dir.path().join("moved")).unwrap();
        handles.open_parent(&deepest);
        assert!(deepest.parent.as_ref().unwrap().open.lock().is_none());
    }
}
