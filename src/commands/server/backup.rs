//! `bkfs server backup`: copies a server's folder, so that the server can be brought back elsewhere.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bkfs_transport::server;
use clap::Args;
use serde_json::json;

use super::data::DataArgs;
use crate::{context::Context, output};

/// Arguments of `server backup`.
#[derive(Debug, Args)]
#[command(
    about = "Copy the server's data, so that it can be brought back elsewhere",
    long_about = "Copy all that is needed to bring a server back on another machine: its identity, its log, and each \
        repository with its log. The server may keep running. Another backup to the same folder copies what has \
        changed.\n\n\
        To bring the server back, run `bkfs server run --data COPY` at an address that the clients know. What was \
        pushed after the backup is gone; clients notice that, and say what to do. Never run the copy and the original \
        at the same time: clients could not tell them apart.\n\n\
        The copy holds the server's private key: keep it as safe as the original.",
    after_help = "Example:\n  bkfs server backup --data /srv/bkfs /mnt/other/bkfs"
)]
pub struct BackupArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The folder of the copy: empty, or an earlier copy of the same server
    copy: PathBuf,
}

/// Runs `bkfs server backup`.
pub fn run(context: &Context, args: &BackupArgs) -> Result<()> {
    let copy = std::path::absolute(&args.copy).with_context(|| args.copy.display().to_string())?;
    let report = server::backup(&args.data.folder()?, &copy)?;
    if context.json {
        return output::json(&json!({
            "copy": copy,
            "files": report.files,
            "bytes": report.bytes,
            "removed": report.removed,
        }));
    }
    if context.quiet {
        return Ok(());
    }
    output::line(format!(
        "copied {} files with {} to {}; {} that are gone were removed there",
        report.files,
        output::size(report.bytes),
        copy.display(),
        report.removed
    ))
}
