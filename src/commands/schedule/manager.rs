//! What runs profiles on this machine: systemd, or cron.

use anyhow::Result;
use bkfs_store::base::time::Time;
use clap::Args;

use crate::{
    context::{host_name, user_name},
    output,
    schedule::{Scope, Systemd},
};

/// Options that choose it.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ManagerArgs {
    /// As root, use root's own user units and not those of the system
    #[arg(long, conflicts_with = "cron")]
    pub user: bool,
    /// Use the crontab even if there is systemd
    #[arg(long)]
    pub cron: bool,
}

/// What runs profiles.
#[derive(Debug, Clone)]
pub enum Manager {
    /// systemd.
    Systemd(Systemd),
    /// The user's crontab.
    Cron,
}

impl ManagerArgs {
    /// Returns what runs profiles here.
    pub fn find(self) -> Result<Manager> {
        let found = if self.cron { None } else { Systemd::find(self.user)? };
        Ok(found.map_or(Manager::Cron, Manager::Systemd))
    }
}

impl Manager {
    /// Returns its name, for programs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Systemd(Systemd { scope: Scope::User, .. }) => "systemd-user",
            Self::Systemd(Systemd { scope: Scope::System, .. }) => "systemd",
            Self::Cron => "cron",
        }
    }
}

/// Returns a number that differs from machine to machine, and stays the same (FNV-1a).
pub fn spread(profile: &str) -> u32 {
    let text = format!("{} {} {profile}", host_name(), user_name());
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Returns a time of the next run, for people.
pub fn local(secs: i64) -> String {
    output::time_local(Time { secs, ..Time::default() })
}
