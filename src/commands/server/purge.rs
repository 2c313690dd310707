//! `bkfs server purge`: the operator's way to make snapshots unrecoverable, which no floor holds up and which needs no key.
//!
//! The operator sees ids, clients and times, and no names. Whoever has the repository's key sees at once that it was done
//! this way.

use std::path::PathBuf;

use anyhow::Result;
use bkfs_store::{format::fate::Fate, repository::index::CommitRow};
use bkfs_transport::{Name, server};
use clap::Args;
use serde::Serialize;

use super::absolute;
use crate::{
    context::Context,
    output::{self, Table},
};

/// Arguments of `server purge`.
#[derive(Debug, Args)]
#[command(
    about = "Make snapshots unrecoverable, whatever their age",
    long_about = "Make snapshots unrecoverable, whatever their age, without asking any key: the operator's way past --protect. It \
        cannot be undone. Their space comes free with the next prune. Whoever holds the repository's key is told that \
        the operator did it. Without IDs it lists what there is. Works while the server runs and while it does not; run it \
        as the server's user, so that its files stay that user's.",
    after_help = "Examples:\n  bkfs server purge --data /srv/bkfs alice                 list alice's snapshots\n  \
        bkfs server purge --data /srv/bkfs alice 4f2a91c70d3e\n  \
        bkfs server purge --data /srv/bkfs alice --repository photos 4f2a91c70d3e"
)]
pub struct PurgeArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The account
    account: Name,
    /// Which of the account's repositories
    #[arg(long, value_name = "NAME", default_value_t = Name::default_repository())]
    repository: Name,
    /// The snapshots: their ids, or the first 8 digits or more of them
    #[arg(value_name = "ID")]
    snapshots: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    received: String,
    client: String,
    sequence: u64,
    state: &'static str,
}

/// Runs it.
pub fn run(context: &Context, args: &PurgeArgs) -> Result<()> {
    let repository = server::repository(&absolute(&args.data)?, &args.account, &args.repository)?;
    if args.snapshots.is_empty() {
        return list(context, &repository.commits()?);
    }
    let purged = repository.purge(&args.snapshots)?;
    if context.json {
        let ids: Vec<String> = purged.iter().map(ToString::to_string).collect();
        return output::json(&serde_json::json!({ "purged": ids }));
    }
    if !context.quiet {
        for id in &purged {
            output::line(format!("purged {id}"))?;
        }
    }
    Ok(())
}

fn list(context: &Context, commits: &[CommitRow]) -> Result<()> {
    let state = |commit: &CommitRow| match commit.fate {
        None => "counted",
        Some(Fate::Trash { .. }) => "in the trash",
        Some(Fate::Expired { is_signed: true }) => "gone",
        Some(Fate::Expired { is_signed: false }) => "purged",
    };
    if context.json {
        let row = |commit: &CommitRow| Row {
            id: commit.snapshot.to_string(),
            received: output::time_json(commit.received),
            client: commit.client.to_string(),
            sequence: commit.sequence,
            state: state(commit),
        };
        return output::json_pretty(&commits.iter().map(row).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["ID", "RECEIVED", "CLIENT", "NUMBER", "STATE"], &[3]);
    for commit in commits {
        table.row([
            commit.snapshot.to_string()[..16].to_owned(),
            output::time_local(commit.received),
            commit.client.short(),
            commit.sequence.to_string(),
            state(commit).to_owned(),
        ]);
    }
    table.print()
}
