//! `bkfs config`: checks and shows profiles.

mod check;
mod show;

pub use check::none;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{
    context::Context,
    failure::Exit,
    output,
    profile::{self, SAMPLE},
};

/// The commands about profiles.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    Check(check::CheckArgs),
    Show(show::ShowArgs),
    Sample(SampleArgs),
    Schema(SchemaArgs),
}

/// Arguments of `config sample`.
#[derive(Debug, Args)]
#[command(
    about = "Print a profile to begin with",
    long_about = "Print a file of profiles that explains itself. Save it in the configuration folder, and change it.",
    after_help = "Example:\n  bkfs config sample > ~/.config/bkfs/home.toml"
)]
pub struct SampleArgs {}

/// Arguments of `config schema`.
#[derive(Debug, Args)]
#[command(
    about = "Print the JSON Schema of a profile file, for editors",
    long_about = "Print the JSON Schema of a profile file. An editor that knows it completes keys and marks mistakes.",
    after_help = "Example:\n  bkfs config schema > ~/.config/bkfs/schema.json    # and as the first line of a profile \
        file:\n  #:schema ./schema.json"
)]
pub struct SchemaArgs {}

/// Runs `bkfs config`.
pub fn run(context: &Context, command: ConfigCommand) -> Result<Exit> {
    match command {
        ConfigCommand::Check(args) => check::run(context, &args),
        ConfigCommand::Show(args) => show::run(context, &args).map(|()| Exit::Success),
        ConfigCommand::Sample(_) => output::line(SAMPLE.trim_end()).map(|()| Exit::Success),
        ConfigCommand::Schema(_) => {
            let text = serde_json::to_string_pretty(&profile::schema())?;
            output::line(text).map(|()| Exit::Success)
        }
    }
}
