//! The folders of the user who runs the program, and what is kept in them between runs.
//!
//! The configuration folder holds what must not be lost lightly: this machine's network identity, the pins of known
//! servers, and a folder for each repository with the push key and what was last seen there. The cache folder holds what
//! can be thrown away at any moment. Private files are written with mode 0600, whole, by rename.
//!
//! ```text
//! ~/.config/bkfs/                     BKFS_CONFIG_DIR, else XDG_CONFIG_HOME/bkfs
//!   identity                          network identity of this machine and user
//!   places.toml                       which repository was found at which path or URL; pins of servers
//!   repositories/ID/push.key          this machine's push key
//!   repositories/ID/seen.toml         the log and the own snapshots as last seen: notices a rollback
//!   repositories/ID/check.toml        where the last check of a share of the data ended
//!   repositories/ID/retention.toml    what the last runs of automatic forgetting saw: notices what shrinks
//! ~/.cache/bkfs/                      BKFS_CACHE_DIR, else XDG_CACHE_HOME/bkfs
//! ```

mod files;
mod folder;
mod last_check;
mod places;
mod retention_runs;

pub use files::{make_private_dir, read_optional, write_private};
pub use folder::{RepoFolder, SeenState};
pub use places::Places;

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use bkfs_store::id::RepoId;

use crate::failure::Failure;

/// The two folders.
#[derive(Debug, Clone)]
pub struct Folders {
    /// What must be kept.
    pub config: PathBuf,
    /// What can be thrown away.
    pub cache: PathBuf,
}

impl Folders {
    /// Finds the folders; makes nothing yet.
    pub fn new(config: Option<PathBuf>, cache: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            config: folder(config, "XDG_CONFIG_HOME", ".config", "BKFS_CONFIG_DIR")?,
            cache: folder(cache, "XDG_CACHE_HOME", ".cache", "BKFS_CACHE_DIR")?,
        })
    }

    /// The folder of a repository.
    pub fn repository(&self, id: RepoId) -> RepoFolder {
        RepoFolder::new(self.config.join("repositories").join(id.to_string()))
    }

    /// What was found where.
    pub fn places(&self) -> Places {
        Places::new(self.config.join("places.toml"))
    }

    /// Where the network identity is kept.
    pub fn identity(&self) -> PathBuf {
        self.config.join("identity")
    }
}

/// What the caller was told, else the XDG folder, else the one below the home folder, made absolute.
fn folder(given: Option<PathBuf>, xdg: &str, below_home: &str, ours: &str) -> Result<PathBuf> {
    if let Some(path) = given.filter(|p| !p.as_os_str().is_empty()) {
        return std::path::absolute(&path).with_context(|| path.display().to_string());
    }
    // The XDG specification wants relative paths to be ignored.
    if let Some(base) = env::var_os(xdg).map(PathBuf::from).filter(|p| p.is_absolute()) {
        return Ok(base.join("bkfs"));
    }
    match env::home_dir().filter(|p| p.is_absolute()) {
        Some(home) => Ok(home.join(below_home).join("bkfs")),
        None => Err(Failure::new("this user has no home folder", format!("set HOME or {ours}")).into()),
    }
}
