//! `bkfs repair`: what can be done about damage that does not mend by itself.

mod index;
mod packs;
mod snapshots;

pub use index::{IndexJson, print_index};
pub use snapshots::{LogJson, is_whole, print_log};

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The commands below `repair`. A comment on a variant takes the place of the long text beside its arguments.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    Index(index::IndexArgs),
    Packs(packs::PacksArgs),
    Snapshots(snapshots::SnapshotsArgs),
}

/// Runs one.
pub fn run(context: &Context, command: RepairCommand) -> Result<Exit> {
    match command {
        RepairCommand::Index(args) => index::run(context, &args),
        RepairCommand::Packs(args) => packs::run(context, &args),
        RepairCommand::Snapshots(args) => snapshots::run(context, &args),
    }
}
