//! What the runs of each profile did: `runs/PROFILE.toml`. `bkfs run` writes it when a run begins, after each
//! repository, and when the run ends; who wants to know how a profile is doing reads it.
//!
//! A record whose result is [`RunResult::Running`] while nobody holds the lock is of a run that did not end: the
//! machine was switched off, or the process was killed.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use bkfs_store::base::medium::FileLock;
use serde::{Deserialize, Serialize};

use super::{
    Folders,
    files::{Remembered, make_private_dir, read_toml, update_toml},
};
use crate::failure::Exit;

/// How a run, or its part in one repository, ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunResult {
    /// It has begun, and not ended.
    #[default]
    Running,
    /// Everything that the profile asks for was done.
    Success,
    /// There is a snapshot, but something is missing in it or was not done after it; or one of several repositories
    /// failed.
    Partly,
    /// There is no snapshot, or the check found damage.
    Failed,
    /// A signal stopped it.
    Interrupted,
}

impl RunResult {
    /// Returns the exit code.
    pub fn exit(self) -> Exit {
        match self {
            Self::Success => Exit::Success,
            Self::Partly => Exit::Incomplete,
            Self::Failed | Self::Running => Exit::Error,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// What was done in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepositoryRecord {
    /// How the last run ended there.
    pub result: RunResult,
    /// When it began, in seconds since 1970.
    pub started_secs: i64,
    /// How long it took, all steps together.
    pub duration_ms: u64,
    /// When a snapshot was last made, complete or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed_secs: Option<i64>,
    /// When everything was last done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded_secs: Option<i64>,
    /// When it was last pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pruned_secs: Option<i64>,
    /// When it was last checked without a problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked_secs: Option<i64>,
    /// The last snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// How many files it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// How many bytes they have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// How many bytes its push stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_stored: Option<u64>,
    /// What went wrong in the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was last told about a profile, and when: the same is not told again at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What happened, in words that are the same for the same failure.
    pub what: String,
    /// When, in seconds since 1970.
    pub at_secs: i64,
}

/// What the runs of a profile did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// How the last run ended.
    pub result: RunResult,
    /// When it began, in seconds since 1970.
    pub started_secs: i64,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_secs: Option<i64>,
    /// When a run last succeeded in everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded_secs: Option<i64>,
    /// What went wrong in the last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What people were told that is not over yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// The repositories, by their names in the profile.
    pub repositories: BTreeMap<String, RepositoryRecord>,
}

impl Remembered for RunRecord {
    const WHAT: &str = "when the profile last ran, and the next run prunes and checks as if it were the first";
}

/// The record of a profile.
#[derive(Debug, Clone)]
pub struct Runs {
    path: PathBuf,
}

impl Folders {
    /// Returns the record of the profile with this name. The name is one that a profile may have.
    pub fn runs(&self, profile: &str) -> Runs {
        Runs { path: self.config.join("runs").join(format!("{profile}.toml")) }
    }
}

impl Runs {
    /// Reads the record. `None`: the profile never ran.
    pub fn read(&self) -> Result<Option<RunRecord>> {
        let record: RunRecord = read_toml(&self.path)?;
        Ok(Some(record).filter(|record| record.started_secs != 0))
    }

    /// Changes the record. The file is written whole.
    pub fn update(&self, change: impl FnOnce(&mut RunRecord)) -> Result<()> {
        update_toml(&self.path, change)
    }

    /// Locks the profile for a run. `None`: it is running already.
    pub fn lock(&self) -> Result<Option<FileLock>> {
        if let Some(folder) = self.path.parent() {
            make_private_dir(folder)?;
        }
        let path = self.path.with_extension("toml.running");
        FileLock::attempt(&path).with_context(|| format!("locking {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_and_a_run_excludes_another() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders { config: dir.path().join("config"), cache: dir.path().join("cache") };
        let runs = folders.runs("home.v2");
        assert_eq!(runs.read().unwrap(), None);
        let lock = runs.lock().unwrap().unwrap();
        assert!(runs.lock().unwrap().is_none() && folders.runs("home").lock().unwrap().is_some());
        drop(lock);
        assert!(runs.lock().unwrap().is_some());
        runs.update(|record| {
            record.started_secs = 5;
            record.result = RunResult::Partly;
            let repository = RepositoryRecord { pruned_secs: Some(7), ..RepositoryRecord::default() };
            record.repositories.insert("bkfs://h:1/a".into(), repository);
            record.told = Some(Told { what: "x\ny".into(), at_secs: 9 });
        })
        .unwrap();
        let record = runs.read().unwrap().unwrap();
        assert_eq!(record.repositories["bkfs://h:1/a"].pruned_secs, Some(7));
        assert_eq!((record.result, record.told.unwrap().at_secs), (RunResult::Partly, 9));
        assert_eq!(folders.runs("home").read().unwrap(), None);
    }
}
