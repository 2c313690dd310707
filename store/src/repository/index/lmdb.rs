//! What LMDB leaves to its caller when an environment is opened: a full disk, a file that is cut off and a damaged file
//! must end in an error, not in a signal, and must be told apart.
//!
//! LMDB maps its files. A page of the map that is beyond the end of the file, or that finds no room on the disk when it
//! is first written, is a bus error for the whole process. So the lock file, which is written through the map, gets its
//! room before it is mapped, and the data file is checked first. LMDB has no checksums. It may report wrong bytes in a
//! page as damage, or not notice them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use heed::MdbError;
use rustix::{fs::FallocateFlags, io::Errno};

use crate::base::error::{Error, Result};

const DATA: &str = "data.mdb";
const LOCK: &str = "lock.mdb";
/// This file marks an environment in which damage was met. The next opening creates a new one.
const MARK: &str = "damaged";
/// The size of an LMDB page on the machines that this runs on.
const PAGE: u64 = 4096;
/// A reader's slot in the lock file, and an upper bound of the lock file's head, in bytes.
const READER: u64 = 64;
const LOCK_HEAD: u64 = 4096;
/// A disk with less room than this, in bytes, is full. LMDB reports a write that it could do only in part as an input
/// or output error.
const FULL: u64 = 1 << 20;

/// Call this before an environment is opened in a folder. It reserves room for a lock file with this many readers. It
/// refuses a data file that is cut off or is not an LMDB file, because LMDB would map it without noticing.
pub fn prepare(folder: &Path, readers: u32) -> Result<(), EnvError> {
    reserve(&folder.join(LOCK), LOCK_HEAD + READER * u64::from(readers))
        .map_err(|error| EnvError::Other(Error::io(folder, error)))?;
    if folder.join(MARK).exists() {
        return Err(EnvError::Damage("damage was found in it".into()));
    }
    check_file(&folder.join(DATA)).map_err(EnvError::Damage)
}

/// Removes the files of an environment. Processes that have it open keep using the removed files.
pub fn wipe(folder: &Path) -> Result<()> {
    for name in [DATA, LOCK, MARK] {
        let file = folder.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(file, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Why an environment does not open, or an operation in it failed.
#[derive(Debug)]
pub enum EnvError {
    /// It is damaged: only a new environment helps.
    Damage(String),
    /// Something else, which a new environment would not help.
    Other(Error),
}

impl EnvError {
    /// Sorts an error of LMDB.
    pub fn new(folder: &Path, error: heed::Error) -> Self {
        use MdbError::{
            BadDbi, BadTxn, Corrupted, CursorFull, Incompatible, Invalid, PageFull, PageNotFound, Panic,
            VersionMismatch,
        };
        match error {
            heed::Error::Mdb(
                BadDbi | BadTxn | Corrupted | CursorFull | Incompatible | Invalid | PageFull | PageNotFound | Panic
                | VersionMismatch,
            ) => EnvError::Damage(error.to_string()),
            heed::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                EnvError::Damage(error.to_string())
            }
            heed::Error::Io(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) && is_full(folder) => {
                EnvError::Other(Error::Full { place: folder.display().to_string() })
            }
            heed::Error::Io(error) => EnvError::Other(Error::io(folder, error)),
            error => EnvError::Other(Error::Index { path: folder.to_owned(), reason: error.to_string() }),
        }
    }

    /// Converts to an error. Damage is marked, so that the next opening creates a new environment.
    pub fn into_error(self, folder: &Path) -> Error {
        match self {
            EnvError::Damage(reason) => {
                // Best effort: damage that cannot be marked is found again.
                let _ = fs::write(folder.join(MARK), b"");
                Error::Index { path: folder.to_owned(), reason }
            }
            EnvError::Other(error) => error,
        }
    }
}

/// The error for an operation that failed in an open environment.
pub fn error(folder: &Path, error: heed::Error) -> Error {
    EnvError::new(folder, error).into_error(folder)
}

/// Reserves room for a file without making it longer.
fn reserve(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        // Not every file system can reserve room.
        _ => Ok(()),
    }
}

fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL)
}

/// Checks that a data file has all its pages. Its first two pages are meta pages: each has the magic and the number of
/// the last page in use. LMDB itself reads the newer one.
fn check_file(path: &Path) -> Result<(), String> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let len = file.metadata().map_err(|e| e.to_string())?.len();
    if len == 0 {
        return Ok(());
    }
    let mut last_page = 0;
    for page in 0..2 {
        // Page header 16 bytes; magic u32, version u32, address u64, map size u64, two tables of 48, last page u64.
        let mut meta = [0u8; 144];
        file.read_exact_at(&mut meta, page * PAGE).map_err(|_| "it is shorter than its first pages".to_owned())?;
        if meta[16..20] != 0xBEEF_C0DE_u32.to_le_bytes() {
            return Err("it is not an LMDB file".into());
        }
        let last = u64::from_le_bytes(meta[128..136].try_into().expect("8 bytes"));
        last_page = last_page.max(last);
    }
    match last_page.checked_add(1).and_then(|pages| pages.checked_mul(PAGE)) {
        Some(need) if need <= len || last_page <= 1 => Ok(()),
        _ => Err("it is cut off".into()),
    }
}
