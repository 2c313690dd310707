//! The seal of an environment: a file that says what the data file was when the environment was closed.
//!
//! A seal exists only while nobody has begun to write: it is removed, durably, under LMDB's write lock before the first
//! page is written, and written under that lock after the last. So a data file that does not fit its seal is damaged.
//! The exception is a large file. Hashing one would make each command wait, so its seal is the file's inode, length and
//! times; if they differ, the file was only moved, perhaps, and its pages are visited.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// The seal's file.
pub(super) const NAME: &str = "sealed";
/// A data file that is longer than this, in bytes, is not hashed.
const HASHED_MAX: u64 = 64 << 20;
const HASHED: u8 = 1;
const STAMPED: u8 = 2;
/// Length of a seal's contents: its kind, and a hash or five numbers padded with zeros.
const LEN: usize = 1 + 5 * 8;

/// What a seal says of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SealState {
    /// It says nothing. The environment was not closed properly, or is being written to.
    None,
    /// No bit of the file has changed.
    Proven,
    /// Nobody has written to the file.
    Untouched,
    /// The file has changed.
    Broken,
}

/// Compares a data file with its seal.
pub(super) fn state(folder: &Path, data: &File) -> io::Result<SealState> {
    loop {
        let Some(seal) = read(folder)? else { return Ok(SealState::None) };
        let now = contents(data)?;
        if now == seal {
            return Ok(if seal[0] == HASHED { SealState::Proven } else { SealState::Untouched });
        }
        // Another process may have begun to write, and may even have sealed it again.
        if read(folder)? == Some(seal) {
            return Ok(if seal[0] == HASHED { SealState::Broken } else { SealState::None });
        }
    }
}

/// Seals a data file. The caller holds LMDB's write lock.
pub(super) fn write(folder: &Path, data: &File) -> io::Result<()> {
    let temporary = folder.join(format!("{NAME}.new"));
    File::create(&temporary)?.write_all(&contents(data)?)?;
    fs::rename(temporary, folder.join(NAME))
}

/// Removes the seal. The caller holds LMDB's write lock, or there is no data file.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let path = folder.join(NAME);
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Something that is not a file is no seal.
        Err(_) if path.is_dir() => return Ok(()),
        Err(error) => return Err(error),
    }
    // A seal that came back in a crash would call a good file damaged: that costs time, and nothing else.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// The seal's contents; none if there is no seal, or one that cannot be read.
fn read(folder: &Path) -> io::Result<Option<[u8; LEN]>> {
    match fs::read(folder.join(NAME)) {
        Ok(bytes) => Ok(bytes.try_into().ok().filter(|seal: &[u8; LEN]| matches!(seal[0], HASHED | STAMPED))),
        Err(_) => Ok(None),
    }
}

fn contents(data: &File) -> io::Result<[u8; LEN]> {
    let mut seal = [0; LEN];
    let found = data.metadata()?;
    if found.len() <= HASHED_MAX {
        seal[0] = HASHED;
        seal[1..33].copy_from_slice(hash(data)?.as_bytes());
        return Ok(seal);
    }
    seal[0] = STAMPED;
    let seconds = [found.mtime(), found.ctime()];
    let nanos = (found.mtime_nsec() << 32) | found.ctime_nsec();
    let numbers = [found.ino(), found.len(), seconds[0] as u64, seconds[1] as u64, nanos as u64];
    for (place, number) in seal[1..].as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    Ok(seal)
}

fn hash(data: &File) -> io::Result<blake3::Hash> {
    let (mut hasher, mut buffer, mut at) = (blake3::Hasher::new(), vec![0; 256 * 1024], 0);
    loop {
        match data.read_at(&mut buffer, at)? {
            0 => return Ok(hasher.finalize()),
            len => {
                hasher.update(&buffer[..len]);
                at += len as u64;
            }
        }
    }
}
