//! `bkfs repair`: repairs damage that is not mended automatically.

mod index;
mod packs;
mod snapshots;

pub use index::{IndexJson, print_index};
pub use snapshots::{LogJson, is_whole, print_log};

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The subcommands of `bkfs repair`. A doc comment on a variant would replace the long text of its arguments.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    Index(index::IndexArgs),
    Packs(packs::PacksArgs),
    Snapshots(snapshots::SnapshotsArgs),
}

/// Runs a subcommand.
pub fn run(context: &Context, command: RepairCommand) -> Result<Exit> {
    match command {
        RepairCommand::Index(args) => index::run(context, &args),
        RepairCommand::Packs(args) => packs::run(context, &args),
        RepairCommand::Snapshots(args) => snapshots::run(context, &args),
    }
}
