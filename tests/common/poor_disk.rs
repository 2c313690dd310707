//! A FUSE file system that shows a folder and lacks what some network shares lack. It numbers names and not files, so
//! every hard link has an inode number of its own. It ignores a change of owner, and knows no renames with flags. What
//! else it lacks is up to the test: see [`Lacks`].

use std::{
    ffi::OsStr,
    fs::{self, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

const NOW: Duration = Duration::ZERO;

/// What a file system lacks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lacks {
    /// Locks (ENOLCK), and syncing a folder (EINVAL).
    pub locks_and_folder_sync: bool,
    /// Hard links (ENOSYS).
    pub hard_links: bool,
    /// Times in more detail than seconds.
    pub time_detail: bool,
}

/// Mounts the file system. Dropping the result unmounts it.
pub fn mount(folder: &Path, at: &Path, lacks: Lacks) -> io::Result<BackgroundSession> {
    let shown = PoorDisk { lacks, paths: Mutex::new(vec![folder.to_owned()]) };
    Session::new(shown, at, &Config::default())?.spawn()
}

struct PoorDisk {
    lacks: Lacks,
    /// The path of each inode, by its number less one.
    paths: Mutex<Vec<PathBuf>>,
}

impl PoorDisk {
    fn path(&self, ino: INodeNo) -> PathBuf {
        self.paths.lock().unwrap()[u64::from(ino) as usize - 1].clone()
    }

    fn ino(&self, path: &Path) -> u64 {
        let mut paths = self.paths.lock().unwrap();
        let found = paths.iter().position(|known| known == path);
        let at = found.unwrap_or_else(|| {
            paths.push(path.to_owned());
            paths.len() - 1
        });
        at as u64 + 1
    }

    fn attr(&self, path: &Path) -> io::Result<FileAttr> {
        let meta = fs::symlink_metadata(path)?;
        let ino = INodeNo(self.ino(path));
        let nanos = |nanos: i64| if self.lacks.time_detail { 0 } else { nanos as u32 };
        let time = |secs: i64, detail: i64| match u64::try_from(secs) {
            Ok(secs) => UNIX_EPOCH + Duration::new(secs, nanos(detail)),
            Err(_) => UNIX_EPOCH - Duration::from_secs(secs.unsigned_abs()) + Duration::new(0, nanos(detail)),
        };
        Ok(FileAttr {
            ino,
            size: meta.len(),
            blocks: meta.blocks(),
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            crtime: UNIX_EPOCH,
            kind: kind(&meta),
            perm: (meta.mode() & 0o7777) as u16,
            nlink: meta.nlink() as u32,
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn entry(&self, done: io::Result<()>, path: &Path, reply: ReplyEntry) {
        match done.and_then(|()| self.attr(path)) {
            Ok(attr) => reply.entry(&NOW, &attr, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }
}

fn kind(meta: &Metadata) -> FileType {
    if meta.is_dir() { FileType::Directory } else { FileType::RegularFile }
}

fn timespec(time: Option<TimeOrNow>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Timespec { tv_sec: since.as_secs() as i64, tv_nsec: since.subsec_nanos().into() },
            Err(before) => {
                let nanos = before.duration().as_nanos() as i64;
                Timespec { tv_sec: (-nanos).div_euclid(1_000_000_000), tv_nsec: (-nanos).rem_euclid(1_000_000_000) }
            }
        },
    }
}

fn done(result: io::Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for PoorDisk {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        if !self.lacks.locks_and_folder_sync {
            return Ok(());
        }
        // Otherwise the kernel does the locking itself.
        config.add_capabilities(InitFlags::FUSE_FLOCK_LOCKS).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn setlk(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOLCK);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.lacks.locks_and_folder_sync {
            true => reply.error(Errno::EINVAL),
            false => done(fs::File::open(self.path(ino)).and_then(|folder| folder.sync_all()), reply),
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(fs::File::open(self.path(ino)).and_then(|file| file.sync_all()), reply);
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(Ok(()), &self.path(parent).join(name), reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.attr(&self.path(ino)) {
            Ok(attr) => reply.attr(&NOW, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let path = self.path(ino);
        let change = || -> io::Result<FileAttr> {
            if let Some(mode) = mode {
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            self.attr(&path)
        };
        match change() {
            Ok(attr) => reply.attr(&NOW, &attr),
            Err(error) => reply.error(error.into()),
        }
    }

    fn mkdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let path = self.path(parent).join(name);
        self.entry(fs::DirBuilder::new().mode(mode).create(&path), &path, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(fs::remove_file(self.path(parent).join(name)), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(fs::remove_dir(self.path(parent).join(name)), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = (self.path(parent).join(name), self.path(newparent).join(newname));
        let renamed = fs::rename(&from, &to);
        if renamed.is_ok() {
            for path in self.paths.lock().unwrap().iter_mut() {
                if *path == to {
                    *path = PathBuf::from("/nowhere");
                } else if *path == from {
                    path.clone_from(&to);
                }
            }
        }
        done(renamed, reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if self.lacks.hard_links {
            return reply.error(Errno::ENOSYS);
        }
        let path = self.path(parent).join(name);
        self.entry(fs::hard_link(self.path(ino), &path), &path, reply);
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let path = self.path(parent).join(name);
        let is_new = flags & rustix::fs::OFlags::EXCL.bits() as i32 != 0;
        let made = OpenOptions::new().write(true).create(true).create_new(is_new).mode(mode).open(&path);
        match made.and_then(|_| self.attr(&path)) {
            Ok(attr) => reply.created(&NOW, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error.into()),
        }
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
        let mut bytes = vec![0; size as usize];
        match fs::File::open(self.path(ino)).and_then(|file| file.read_at(&mut bytes, offset)) {
            Ok(len) => reply.data(&bytes[..len]),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let open = OpenOptions::new().write(true).open(self.path(ino));
        match open.and_then(|file| file.write_all_at(data, offset)) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let path = self.path(ino);
        let Ok(entries) = fs::read_dir(&path) else { return reply.error(Errno::EIO) };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for (at, name) in names.iter().enumerate().skip(offset as usize) {
            let path = path.join(name);
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if reply.add(INodeNo(self.ino(&path)), at as u64 + 1, kind(&meta), name) {
                break;
            }
        }
        reply.ok();
    }
}
