//! Owner, extended attributes, mode and times, in that order, each only if it differs.
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

use super::{
    limits::Limit,
    report::Reason,
    times::{is_rounded, mtime},
};
use crate::privileges;

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
    /// Set what gives rights, too.
    pub(super) privileged: bool,
}

/// What could not be set.
#[derive(Default)]
pub(super) struct NotSet {
    /// The owner or group differs, because only root may choose it.
    pub(super) owner_skipped: bool,
    /// How many attributes are missing, because only root may set them.
    pub(super) xattrs_skipped: u64,
    /// What the file system cannot hold.
    pub(super) limits: Vec<Limit>,
    /// What the system refused for other reasons.
    pub(super) refused: Vec<Reason>,
}

impl NotSet {
    fn meet(&mut self, limit: Limit) {
        if !self.limits.contains(&limit) {
            self.limits.push(limit);
        }
    }

    fn refuse(&mut self, limit: Limit, what: &'static str, error: io::Error) {
        match limit.is_meant_by(&error) {
            true => self.meet(limit),
            false => self.refused.push(Reason::System { what, error }),
        }
    }
}

/// Sets everything that the entry does not have yet. If one step fails, the others are still done. Returns the state of
/// the entry afterwards.
///
/// What is equal is not set again: to set it may be forbidden, as with the attributes of a read-only file, and changes
/// the time at which the entry was changed.
pub(super) fn apply(handle: EntryHandle<'_>, wanted: &Wanted<'_>) -> io::Result<(Stat, NotSet)> {
    let mut not_set = NotSet::default();
    let node = wanted.node;
    let before = handle.stat()?;
    let mut now = before;
    let mode_mask = set_owner(handle, wanted, &mut now, &mut not_set)?;
    let is_opened = set_xattrs(handle, wanted, &now, &mut not_set);
    if is_opened || !node.xattrs().is_empty() || wanted.strip_acl {
        // An ACL is a part of the mode.
        now = handle.stat()?;
    }
    let stored_mode = if wanted.privileged { node.mode } else { privileges::plain_mode(node) };
    if stored_mode != node.mode {
        not_set.meet(Limit::Privileges);
    }
    let mode = stored_mode & mode_mask;
    let sets_mode = node.kind != NodeKind::Symlink && now.st_mode & 0o7777 != mode;
    if sets_mode && let Err(error) = handle.set_mode(Mode::from_raw_mode(mode)) {
        not_set.refuse(Limit::Modes, "set the mode", error);
    }
    // Any of the steps before may have changed the time.
    let is_unchanged = !sets_mode && now.st_ctime == before.st_ctime && now.st_ctime_nsec == before.st_ctime_nsec;
    let after = match is_unchanged && mtime(&now) == node.mtime {
        true => now,
        false => match handle.set_mtime(node.mtime) {
            Ok(after) => after,
            Err(error) => {
                not_set.refused.push(Reason::System { what: "set the time", error });
                handle.stat()?
            }
        },
    };
    if sets_mode && after.st_mode & 0o7777 != mode {
        not_set.meet(Limit::Modes);
    }
    if mtime(&after) != node.mtime {
        not_set.meet(Limit::of_time(node.mtime, mtime(&after)));
    }
    Ok((after, not_set))
}

/// Sets owner and group. Returns which bits of the mode may be set: a set-id program whose owner is not the stored one
/// must not run with the rights of its new owner.
fn set_owner(handle: EntryHandle<'_>, wanted: &Wanted<'_>, now: &mut Stat, not_set: &mut NotSet) -> io::Result<u32> {
    let (uid, gid) = wanted.owner;
    if (now.st_uid, now.st_gid) == (uid, gid) {
        return Ok(0o7777);
    }
    let set = handle.set_owner(Some(uid), gid);
    if !wanted.is_root && set.is_err() {
        // A user may still choose a group that they are a member of.
        let _ = handle.set_owner(None, gid);
    }
    *now = handle.stat()?;
    let mut mask = 0o7777;
    if now.st_uid != uid {
        mask &= !0o4000;
    }
    if now.st_gid != gid && wanted.node.kind != NodeKind::Directory {
        mask &= !0o2000;
    }
    if (now.st_uid, now.st_gid) != (uid, gid) {
        match set {
            _ if !wanted.is_root => not_set.owner_skipped = true,
            Err(error) => not_set.refuse(Limit::Owners, "set the owner", error),
            // It was accepted, and had no effect.
            Ok(()) => not_set.meet(Limit::Owners),
        }
    }
    Ok(mask)
}

