//! `--data DIR`: the folder of the server's data. All commands of a server's operator take it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bkfs_transport::Name;
use clap::Args;

use crate::{owner::check_server_folder, place::check_folder};

/// The option that names the folder of the server's data.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// The arguments of a command that shows something of an account.
#[derive(Debug, Args)]
pub struct AccountArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// The account
    pub account: Name,
}

impl DataArgs {
    /// Returns the folder as an absolute path, so that it means the same from now on.
    pub fn folder(&self) -> Result<PathBuf> {
        check_folder(&self.data.to_string_lossy())?;
        std::path::absolute(&self.data).with_context(|| self.data.display().to_string())
    }

    /// Returns the same, for a command that writes there. Fails if the folder belongs to another user: the server could
    /// not read files that this user creates.
    pub fn folder_to_write(&self) -> Result<PathBuf> {
        let data = self.folder()?;
        check_server_folder(&data)?;
        Ok(data)
    }
}
