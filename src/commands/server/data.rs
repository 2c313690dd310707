//! `--data DIR`: the folder of the server's data. All commands of a server's operator take it.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_store::Error;
use clap::Args;

use crate::failure::Failure;

/// The option that names the folder of the server's data.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl DataArgs {
    /// Returns the folder as an absolute path, so that it means the same from now on.
    pub fn folder(&self) -> Result<PathBuf> {
        std::path::absolute(&self.data).with_context(|| self.data.display().to_string())
    }
}

/// Fails if the folder belongs to another user: the server could not read files that this user creates there.
pub fn belongs_to_us(data: &Path) -> Result<()> {
    let owner = std::fs::metadata(data).map_err(|e| Error::io(data, e))?.uid();
    match owner == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Failure::new(
            format!("{} belongs to user {owner}, who could not read files that you create there", data.display()),
            "run this command as that user, for example with `sudo -u`",
        )
        .into()),
    }
}
