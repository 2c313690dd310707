//! The folders of the user who runs the program, and what is kept in them between runs.
//!
//! The configuration folder holds what should not be lost: this machine's network identity, the known
//! servers, and a folder for each repository with the push key and what was last seen there. The
//! cache folder can be deleted at any time. Private files have mode 0600 and are written whole, by rename.
//!
//! ```text
//! ~/.config/bkfs/                     BKFS_CONFIG_DIR, else XDG_CONFIG_HOME/bkfs
//!   identity                          network identity of this machine and user
//!   places.toml                       which repository is at which path; known servers, by fingerprint
//!   repositories/ID/push.key          this machine's push key
//!   repositories/ID/seen.toml         what was last seen of each copy, to detect a rollback
//!   repositories/ID/check.toml        where the last check of a share of the data ended
//!   repositories/ID/sources.toml      what this machine has pushed, to detect disks that are not mounted
//!   watches/HASH.json                 what each `bkfs watch` does
//!   repositories/ID/retention.toml    what the last automatic forgetting saw, to detect a source that shrinks
//!   *.toml                            other files hold profiles, which their owner writes
//!   runs/PROFILE.toml                 what the last run of a profile did
//! ~/.cache/bkfs/                      BKFS_CACHE_DIR, else XDG_CACHE_HOME/bkfs
//! ```

mod files;
mod folder;
mod last_check;
mod places;
mod retention_runs;
mod runs;
mod sources;
mod watches;

pub use files::{make_private_dir, read_optional, write_private};
pub use folder::{Accepted, RepoFolder, SeenState};
pub use places::{KnownServer, Places};
pub use runs::{RepositoryRecord, RunRecord, RunResult, Runs, Told};
pub use sources::SeriesSources;
pub use watches::{UnwatchedPart, WatchFile, WatchState};

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use bkfs_store::base::id::RepoId;

use crate::{failure::Failure, owner::check_own_folder};

/// The configuration folder and the cache folder.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The configuration folder. Its contents must be kept.
    pub config: PathBuf,
    /// The cache folder. It can be deleted.
    pub cache: PathBuf,
}

impl Folders {
    /// Finds the folders, but does not create them.
    pub fn new(config: Option<PathBuf>, cache: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            config: folder(config, "XDG_CONFIG_HOME", ".config", "BKFS_CONFIG_DIR")?,
            cache: folder(cache, "XDG_CACHE_HOME", ".cache", "BKFS_CACHE_DIR")?,
        })
    }

    /// Fails if this is root, and the folders are another user's.
    pub fn check_owner(&self) -> Result<()> {
        let home = env::home_dir();
        let is_below_home = |folder: &PathBuf| home.as_ref().is_some_and(|home| folder.starts_with(home));
        check_own_folder("configuration folder", &self.config, is_below_home(&self.config))?;
        check_own_folder("cache folder", &self.cache, is_below_home(&self.cache))
    }

    /// Returns the folder of a repository.
    pub fn repository(&self, id: RepoId) -> RepoFolder {
        RepoFolder::new(self.config.join("repositories").join(id.to_string()))
    }

    /// Returns the record of known places.
    pub fn places(&self) -> Places {
        Places::new(self.config.join("places.toml"))
    }

    /// Returns the path of the network identity.
    pub fn identity(&self) -> PathBuf {
        self.config.join("identity")
    }
}

/// Returns the given folder, else the XDG folder, else the folder below the home folder, as an absolute path.
fn folder(given: Option<PathBuf>, xdg: &str, below_home: &str, ours: &str) -> Result<PathBuf> {
    if let Some(path) = given.filter(|p| !p.as_os_str().is_empty()) {
        return std::path::absolute(&path).with_context(|| path.display().to_string());
    }
    // The XDG specification says to ignore relative paths.
    if let Some(base) = env::var_os(xdg).map(PathBuf::from).filter(|p| p.is_absolute()) {
        return Ok(base.join("bkfs"));
    }
    match env::home_dir().filter(|p| p.is_absolute()) {
        Some(home) => Ok(home.join(below_home).join("bkfs")),
        None => Err(Failure::new("this user has no home folder", format!("set HOME or {ours}")).into()),
    }
}
