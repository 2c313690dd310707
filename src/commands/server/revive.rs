//! `bkfs server revive`: the operator undoes a prune, as long as the server's floor keeps what it removed.

use anyhow::Result;
use bkfs_transport::{Name, server};
use clap::Args;

use super::data::DataArgs;
use crate::{
    context::Context,
    output::{self, count},
};

/// Arguments of `server revive`.
#[derive(Debug, Args)]
#[command(
    about = "Bring back what was pruned",
    long_about = "Bring back everything that prunes removed from a repository and that the server still has.\n\n\
        The server keeps pruned data for its --protect age. Use this command after a prune that was a mistake or an \
        attack. A prune that is not finished is cancelled. Forgotten snapshots stay forgotten: `bkfs unforget` brings \
        them back, with the repository's key. The next prune removes again what no snapshot needs, so first make sure \
        that an attacker can no longer prune.\n\n\
        Works whether or not the server is running.",
    after_help = "Examples:\n  bkfs server revive --data /srv/bkfs alice\n  \
        bkfs server revive --data /srv/bkfs alice photos"
)]
pub struct ReviveArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account that owns the repository
    account: Name,
    /// The repository of the account
    #[arg(default_value_t = Name::default_repository())]
    repository: Name,
}

/// Runs `bkfs server revive`.
pub fn run(context: &Context, args: &ReviveArgs) -> Result<()> {
    let repository = server::repository(&args.data.folder_to_write()?, &args.account, &args.repository)?;
    let revived = repository.operator().revive_all()?;
    if context.json {
        return output::json(&serde_json::json!({
            "packs": revived.packs,
            "bytes": revived.bytes,
            "packs_spared": revived.spared,
        }));
    }
    if context.quiet {
        return Ok(());
    }
    if revived.spared > 0 {
        output::line(format!("cancelled a prune that was about to remove {}", count(revived.spared, "pack")))?;
    }
    match revived.packs {
        0 if revived.spared > 0 => Ok(()),
        0 => output::line("nothing to bring back: the server has nothing that a prune removed"),
        packs => output::line(format!("brought back {}, {}", count(packs, "pack"), output::size(revived.bytes))),
    }
}
