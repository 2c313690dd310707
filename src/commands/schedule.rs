//! `bkfs schedule`: lets the system run profiles.

pub mod install;
mod list;
pub mod manager;
mod remove;

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The commands about what the system runs.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    Install(install::InstallArgs),
    Remove(remove::RemoveArgs),
    List(list::ListArgs),
}

/// Runs `bkfs schedule`.
pub fn run(context: &Context, command: &ScheduleCommand) -> Result<Exit> {
    match command {
        ScheduleCommand::Install(args) => install::run(context, args),
        ScheduleCommand::Remove(args) => remove::run(context, args),
        ScheduleCommand::List(args) => list::run(context, args),
    }?;
    Ok(Exit::Success)
}
