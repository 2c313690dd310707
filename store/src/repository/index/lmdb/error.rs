//! Errors of LMDB, sorted: damage, and everything else.

use std::{fs, io, path::Path};

use heed::MdbError;
use rustix::io::Errno;

use crate::base::error::Error;

/// This file marks an environment in which damage was met. The next opening creates a new one.
pub(super) const MARK: &str = "damaged";
/// A disk with less room than this, in bytes, is full. LMDB reports a write that it could do only in part as an input
/// or output error.
const FULL: u64 = 1 << 20;

/// Why an environment does not open, or an operation in it failed.
#[derive(Debug)]
pub enum EnvError {
    /// It is damaged: only a new environment helps.
    Damage(String),
    /// Something else, which a new environment would not help.
    Other(Error),
}

impl EnvError {
    /// Sorts an error of LMDB. A row that does not decode is damage.
    pub fn new(folder: &Path, error: heed::Error) -> Self {
        use MdbError::{
            BadDbi, BadTxn, Corrupted, CursorFull, Incompatible, Invalid, PageFull, PageNotFound, Panic, Problem,
            VersionMismatch,
        };
        match error {
            heed::Error::Mdb(
                BadDbi | BadTxn | Corrupted | CursorFull | Incompatible | Invalid | PageFull | PageNotFound | Panic
                | Problem | VersionMismatch,
            )
            | heed::Error::Decoding(_) => EnvError::Damage(error.to_string()),
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
                mark(folder);
                Error::Index { path: folder.to_owned(), reason }
            }
            EnvError::Other(error) => error,
        }
    }
}

/// Notes that an environment is damaged.
pub(super) fn mark(folder: &Path) {
    // Best effort: damage that cannot be marked is found again.
    let _ = fs::write(folder.join(MARK), b"");
}

fn is_full(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL)
}
