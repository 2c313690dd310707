//! `--data DIR`: the folder of the server's data, which all commands of its operator take.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_store::Error;
use clap::Args;

use crate::failure::Failure;

/// The folder of the server's data.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

impl DataArgs {
    /// The folder as an absolute path: a relative path must mean the same from now on.
    pub fn folder(&self) -> Result<PathBuf> {
        std::path::absolute(&self.data).with_context(|| self.data.display().to_string())
    }
}

/// Files that another user makes could not be read by the server.
pub fn belongs_to_us(data: &Path) -> Result<()> {
    let owner = std::fs::metadata(data).map_err(|e| Error::io(data, e))?.uid();
    match owner == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Failure::new(
            format!("{} belongs to user {owner}, who could not read what another user mends there", data.display()),
            "run this as that user, as with `sudo -u`",
        )
        .into()),
    }
}
