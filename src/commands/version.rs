//! `bkfs version`.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::{context::Context, output};

/// Arguments of `version`.
#[derive(Debug, Args)]
#[command(
    about = "Print the version",
    long_about = "Print the version of the program. --json also prints the version of the protocol that it speaks with \
        servers, and for which machine it was built.",
    after_help = "Example:\n  bkfs version --json | jq -r .program"
)]
pub struct VersionArgs {}

/// Runs `bkfs version`.
pub fn run(context: &Context) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    match context.json {
        true => output::json(&json!({
            "program": version,
            "protocol": bkfs_transport::PROTOCOL,
            "system": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        })),
        false => output::line(format!("bkfs {version}")),
    }
}
