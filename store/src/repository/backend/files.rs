//! The few file operations by which a [`super::LocalBackend`] reads and changes its folder: the seam through which tests
//! record every write, lose it in a crash, or let it fail.
//!
//! Each has its real form here, one system call or a loop of them, and [`Disk`] is nothing else. Whoever replaces one
//! must leave the folder as the real one would, or fail. Locks, listings and lengths do not pass through here: they make
//! nothing durable.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

/// File operations. Nothing of them is durable before the file or folder is synced; a new name, a rename or a removal
/// not before the folder that it is in is synced.
pub trait Files: fmt::Debug + Send + Sync {
    /// Makes one folder, private to its owner.
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    /// Makes a file that must not be there, private to its owner.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    /// Opens a file for writing that is there.
    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).open(path)
    }

    /// Writes all the bytes at an offset.
    fn write(&self, _path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Cuts a file.
    fn truncate(&self, _path: &Path, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Makes a file's contents durable.
    fn sync(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// Makes a folder's names durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Gives a file one more name, which must not be there. Not every file system can.
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

    /// Reads so many bytes of a file, or fewer if it ends before.
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
        // More room may have been set aside than was asked for.
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// The real thing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {}
