//! The sources of a push: whether they exist, and whether they still hold what they held.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_fs::push::{PushReport, PushedSource};

use super::{job::PushJob, streams};
use crate::{config::SeriesSources, failure::Failure, output};

/// A path that does not exist, among others that do.
pub(super) struct MissingPath {
    path: PathBuf,
    error: std::io::Error,
}

impl MissingPath {
    /// Returns the error for a push that would begin a new series: the path is more likely a typo than a folder that
    /// was deleted.
    pub(super) fn of_new_series(&self, target: &str) -> anyhow::Error {
        let path = output::name(self.path.as_os_str().as_bytes());
        let hint = format!(
            "nothing was pushed: this machine has not pushed to the target {} before, so every path must exist",
            output::name(target.as_bytes())
        );
        Failure::new(format!("{path}: {}", self.error), hint).into()
    }
}

/// Fails if no source exists, before the repository is opened. If some exist, returns the first that does not.
pub(super) fn check(job: &PushJob) -> Result<Option<MissingPath>> {
    let missing = check_paths(job)?;
    streams::check(job)?;
    Ok(missing)
}

fn check_paths(job: &PushJob) -> Result<Option<MissingPath>> {
    let base = job.base.as_deref();
    if let Some(base) = base {
        let meta = std::fs::metadata(base).with_context(|| base.display().to_string())?;
        if !meta.is_dir() {
            return Err(Failure::new(format!("{} is not a folder", base.display()), "give a folder with -C").into());
        }
    }
    let missing = |path: &PathBuf| {
        let found = base.map_or(path.clone(), |base| base.join(path)).symlink_metadata();
        found.err().map(|error| MissingPath { path: path.clone(), error })
    };
    let mut all: Vec<MissingPath> = job.paths.iter().filter_map(missing).collect();
    if all.len() < job.paths.len() {
        return Ok((!all.is_empty()).then(|| all.swap_remove(0)));
    }
    if all.is_empty() && !job.streams.is_empty() {
        return Ok(None);
    }
    if all.is_empty() {
        return Err(Failure::new("there is nothing to push", "name the files and folders to back up").into());
    }
    let MissingPath { path, error } = all.swap_remove(0);
    let what = if job.paths.len() == 1 { "" } else { " (and none of the other paths exists)" };
    let path = output::name(path.as_os_str().as_bytes());
    Err(Failure::new(format!("{path}: {error}{what}"), "nothing was pushed").into())
}

/// Returns the sources that held files at an earlier push and hold none now, with the number of files.
pub(super) fn emptied(known: &SeriesSources, report: &PushReport) -> Vec<(PathBuf, u64)> {
    let without_files = report.sources.iter().filter(|source| source.files == Some(0));
    let with_before = without_files.map(|source| (source.path.clone(), known.files(&source.path)));
    with_before.filter(|(_, files)| *files > 0).collect()
}

/// Returns the number of files of each source, to be remembered. Of sources that are `emptied`, the earlier number
/// stays, so every push reports them.
pub(super) fn held<'a>(
    report: &'a PushReport,
    emptied: &'a [(PathBuf, u64)],
) -> impl Iterator<Item = (&'a Path, u64)> + use<'a> {
    let files = |source: &PushedSource| {
        let is_emptied = emptied.iter().any(|(path, _)| *path == source.path);
        source.files.filter(|_| !is_emptied)
    };
    report.sources.iter().filter_map(move |source| Some((source.path.as_path(), files(source)?)))
}
