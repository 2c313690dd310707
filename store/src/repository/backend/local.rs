//! A local folder. An object is written to a temporary file and renamed; file and folder are synced.
//!
//! All reads and writes go through [`Files`], so that tests can record them and make them fail.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Backend, Disk, Files, Listed, Lock, Room, owner, reserve};
use crate::base::{
    error::{Error, Result},
    medium::{self, FileLock, Locked},
    process::{Process, State},
};

/// A folder that changed less than this ago may change again within the same tick of its clock.
const SETTLED: Duration = Duration::from_secs(2);
/// How the names of temporary files begin.
const TEMPORARY: &str = ".tmp-";
/// A temporary file of a process of which nothing is known is left behind if it was not written to for this long, and
/// nobody has it locked.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// Keeps objects in a folder.
#[derive(Debug)]
pub struct LocalBackend<F = Disk> {
    root: PathBuf,
    files: F,
    counter: AtomicU64,
    /// Names that existed when their folder was last synced. Other names may have been created by a process that died
    /// before they were durable.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Lock for FileLock {}

impl LocalBackend {
    /// Uses a folder, which does not have to exist yet.
    pub fn new(root: &Path) -> Self {
        Self::with_files(root, Disk)
    }
}

impl<F: Files> LocalBackend<F> {
    /// Uses a folder with other file operations.
    pub fn with_files(root: &Path, files: F) -> Self {
        Self { root: root.to_owned(), files, counter: AtomicU64::new(0), durable: Mutex::default() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.starts_with('/') && !name.contains(".."), "names are made of ids");
        self.root.join(name)
    }

    /// Writes a temporary file, and keeps it locked while it is open: to another machine that is the only sign that
    /// it is still written. On a file system without locks there is none.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let file = self.files.create(path)?;
        let _ = medium::attempt_lock(&file);
        self.files.write(path, &file, bytes, 0)?;
        Ok(file)
    }

    /// The path of a temporary file that will be renamed to this path. Its name has the process, by which `list` knows
    /// what a crash left behind, and a counter, which keeps two threads apart.
    fn temporary(&self, path: &Path, process: &str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        path.with_file_name(format!("{TEMPORARY}{process}-{number}-{:016x}", random_tail()))
    }

    /// Takes each step for all objects before the next step: the first sync may write to the disk what the later ones
    /// would wait for.
    fn write_all(&self, objects: &[(&str, &[u8])], temporaries: &mut Vec<PathBuf>) -> Result<()> {
        let mut written = Vec::with_capacity(objects.len());
        let process = Process::current().word();
        for (name, bytes) in objects {
            let path = self.path(name);
            let folder = path.parent().unwrap_or(&self.root);
            self.make_folders(folder).map_err(|e| Error::io(folder, e))?;
            let temporary = self.temporary(&path, &process);
            temporaries.push(temporary.clone());
            let file = self.write_new(&temporary, bytes).map_err(|e| Error::io(&path, e))?;
            written.push((path, temporary, file));
        }
        for (path, temporary, file) in &written {
            self.files.sync(temporary, file).map_err(|e| Error::io(path, e))?;
        }
        for (path, temporary, _) in &written {
            self.files.rename(temporary, path).map_err(|e| Error::io(path, e))?;
        }
        let mut folders: Vec<&Path> = written.iter().map(|(path, ..)| path.parent().unwrap_or(&self.root)).collect();
        folders.dedup();
        for folder in folders {
            if folder == self.root {
                self.settle_root();
            }
            self.files.sync_folder(folder).map_err(|e| Error::io(folder, e))?;
        }
        Ok(())
    }

    /// Creates a folder and those of its ancestors that do not exist. A folder's own name must be durable, or nothing
    /// in the folder is.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let is_ours = folder.starts_with(&self.root) && folder != self.root;
        if (!is_ours && folder.is_dir()) || self.durable.lock().contains(folder) {
            return Ok(());
        }
        let parent = parent(folder);
        self.make_folders(parent)?;
        match self.files.make_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) if is_ours => {
                owner::keep(parent, &File::open(folder)?);
                self.settle_names(parent)
            }
            // The process that created it may not have made it durable.
            _ if is_ours => self.settle_names(parent),
            _ => self.files.sync_folder(parent),
        }
    }

    /// Makes all names in a folder of ours durable.
    fn settle_names(&self, folder: &Path) -> io::Result<()> {
        let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        self.files.sync_folder(folder)?;
        self.durable.lock().extend(names);
        Ok(())
    }

    fn sync_if_there(&self, folder: &Path) -> Result<()> {
        found(folder, self.files.sync_folder(folder)).map(drop)
    }

    /// The second half of a rename: the new name becomes durable before the old name is removed.
    fn unlink_renamed(&self, from: &Path, [new, old]: [&Path; 2]) -> Result<()> {
        self.files.sync_folder(new).map_err(|e| Error::io(new, e))?;
        found(from, self.files.remove(from))?;
        self.files.sync_folder(old).map_err(|e| Error::io(old, e))
    }

    /// Makes the root's own name durable, and those of its ancestors if this user may. Called when an object is put
    /// into the root itself: these objects make the place a repository.
    fn settle_root(&self) {
        if self.durable.lock().insert(self.root.clone()) {
            for folder in self.root.ancestors().skip(1) {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                let _ = self.files.sync_folder(folder);
            }
        }
    }
}

