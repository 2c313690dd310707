//! The shell commands around a run.
//!
//! A hook runs with `sh -c`. What it prints goes to standard error, so that it cannot get between what bkfs prints for
//! programs. Its environment says what happened, and holds no passphrase.

use std::{io, os::fd::AsFd, process::Stdio};

use anyhow::Result;

use crate::{
    failure::Failure,
    profile::Many,
    shell::{Environment, how_it_failed, shell},
};

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
