//! The global options and the environment, resolved once.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::Result;

use crate::{args::GlobalArgs, config::Folders};

/// What every command knows about its user and its options.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folders of this user.
    pub folders: Folders,
    /// Print results as JSON.
    pub json: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// The key file that was given.
    pub key_file: Option<PathBuf>,
    /// The passphrase file that was given.
    pub password_file: Option<PathBuf>,
}

impl Context {
    /// Resolves the options.
    pub fn new(global: &GlobalArgs) -> Result<Self> {
        Ok(Self {
            folders: Folders::new(global.config_dir.clone(), global.cache_dir.clone())?,
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            key_file: global.key_file.clone().filter(|path| !path.as_os_str().is_empty()),
            password_file: global.password_file.clone(),
        })
    }

    /// Returns whether to draw progress: only if a person watches and did not ask for silence.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// Returns whether to print a summary: on a terminal, or with `-v`. Otherwise a command that succeeds prints
    /// nothing, so that cron sends no mail.
    pub fn shows_summary(&self) -> bool {
        !self.quiet && (self.verbose > 0 || std::io::stdout().is_terminal())
    }
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Returns the name of the user, or the user's number if the environment has no name.
pub fn user_name() -> String {
    let named = ["USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
    named.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string())
}

/// Returns the program's name and version, as snapshots record them.
pub fn program() -> String {
    format!("bkfs {}", env!("CARGO_PKG_VERSION"))
}
