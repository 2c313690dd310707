//! Owner, extended attributes, mode and times, in that order.
//!
//! In another order, a step would undo or prevent another: a change of owner clears set-id bits and capabilities, an
//! ACL changes the mode's group bits, a file without write permission accepts no user attribute, and any change may
//! alter the times. Everything is set through a handle of the entry itself, never through a name, which another process
//! could give to another entry.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use bkfs_store::{
    base::time::Time,
    format::tree::{Node, NodeKind},
};
use rustix::{
    fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags},
    io::Errno,
};

use super::report::Reason;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that makes a folder pass an ACL on to each entry that is created in it.
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// A handle of an entry.
#[derive(Clone, Copy)]
pub(super) enum EntryHandle<'a> {
    /// A file or folder, opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// An entry of any kind, opened with O_PATH.
    Path(BorrowedFd<'a>),
}

/// What to set.
pub(super) struct Wanted<'a> {
    /// The stored entry.
    pub(super) node: &'a Node,
    /// Owner and group.
    pub(super) owner: (u32, u32),
    /// Remove ACLs that are not stored, which the entry may have inherited from its folder.
    pub(super) strip_acl: bool,
    /// The process is root.
    pub(super) is_root: bool,
}

/// What could not be set.
#[derive(Default)]
pub(super) struct NotSet {
    /// The owner or group differs, because only root may choose it.
    pub(super) owner_skipped: bool,
    /// How many attributes are missing, because only root may set them.
    pub(super) xattrs_skipped: u64,
    /// What the system refused for other reasons.
    pub(super) refused: Vec<Reason>,
}

/// Sets everything. If one step fails, the others are still done.
pub(super) fn apply(handle: EntryHandle<'_>, wanted: &Wanted<'_>) -> NotSet {
    let mut not_set = NotSet::default();
    let node = wanted.node;
    let mode_mask = set_owner(handle, wanted, &mut not_set);
    set_xattrs(handle, wanted, &mut not_set);
    if node.kind != NodeKind::Symlink
        && let Err(error) = handle.set_mode(Mode::from_raw_mode(node.mode & mode_mask))
    {
        not_set.refused.push(Reason::System { what: "set the mode", error });
    }
    if let Err(error) = handle.set_mtime(node.mtime) {
        not_set.refused.push(Reason::System { what: "set the time", error });
    }
    not_set
}

/// Sets owner and group. Returns which bits of the mode may be set: a set-id program whose owner is not the stored one
/// must not run with the rights of its new owner.
fn set_owner(handle: EntryHandle<'_>, wanted: &Wanted<'_>, not_set: &mut NotSet) -> u32 {
    let (uid, gid) = wanted.owner;
    if wanted.is_root {
        match handle.set_owner(Some(uid), gid) {
            Ok(()) => return 0o7777,
            Err(error) => not_set.refused.push(Reason::System { what: "set the owner", error }),
        }
    } else if handle.stat().is_ok_and(|s| (s.st_uid, s.st_gid) != (uid, gid))
        && handle.set_owner(Some(uid), gid).is_err()
    {
        // A user may still choose a group that they are a member of.
        let _ = handle.set_owner(None, gid);
    }
    let Ok(stat) = handle.stat() else { return 0o1777 };
    let mut mask = 0o7777;
    if stat.st_uid != uid {
        mask &= !0o4000;
    }
    if stat.st_gid != gid && wanted.node.kind != NodeKind::Directory {
        mask &= !0o2000;
    }
    not_set.owner_skipped = !wanted.is_root && (stat.st_uid, stat.st_gid) != (uid, gid);
    mask
}

fn set_xattrs(handle: EntryHandle<'_>, wanted: &Wanted<'_>, not_set: &mut NotSet) {
    let node = wanted.node;
    if wanted.strip_acl && node.kind != NodeKind::Symlink {
        for acl in [ACL_ACCESS, ACL_DEFAULT] {
            if !node.xattrs().iter().any(|x| x.name == acl) {
                // A failure means that there is none, or that ACLs are not supported: nothing to remove in either case.
                let _ = handle.remove_xattr(acl);
            }
        }
    }
    for xattr in node.xattrs() {
        let Err(error) = handle.set_xattr(&xattr.name, &xattr.value) else { continue };
        let needs_root = xattr.name.starts_with(b"security.") || xattr.name.starts_with(b"trusted.");
        if needs_root && !wanted.is_root {
            not_set.xattrs_skipped += 1;
        } else {
            not_set.refused.push(Reason::Xattr { name: String::from_utf8_lossy(&xattr.name).into_owned(), error });
        }
    }
}

impl EntryHandle<'_> {
    /// Returns the entry's present state.
    pub(super) fn stat(self) -> io::Result<Stat> {
        let (EntryHandle::Open(fd) | EntryHandle::Path(fd)) = self;
        Ok(rustix::fs::fstat(fd)?)
    }

    fn set_owner(self, uid: Option<u32>, gid: u32) -> io::Result<()> {
        // To the system call, -1 means "leave it as it is".
        let (uid, gid) =
            (uid.filter(|id| *id != u32::MAX).map(Uid::from_raw), (gid != u32::MAX).then(|| Gid::from_raw(gid)));
        match self {
            EntryHandle::Open(fd) => rustix::fs::fchown(fd, uid, gid)?,
            EntryHandle::Path(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    /// Sets the mode.
    pub(super) fn set_mode(self, mode: Mode) -> io::Result<()> {
        match self {
            EntryHandle::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            EntryHandle::Path(fd) => rustix::fs::chmod(by_proc(fd), mode)?,
        }
        Ok(())
    }

    fn set_mtime(self, time: Time) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        };
        match self {
            EntryHandle::Open(fd) => rustix::fs::futimens(fd, &times)?,
            EntryHandle::Path(fd) => match rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH) {
                // Linux before 5.8.
                Err(Errno::INVAL) => rustix::fs::utimensat(rustix::fs::CWD, by_proc(fd), &times, AtFlags::empty())?,
                result => result?,
            },
        }
        Ok(())
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            EntryHandle::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?,
            EntryHandle::Path(fd) => rustix::fs::setxattr(by_proc(fd), name, value, XattrFlags::empty())?,
        }
        Ok(())
    }

    fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        match self {
            EntryHandle::Open(fd) => rustix::fs::fremovexattr(fd, name)?,
            EntryHandle::Path(fd) => rustix::fs::removexattr(by_proc(fd), name)?,
        }
        Ok(())
    }
}

/// Returns a path that leads to the handle's entry, and no further, for system calls that accept no handle.
fn by_proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Returns whether a folder passes an ACL on to the entries that are created in it.
pub(super) fn has_default_acl(folder: impl AsFd) -> bool {
    let mut empty: [u8; 0] = [];
    rustix::fs::fgetxattr(folder, ACL_DEFAULT, &mut empty[..]).is_ok()
}
