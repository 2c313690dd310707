//! Shell commands that a person wrote: hooks, notifications, and sources of a push. Their environment holds no
//! passphrase.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

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
