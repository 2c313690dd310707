//! What all parts of a restore share: the source, the options, the counters, the problems, and whether to stop.
//!
//! It knows no tasks and no threads.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use bkfs_store::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::{
    handle::DestDir,
    limits::{Limit, Limits},
    options::RestoreOptions,
    progress::RestoreProgress,
    report::{Problem, Reason, RestoreReport},
    source::RestoreSource,
};

/// Counters of the report.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) files: AtomicU64,
    pub(super) dirs: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) links: AtomicU64,
    pub(super) kept: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) owners_skipped: AtomicU64,
    pub(super) xattrs_skipped: AtomicU64,
}

/// What all parts of a restore share.
pub(super) struct Shared<'a> {
    pub(super) source: &'a dyn RestoreSource,
    pub(super) options: &'a RestoreOptions,
    pub(super) progress: &'a RestoreProgress,
    pub(super) counts: Counts,
    limits: Limits,
    problems: Mutex<Vec<Problem>>,
    /// The error that ended the restore.
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl<'a> Shared<'a> {
    /// Returns the state of a restore that begins.
    pub(super) fn new(
        source: &'a dyn RestoreSource,
        options: &'a RestoreOptions,
        progress: &'a RestoreProgress,
    ) -> Self {
        Self {
            source,
            options,
            progress,
            counts: Counts::default(),
            limits: Limits::default(),
            problems: Mutex::default(),
            failure: Mutex::default(),
            has_failed: AtomicBool::new(false),
        }
    }

    /// Returns whether the restore ends early: it was stopped, or an error makes it pointless to continue.
    pub(super) fn is_stopped(&self) -> bool {
        self.progress.is_stopped() || self.has_failed.load(Ordering::Relaxed)
    }

    /// Counts an entry, or the folder itself if the name is empty, for which the destination cannot hold something.
    /// `is_new`: this restore created it.
    pub(super) fn meet(&self, limit: Limit, is_new: bool, dir: &DestDir, name: &[u8]) {
        self.limits.meet(limit, is_new, || path_of(dir, name));
    }

    /// Records what went wrong with an entry, or with the folder itself if the name is empty. Ends the restore if it is
    /// pointless to continue.
    pub(super) fn problem(&self, dir: &DestDir, name: &[u8], reason: Reason) {
        let path = path_of(dir, name);
        match reason {
            Reason::Untrusted => self.meet(Limit::Privileges, true, dir, name),
            Reason::Store(error)
                if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Other) =>
            {
                self.fail(error);
            }
            Reason::System { error, .. }
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                self.fail(Error::io(path, error));
            }
            reason => {
                self.progress.problems.fetch_add(1, Ordering::Relaxed);
                let mut problems = self.problems.lock();
                if problems.len() < RestoreReport::PROBLEMS_MAX {
                    problems.push(Problem { path, reason });
                }
            }
        }
    }

    fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Returns the result of the whole restore.
    pub(super) fn into_report(self) -> Result<RestoreReport> {
        if let Some(error) = self.failure.into_inner() {
            return Err(error);
        }
        if self.progress.is_stopped() {
            return Err(Error::Interrupted);
        }
        let Counts { files, dirs, others, links, kept, bytes, owners_skipped, xattrs_skipped } = self.counts;
        let mut problems = self.problems.into_inner();
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(RestoreReport {
            files: files.into_inner(),
            dirs: dirs.into_inner(),
            others: others.into_inner(),
            links: links.into_inner(),
            kept: kept.into_inner(),
            bytes: bytes.into_inner(),
            owners_skipped: owners_skipped.into_inner(),
            xattrs_skipped: xattrs_skipped.into_inner(),
            limits: self.limits.into_list(),
            problems_total: self.progress.problems.load(Ordering::Relaxed),
            problems,
        })
    }
}

/// Returns the path of an entry relative to the destination; that of the folder if the name is empty.
fn path_of(dir: &DestDir, name: &[u8]) -> PathBuf {
    let mut path = dir.path();
    if !name.is_empty() {
        path.push(OsStr::from_bytes(name));
    }
    path
}
