//! What LMDB leaves to whoever opens an environment: that a full disk, a cut file or a damaged one ends in an error and not
//! in a signal, and that the three are told apart.
//!
//! LMDB maps its files. A page of the map that lies beyond the end of the file, or that finds no room on the disk when it is
//! first written, is a bus error for the whole process. So the lock file, which is written through the map, gets its room
//! before it is mapped, and the data file is looked at before. LMDB has no checksums; what is wrong inside a page it may
//! notice as damage, or not.

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
/// There after damage was met, so that the next to open begins anew.
const MARK: &str = "damaged";
/// LMDB's page, on the machines that this runs on.
const PAGE: u64 = 4096;
/// A reader's slot in the lock file, and more than its head, in bytes.
const READER: u64 = 64;
const LOCK_HEAD: u64 = 4096;
/// A disk with less room than this, in bytes, is full: LMDB reports a write that it could do only in part as an input or
/// output error.
const FULL: u64 = 1 << 20;

/// To be called before an environment is opened in a folder: makes sure of the lock file's room, for so many readers, and
/// refuses a data file that LMDB would map without noticing that it is cut off or is none of its own.
pub fn prepare(folder: &Path, readers: u32) -> Result<(), Trouble> {
    reserve(&folder.join(LOCK), LOCK_HEAD + READER * u64::from(readers))
        .map_err(|error| Trouble::Other(Error::io(folder, error)))?;
    if folder.join(MARK).exists() {
        return Err(Trouble::Damage("damage was met in it".into()));
    }
    check_file(&folder.join(DATA)).map_err(Trouble::Damage)
}

/// Removes the files of an environment. Processes that have it open go on with what they have.
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

/// Why an environment does not open.
#[derive(Debug)]
pub enum Trouble {
    /// It is damaged: only a new one helps.
    Damage(String),
    /// Something else, which a new one would not help.
    Other(Error),
}

impl Trouble {
    /// Sorts what LMDB said.
    pub fn new(folder: &Path, error: heed::Error) -> Self {
        use MdbError::{
            BadDbi, BadTxn, Corrupted, CursorFull, Incompatible, Invalid, PageFull, PageNotFound, Panic,
            VersionMismatch,
        };
        match error {
            heed::Error::Mdb(
                BadDbi | BadTxn | Corrupted | CursorFull | Incompatible | Invalid | PageFull | PageNotFound | Panic
                | VersionMismatch,
            ) => Trouble::Damage(error.to_string()),
            heed::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Trouble::Damage(error.to_string())
            }
            heed::Error::Io(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) && is_full(folder) => {
                Trouble::Other(Error::Full { place: folder.display().to_string() })
            }
            heed::Error::Io(error) => Trouble::Other(Error::io(folder, error)),
            error => Trouble::Other(Error::Index { path: folder.to_owned(), reason: error.to_string() }),
        }
    }

    /// As an error. Damage is marked, and whoever opens next begins anew.
    pub fn into_error(self, folder: &Path) -> Error {
        match self {
            Trouble::Damage(reason) => {
                // Best effort: where it cannot be marked, it is found again.
                let _ = fs::write(folder.join(MARK), b"");
                Error::Index { path: folder.to_owned(), reason }
            }
            Trouble::Other(error) => error,
        }
    }
}

/// What an operation in an open environment failed of.
pub fn error(folder: &Path, error: heed::Error) -> Error {
    Trouble::new(folder, error).into_error(folder)
}

/// Gives a file room without making it longer.
fn reserve(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error.into()),
        // Not every file system can.
        _ => Ok(()),
    }
}

fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL)
}

/// Both of the first pages are meta pages; each names the database's magic and the last page in use. LMDB itself reads the
/// newer one.
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
            return Err("it is no LMDB file".into());
        }
        let last = u64::from_le_bytes(meta[128..136].try_into().expect("8 bytes"));
        last_page = last_page.max(last);
    }
    match last_page.checked_add(1).and_then(|pages| pages.checked_mul(PAGE)) {
        Some(need) if need <= len || last_page <= 1 => Ok(()),
        _ => Err("it is cut off".into()),
    }
}
