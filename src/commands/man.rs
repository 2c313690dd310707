//! `bkfs man`: writes the manual pages, from the same source as `--help`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(
    about = "Write the manual pages to a folder",
    long_about = "Write a manual page for the program and one for each command to a folder, which is created if it \
        does not exist. Packages contain them.",
    after_help = "Example:\n  bkfs man ~/.local/share/man/man1 && man bkfs-push"
)]
pub struct ManArgs {
    /// The folder, usually named man1
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs `bkfs man`.
pub fn run(args: &ManArgs, command: clap::Command) -> Result<()> {
    let folder = &args.folder;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    clap_mangen::generate_to(command, folder).with_context(|| folder.display().to_string())
}
