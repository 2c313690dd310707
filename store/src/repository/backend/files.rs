//! The few file operations with which a [`super::LocalBackend`] reads and changes its folder. Tests replace them to
//! record every write, to lose writes in a crash, or to let them fail.
//!
//! The default of each operation is the real one: one system call, or a loop of one. [`Disk`] uses only the defaults. A
//! replacement must leave the folder as the real operation would, or fail. Locks, listings and lengths do not pass
//! through here, because they make nothing durable.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

use super::owner;
use crate::base::medium;

/// File operations. A write is durable once its file is synced. A new name, a rename or a removal is durable once its
/// folder is synced.
pub trait Files: fmt::Debug + Send + Sync {
    /// Creates a folder, private to its owner.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    /// Creates a file that must not exist, private to its owner.
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        owner::keep(path.parent().unwrap_or(Path::new(".")), &file);
        Ok(file)
    }

    /// Opens an existing file for writing.
    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).open(path)
    }

    /// Writes all bytes at an offset.
    fn write(&self, _path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Cuts a file to a length.
    fn truncate(&self, _path: &Path, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Makes a file's contents durable.
    fn sync(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes a folder's names durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        medium::sync_folder(path)
    }

    /// Renames a file, and replaces a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Gives a file a second name, which must not exist. Not every file system can do this.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// Reads part of a file; fewer bytes if the file ends before.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            match rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The buffer may have more room than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The real operations.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {}
