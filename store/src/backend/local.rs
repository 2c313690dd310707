//! A local folder. Objects are written beside their place and renamed into it, file and folder fsynced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};

use super::{Backend, Listed, Lock};
use crate::error::{Error, Result};

/// A folder whose time of change lies less than this in the past may change again within the same tick of its clock.
const SETTLED: Duration = Duration::from_secs(2);

/// Keeps objects in a folder.
#[derive(Debug)]
pub struct LocalBackend {
    root: PathBuf,
    counter: AtomicU64,
}

struct FileLock(#[allow(dead_code, reason = "closing the file ends the lock")] File);
impl Lock for FileLock {}

impl LocalBackend {
    /// Uses a folder, which need not be there yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), counter: AtomicU64::new(0) }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        debug_assert!(!name.starts_with('/') && !name.contains(".."), "names are made of ids");
        self.root.join(name)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }
}

/// Makes a folder and those above it. Each new folder's own entry must be durable too, or what is in it is not.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folders(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        // Whoever else has just made it may not have come so far as to make it durable.
        _ => sync_folder(parent),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// No such file is an answer, not an error.
fn found<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, error)),
    }
}

impl Backend for LocalBackend {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        make_folders(folder).map_err(|e| Error::io(folder, e))?;
        // The process id keeps two processes apart, the counter two threads; leftovers of a crash are overwritten never
        // and swept by `list`.
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = folder.join(format!(".tmp-{}-{number}-{:016x}", std::process::id(), random_tail()));
        let written = self.write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(Error::io(path, error));
        }
        sync_folder(folder).map_err(|e| Error::io(folder, e))
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let path = self.path(name);
        Ok(found(&path, fs::read(&path))?.map(Bytes::from))
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        let path = self.path(name);
        let Some(file) = found(&path, File::open(&path))? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::io(path, error.into())),
            }
        }
        // More room may have been set aside than was asked for.
        bytes.truncate(len);
        Ok(Some(bytes.into()))
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        Ok(found(&path, fs::metadata(&path))?.map(|m| m.len()))
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        if found(&path, fs::remove_file(&path))?.is_some() {
            let folder = path.parent().unwrap_or(&self.root);
            sync_folder(folder).map_err(|e| Error::io(folder, e))?;
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let path = self.path(folder);
        let mut listed = Vec::new();
        for entry in found(&path, fs::read_dir(&path))?.into_iter().flatten() {
            let entry = entry.map_err(|e| Error::io(&path, e))?;
            let Some(meta) = found(&path, entry.metadata())? else { continue };
            match entry.file_name().into_string() {
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

    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(&self.root);
        make_folders(folder).map_err(|e| Error::io(folder, e))?;
        let new = !path.exists();
        let write = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            if file.metadata()?.len() != offset {
                file.set_len(offset)?;
            }
            let written = file.write_all_at(bytes, offset).and_then(|()| file.sync_all());
            if written.is_err() {
                // Nothing of it was acknowledged: leave no half record behind if that can still be done.
                let _ = file.set_len(offset);
            }
            written
        };
        write().map_err(|e| Error::io(&path, e))?;
        if new { sync_folder(folder).map_err(|e| Error::io(folder, e)) } else { Ok(()) }
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        make_folders(&self.root).map_err(|e| Error::io(&self.root, e))?;
        let path = self.path("lock");
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open().map_err(|e| Error::io(&path, e))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| Error::io(&path, e.into()))?;
        Ok(Box::new(FileLock(file)))
    }
}

fn random_tail() -> u64 {
    u64::from_le_bytes(crate::crypto::random())
}
