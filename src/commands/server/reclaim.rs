//! `bkfs server reclaim`: the operator frees at once what the server keeps for later: the grave, and what pushes left
//! that have not ended.

use std::{fmt, str::FromStr};

use anyhow::Result;
use bkfs_store::repository::{Reclaimable, Reclaimed};
use bkfs_transport::{Name, server};
use clap::Args;
use serde::Serialize;

use super::data::DataArgs;
use crate::{
    ask,
    context::Context,
    output::{self, count, size},
};

/// Arguments of `server reclaim`.
#[derive(Debug, Args)]
#[command(
    about = "Free at once what the server keeps of pruned data",
    long_about = "Free at once what the server keeps of pruned data, whatever its age, for a disk that is full.\n\n\
        Empty the grave: `bkfs server revive` cannot bring back what was in it. And let the next prune remove what \
        pushes have sent that have not ended, which is otherwise kept for a week. A push that is still running loses \
        nothing: it is told, and sends again what is missing. What snapshots need stays, also that of snapshots in \
        the trash.\n\n\
        Show first what would be lost, and ask. To free more: forget or purge snapshots, let a client run `bkfs \
        prune`, and reclaim again what the prune has moved to the grave. All of that works on a full disk, and \
        whether or not the server is running.",
    after_help = "Examples:\n  bkfs server reclaim --data /srv/bkfs alice --dry-run\n  \
        bkfs server reclaim --data /srv/bkfs alice\n  bkfs server reclaim --data /srv/bkfs alice/photos --yes"
)]
pub struct ReclaimArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account, and the repository of the account if it has another name than main
    #[arg(value_name = "ACCOUNT[/REPO]")]
    repository: AccountRepository,
    /// Show what would be freed and lost, but change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
}

/// An account, and a repository of it.
#[derive(Debug, Clone)]
struct AccountRepository {
    account: Name,
    name: Name,
}

impl FromStr for AccountRepository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
        match text.split_once('/') {
            Some((account, repository)) => Ok(Self { account: name(account)?, name: name(repository)? }),
            None => Ok(Self { account: name(text)?, name: Name::default_repository() }),
        }
    }
}

impl fmt::Display for AccountRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.name)
    }
}

#[derive(Serialize)]
struct ReclaimJson {
    account: String,
    repository: String,
    dry_run: bool,
    packs_grave: u64,
    /// With their parity.
    bytes_grave: u64,
    grave_until: Option<String>,
    pushes: u64,
    packs_pinned: u64,
    bytes_pinned: u64,
    pinned_until: Option<String>,
}

/// Runs `bkfs server reclaim`.
pub fn run(context: &Context, args: &ReclaimArgs) -> Result<()> {
    let AccountRepository { account, name } = &args.repository;
    let repository = server::repository(&args.data.folder_to_write()?, account, name)?;
    let found = repository.operator().reclaimable()?;
    let is_nothing = found == Reclaimable::default();
    if args.dry_run || is_nothing {
        return print(context, args, &found, None);
    }
    if !args.yes {
        let what = format!("{}: {}", args.repository, lines(&found).join("\n      "));
        ask::confirm(context, &what, "Free it?", "--yes")?;
    }
    let reclaimed = repository.operator().reclaim()?;
    print(context, args, &found, Some(&reclaimed))
}

fn print(context: &Context, args: &ReclaimArgs, found: &Reclaimable, done: Option<&Reclaimed>) -> Result<()> {
    if context.json {
        let (account, repository) = (args.repository.account.to_string(), args.repository.name.to_string());
        return output::json(&ReclaimJson {
            account,
            repository,
            dry_run: args.dry_run,
            packs_grave: done.map_or(found.grave_packs, |done| done.grave_packs),
            bytes_grave: done.map_or(found.grave_bytes, |done| done.grave_bytes),
            grave_until: found.grave_until.map(output::time_json),
            pushes: found.pushes,
            packs_pinned: done.map_or(found.pinned_packs, |done| done.pinned_packs),
            bytes_pinned: found.pinned_bytes,
            pinned_until: found.pinned_until.map(output::time_json),
        });
    }
    if context.quiet {
        return Ok(());
    }
    let Some(done) = done else {
        let lines = lines(found);
        return match lines.is_empty() {
            true => output::line("nothing to free: the grave is empty, and nothing is kept for pushes"),
            false => output::line(lines.join("\n")),
        };
    };
    if done.grave_packs > 0 {
        output::line(format!("freed {}: {} from the grave", size(done.grave_bytes), count(done.grave_packs, "pack")))?;
    }
    if done.pinned_packs > 0 {
        let packs = count(done.pinned_packs, "pack");
        output::line(format!("{packs} of pushes that have not ended: the next prune removes what no snapshot needs"))?;
    }
    Ok(())
}

/// What would be freed, and what becomes unrecoverable.
fn lines(found: &Reclaimable) -> Vec<String> {
    let mut lines = Vec::new();
    if found.grave_packs > 0 {
        let until = found.grave_until.map_or_else(String::new, |until| {
            format!(", which `bkfs server revive` could bring back until {} at the latest", output::time_local(until))
        });
        let packs = count(found.grave_packs, "pack");
        lines.push(format!("{} in the grave are freed, and lost for good: {packs}{until}", size(found.grave_bytes)));
    }
    if found.pinned_packs > 0 {
        let newest =
            found.pinned_at.map_or_else(String::new, |at| format!("; the newest is of {}", output::time_local(at)));
        let until =
            found.pinned_until.map_or_else(String::new, |until| format!(" until {}", output::time_local(until)));
        lines.push(format!(
            "{} in {} are kept{until} for {}{newest}; the next prune may remove what no snapshot \
             needs of that",
            size(found.pinned_bytes),
            count(found.pinned_packs, "pack"),
            pushes(found.pushes)
        ));
    }
    lines
}

fn pushes(number: u64) -> String {
    match number {
        1 => "1 push that has not ended".to_owned(),
        _ => format!("{number} pushes that have not ended"),
    }
}