/// Whether two paths name the same file.
fn is_one_file(one: &Path, two: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some_and(|one| Some(one) == id(two))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A missing file is an answer, not an error.
fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, error)),
    }
}

impl<F: Files> Backend for LocalBackend<F> {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()> {
        let mut temporaries = Vec::with_capacity(objects.len());
        let result = self.write_all(objects, &mut temporaries);
        if result.is_err() {
            // Temporary files that were renamed do not exist any more.
            temporaries.iter().for_each(|temporary| drop(self.files.remove(temporary)));
        }
        result
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name);
        Ok(found(&path, self.files.read(&path))?.map(Bytes::from))
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let path = self.path(name);
        Ok(found(&path, self.files.read_at(&path, offset, len))?.map(Bytes::from))
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        Ok(found(&path, fs::metadata(&path))?.map(|m| m.len()))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        let folders = [to.parent().unwrap_or(&self.root), from.parent().unwrap_or(&self.root)];
        self.make_folders(folders[0]).map_err(|e| Error::io(folders[0], e))?;
        // The two folders become durable separately and in any order. So only a file that has both names in between is
        // sure to keep one.
        match self.files.link(&from, &to) {
            Ok(()) => self.unlink_renamed(&from, folders),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_one_file(&from, &to) => {
                // A process died after it had linked the file.
                self.unlink_renamed(&from, folders)
            }
            // The file does not exist; or it replaces another file, and then one of the two is sure to exist; or the
            // file system has no hard links.
            Err(_) => {
                found(&from, self.files.rename(&from, &to))?;
                // Even if there was nothing to rename: a process may have renamed it and died before that was durable.
                folders.into_iter().try_for_each(|folder| self.sync_if_there(folder))
            }
        }
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        found(&path, self.files.remove(&path))?;
        // Even if there was nothing to remove: a process may have removed it and died before that was durable.
        self.sync_if_there(path.parent().unwrap_or(&self.root))
    }

    fn settle(&self, folder: &str) -> Result<()> {
        let path = self.path(folder);
        self.make_folders(&path).and_then(|()| self.files.sync_folder(&path)).map_err(|e| Error::io(path, e))
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let path = self.path(folder);
        let mut listed = Vec::new();
        for entry in found(&path, fs::read_dir(&path))?.into_iter().flatten() {
            let entry = entry.map_err(|e| Error::io(&path, e))?;
            let Some(meta) = found(&path, entry.metadata())? else { continue };
            match entry.file_name().into_string() {
                Ok(name) if name.starts_with(TEMPORARY) && is_left_behind(&entry.path(), &name, &meta) => {
                    let _ = self.files.remove(&entry.path());
                }
                Ok(name) if meta.is_file() && !name.starts_with('.') => listed.push(Listed { name, len: meta.len() }),
                _ => {}
            }
        }
        Ok(listed)
    }

    fn stamp(&self, folder: &str) -> Result<Option<u64>> {
        let path = self.path(folder);
        let Some(meta) = found(&path, fs::metadata(&path))? else { return Ok(Some(0)) };
        let settled = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let stamp = (meta.mtime() as u64).wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec() as u64);
        Ok(settled.is_some_and(|age| age > SETTLED).then_some(stamp))
    }

    fn room(&self) -> Option<Room> {
        let found = rustix::fs::statvfs(&self.root).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Room { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
    }

    fn set_reserve(&self, name: &str, len: u64) -> Result<()> {
        let path = self.path(name);
        reserve::set(&path, len).map_err(|e| Error::io(path, e))
    }

    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folders(folder).map_err(|e| Error::io(folder, e))?;
        let write = || {
            let (file, new) = match self.files.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => (self.files.create(&path)?, true),
                opened => (opened?, false),
            };
            if file.metadata()?.len() != offset {
                self.files.truncate(&path, &file, offset)?;
            }
            let written = self.files.write(&path, &file, bytes, offset).and_then(|()| self.files.sync(&path, &file));
            if written.is_err() {
                // The append was not acknowledged: remove the half record if that is possible.
                let _ = self.files.truncate(&path, &file, offset);
            }
            written.map(|()| new)
        };
        let new = write().map_err(|e| Error::io(&path, e))?;
        if !new && self.durable.lock().contains(&path) {
            return Ok(());
        }
        self.settle_names(folder).map_err(|e| Error::io(folder, e))
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        self.make_folders(&self.root).map_err(|e| Error::io(&self.root, e))?;
        let path = self.path("lock");
        let lock = FileLock::wait(&path).map_err(|e| Error::io(&path, e))?;
        owner::keep(&self.root, lock.file());
        Ok(Box::new(lock))
    }
}

