//! What is to be run: a profile, once in a while or all the time, by which program.

use std::{env, fmt, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{context::Context, failure::Failure, profile::Profile};

/// How a profile is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `bkfs run`, at the times of its schedule.
    Run,
    /// `bkfs watch`, all the time.
    Watch,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Run => "run",
            Self::Watch => "watch",
        })
    }
}

/// A profile to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// The profile.
    pub profile: Arc<Profile>,
    /// How it is run.
    pub kind: Kind,
}

/// The program that runs profiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its absolute path.
    pub path: String,
    /// The variables that it needs to find its folders.
    pub environment: Vec<(&'static str, String)>,
}

impl Program {
    /// Returns the running program. It gets the folders that it has now, unless it would find them by itself; with
    /// `is_bare`, it finds nothing by itself.
    pub fn running(context: &Context, is_bare: bool) -> Result<Self> {
        let path = env::current_exe().context("finding the program's own file")?;
        let home = env::home_dir().filter(|home| home.is_absolute());
        let mut environment = Vec::new();
        if let Some(home) = home.as_deref().filter(|_| is_bare) {
            environment.push(("HOME", writable(home)?));
        }
        for (name, folder, below_home) in [
            ("BKFS_CONFIG_DIR", &context.folders.config, ".config/bkfs"),
            ("BKFS_CACHE_DIR", &context.folders.cache, ".cache/bkfs"),
        ] {
            if is_bare || home.as_ref().is_none_or(|home| *folder != home.join(below_home)) {
                environment.push((name, writable(folder)?));
            }
        }
        let system = env::var_os("BKFS_SYSTEM_CONFIG_DIR").filter(|value| !value.is_empty());
        if let Some(system) = system {
            let system = std::path::absolute(system).context("BKFS_SYSTEM_CONFIG_DIR")?;
            environment.push(("BKFS_SYSTEM_CONFIG_DIR", writable(&system)?));
        }
        let program = writable(&path)?;
        if program.contains('$') {
            // systemd replaces variables in arguments, but takes the path of the program as it is.
            return Err(cannot_write(&path).into());
        }
        Ok(Self { path: program, environment })
    }
}

/// Returns a path as text. Neither a unit nor a crontab can hold every file name.
fn writable(path: &Path) -> Result<String> {
    match path.to_str().filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => Ok(text.to_owned()),
        None => Err(cannot_write(path).into()),
    }
}

fn cannot_write(path: &Path) -> Failure {
    Failure::new(
        format!("{path:?} has a character that cannot be written to a unit or a crontab"),
        "use a path without special characters",
    )
}
