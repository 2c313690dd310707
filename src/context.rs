//! The global options and the environment, resolved once.

use std::{io::IsTerminal, os::unix::ffi::OsStringExt, path::PathBuf};

use anyhow::Result;
use bkfs_fs::userdb::OwnerNames;

use crate::{
    args::{GlobalArgs, parse_host},
    config::Folders,
    output,
};

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
    /// Bytes of data to send in a second at most.
    pub limit_upload: Option<u64>,
    /// Bytes of data to receive in a second at most.
    pub limit_download: Option<u64>,
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
            limit_upload: global.limit_upload,
            limit_download: global.limit_download,
        })
    }

    /// Returns whether to draw progress: only if a person watches who asked neither for silence nor for more lines,
    /// which the drawing would overwrite.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && self.verbose == 0 && std::io::stderr().is_terminal()
    }

    /// Returns whether to print a summary: on a terminal, or with `-v`. Otherwise a command that succeeds prints
    /// nothing, so that cron sends no mail.
    pub fn shows_summary(&self) -> bool {
        !self.quiet && (self.verbose > 0 || std::io::stdout().is_terminal())
    }
}

/// Returns the name of this machine.
pub fn host_name() -> String {
    let name = output::name(rustix::system::uname().nodename().to_bytes());
    parse_host(name.trim()).unwrap_or_else(|_| "localhost".to_owned())
}

/// Returns the working folder if a person is watching: only then may it decide what a command means.
pub fn working_folder() -> Option<Vec<u8>> {
    let folder = std::env::current_dir().ok().filter(|_| std::io::stderr().is_terminal())?;
    Some(folder.into_os_string().into_vec())
}

/// Returns the name of the user: what the system calls it, or else the environment, or else its number.
pub fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    if let Some(name) = OwnerNames::default().user(uid) {
        return name;
    }
    let named = ["USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
    named.unwrap_or_else(|| uid.to_string())
}

/// Returns the program's name and version, as snapshots record them.
pub fn program() -> String {
    format!("bkfs {}", env!("CARGO_PKG_VERSION"))
}
