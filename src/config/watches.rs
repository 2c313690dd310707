//! What each `bkfs watch` of this user does, for `bkfs status` and monitoring to read.
//!
//! One file for each repository and series. It is an observation: a power cut may bring an older one back, and nothing
//! but reports depends on it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_store::base::id::Hash;
use serde::{Deserialize, Serialize};

use super::{Folders, files::make_private_dir, read_optional};

/// The folder of the files, in the configuration folder.
const FOLDER: &str = "watches";
/// Files that are read: a person has a few.
const FILES_MAX: usize = 1000;

/// A part of the source that the kernel does not watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnwatchedPart {
    /// Where it is.
    pub path: String,
    /// Why it is not watched.
    pub reason: String,
}

/// What a watch does. Times are in seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchState {
    /// The repository, as it was given.
    pub repository: String,
    /// The series.
    pub target: String,
    /// The process.
    pub process: u32,
    /// When it began.
    pub started: u64,
    /// When it last said that it runs.
    pub alive: u64,
    /// Whether it has ended in the ordinary way.
    pub ended: bool,
    /// Since when the oldest change waits that is not acknowledged; none if none waits.
    pub unprotected_since: Option<u64>,
    /// When the repository last acknowledged that it holds everything that was known to have changed.
    pub last_success: Option<u64>,
    /// The last snapshot.
    pub last_snapshot: Option<String>,
    /// How many snapshots it made.
    pub snapshots: u64,
    /// When everything was last looked at.
    pub last_scan: Option<u64>,
    /// How many files the last snapshot holds.
    pub files: Option<u64>,
    /// How many bytes they have.
    pub bytes: Option<u64>,
    /// How many bytes its push stored.
    pub bytes_stored: Option<u64>,
    /// Why the last push failed; none if it did not.
    pub error: Option<String>,
    /// That many files became unreadable, in words. It stays until the watch is started again.
    pub alarm: Option<String>,
    /// Entries that the last push could not read.
    pub unreadable: u64,
    /// How many folders are watched one by one.
    pub folders: u64,
    /// How many whole file systems are watched.
    pub file_systems: u64,
    /// How many times the kernel lost events, so that everything was looked at.
    pub overflows: u64,
    /// What is not watched.
    pub unwatched: Vec<UnwatchedPart>,
}

/// The file of one watch.
#[derive(Debug, Clone)]
pub struct WatchFile(PathBuf);

impl WatchFile {
    /// Writes the file whole, by rename.
    pub fn write(&self, state: &WatchState) -> Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        make_private_dir(folder)?;
        let temporary = self.0.with_extension(format!("{}.tmp", std::process::id()));
        let text = serde_json::to_string(state).context("encoding JSON")?;
        let write = || fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, &self.0));
        write().inspect_err(|_| drop(fs::remove_file(&temporary))).with_context(|| self.0.display().to_string())
    }
}

impl Folders {
    /// Returns the file of the watch of a repository and a series.
    pub fn watch(&self, repository: &str, target: &str) -> WatchFile {
        let name = Hash::of(&[repository.as_bytes(), b"\0", target.as_bytes()]).to_string();
        WatchFile(self.config.join(FOLDER).join(format!("{}.json", &name[..16])))
    }

    /// Returns what all watches of this user do, by repository and target. A file that cannot be read is left out,
    /// with a warning.
    pub fn watches(&self) -> Vec<WatchState> {
        let entries = fs::read_dir(self.config.join(FOLDER)).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "json"));
        let read = |path: PathBuf| {
            let bytes = read_optional(&path).ok()??;
            serde_json::from_slice::<WatchState>(&bytes)
                .inspect_err(|error| tracing::warn!("{} is damaged: {error}", path.display()))
                .ok()
        };
        let mut states: Vec<WatchState> = paths.take(FILES_MAX).filter_map(read).collect();
        states.sort_by(|a, b| (&a.repository, &a.target).cmp(&(&b.repository, &b.target)));
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_back_and_damaged_ones_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(Some(dir.path().join("config")), Some(dir.path().join("cache"))).unwrap();
        assert_eq!(folders.watches(), []);
        let state = |target: &str| WatchState { repository: "r".into(), target: target.into(), ..Default::default() };
        for target in ["b", "a"] {
            folders.watch("r", target).write(&state(target)).unwrap();
        }
        folders.watch("r", "a").write(&WatchState { snapshots: 2, ..state("a") }).unwrap();
        fs::write(dir.path().join("config/watches/x.json"), "{").unwrap();
        let states = folders.watches();
        assert_eq!(states, [WatchState { snapshots: 2, ..state("a") }, state("b")]);
    }
}
