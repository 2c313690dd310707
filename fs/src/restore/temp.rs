//! Temporary names, for entries that are not complete yet.
//!
//! `.bkfs-<16 hex digits>.partial`, in the folder that will hold the entry. The digits are a random number of the run
//! and a counter. A file is locked (flock) while it has such a name: the next restore removes what a killed one left,
//! and must not take it from one that is running, for example in a folder below.
//!
//! The *mark* is a file in the destination of a restore that sets the destination's own attributes at its end. If the
//! restore ends early, the mark tells the next one to do so.

use std::{
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::handle::open_beneath;

/// Name of the mark.
pub(super) const MARK: &[u8] = b".bkfs-restore-unfinished";
/// What the mark says to a person who finds it.
const MARK_TEXT: &[u8] =
    b"A restore into this folder ended early. The same `bkfs restore` continues it, and removes this file.\n";

/// Returns whether a name is a temporary one.
pub(super) fn is_temp(name: &[u8]) -> bool {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(b".bkfs-")
        .and_then(|rest| rest.strip_suffix(b".partial"))
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(hex))
}

/// Creates the mark in a folder, if it is not there yet.
pub(super) fn create_mark(folder: impl AsFd) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
    match open_beneath(&folder, MARK, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => File::from(fd).write_all(MARK_TEXT),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            rustix::fs::statat(folder, MARK, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Removes a leftover of a killed restore from a folder, unless a running restore has locked it.
pub(super) fn remove_leftover(folder: impl AsFd, name: &[u8]) -> io::Result<()> {
    // What cannot be opened for reading is no file that is being written: its mode is that of a finished one.
    if let Ok(file) = open_beneath(&folder, name, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())
        && let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared)
    {
        return Ok(());
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        // Another user's leftovers stay: they are in nobody's way.
        Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Generates temporary names that no other run generates.
pub(super) struct TempNames {
    run: u32,
    next: AtomicU32,
}

impl TempNames {
    /// Returns the generator of a new run.
    pub(super) fn new() -> Self {
        // Names need only be unique, not secret: files are created exclusively, and only one restore at a time uses the
        // destination.
        let run = RandomState::new().build_hasher().finish() as u32 | 1;
        Self { run, next: AtomicU32::new(0) }
    }

    /// Returns the next name.
    pub(super) fn next(&self) -> Vec<u8> {
        format!(".bkfs-{:08x}{:08x}.partial", self.run, self.next.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}

/// An entry with a temporary name. Dropping it removes the entry, unless [`Temp::rename`] gave it its final name.
pub(super) struct Temp {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    is_renamed: bool,
}

impl Temp {
    /// Takes over a file that was just created, and locks it.
    pub(super) fn file(folder: Arc<OwnedFd>, name: Vec<u8>, file: &File) -> Self {
        // A failure means that the file system has no locks.
        let _ = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
        Self::new(folder, name)
    }

    /// Takes over an entry that was just created.
    pub(super) fn new(folder: Arc<OwnedFd>, name: Vec<u8>) -> Self {
        Self { folder, name, is_renamed: false }
    }

    /// Gives the entry its final name. Without `replace`, fails with `AlreadyExists` if the name is taken.
    pub(super) fn rename(mut self, name: &[u8], replace: bool) -> io::Result<()> {
        let fd = &self.folder;
        if replace {
            rustix::fs::renameat(fd, self.name.as_slice(), fd, name)?;
        } else {
            match rustix::fs::renameat_with(fd, self.name.as_slice(), fd, name, RenameFlags::NOREPLACE) {
                // The file system or the kernel does not support the flag: check first.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => rustix::fs::renameat(fd, self.name.as_slice(), fd, name)?,
                        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                        Err(error) => return Err(error.into()),
                    }
                }
                result => result?,
            }
        }
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.is_renamed {
            // A failure does no harm: the next run removes leftovers.
            let _ = rustix::fs::unlinkat(&self.folder, self.name.as_slice(), AtFlags::empty());
        }
    }
}
