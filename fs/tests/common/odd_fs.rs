//! A FUSE file system that says of its files what a test wants it to say: other files under the same inode numbers, no
//! size although there are contents, or nothing at all, because a read never returns.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request, Session,
};
use parking_lot::Mutex;

const ROOT: u64 = 1;
/// Folders have inode numbers from here on.
const FOLDERS: u64 = 1_000_000;
/// A time long ago, for everything.
const WHEN: Duration = Duration::from_secs(1_700_000_000);

/// A file.
#[derive(Clone)]
pub struct OddFile {
    pub ino: u64,
    pub links: u32,
    pub bytes: Arc<[u8]>,
    /// The size that it says; none if it says the truth.
    pub says: Option<u64>,
    /// Reads of it do not return while this is locked.
    pub gate: Option<Arc<Mutex<()>>>,
}

impl OddFile {
    pub fn new(ino: u64, bytes: impl AsRef<[u8]>) -> Self {
        Self { ino, links: 1, bytes: bytes.as_ref().into(), says: None, gate: None }
    }
}

/// The files of a file system by path, at most one folder deep. Tests may change them while it is mounted.
pub type OddTree = Arc<Mutex<BTreeMap<String, OddFile>>>;

/// Makes a tree.
pub fn tree(files: impl IntoIterator<Item = (&'static str, OddFile)>) -> OddTree {
    Arc::new(Mutex::new(files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect()))
}

/// Mounts a tree at a folder, which is created. Prints why if that is not possible.
pub fn mount(tree: &OddTree, place: &Path) -> Option<BackgroundSession> {
    std::fs::create_dir_all(place).unwrap();
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("odd".into()), MountOption::Subtype("odd".into())];
    // A read that does not return must not keep others from returning.
    config.n_threads = Some(4);
    match Session::new(OddFs(tree.clone()), place, &config).and_then(|session| session.spawn()) {
        Ok(session) => Some(session),
        Err(error) => {
            println!("skipped: cannot mount a FUSE file system ({error})");
            None
        }
    }
}

struct OddFs(OddTree);

impl OddFs {
    /// The folders, with their numbers.
    fn folders(&self) -> BTreeMap<String, u64> {
        let tree = self.0.lock();
        let mut folders: Vec<&str> = tree.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect();
        folders.dedup();
        // The number depends on the name alone.
        let number = |name: &str| FOLDERS + name.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte)) % FOLDERS;
        folders.into_iter().map(|name| (name.to_owned(), number(name))).collect()
    }

    /// The entries of a folder: names and numbers.
    fn entries(&self, folder: u64) -> BTreeMap<String, u64> {
        let folders = self.folders();
        let inside = folders.iter().find(|(_, ino)| **ino == folder).map(|(name, _)| format!("{name}/"));
        let tree = self.0.lock();
        let files = tree.iter().filter_map(|(path, file)| match &inside {
            Some(inside) => Some((path.strip_prefix(inside)?.to_owned(), file.ino)),
            None if path.contains('/') => None,
            None => Some((path.clone(), file.ino)),
        });
        let mut entries: BTreeMap<String, u64> = files.collect();
        if folder == ROOT {
            entries.extend(folders);
        }
        entries
    }

    fn file(&self, ino: u64) -> Option<OddFile> {
        self.0.lock().values().find(|file| file.ino == ino).cloned()
    }

    fn attr(&self, ino: u64) -> FileAttr {
        let file = self.file(ino);
        let time: SystemTime = UNIX_EPOCH + WHEN;
        FileAttr {
            ino: INodeNo(ino),
            size: file.as_ref().map_or(4096, |file| file.says.unwrap_or(file.bytes.len() as u64)),
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if file.is_some() { FileType::RegularFile } else { FileType::Directory },
            perm: 0o755,
            nlink: file.as_ref().map_or(2, |file| file.links),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for OddFs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str().and_then(|name| self.entries(parent.0).get(name).copied()) {
            Some(ino) => reply.entry(&Duration::ZERO, &self.attr(ino), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &self.attr(ino.0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Without this, the kernel reads no further than the size.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.file(ino.0) else { return reply.error(Errno::ENOENT) };
        if let Some(gate) = &file.gate {
            drop(gate.lock());
        }
        let rest = &file.bytes[file.bytes.len().min(offset as usize)..];
        reply.data(&rest[..rest.len().min(size as usize)]);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        for (number, (name, ino)) in self.entries(ino.0).into_iter().enumerate().skip(offset as usize) {
            let kind = if self.file(ino).is_some() { FileType::RegularFile } else { FileType::Directory };
            if reply.add(INodeNo(ino), number as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
