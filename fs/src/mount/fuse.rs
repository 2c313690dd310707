//! The adapter between the kernel and [`Vfs`]: one method per request, which translates the request and the reply.
//!
//! - `open`, `opendir`, `flush`, `fsync` and `access` reply ENOSYS. The kernel then never sends them again, and treats
//!   files and folders as always open, with their caches kept. This saves three requests per file.
//! - Requests that would change something reply EROFS. The mount is read-only, so the kernel sends them only after a
//!   remount.
//! - If the file system panics, the request fails with EIO, and the mount stays alive.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bkfs_store::{base::time::Time, format::tree::NodeKind};
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{options::MountOptions, reads::ReadThreads};
use crate::vfs::{self, Attr, Seek, Ttl, Vfs};

/// "Forever" is one year: long enough, and the kernel cannot overflow it.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);
/// How long the kernel may cache names above the snapshots.
const SHORT: Duration = Duration::from_secs(1);
/// Constant, because an inode number is never reused while the kernel holds it.
const GENERATION: Generation = Generation(0);
/// How many read-ahead requests the kernel may have in flight. Its default of 16 is too low for one fast reader.
const BACKGROUND_MAX: u16 = 64;
/// The largest request, and therefore the largest read: the limit of current kernels.
const REQUEST_MAX: u32 = 1024 * 1024;

/// Answers the kernel.
pub struct Adapter {
    vfs: Arc<Vfs>,
    reads: ReadThreads,
    allow_other: bool,
}

impl Adapter {
    /// Returns an adapter for a file system.
    pub fn new(vfs: Arc<Vfs>, options: &MountOptions) -> std::io::Result<Self> {
        Ok(Self { vfs, reads: ReadThreads::new(options.threads)?, allow_other: options.allow_other })
    }
}

/// Runs an operation. If it panics, its reply is dropped, which sends EIO.
fn guard(run: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(run)).is_err() {
        tracing::error!("a kernel request ended in a panic; this is a bug in bkfs");
    }
}

fn errno(error: vfs::Error) -> Errno {
    Errno::from_i32(error.errno())
}

fn ttl(ttl: Ttl) -> Duration {
    match ttl {
        Ttl::Forever => FOREVER,
        Ttl::Short => SHORT,
        Ttl::Never => Duration::ZERO,
    }
}

fn kind(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::File => FileType::RegularFile,
        NodeKind::Directory => FileType::Directory,
        NodeKind::Symlink => FileType::Symlink,
        NodeKind::Fifo => FileType::NamedPipe,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharDevice => FileType::CharDevice,
        NodeKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Converts a time. Before 1970 the seconds are negative, and the nanoseconds still count forward.
fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let seconds = if time.secs < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    seconds.and_then(|t| t.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

/// Packs device numbers into 32 bits as the kernel does: 12 bits of the major and 20 of the minor.
fn rdev((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.mtime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: kind(attr.kind),
        perm: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: rdev(attr.device),
        blksize: 4096,
        flags: 0,
    }
}

/// The attributes of a name that does not exist and never will. The kernel caches them.
fn no_entry() -> FileAttr {
    let zero = Time::default();
    let attr = Attr {
        ino: 0,
        kind: NodeKind::File,
        mode: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        device: (0, 0),
        size: 0,
        blocks: 0,
        mtime: zero,
        ctime: zero,
        btime: zero,
    };
    file_attr(&attr)
}

fn reply_xattr(value: vfs::Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(errno(error)),
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = vec![
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // The kernel drops its cached listing of a folder whose mtime changes; new snapshots change it.
            InitFlags::FUSE_AUTO_INVAL_DATA,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        if self.allow_other {
            // The kernel checks access, and needs the ACLs for it: in a file with an ACL the group bits of the mode are
            // the ACL's mask, not the rights of the group.
            wanted.push(InitFlags::FUSE_POSIX_ACL);
        }
        for flag in wanted {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "this kernel's FUSE lacks a capability");
            }
        }
        // These fail only for values out of range; then the kernel's defaults remain.
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_write(REQUEST_MAX);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guard(|| match self.vfs.lookup(parent.0, name.as_bytes()) {
            Ok(Some(entry)) => reply.entry(&ttl(entry.ttl), &file_attr(&entry.attr), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &no_entry(), GENERATION),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        guard(|| self.vfs.forget(ino.0, nlookup));
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        guard(|| match self.vfs.getattr(ino.0) {
            Ok(entry) => reply.attr(&ttl(entry.ttl), &file_attr(&entry.attr)),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        guard(|| match self.vfs.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn open(&self, _req: &Request, _ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        reply.error(match flags.acc_mode() {
            OpenAccMode::O_RDONLY => Errno::ENOSYS,
            _ => Errno::EROFS,
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let vfs = self.vfs.clone();
        self.reads.run(move || {
            guard(|| match vfs.read(ino.0, offset, size as usize) {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(errno(error)),
            });
        });
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        guard(|| {
            let mut add = |listed: &vfs::Listed<'_>| {
                let attr = &listed.entry.attr;
                !reply.add(INodeNo(attr.ino), listed.next, kind(attr.kind), OsStr::from_bytes(listed.name))
            };
            match self.vfs.readdir(ino.0, offset, false, &mut add) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        guard(|| {
            let mut add = |listed: &vfs::Listed<'_>| {
                let (attr, valid) = (file_attr(&listed.entry.attr), ttl(listed.entry.ttl));
                let name = OsStr::from_bytes(listed.name);
                !reply.add(attr.ino, listed.next, name, &valid, &attr, GENERATION)
            };
            match self.vfs.readdir(ino.0, offset, true, &mut add) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u32 = 4096;
        // There is nothing to fill up: with a size, df(1) and monitors would report a full disk.
        guard(|| reply.statfs(0, 0, 0, 0, 0, BLOCK, 255, BLOCK));
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        guard(|| reply_xattr(self.vfs.getxattr(ino.0, name.as_bytes()), size, reply));
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        guard(|| reply_xattr(self.vfs.listxattr(ino.0), size, reply));
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        guard(|| {
            let what = match whence {
                libc::SEEK_DATA => Seek::Data,
                libc::SEEK_HOLE => Seek::Hole,
                _ => return reply.error(Errno::EINVAL),
            };
            let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
            match self.vfs.seek(ino.0, offset, what).map(i64::try_from) {
                Ok(Ok(found)) => reply.offset(found),
                Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        reply.error(if mask.contains(AccessFlags::W_OK) { Errno::EROFS } else { Errno::ENOSYS });
    }

    fn setattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _req: &Request, _parent: INodeNo, _name: &OsStr, _target: &std::path::Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _newparent: INodeNo,
        _newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _req: &Request, _ino: INodeNo, _newparent: INodeNo, _newname: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _req: &Request, _ino: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _req: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        _ino_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _ino_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_and_after_1970_are_converted() {
        let back = system_time(Time { secs: -2, nanos: 800_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(back).unwrap(), Duration::from_millis(1200));
        let forward = system_time(Time { secs: 1 << 33, nanos: 1 });
        assert_eq!(forward.duration_since(UNIX_EPOCH).unwrap(), Duration::new(1 << 33, 1));
        // The ends of the range do not panic.
        system_time(Time { secs: i64::MIN, nanos: 0 });
        system_time(Time { secs: i64::MAX, nanos: 999_999_999 });
    }

    #[test]
    fn device_numbers_are_packed_as_the_kernel_does() {
        assert_eq!(rdev((8, 1)), 0x801);
        let packed = rdev((259, 70_000));
        assert_eq!(u64::from(packed), libc::makedev(259, 70_000));
    }
}
