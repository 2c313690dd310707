//! Temporary names: what is not whole yet.
//!
//! `.bkfs-<16 hex digits>.partial`, in the folder of the entry to be. The digits are a random number of the run and a
//! counter. All zeros mark, in the destination, a restore that is to set the destination's own attributes at its end.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, RenameFlags},
    io::Errno,
};

/// Name of the mark.
pub(super) const MARK: &[u8] = b".bkfs-0000000000000000.partial";

/// Whether a name is of the temporary kind.
pub(super) fn is_temp(name: &[u8]) -> bool {
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(b".bkfs-")
        .and_then(|rest| rest.strip_suffix(b".partial"))
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(hex))
}

/// Makes temporary names that no other run makes.
pub(super) struct TempNames {
    run: u32,
    next: AtomicU32,
}

impl TempNames {
    /// Those of a new run.
    pub(super) fn new() -> Self {
        // Uniqueness is all that matters: files are created exclusively, and one restore at a time has the destination.
        let run = RandomState::new().build_hasher().finish() as u32 | 1;
        Self { run, next: AtomicU32::new(0) }
    }

    /// One more.
    pub(super) fn name(&self) -> Vec<u8> {
        format!(".bkfs-{:08x}{:08x}.partial", self.run, self.next.fetch_add(1, Ordering::Relaxed)).into_bytes()
    }
}

/// An entry under a temporary name; removed when dropped, unless it was placed.
pub(super) struct Temp {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: Vec<u8>,
    placed: bool,
}

impl Temp {
    /// Takes charge of an entry that was just made.
    pub(super) fn new(folder: Arc<OwnedFd>, name: Vec<u8>) -> Self {
        Self { folder, name, placed: false }
    }

    /// Gives the entry its own name. Without `replace`, fails with `AlreadyExists` if something has it.
    pub(super) fn place(mut self, name: &[u8], replace: bool) -> io::Result<()> {
        let fd = &self.folder;
        if replace {
            rustix::fs::renameat(fd, self.name.as_slice(), fd, name)?;
        } else {
            match rustix::fs::renameat_with(fd, self.name.as_slice(), fd, name, RenameFlags::NOREPLACE) {
                // The file system (or the kernel) cannot: look first.
                Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => rustix::fs::renameat(fd, self.name.as_slice(), fd, name)?,
                    Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                    Err(error) => return Err(error.into()),
                },
                result => result?,
            }
        }
        self.placed = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.placed {
            // Whatever the outcome: the next run looks for leftovers.
            let _ = rustix::fs::unlinkat(&self.folder, self.name.as_slice(), AtFlags::empty());
        }
    }
}
