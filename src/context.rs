//! The global options and the environment, resolved once.

use std::{io::IsTerminal, os::unix::ffi::OsStringExt, path::PathBuf, sync::Arc};

use anyhow::Result;
use bkfs_fs::userdb::OwnerNames;

use crate::{
    args::{GlobalArgs, RepoArgs, Typed, parse_host},
    config::Folders,
    output,
    profile::{Moment, Profile, Profiles, Rates, Secret},
};

/// What every command knows about its user and its options.
#[derive(Debug, Clone)]
pub struct Context {
    /// The folders of this user.
    pub folders: Folders,
    /// Print results as JSON.
    pub json: bool,
    /// Write the progress of long work as JSON.
    pub progress_json: bool,
    /// Print nothing but errors.
    pub quiet: bool,
    /// How often `-v` was given.
    pub verbose: u8,
    /// The key file that was given.
    pub key_file: Option<PathBuf>,
    /// The passphrase file that was given.
    pub password_file: Option<PathBuf>,
    /// The command of the profile that prints the passphrase.
    pub password_command: Option<String>,
    /// The passphrase that stands in the profile.
    pub password: Option<Secret>,
    /// Bytes of data to send in a second at most.
    pub limit_upload: Option<u64>,
    /// Bytes of data to receive in a second at most.
    pub limit_download: Option<u64>,
    /// The name of the profile that was given.
    pub profile_name: Option<String>,
    /// The profile, if the command uses one.
    pub profile: Option<Arc<Profile>>,
    /// Whether nothing is asked, even on a terminal.
    pub is_unattended: bool,
    /// Which options a person typed.
    typed: Typed,
}

impl Context {
    /// Resolves the options.
    pub fn new(global: &GlobalArgs) -> Result<Self> {
        Ok(Self {
            folders: Folders::new(global.config_dir.clone(), global.cache_dir.clone())?,
            json: global.json,
            progress_json: global.progress_json,
            quiet: global.quiet,
            verbose: global.verbose,
            key_file: global.key_file.clone().filter(|path| !path.as_os_str().is_empty()),
            password_file: global.password_file.clone(),
            password_command: None,
            password: None,
            limit_upload: global.limit_upload,
            limit_download: global.limit_download,
            profile_name: global.profile.clone().filter(|name| !name.is_empty()),
            profile: None,
            is_unattended: false,
            typed: Typed::default(),
        })
    }

    /// Sets which options a person typed. They count for more than a profile.
    pub fn typed(mut self, typed: Typed) -> Self {
        self.typed = typed;
        self
    }

    /// Reads the profile that was given, and takes from it what was not typed.
    pub fn with_given_profile(self) -> Result<Self> {
        match &self.profile_name {
            Some(name) => {
                let profile = Profiles::load(&self.folders).get(name)?;
                Ok(self.with_profile(Arc::new(profile)))
            }
            None => Ok(self),
        }
    }

    /// Takes from a profile what was not typed: the sources of keys, and the limits of this hour.
    pub fn with_profile(mut self, profile: Arc<Profile>) -> Self {
        let settings = &profile.settings;
        if let Some(path) = settings.key_file.clone().filter(|_| !self.typed.key_file) {
            self.key_file = Some(path);
        }
        if self.password_file.is_none() {
            self.password_file = settings.password_file.clone();
            self.password_command = settings.password_command.clone();
            self.password = settings.password.clone();
        }
        self.profile_name = Some(profile.name.clone());
        self.profile = Some(profile);
        (self.limit_upload, self.limit_download) = self.rates_now();
        self
    }

    /// Takes from a profile what was not typed, for a run that nobody watches. Each repository is named as if it were
    /// typed, and nothing is asked.
    pub fn for_run(self, profile: Arc<Profile>) -> Self {
        let mut context = self.with_profile(profile);
        context.typed.repository = true;
        context.is_unattended = true;
        context
    }

    /// Returns the context for a repository that is named as if it were typed, without a profile.
    pub fn for_place(mut self) -> Self {
        self.typed.repository = true;
        self.profile = None;
        self
    }

    /// Returns the limits of bandwidth that hold now: to send, and to receive.
    pub fn rates_now(&self) -> Rates {
        let given = (self.limit_upload, self.limit_download);
        let Some(limits) = self.profile.as_ref().and_then(|profile| profile.settings.limits.as_ref()) else {
            return given;
        };
        let (upload, download) = limits.at(Moment::now());
        let (sets_upload, sets_download) = limits.sets();
        let pick = |of_profile: bool, rate, given| if of_profile { rate } else { given };
        (
            pick(sets_upload && !self.typed.limit_upload, upload, given.0),
            pick(sets_download && !self.typed.limit_download, download, given.1),
        )
    }

    /// Returns the repository that a command works on: the one that was typed, else the first of the profile, else the
    /// one in the environment.
    pub fn repository<'a>(&'a self, repo: &'a RepoArgs) -> Option<&'a str> {
        let given = repo.repository.as_deref();
        let of_profile = self.profile.as_ref().and_then(|profile| profile.repositories().first()).map(String::as_str);
        match self.typed.repository {
            true => given.or(of_profile),
            false => of_profile.or(given),
        }
    }

    /// Returns whether the passphrase comes from the options or the profile.
    pub fn gives_passphrase(&self) -> bool {
        self.password_file.is_some() || self.password_command.is_some() || self.password.is_some()
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
