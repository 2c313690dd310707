//! The shell commands around a run.
//!
//! A hook runs with `sh -c`. What it prints goes to standard error, so that it cannot get between what bkfs prints for
//! programs. Its environment says what happened, and holds no passphrase.

use std::{
    io,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::Result;

use crate::{failure::Failure, profile::Many};

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the first push.
    Before,
    /// After a run in which nothing failed.
    After,
    /// After a run in which something failed.
    Failed,
    /// At the end.
    Finally,
}

impl Hook {
    /// Its key in the profile.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
            Self::Finally => "finally",
        }
    }
}

/// What a hook, or the command of a notification, learns from its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values.
    pub values: Vec<(&'static str, String)>,
}

impl Environment {
    /// Returns the environment with another value.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        /// The kernel takes no longer string, and refuses to start a program with too many.
        const LEN_MAX: usize = 64 << 10;
        let mut value = value.into().replace('\0', "");
        value.truncate(value.floor_char_boundary(LEN_MAX));
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, value));
        self
    }
}

/// Runs the commands of a hook one after another. Stops at the first that fails.
pub fn run(hook: Hook, commands: Option<&Many<String>>, environment: &Environment) -> Result<()> {
    for command in commands.iter().flat_map(|commands| &commands.0) {
        let fail = |how: String| Failure::new(format!("the hook {} {how}: {command}", hook.name()), "");
        tracing::info!("running the hook {}: {command}", hook.name());
        let mut shell = shell(command, environment);
        shell.env("BKFS_HOOK", hook.name()).stdin(Stdio::null());
        let to_stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        shell.stdout(to_stderr().map_err(|error| fail(format!("cannot be run: {error}")))?);
        let status = shell.status().map_err(|error| fail(format!("cannot be run: {error}")))?;
        if !status.success() {
            return Err(fail(how_it_failed(status)).into());
        }
    }
    Ok(())
}

/// Returns a command of a profile, ready to run: with the environment of this process without its secrets.
pub fn shell(command: &str, environment: &Environment) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BKFS_PASSWORD") || name.starts_with("BKFS_NEW_PASSWORD"))
        {
            shell.env_remove(name);
        }
    }
    shell.envs(environment.values.iter().map(|(name, value)| (name, value)));
    shell
}

/// Says how a command ended that did not succeed.
pub fn how_it_failed(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("failed with code {code}"),
        None => format!("was ended by signal {}", status.signal().unwrap_or_default()),
    }
}
