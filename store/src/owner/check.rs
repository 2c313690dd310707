//! Checking a repository with its full key: that every snapshot reaches what it needs, and if asked, that every stored
//! byte is what it should be.
//!
//! Three steps. *History*: the log's chain of hashes, the rosters in it, the snapshots and their chains, and that no
//! committed snapshot is withheld. *Packs*, only on request, all or a part of them: each is read whole, its id, table and
//! signature are verified, every frame is opened and every chunk compared with its id. *Trees*: every page that a snapshot reaches is
//! loaded, and the chunks that files need are looked for; those that the store lacks, or that were met in a bad frame, are read, so that
//! the report names the files that are hurt.
//!
//! Every problem is reported, none ends the check. It changes nothing, but has the store mend what its parity mends, and put into
//! [quarantine](crate::format::loss) what it does not. Memory is bounded but for 16 bytes a tree page and 32 a chunk in a bad frame:
//! chunks of data are asked about in batches, again rather than remembered.
//!
//! **Beside others**, who push, forget, prune, mend and enrol meanwhile: what was let go since the check began is no problem. So whoever misses
//! something asks whether its snapshot is gone by then, or the pack no longer listed; and a pack that is damaged is read again when the store
//! says that it is whole.

mod history;
pub(crate) mod packs;
mod subset;
mod trees;

pub use subset::{ReadData, Share};

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::{
    access::{Access, Opened},
    base::{
        error::{Error, Result},
        id::{PackId, SnapshotId},
    },
    owner::reader::Reader,
};

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// What of all that is stored to read and open, too.
    pub read_data: ReadData,
    /// Threads that open packs.
    pub threads: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
        Self { read_data: ReadData::None, threads }
    }
}

/// How far a check is: counters to be read from another thread, and a way to stop it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Packs to read; known once they are listed.
    pub packs_total: AtomicU64,
    /// Packs read.
    pub packs: AtomicU64,
    /// Bytes of packs to read.
    pub bytes_total: AtomicU64,
    /// Bytes of packs read.
    pub bytes: AtomicU64,
    /// Snapshots to walk.
    pub snapshots_total: AtomicU64,
    /// Snapshots walked.
    pub snapshots: AtomicU64,
    /// Tree pages loaded.
    pub pages: AtomicU64,
    /// Set to stop the check soon.
    pub stop: AtomicBool,
}

impl Progress {
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Something that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// The snapshot in which it was met first, if it belongs to one.
    pub snapshot: Option<SnapshotId>,
    /// The file or folder that it hurts; empty if it belongs to none.
    pub path: Vec<u8>,
    /// What is wrong.
    pub error: Error,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(snapshot) = self.snapshot {
            write!(f, "snapshot {}: ", snapshot.short())?;
        }
        if !self.path.is_empty() {
            write!(f, "/{}: ", self.path.escape_ascii())?;
        }
        write!(f, "{}", self.error)
    }
}

/// What was checked and found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Records of the log.
    pub log_records: u64,
    /// Snapshots that count.
    pub snapshots: u64,
    /// Different tree pages that they reach.
    pub pages: u64,
    /// Chunks of data that these name (a chunk that several files use may be counted for each).
    pub chunks: u64,
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that there are, if any were to be read.
    pub packs_total: u64,
    /// The last one that was read, in the order in which a [`ReadData::Next`] goes round.
    pub reached: Option<PackId>,
    /// References to chunks that do not count as stored, because their packs are damaged, and can be read all the same.
    pub chunks_at_risk: u64,
    /// Packs that were damaged, and are whole again.
    pub packs_mended: u64,
    /// What is wrong; at most [`CheckReport::PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many problems there are in all.
    pub problems_total: u64,
}

impl CheckReport {
    /// How many problems are kept.
    pub const PROBLEMS_MAX: usize = 10_000;
}

/// Problems as they are found, from several threads.
#[derive(Debug, Default)]
struct Findings {
    problems: Mutex<Vec<Problem>>,
    total: AtomicU64,
}

impl Findings {
    /// Takes an error for a problem; only those that no check can go on after are handed back.
    fn note(&self, snapshot: Option<SnapshotId>, path: &[u8], error: Error) -> Result<()> {
        if matches!(error, Error::Interrupted | Error::Unreachable(_) | Error::NoPermission { .. }) {
            return Err(error);
        }
        self.take(vec![Problem { snapshot, path: path.to_owned(), error }], 1);
        Ok(())
    }

    /// Takes problems in, of which only the first may have been kept.
    fn take(&self, more: Vec<Problem>, total: u64) {
        self.total.fetch_add(total, Relaxed);
        let mut problems = self.problems.lock();
        let room = CheckReport::PROBLEMS_MAX - problems.len();
        problems.extend(more.into_iter().take(room));
    }
}

/// Checks the repository that `opened` told of. `access` is the store that `reader` reads from.
pub fn check(
    reader: &Reader,
    access: &dyn Access,
    opened: &Opened,
    options: &CheckOptions,
    progress: &Progress,
) -> Result<CheckReport> {
    let findings = Findings::default();
    let mut report = CheckReport::default();
    let snapshots = history::check(reader, opened, &findings, progress, &mut report)?;
    let hurt = match options.read_data {
        ReadData::None => packs::Hurt::default(),
        _ => packs::check(reader, access, options, &findings, progress, &mut report)?,
    };
    trees::check(reader, access, &snapshots, &hurt, &findings, progress, &mut report)?;
    report.problems_total = findings.total.into_inner();
    report.problems = findings.problems.into_inner();
    Ok(report)
}
