//! Scrubbing: everything that a store keeps is read and verified without keys, at a bounded rate, and mended where
//! possible.
//!
//! A scrub verifies both copies of the log and of small objects, every pack against its id and against the index, and
//! every pack's parity. Missing parity is made. The results are kept with the repository, and can be asked for. A scrub
//! that was stopped goes on behind the last pack in its results. The log and the small objects, which are little, are
//! verified again.
//!
//! A pack that cannot be mended is reported with the spans that are lost, and affects nothing else. A scrub cannot find
//! what needs a key to see: whether frames hold what their pack's table says (`check --read-data` does that). It
//! deletes nothing.
//!
//! Other processes push and prune in the meantime. So nothing counts as lost before the log was followed under the
//! lock, and the file of a pack that was only half brought back from the grave is moved back.

mod objects;
mod pace;
mod packs;
mod report;
mod results;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use self::pace::Pace;
use super::{
    backend::Backend,
    index::Index,
    log::Log,
    objects::Objects,
    packs::{files::PackFiles, mend::Mender},
    snapshots::Snapshots,
};
use crate::base::{
    error::{Error, Result},
    time::Time,
};

pub use report::{LostPack, ScrubReport};
pub use results::last_scrub_in;

/// How often results are kept while a scrub runs.
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// How to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubOptions {
    /// At most this many bytes are read in a second, averaged over the whole run. None: as fast as possible.
    pub bytes_per_second: Option<u64>,
    /// Go on where a scrub was stopped, if one was.
    pub resume: bool,
}

/// How far a scrub is: counters that another thread can read, and a way to stop the scrub.
#[derive(Debug, Default)]
pub struct ScrubProgress {
    /// About how many bytes of packs there are to read.
    pub bytes_total: AtomicU64,
    /// Bytes of packs that are done.
    pub bytes: AtomicU64,
    /// Packs that are done.
    pub packs: AtomicU64,
    /// Set this to stop the scrub soon.
    pub stop: AtomicBool,
}

/// Scrubs a repository.
#[derive(Debug)]
pub(super) struct Scrubber {
    backend: Arc<dyn Backend>,
    index: Arc<Index>,
    objects: Arc<Objects>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    mender: Arc<Mender>,
    snapshots: Arc<Snapshots>,
}

/// A scrub that runs.
struct ScrubRun<'a> {
    scrubber: &'a Scrubber,
    progress: &'a ScrubProgress,
    report: ScrubReport,
    /// When the scrub began whose results were there before.
    before: Option<Time>,
    pace: Pace,
    kept_at: Instant,
}

impl Scrubber {
    pub fn new(
        backend: Arc<dyn Backend>,
        index: Arc<Index>,
        objects: Arc<Objects>,
        log: Arc<Log>,
        files: Arc<PackFiles>,
        mender: Arc<Mender>,
        snapshots: Arc<Snapshots>,
    ) -> Self {
        Self { backend, index, objects, log, files, mender, snapshots }
    }

    /// Scrubs. The results are kept; those of a scrub that was stopped have no end. Fails if the scrub cannot go on.
    pub fn scrub(&self, options: &ScrubOptions, progress: &ScrubProgress) -> Result<ScrubReport> {
        let last = self.last_scrub()?;
        let before = last.as_ref().map(|last| last.started);
        let resumed = last.filter(|last| options.resume && last.ended.is_none());
        let mut report = resumed.unwrap_or_else(|| ScrubReport::new(self.log.wall_time()));
        report.begin_again();
        progress.bytes_total.store(self.index.packs().bytes()?, Relaxed);
        progress.bytes.store(report.bytes, Relaxed);
        progress.packs.store(report.packs, Relaxed);
        let pace = Pace::new(options.bytes_per_second);
        let mut run = ScrubRun { scrubber: self, progress, report, before, pace, kept_at: Instant::now() };
        run.keep();
        match run.all() {
            Ok(()) => run.report.ended = Some(self.log.wall_time()),
            Err(Error::Interrupted) => {}
            Err(error) => {
                run.keep();
                return Err(error);
            }
        }
        run.keep();
        Ok(run.report)
    }

    /// What the last scrub found, or the one that runs has found so far. None if there was none, or its results cannot
    /// be read.
    pub fn last_scrub(&self) -> Result<Option<ScrubReport>> {
        results::read(&*self.backend)
    }
}

impl ScrubRun<'_> {
    fn all(&mut self) -> Result<()> {
        self.log()?;
        self.follow()?;
        self.objects()?;
        self.packs()
    }

    fn check_stop(&self) -> Result<()> {
        if self.progress.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Keeps the results, unless another scrub was begun in the meantime, whose results are newer. Their times do not
    /// tell: the clock may have been set back since. If nothing can be written, as on a full disk, the results are only
    /// returned.
    fn keep(&mut self) {
        self.kept_at = Instant::now();
        self.report.kept = self.scrubber.log.wall_time();
        let keep = || -> Result<()> {
            let kept = self.scrubber.last_scrub()?.map(|kept| kept.started);
            match kept == self.before || kept == Some(self.report.started) {
                true => results::write(&*self.scrubber.backend, &self.report),
                false => Ok(()),
            }
        };
        if let Err(error) = keep() {
            tracing::warn!(%error, "the results of a scrub cannot be kept");
        }
    }

    /// Verifies both files of the log, from the first record to the last.
    fn log(&mut self) -> Result<()> {
        self.check_stop()?;
        match self.scrubber.log.verify() {
            Ok((records, is_mended)) => {
                self.report.log_records = records;
                self.report.objects_mended += u64::from(is_mended);
                Ok(())
            }
            Err(error) => self.note(Err(error)),
        }
    }

    /// Takes in what other processes have done: which clients were enrolled, and what was pruned.
    fn follow(&mut self) -> Result<()> {
        let followed = self.scrubber.log.follow();
        self.note(followed)
    }

    /// Reports an error as a problem, unless it says to stop.
    fn note(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.report.add_problem(error.to_string());
                Ok(())
            }
        }
    }
}
