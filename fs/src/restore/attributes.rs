//! Owner, extended attributes, mode and times, in that order.
//!
//! Each step undoes part of an earlier one if taken too soon: a change of owner clears set-id bits and capabilities, an
//! ACL changes the mode's group bits, a file without write permission takes no user attribute, and anything may change
//! the times. All of it goes through a handle of the very entry, never through a name that could be swapped.

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

use super::Reason;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that makes a folder hand an ACL to whatever is made in it.
pub(super) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// A handle of an entry.
#[derive(Clone, Copy)]
pub(super) enum Handle<'a> {
    /// Of a file or folder, opened for use.
    Open(BorrowedFd<'a>),
    /// Of anything, opened with O_PATH.
    Path(BorrowedFd<'a>),
}

/// What to set.
pub(super) struct Wanted<'a> {
    /// What is stored.
    pub(super) node: &'a Node,
    /// Owner and group.
    pub(super) owner: (u32, u32),
    /// Whether to remove ACLs that are not stored, which the entry may have got from its folder.
    pub(super) strip_acl: bool,
    /// Whether the process is root.
    pub(super) root: bool,
}

/// What could not be set.
#[derive(Default)]
pub(super) struct Outcome {
    /// The owner or group is another, because only root may choose it.
    pub(super) owner_skipped: bool,
    /// So many attributes are missing, because only root may set them.
    pub(super) xattrs_skipped: u64,
    /// What the system refused for other reasons.
    pub(super) refused: Vec<Reason>,
}

/// Sets everything. Does as much as it can, whatever fails.
pub(super) fn apply(handle: Handle<'_>, wanted: &Wanted<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let node = wanted.node;
    let mode_kept = set_owner(handle, wanted, &mut outcome);
    set_xattrs(handle, wanted, &mut outcome);
    if node.kind != NodeKind::Symlink
        && let Err(error) = handle.set_mode(Mode::from_raw_mode(node.mode & mode_kept))
    {
        outcome.refused.push(Reason::System { what: "set the mode", error });
    }
    if let Err(error) = handle.set_mtime(node.mtime) {
        outcome.refused.push(Reason::System { what: "set the time", error });
    }
    outcome
}

/// Sets owner and group, and answers which bits of the mode may be set: a file that belongs to somebody else than it
/// did must not run with this somebody's rights.
fn set_owner(handle: Handle<'_>, wanted: &Wanted<'_>, outcome: &mut Outcome) -> u32 {
    let (uid, gid) = wanted.owner;
    if wanted.root {
        match handle.set_owner(Some(uid), gid) {
            Ok(()) => return 0o7777,
            Err(error) => outcome.refused.push(Reason::System { what: "set the owner", error }),
        }
    } else if handle.stat().is_ok_and(|s| (s.st_uid, s.st_gid) != (uid, gid))
        && handle.set_owner(Some(uid), gid).is_err()
    {
        // A group that one is a member of can be given.
        let _ = handle.set_owner(None, gid);
    }
    let Ok(stat) = handle.stat() else { return 0o1777 };
    let mut kept = 0o7777;
    if stat.st_uid != uid {
        kept &= !0o4000;
    }
    if stat.st_gid != gid && wanted.node.kind != NodeKind::Directory {
        kept &= !0o2000;
    }
    outcome.owner_skipped = !wanted.root && (stat.st_uid, stat.st_gid) != (uid, gid);
    kept
}

fn set_xattrs(handle: Handle<'_>, wanted: &Wanted<'_>, outcome: &mut Outcome) {
    let node = wanted.node;
    if wanted.strip_acl && node.kind != NodeKind::Symlink {
        for acl in [ACL_ACCESS, ACL_DEFAULT] {
            if !node.xattrs().iter().any(|x| x.name == acl) {
                // Absent or not supported: nothing to remove either way.
                let _ = handle.remove_xattr(acl);
            }
        }
    }
    for xattr in node.xattrs() {
        let Err(error) = handle.set_xattr(&xattr.name, &xattr.value) else { continue };
        let roots = xattr.name.starts_with(b"security.") || xattr.name.starts_with(b"trusted.");
        if roots && !wanted.root {
            outcome.xattrs_skipped += 1;
        } else {
            outcome.refused.push(Reason::Xattr { name: String::from_utf8_lossy(&xattr.name).into_owned(), error });
        }
    }
}

impl Handle<'_> {
    /// What the entry is now.
    pub(super) fn stat(self) -> io::Result<Stat> {
        let (Handle::Open(fd) | Handle::Path(fd)) = self;
        Ok(rustix::fs::fstat(fd)?)
    }

    fn set_owner(self, uid: Option<u32>, gid: u32) -> io::Result<()> {
        // The number -1 means "leave it" to the system call.
        let (uid, gid) =
            (uid.filter(|id| *id != u32::MAX).map(Uid::from_raw), (gid != u32::MAX).then(|| Gid::from_raw(gid)));
        match self {
            Handle::Open(fd) => rustix::fs::fchown(fd, uid, gid)?,
            Handle::Path(fd) => rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH)?,
        }
        Ok(())
    }

    /// Sets the mode.
    pub(super) fn set_mode(self, mode: Mode) -> io::Result<()> {
        match self {
            Handle::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Handle::Path(fd) => rustix::fs::chmod(by_proc(fd), mode)?,
        }
        Ok(())
    }

    fn set_mtime(self, time: Time) -> io::Result<()> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
        };
        match self {
            Handle::Open(fd) => rustix::fs::futimens(fd, &times)?,
            Handle::Path(fd) => match rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH) {
                // Linux before 5.8.
                Err(Errno::INVAL) => rustix::fs::utimensat(rustix::fs::CWD, by_proc(fd), &times, AtFlags::empty())?,
                result => result?,
            },
        }
        Ok(())
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            Handle::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?,
            Handle::Path(fd) => rustix::fs::setxattr(by_proc(fd), name, value, XattrFlags::empty())?,
        }
        Ok(())
    }

    fn remove_xattr(self, name: &[u8]) -> io::Result<()> {
        match self {
            Handle::Open(fd) => rustix::fs::fremovexattr(fd, name)?,
            Handle::Path(fd) => rustix::fs::removexattr(by_proc(fd), name)?,
        }
        Ok(())
    }
}

/// A name that leads to what the handle is of, and no further: what calls without a variant for handles take.
fn by_proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Whether a folder hands an ACL to what is made in it.
pub(super) fn has_default_acl(folder: impl AsFd) -> bool {
    let mut empty: [u8; 0] = [];
    rustix::fs::fgetxattr(folder, ACL_DEFAULT, &mut empty[..]).is_ok()
}
