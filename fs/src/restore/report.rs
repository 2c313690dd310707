//! What a restore did, and what it could not do.

use std::{fmt, io, path::PathBuf};

use bkfs_store::Error;

use super::limits::LimitMet;

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Folders created.
    pub dirs: u64,
    /// Entries of other kinds created.
    pub others: u64,
    /// Further names of files, linked to the first.
    pub links: u64,
    /// Entries that existed already and were left as they are.
    pub kept: u64,
    /// Bytes of contents written.
    pub bytes: u64,
    /// Entries whose owner or group could not be set, because that takes root.
    pub owners_skipped: u64,
    /// Attributes (`security.*`, `trusted.*`) that could not be set, because that takes root.
    pub xattrs_skipped: u64,
    /// What the destination cannot hold.
    pub limits: Vec<LimitMet>,
    /// Entries that were not restored, or only in part; at most [`RestoreReport::PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there were in all.
    pub problems_total: u64,
}

impl RestoreReport {
    /// How many problems are kept.
    pub const PROBLEMS_MAX: usize = 1000;

    /// Returns whether everything that is stored is there now.
    pub fn is_whole(&self) -> bool {
        self.problems_total == 0 && !self.limits.iter().any(|met| met.is_loss)
    }
}

/// An entry that was not restored as stored.
#[derive(Debug)]
pub struct Problem {
    /// The entry, relative to the destination.
    pub path: PathBuf,
    /// What happened.
    pub reason: Reason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

/// Why an entry was not restored as stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A different entry has the name.
    #[error("exists and differs from what is stored; left as it is (--overwrite replaces it)")]
    Differs,
    /// A folder has the name of an entry of another kind.
    #[error("is a folder, but a {stored} is stored; a folder is never replaced")]
    IsFolder {
        /// The stored kind.
        stored: &'static str,
    },
    /// No entry of a folder can have the stored name.
    #[error("the stored name is not a file name; skipped")]
    BadName,
    /// A device, which only root can create.
    #[error("a device can be created only by root; skipped")]
    Device,
    /// A device of a client that is not trusted with the machine. It is counted as [`super::Limit::Privileges`].
    #[error("a device of an untrusted client; skipped")]
    Untrusted,
    /// The system refused.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        error: io::Error,
    },
    /// The system refused an extended attribute.
    #[error("cannot set attribute {name}: {error}")]
    Xattr {
        /// Its name.
        name: String,
        /// The system's answer.
        error: io::Error,
    },
    /// Reading the file back returned other bytes than were written.
    #[error("its contents, read back after writing, differ from what is stored")]
    Verify,
    /// The repository could not supply it.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Reason {
    /// Why a finished entry could not get its final name.
    pub(super) fn cannot_rename(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Reason::Differs,
            _ => Reason::System { what: "rename it to its final name", error },
        }
    }

    /// Returns a function that wraps the system's error, for `map_err`.
    pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Self + Copy {
        move |error| Reason::System { what, error: error.into() }
    }
}
