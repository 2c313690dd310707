//! A file that takes room on the disk and holds nothing.
//!
//! It does not pass through [`super::Files`]: nothing in it has to be durable, and after a crash it may be missing.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{fs::FallocateFlags, io::Errno};

use super::owner;
use crate::{base::medium, crypto};

/// Bytes of a block in [`MetadataExt::blocks`], whatever the file system.
const BLOCK: u64 = 512;

/// Makes the file this long, or removes it if `len` is 0. After an error there is none.
pub(super) fn set(path: &Path, len: u64) -> io::Result<()> {
    if len == 0 {
        return remove(path);
    }
    make(path, len).inspect_err(|_| drop(remove(path)))
}

fn make(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if let Some(folder) = path.parent() {
        owner::keep(folder, &file);
    }
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => return Err(error.into()),
        // Some file systems cannot allocate, and some say that they did.
        _ if file.metadata()?.blocks() * BLOCK >= len => return Ok(()),
        _ => {}
    }
    fill(&file, len)
}

/// Writes bytes that cannot be compressed.
fn fill(file: &File, len: u64) -> io::Result<()> {
    let mut at = 0;
    while at < len {
        let bytes: [u8; 4096] = crypto::random();
        let part = (len - at).min(bytes.len() as u64);
        file.write_all_at(&bytes[..part as usize], at)?;
        at += part;
    }
    file.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => {
            removed?;
            // Some file systems free the room only when the removal is durable.
            path.parent().map_or(Ok(()), medium::sync_folder)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_by_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let taken = |path: &Path| path.metadata().map(|meta| (meta.len(), meta.blocks() * BLOCK >= 128 << 10)).ok();
        set(&path, 128 << 10).unwrap();
        assert_eq!(taken(&path), Some((128 << 10, true)));
        set(&path, 0).unwrap();
        set(&path, 0).unwrap();
        assert_eq!(taken(&path), None);
        fill(&File::create(&path).unwrap(), 128 << 10).unwrap();
        assert_eq!(taken(&path), Some((128 << 10, true)));
    }
}
