//! Scrubbing: everything that a store keeps is read and verified without keys, at a bounded rate, and mended where it can be.
//!
//! Both copies of the log and of small objects, every pack against its id and against the index, and every pack's parity;
//! missing parity is made. What was found is kept with the repository and can be asked for. A scrub that was stopped goes on
//! behind the last pack that it has on record; the log and the small objects, which are little, are looked at again.
//!
//! A pack that is beyond mending is named with the spans that are lost, and hurts nothing else. Scrubbing cannot see what only
//! a key can: that frames hold what their pack's table says (`check --read-data`). It deletes nothing.
//!
//! Others push and prune meanwhile. So nothing counts as lost before the log was followed under the lock; and a pack that was brought back from the
//! grave half way is put back.

mod objects;
mod packs;
mod report;

pub use report::{LostPack, ScrubReport};

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use super::Repository;
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
    },
    repository::backend::{Backend, LocalBackend},
};

const HEADER: Header = Header { what: "the last scrub's results", magic: *b"bkfsscrb", version: 1 };
const RESULTS: &str = "scrub";
/// How often results are kept while a scrub runs.
const KEEP: Duration = Duration::from_secs(60);
/// How long a scrub that holds back its rate goes without looking whether it is to stop.
const NAP: Duration = Duration::from_millis(100);

/// How to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScrubOptions {
    /// No more bytes than these are read in a second, over the whole run; none: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// Go on where a scrub was stopped, if one was.
    pub resume: bool,
}

/// How far a scrub is: counters to be read from another thread, and a way to stop it.
#[derive(Debug, Default)]
pub struct ScrubProgress {
    /// Bytes of packs to read, about.
    pub bytes_total: AtomicU64,
    /// Bytes of packs dealt with.
    pub bytes: AtomicU64,
    /// Packs dealt with.
    pub packs: AtomicU64,
    /// Set to stop soon.
    pub stop: AtomicBool,
}

/// A scrub that runs.
struct Run<'a> {
    repository: &'a Repository,
    progress: &'a ScrubProgress,
    report: ScrubReport,
    pace: Pace,
    kept: Instant,
}

impl Repository {
    /// Scrubs. Results are kept; those of a scrub that was stopped have no end. Fails if it cannot go on.
    pub fn scrub(&self, options: &ScrubOptions, progress: &ScrubProgress) -> Result<ScrubReport> {
        self.state()?;
        let last = self.last_scrub()?.filter(|last| options.resume && last.ended.is_none());
        let mut report = last.unwrap_or_else(|| ScrubReport::new((self.clock)()));
        report.begin_again();
        progress.bytes_total.store(self.bytes_stored()?, Relaxed);
        progress.bytes.store(report.bytes, Relaxed);
        progress.packs.store(report.packs, Relaxed);
        let pace = Pace { bytes_per_second: options.bytes_per_second, since: Instant::now(), bytes: 0 };
        let mut run = Run { repository: self, progress, report, pace, kept: Instant::now() };
        run.keep();
        match run.all() {
            Ok(()) => run.report.ended = Some((self.clock)()),
            Err(Error::Interrupted) => {}
            Err(error) => {
                run.keep();
                return Err(error);
            }
        }
        run.keep();
        Ok(run.report)
    }

    /// What the last scrub found, or the one that runs has found so far; none if there was none, or nobody can read it.
    pub fn last_scrub(&self) -> Result<Option<ScrubReport>> {
        last(&*self.backend)
    }

    /// The same of the repository in a folder, which is not opened for it.
    pub fn last_scrub_in(folder: &Path) -> Result<Option<ScrubReport>> {
        last(&LocalBackend::new(folder))
    }
}

fn last(backend: &dyn Backend) -> Result<Option<ScrubReport>> {
    let read = match backend.get(RESULTS) {
        Err(error) if !error.is_unreadable() => return Err(error),
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => HEADER.decode(&bytes),
        Err(error) => Err(error),
    };
    match read {
        Ok(report) => Ok(Some(report)),
        Err(error) => {
            tracing::warn!(%error, "the last scrub counts as none");
            Ok(None)
        }
    }
}

impl Run<'_> {
    fn all(&mut self) -> Result<()> {
        self.log()?;
        self.follow()?;
        self.objects()?;
        self.packs()
    }

    fn go_on(&self) -> Result<()> {
        if self.progress.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Keeps the results, unless somebody has begun another scrub meanwhile: theirs are newer. Where nothing can be written,
    /// as on a full disk, they are only returned.
    fn keep(&mut self) {
        self.kept = Instant::now();
        self.report.kept = (self.repository.clock)();
        let keep = || -> Result<()> {
            match self.repository.last_scrub()?.is_some_and(|other| other.started > self.report.started) {
                true => Ok(()),
                false => self.repository.backend.put(RESULTS, &HEADER.encode(&self.report)),
            }
        };
        if let Err(error) = keep() {
            tracing::warn!(%error, "what scrubbing finds cannot be kept");
        }
    }

    /// Both files of the log, from their first record to the last.
    fn log(&mut self) -> Result<()> {
        self.go_on()?;
        let repository = self.repository;
        match repository.log.verify(&*repository.backend) {
            Ok((records, is_mended)) => {
                self.report.log_records = records;
                self.report.objects_mended += u64::from(is_mended);
                Ok(())
            }
            Err(error) => self.note(Err(error)),
        }
    }

    /// Takes in what other processes have done: who was enrolled, and what was pruned.
    fn follow(&mut self) -> Result<()> {
        let followed = self.repository.follow();
        self.note(followed)
    }

    /// Takes an error for a problem, unless it says to stop.
    fn note(&mut self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.report.problem(error.to_string());
                Ok(())
            }
        }
    }
}

/// Holds the rate.
struct Pace {
    bytes_per_second: Option<u64>,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// How long to wait after so many more bytes.
    fn wait(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let due = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
        due.saturating_sub(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_whole_run() {
        let mut pace = Pace { bytes_per_second: Some(1_000_000), since: Instant::now(), bytes: 0 };
        let wait = pace.wait(500_000).as_millis();
        assert!((450..=500).contains(&wait), "{wait}");
        let wait = pace.wait(2_500_000).as_millis();
        assert!((2900..=3000).contains(&wait), "{wait}");
        pace.since -= Duration::from_secs(10);
        assert_eq!(pace.wait(1_000_000), Duration::ZERO);
        pace.bytes_per_second = None;
        assert_eq!(pace.wait(u64::MAX / 2), Duration::ZERO);
    }
}
