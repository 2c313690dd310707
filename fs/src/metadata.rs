//! The metadata of a file, and the node that a backup stores for it.
//!
//! All calls are relative to directory handles. Except for [`Stat::following`], none follows a symbolic link in the
//! last component. Times are those of `statx`; owner names come from [`crate::userdb`].

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

use bkfs_store::{
    base::time::Time,
    format::tree::{Device, Node, NodeKind, Xattr},
};
use rustix::{
    fs::{AtFlags, Statx, StatxFlags, StatxTimestamp},
    io::Errno,
};

use crate::userdb::OwnerNames;

/// Asks for [`Stat::mount`], unique if the kernel can. rustix has no name for it.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// The kernel's limit for a value, and for a list of names.
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// The state of an entry at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Kind.
    pub kind: NodeKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of the inode.
    pub inode: u64,
    /// Number of names that the inode has.
    pub links: u32,
    /// The file system's device number: the major number in the upper 32 bits, the minor in the lower.
    pub device: u64,
    /// The mount in which it was found; 0 before Linux 5.8. Since 6.8 the number is never used again until the next
    /// boot.
    pub mount: u64,
    /// The device that a device node represents.
    pub rdev: Device,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth of the inode, if the file system records it.
    pub btime: Option<Time>,
}

impl Stat {
    /// Returns the state of the entry `name` in a directory; of the link itself if it is a symbolic link.
    pub fn of<F: AsFd>(dir: F, name: &CStr) -> io::Result<Self> {
        Self::call(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Returns the state of the entry that `name` in a directory leads to, through symbolic links.
    pub fn following<F: AsFd>(dir: F, name: &CStr) -> io::Result<Self> {
        Self::call(dir, name, AtFlags::empty())
    }

    /// Returns the state of an open file.
    pub fn of_handle<F: AsFd>(file: F) -> io::Result<Self> {
        Self::call(file, c"", AtFlags::EMPTY_PATH)
    }

    fn call<F: AsFd>(dir: F, name: &CStr, flags: AtFlags) -> io::Result<Self> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID | MNT_ID_UNIQUE;
        let x = rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, mask)?;
        Self::from_statx(&x).ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "an unknown kind of file"))
    }

    fn from_statx(x: &Statx) -> Option<Self> {
        let mode = u32::from(x.stx_mode);
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG => NodeKind::File,
            libc::S_IFDIR => NodeKind::Directory,
            libc::S_IFLNK => NodeKind::Symlink,
            libc::S_IFIFO => NodeKind::Fifo,
            libc::S_IFSOCK => NodeKind::Socket,
            libc::S_IFCHR => NodeKind::CharDevice,
            libc::S_IFBLK => NodeKind::BlockDevice,
            _ => return None,
        };
        let has_btime = x.stx_mask & StatxFlags::BTIME.bits() != 0;
        let has_mount = x.stx_mask & (StatxFlags::MNT_ID | MNT_ID_UNIQUE).bits() != 0;
        Some(Self {
            kind,
            mode: mode & 0o7777,
            uid: x.stx_uid,
            gid: x.stx_gid,
            size: x.stx_size,
            inode: x.stx_ino,
            links: x.stx_nlink,
            device: u64::from(x.stx_dev_major) << 32 | u64::from(x.stx_dev_minor),
            mount: if has_mount { x.stx_mnt_id } else { 0 },
            rdev: Device { major: x.stx_rdev_major, minor: x.stx_rdev_minor },
            mtime: time(&x.stx_mtime),
            ctime: time(&x.stx_ctime),
            btime: has_btime.then(|| time(&x.stx_btime)),
        })
    }

    /// Returns whether the two are of one inode. Only within a push, because device numbers change at boot.
    pub fn is_same_inode(&self, other: &Stat) -> bool {
        (self.kind, self.device, self.inode, self.btime) == (other.kind, other.device, other.inode, other.btime)
    }

    /// Returns whether the two are of one inode and show no sign of a change: same length, times, owner and mode.
    pub fn is_same(&self, other: &Stat) -> bool {
        self.is_same_inode(other)
            && (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
            && (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
    }

    /// Returns a node with everything that `statx` returns. The caller adds what else its kind needs.
    pub fn node(&self, name: &[u8], owners: &OwnerNames) -> Node {
        let is_file = self.kind == NodeKind::File;
        let is_device = matches!(self.kind, NodeKind::CharDevice | NodeKind::BlockDevice);
        Node {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            user: owners.user(self.uid),
            group: owners.group(self.gid),
            mtime: self.mtime,
            ctime: Some(self.ctime),
            btime: self.btime,
            size: if is_file { self.size } else { 0 },
            device: is_device.then_some(self.rdev),
            links: (self.kind != NodeKind::Directory && self.links > 1).then_some(self.links),
            ..Node::new(name, self.kind)
        }
    }
}

fn time(t: &StatxTimestamp) -> Time {
    // A broken file system may return any value, but a node's nanoseconds must be less than a second.
    Time { secs: t.tv_sec, nanos: t.tv_nsec.min(999_999_999) }
}

/// Returns the extended attributes of an open file or directory, sorted by name; none if there are none.
pub fn xattrs_of_handle<F: AsFd>(file: F) -> io::Result<Option<Vec<Xattr>>> {
    let file = file.as_fd();
    let list = |buffer: &mut [u8]| rustix::fs::flistxattr(file, buffer);
    match collect(list, |name, buffer| rustix::fs::fgetxattr(file, name, buffer)) {
        // A directory that could be opened only with O_PATH.
        Err(error) if error.raw_os_error() == Some(Errno::BADF.raw_os_error()) => xattrs_of_entry(file, b"."),
        other => other,
    }
}

/// Returns the extended attributes of an entry that is not open: a link, a device, a socket.
///
/// Before Linux 6.13 there is no such call relative to a directory. Therefore the path leads through `/proc/self/fd`.
pub fn xattrs_of_entry<F: AsFd>(dir: F, name: &[u8]) -> io::Result<Option<Vec<Xattr>>> {
    use std::os::fd::AsRawFd;
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = CString::new(path)?;
    collect(
        |buffer| rustix::fs::llistxattr(path.as_c_str(), buffer),
        |name, buffer| rustix::fs::lgetxattr(path.as_c_str(), name, buffer),
    )
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Option<Vec<Xattr>>> {
    let names = match grow(512, &list) {
        Ok(names) if names.is_empty() => return Ok(None),
        Ok(names) => names,
        Err(Errno::NOTSUP) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !is_kept(name.to_bytes()) {
            continue;
        }
        match grow(256, |buffer| get(name, buffer)) {
            Ok(value) => found.push(Xattr { name: name.to_bytes().to_vec(), value }),
            // Removed since the list was read, or not readable for this user: then it is not part of what they can
            // copy.
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => {}
            Err(e) => return Err(e.into()),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((!found.is_empty()).then_some(found))
}

/// Returns whether an attribute is stored. Of the `system.` names, only ACLs are data; others show internal state of
/// the file system.
fn is_kept(name: &[u8]) -> bool {
    !name.starts_with(b"system.")
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default" | b"system.nfs4_acl")
}

/// Calls with a buffer that grows until the result fits.
fn grow(first: usize, call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; first];
    loop {
        match call(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < XATTR_BYTES_MAX => buffer.resize(XATTR_BYTES_MAX, 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Returns the target of a symbolic link.
pub fn link_target<F: AsFd>(dir: F, name: &CStr) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// Converts a name for system calls. Fails if it contains a NUL, which no file name does.
pub fn c_name(name: &[u8]) -> io::Result<CString> {
    Ok(CString::new(name)?)
}

/// Converts a path in bytes, for messages.
pub fn display(path: &[u8]) -> std::path::PathBuf {
    OsStr::from_bytes(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_returns_kind_size_and_links() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), b"12345").unwrap();
        std::os::unix::fs::symlink("to/where", dir.path().join("l")).unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let file = Stat::of(&handle, c"f").unwrap();
        assert_eq!((file.kind, file.size, file.links), (NodeKind::File, 5, 1));
        assert!(file.is_same(&Stat::of_handle(std::fs::File::open(dir.path().join("f")).unwrap()).unwrap()));
        assert_eq!(Stat::of(&handle, c"l").unwrap().kind, NodeKind::Symlink);
        assert_eq!(link_target(&handle, c"l").unwrap(), b"to/where");
        assert_eq!(Stat::of_handle(&handle).unwrap().kind, NodeKind::Directory);
        assert!(Stat::of(&handle, c"none").is_err());
    }

    #[test]
    fn attributes_with_binary_values_come_back_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"").unwrap();
        if xattr::set(&path, "user.z", b"\x00\xff").is_err() {
            return; // This file system does not support user attributes.
        }
        xattr::set(&path, "user.a", &vec![7; 2000]).unwrap();
        let found = xattrs_of_handle(std::fs::File::open(&path).unwrap()).unwrap().unwrap();
        assert_eq!(found.iter().map(|x| x.name.as_slice()).collect::<Vec<_>>(), [&b"user.a"[..], b"user.z"]);
        assert_eq!((found[0].value.len(), found[1].value.as_slice()), (2000, &b"\x00\xff"[..]));
        let handle = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(xattrs_of_entry(&handle, b"f").unwrap(), Some(found));
    }
}
