//! `bkfs server revive`: the operator's way to undo a prune, as long as the server's floor keeps what it took.

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
    long_about = "Bring back all that prunes took from a repository and that is not gone yet: for --protect's age after a prune, when \
        it should not have been, or when whoever pruned was no friend. A prune that is not finished is given up. Snapshots that \
        were forgotten stay so (`bkfs unforget` brings those back, with the repository's key); what no snapshot needs is taken by the \
        next prune again. So first make sure that the wrong one cannot prune again. Works while the server runs and while it does \
        not.",
    after_help = "Examples:\n  bkfs server revive --data /srv/bkfs alice\n  bkfs server revive --data /srv/bkfs alice photos"
)]
pub struct ReviveArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    /// Which of the account's repositories
    #[arg(default_value_t = Name::default_repository())]
    repository: Name,
}

/// Runs it.
pub fn run(context: &Context, args: &ReviveArgs) -> Result<()> {
    let repository = server::repository(&args.data.folder()?, &args.account, &args.repository)?;
    let revived = repository.revive_all()?;
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
        output::line(format!("gave up a prune that was about to take {}", count(revived.spared, "pack")))?;
    }
    match revived.packs {
        0 if revived.spared > 0 => Ok(()),
        0 => output::line("nothing to bring back: no prune took anything that is still there"),
        packs => output::line(format!("brought back {}, {}", count(packs, "pack"), output::size(revived.bytes))),
    }
}