/// Sets extended attributes. Returns whether the entry's mode was changed for that.
fn set_xattrs(handle: EntryHandle<'_>, wanted: &Wanted<'_>, now: &Stat, not_set: &mut NotSet) -> bool {
    let node = wanted.node;
    if wanted.strip_acl && node.kind != NodeKind::Symlink {
        for acl in [ACL_ACCESS, ACL_DEFAULT] {
            if !node.xattrs().iter().any(|x| x.name == acl) {
                // A failure means that there is none, or that ACLs are not supported: nothing to remove in either case.
                let _ = handle.remove_xattr(acl);
            }
        }
    }
    let mut is_opened = false;
    for xattr in node.xattrs() {
        if !wanted.privileged && privileges::is_privileged_xattr(&xattr.name) {
            not_set.meet(Limit::Privileges);
            continue;
        }
        if handle.has_xattr(&xattr.name, &xattr.value) {
            continue;
        }
        let mut set = handle.set_xattr(&xattr.name, &xattr.value);
        let is_denied = |set: &io::Result<()>| set.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied);
        if !is_opened && !wanted.is_root && node.kind != NodeKind::Symlink && is_denied(&set) {
            // A user attribute takes the right to write, which an existing file may deny its owner. The mode is set
            // afterwards.
            let opened = Mode::from_raw_mode(now.st_mode & 0o7777 | 0o600);
            is_opened = handle.set_mode(opened).is_ok();
            set = handle.set_xattr(&xattr.name, &xattr.value);
        }
        let Err(error) = set else { continue };
        let needs_root = xattr.name.starts_with(b"security.") || xattr.name.starts_with(b"trusted.");
        let limit = Limit::of_xattr(&xattr.name);
        if limit.is_meant_by(&error) {
            not_set.meet(limit);
        } else if needs_root && !wanted.is_root {
            not_set.xattrs_skipped += 1;
        } else {
            not_set.refused.push(Reason::Xattr { name: String::from_utf8_lossy(&xattr.name).into_owned(), error });
        }
    }
    is_opened
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

    /// Sets the modification time. Returns the state of the entry afterwards.
    pub(super) fn set_mtime(self, time: Time) -> io::Result<Stat> {
        self.set_times(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, time)?;
        let stat = self.stat()?;
        if mtime(&stat) == time || is_rounded(time, mtime(&stat)) {
            return Ok(stat);
        }
        // Some file systems in user space (exfat-fuse, all that libfuse 2 serves) set both times or none.
        let accessed = Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.try_into().unwrap_or_default() };
        self.set_times(accessed, time)?;
        self.stat()
    }

    fn set_times(self, last_access: Timespec, time: Time) -> io::Result<()> {
        let last_modification = Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() };
        let times = Timestamps { last_access, last_modification };
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

    /// Returns whether it has the attribute with this value.
    fn has_xattr(self, name: &[u8], value: &[u8]) -> bool {
        // One byte more, so that a longer value does not fit by chance.
        let mut found = vec![0; value.len() + 1];
        let len = match self {
            EntryHandle::Open(fd) => rustix::fs::fgetxattr(fd, name, &mut found[..]),
            EntryHandle::Path(fd) => rustix::fs::getxattr(by_proc(fd), name, &mut found[..]),
        };
        len.is_ok_and(|len| found[..len] == *value)
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
