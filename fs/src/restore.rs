//! Restoring: a stored tree becomes files again.
//!
//! Several threads share one stack of tasks: a stretch of a folder's entries, one entry, a stretch of a large file.
//! Folders are walked depth first. Into a new place, contents are read in the order in which they are stored (`ahead`). A file is
//! written under a temporary name (`.bkfs-<16 hex digits>.partial`), gets its attributes, and is then renamed: under
//! its own name it is whole, so a restore that was killed can be run again. A folder gets its attributes when nothing
//! below it is left to do.
//!
//! Nothing is ever written outside the destination, whatever the tree says: every step is one name, checked again
//! here, relative to the handle of the folder that holds it, and no symbolic link is followed. So paths may also be
//! longer than the system's limit.
//!
//! What exists already is left alone if it is what would be restored (kind, and for files size and time of change),
//! and otherwise reported and left alone too, unless [`RestoreOptions::overwrite`] is set. `docs/SEMANTICS.md` states
//! the rules for users.
//!
//! Not here: which snapshot is meant, and how progress is shown. Nothing is flushed to disk: after a power cut run the
//! restore again with [`RestoreOptions::verify`].

mod ahead;
mod attributes;
mod content;
mod decide;
mod entry;
mod folder;
mod handle;
mod link;
mod owner;
mod queue;
mod run;
mod source;
mod temp;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bkfs_store::{Error, Result, reader::Reader, tree::Node};

pub use owner::Owners;

/// How to restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Rewrite existing entries that differ, and set the attributes of those that don't. A folder is never replaced by
    /// something else: its contents would go with it.
    pub overwrite: bool,
    /// Read existing files that look the same, and files just written, and compare them with what is stored.
    pub verify: bool,
    /// Whose the restored entries will be, where the system lets us choose.
    pub owners: Owners,
    /// How many threads; at least 1.
    pub threads: usize,
    /// About how many bytes of contents to hold at once, all threads together.
    pub memory_bytes: usize,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        // More threads than cores: most of their time they wait for the store or the disk.
        let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
        Self {
            overwrite: false,
            verify: false,
            owners: Owners::Numeric,
            threads: (cores * 2).clamp(8, 16),
            memory_bytes: 32 * 1024 * 1024,
        }
    }
}

/// How far a restore is: counters to be read from another thread, and a way to stop.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries to restore, all kinds; known at the start.
    pub entries_total: AtomicU64,
    /// Bytes of files to restore; known at the start.
    pub bytes_total: AtomicU64,
    /// Entries dealt with.
    pub entries_done: AtomicU64,
    /// Bytes of files dealt with, holes and files left alone included.
    pub bytes_done: AtomicU64,
    /// Problems so far.
    pub problems: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Makes the restore end soon, with [`Error::Interrupted`]. What is whole stays, temporary files are removed.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// What a restore did.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Files written.
    pub files: u64,
    /// Folders made.
    pub dirs: u64,
    /// Entries of other kinds made.
    pub others: u64,
    /// Further names of files, linked to the first.
    pub links: u64,
    /// Entries that were there already and were left.
    pub kept: u64,
    /// Bytes of contents written.
    pub bytes: u64,
    /// Entries whose owner or group could not be set, because that takes root.
    pub owners_skipped: u64,
    /// Attributes (`security.*`, `trusted.*`) that could not be set, because that takes root.
    pub xattrs_skipped: u64,
    /// What was not restored, or not whole; at most [`RestoreReport::PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there were in all.
    pub problems_total: u64,
}

impl RestoreReport {
    /// How many problems are kept.
    pub const PROBLEMS_MAX: usize = 1000;
}

/// An entry that was not restored as stored.
#[derive(Debug)]
pub struct Problem {
    /// The entry, below the destination.
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
    /// Something else has the name.
    #[error("exists and differs from what is stored; left as it is (--overwrite replaces it)")]
    Differs,
    /// A folder has the name of something that is none.
    #[error("is a folder, but a {stored} is stored; a folder is never replaced")]
    IsFolder {
        /// The stored kind.
        stored: &'static str,
    },
    /// The name cannot be one of a folder's.
    #[error("the stored name is not a file name; skipped")]
    BadName,
    /// A device, which only root can make.
    #[error("a device can be made only by root; skipped")]
    Device,
    /// The file system cannot link it to the first name of the same file.
    #[error("restored as a file of its own, because it cannot be a hard link here: {0}")]
    NotLinked(io::Error),
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
    /// What was read back is not what was written.
    #[error("read back, its contents differ from what is stored")]
    Verify,
    /// The repository could not give it.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Restores a tree, or one path of it, below `dest`.
///
/// `root` is a snapshot's root node. Without `path` all that it holds appears in `dest`; with the path of a folder that
/// folder's contents do, with the path of anything else that entry does, under its name. `dest` and its parents are
/// made if missing. A new or empty `dest` gets the attributes of the folder that it stands for, another one keeps its
/// own unless `options.overwrite` is set.
///
/// An error means that the restore did not go on; what concerns single entries is in the report.
pub fn restore(
    reader: &Arc<Reader>,
    root: &Node,
    path: Option<&[u8]>,
    dest: &Path,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<RestoreReport> {
    let node = match path {
        None => root.clone(),
        Some(path) => reader.resolve(root, path)?,
    };
    run::run(&**reader, node, dest, options, progress)
}
