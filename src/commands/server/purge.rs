//! `bkfs server purge`: the operator makes snapshots unrecoverable. No floor prevents it, and it needs no key.
//!
//! The operator sees ids, clients and times, but no names. Everyone who has the repository's key sees that the operator
//! did it.

use anyhow::Result;
use bkfs_store::{format::fate::Fate, repository::index::CommitRow};
use bkfs_transport::{Name, server};
use clap::Args;
use serde::Serialize;

use super::data::DataArgs;
use crate::{
    context::Context,
    output::{self, Table},
};

/// Arguments of `server purge`.
#[derive(Debug, Args)]
#[command(
    about = "Make snapshots unrecoverable, whatever their age",
    long_about = "Make snapshots unrecoverable, whatever their age and without a key. --protect does not prevent it, \
        and it cannot be undone. The next prune frees their space. Everyone who reads the repository is told that the \
        operator did it. Without IDs, list the snapshots.\n\n\
        Works whether or not the server is running. Run it as the server's user, so that the server can read the files \
        that it writes.",
    after_help = "Examples:\n  bkfs server purge --data /srv/bkfs alice    # list alice's snapshots\n  \
        bkfs server purge --data /srv/bkfs alice 4f2a91c70d3e\n  \
        bkfs server purge --data /srv/bkfs alice --repository photos 4f2a91c70d3e"
)]
pub struct PurgeArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account that owns the repository
    account: Name,
    /// The repository of the account
    #[arg(long, value_name = "NAME", default_value_t = Name::default_repository())]
    repository: Name,
    /// The snapshots to purge: ids, or at least the first 8 digits of each
    #[arg(value_name = "ID")]
    snapshots: Vec<String>,
}

#[derive(Serialize)]
struct CommitJson {
    id: String,
    received: String,
    client: String,
    sequence: u64,
    state: &'static str,
}

/// Runs `bkfs server purge`.
pub fn run(context: &Context, args: &PurgeArgs) -> Result<()> {
    let repository = server::repository(&args.data.folder_to_write()?, &args.account, &args.repository)?;
    if args.snapshots.is_empty() {
        return list(context, &repository.operator().commits()?);
    }
    let purged = repository.operator().purge(&args.snapshots)?;
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
        let row = |commit: &CommitRow| CommitJson {
            id: commit.snapshot.to_string(),
            received: output::time_json(commit.received),
            client: commit.client.to_string(),
            sequence: commit.sequence,
            state: state(commit),
        };
        return output::json_list(&commits.iter().map(row).collect::<Vec<_>>());
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
