//! What the environment and the options of all commands say, resolved once.

use std::{io::IsTerminal, path::PathBuf};

use anyhow::Result;

use crate::{args::GlobalArgs, config::Folders};

/// What every command knows.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where this user's things are.
    pub folders: Folders,
    /// Results are printed as JSON.
    pub json: bool,
    /// Nothing but errors is said.
    pub quiet: bool,
    /// How much is said.
    pub verbose: u8,
    /// A key file that was named.
    pub key_file: Option<PathBuf>,
    /// A passphrase file that was named.
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

    /// Whether progress is drawn: a person looks, and wants to be told.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }

    /// Whether a summary is printed: to a person, or where asked for. Cron hears nothing unless something is wrong.
    pub fn shows_summary(&self) -> bool {
        !self.quiet && (self.verbose > 0 || std::io::stdout().is_terminal())
    }
}

/// The name of this machine.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The name of the user.
pub fn user_name() -> String {
    let named = ["USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
    named.unwrap_or_else(|| rustix::process::getuid().as_raw().to_string())
}

/// The program and its version, as snapshots record it.
pub fn program() -> String {
    format!("bkfs {}", env!("CARGO_PKG_VERSION"))
}