/// Whether the process that wrote a temporary file has ended. A clock is asked only if nothing is known of the process,
/// because a clock may jump while the file is written.
fn is_left_behind(path: &Path, name: &str, meta: &fs::Metadata) -> bool {
    let age = || meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    let is_locked = || {
        let locked = fs::OpenOptions::new().write(true).open(path).and_then(|file| medium::attempt_lock(&file));
        !matches!(locked, Ok(Locked::Here | Locked::Impossible))
    };
    match Process::state_of_word(name.strip_prefix(TEMPORARY).unwrap_or_default()) {
        _ if !meta.is_file() => false,
        State::Ended => true,
        State::Runs => false,
        State::Unknown => age().is_some_and(|age| age > LEFT_BEHIND) && !is_locked(),
    }
}

fn random_tail() -> u64 {
    u64::from_le_bytes(crate::crypto::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a temporary file that was last written to an age ago.
    fn temporary(folder: &Path, process: &str, age: Duration) -> (PathBuf, File) {
        let path = folder.join("packs/00").join(format!("{TEMPORARY}{process}-0-0"));
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        (path, file)
    }

    fn backend() -> (tempfile::TempDir, LocalBackend) {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(folder.path());
        backend.put("packs/00/a", b"a").unwrap();
        (folder, backend)
    }

    #[track_caller]
    fn expect_left(backend: &LocalBackend, expected: &[(&PathBuf, bool)]) {
        assert_eq!(backend.list("packs/00").unwrap(), [Listed { name: "a".into(), len: 1 }]);
        for (path, is_there) in expected {
            assert_eq!(path.exists(), *is_there, "{}", path.display());
        }
    }

    #[test]
    fn temporary_files_of_ended_processes_are_removed() {
        let (folder, backend) = backend();
        let this = Process::current();
        let ended = Process { pid: 4_194_303, ..this.clone() };
        // However old they are by a clock that jumped.
        let (running, _) = temporary(folder.path(), &this.word(), LEFT_BEHIND * 10_000);
        let (young, _) = temporary(folder.path(), &ended.word(), Duration::ZERO);
        expect_left(&backend, &[(&running, true), (&young, false)]);
    }

    #[test]
    fn temporary_files_of_other_machines_are_removed_when_they_are_old_and_not_locked() {
        let (folder, backend) = backend();
        let other = |boot: &str| Process { boot: boot.into(), ..Process::current() }.word();
        let (old, _) = temporary(folder.path(), &other("a"), LEFT_BEHIND * 2);
        let (young, _) = temporary(folder.path(), &other("b"), LEFT_BEHIND / 2);
        let (written, file) = temporary(folder.path(), &other("c"), LEFT_BEHIND * 2);
        assert_eq!(medium::attempt_lock(&file).unwrap(), Locked::Here);
        expect_left(&backend, &[(&old, false), (&young, true), (&written, true)]);
        drop(file);
        expect_left(&backend, &[(&written, false)]);
    }

    /// Lists the folder while an object is written into it, when the clock has just jumped.
    #[derive(Debug)]
    struct JumpingClock;

    impl Files for JumpingClock {
        fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
            file.set_modified(SystemTime::now() - LEFT_BEHIND * 2)?;
            let root = path.ancestors().nth(3).unwrap();
            LocalBackend::new(root).list("packs/00").map_err(io::Error::other)?;
            assert_eq!(
                medium::attempt_lock(&File::open(path)?)?,
                Locked::Elsewhere,
                "other machines see that it is written"
            );
            file.sync_all()
        }
    }

    #[test]
    fn a_clock_that_jumps_removes_nothing_that_is_being_written() {
        let folder = tempfile::tempdir().unwrap();
        LocalBackend::with_files(folder.path(), JumpingClock).put("packs/00/a", b"a").unwrap();
        expect_left(&LocalBackend::new(folder.path()), &[]);
    }
}
