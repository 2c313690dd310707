//! Handles of folders in the destination.
//!
//! A folder is known by its parent and its name, and opened relative to the parent, one name at a time, never following
//! a symbolic link; so no path is ever longer than a name, and nothing outside the destination can be reached. Only so
//! many handles stay open: another is closed, and opened again when it is needed. It must then be the same folder as
//! before (device and inode), or somebody replaced it meanwhile.

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

/// A folder of the destination.
pub(super) struct Dir {
    parent: Option<Arc<Dir>>,
    name: Vec<u8>,
    identity: OnceLock<(u64, u64)>,
    open: Mutex<Option<Arc<OwnedFd>>>,
}

impl Dir {
    /// The destination itself.
    pub(super) fn root(fd: OwnedFd) -> Arc<Self> {
        let open = Mutex::new(Some(Arc::new(fd)));
        Arc::new(Self { parent: None, name: Vec::new(), identity: OnceLock::new(), open })
    }

    /// A folder in `parent`.
    pub(super) fn child(parent: &Arc<Dir>, name: &[u8]) -> Arc<Self> {
        let (identity, open) = (OnceLock::new(), Mutex::new(None));
        Arc::new(Self { parent: Some(parent.clone()), name: name.to_vec(), identity, open })
    }

    /// Path below the destination, for messages; empty for the destination.
    pub(super) fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut at = Some(self);
        while let Some(dir) = at {
            names.push(OsStr::from_bytes(&dir.name));
            at = dir.parent.as_deref();
        }
        names.iter().rev().collect()
    }
}

impl Drop for Dir {
    /// Lets go of the ancestors one by one: a chain as deep as the tree must not unwind by recursion.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut dir| dir.parent.take());
        }
    }
}

/// The open handles.
pub(super) struct Handles {
    opened: Mutex<VecDeque<Weak<Dir>>>,
    max: usize,
}

impl Handles {
    /// Keeps at most `max` handles open beyond those in use.
    pub(super) fn new(max: usize) -> Self {
        Self { opened: Mutex::new(VecDeque::new()), max: max.max(1) }
    }

    /// As many as the process's limit comfortably allows.
    pub(super) fn by_limit() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
        Self::new(usize::try_from(limit / 4).unwrap_or(512).clamp(16, 512))
    }

    /// The folder's handle, opening it and as many of its ancestors as needed.
    pub(super) fn get(&self, dir: &Arc<Dir>) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut at = dir;
        let mut fd = loop {
            if let Some(fd) = at.open.lock().clone() {
                break fd;
            }
            closed.push(at);
            at = at.parent.as_ref().ok_or_else(|| io::Error::other("the destination is not open"))?;
        };
        for dir in closed.into_iter().rev() {
            fd = self.adopt(dir, open_dir(&fd, &dir.name)?)?;
        }
        Ok(fd)
    }

    /// Takes in a handle that the caller has just opened for `dir`.
    pub(super) fn adopt(&self, dir: &Arc<Dir>, fd: OwnedFd) -> io::Result<Arc<OwnedFd>> {
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

/// Opens a folder by its name in another.
pub(super) fn open_dir(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open_beneath(parent, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Opens one name in a folder, never a symbolic link's target and never anything outside.
pub(super) fn open_beneath(parent: impl AsFd, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    /// Set once the system turned out not to have openat2 (or a sandbox not to allow it).
    static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

    if !is_file_name(name) {
        return Err(Errno::INVAL.into());
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // O_PATH may open a symbolic link itself; everything else refuses one.
        let resolve = if flags.contains(OFlags::PATH) { resolve } else { resolve | ResolveFlags::NO_SYMLINKS };
        match rustix::fs::openat2(&parent, name, flags, mode, resolve) {
            Err(Errno::NOSYS | Errno::PERM) => {
                // EPERM may be a sandbox's answer, or the file's: the older call tells.
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

/// Whether the bytes can name an entry of a folder.
pub(super) fn is_file_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= bkfs_store::format::tree::Node::NAME_MAX
        && !name.contains(&b'/')
        && !name.contains(&0)
        && name != b"."
        && name != b".."
}
