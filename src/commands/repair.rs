//! `bkfs repair`: what can be done about damage that does not mend by itself.

mod index;
mod packs;

pub use index::{IndexLine, print_index};

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The commands below `repair`. A comment on a variant takes the place of the long text beside its arguments.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    Index(index::IndexArgs),
    Packs(packs::PacksArgs),
}

/// Runs one.
pub fn run(context: &Context, command: RepairCommand) -> Result<Exit> {
    match command {
        RepairCommand::Index(args) => index::run(context, &args),
        RepairCommand::Packs(args) => packs::run(context, &args),
    }
}
