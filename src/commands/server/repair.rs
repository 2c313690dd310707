//! `bkfs server repair`: what a server's operator can repair, without any key.

use std::path::PathBuf;

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::{self, IndexReport},
};
use bkfs_transport::{Name, server};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{absolute, scrub::belongs_to_us};
use crate::{
    commands::repair::{IndexLine, LogLine, is_whole, print_index, print_log},
    context::Context,
    failure::{Exit, Failure},
    output,
};

/// The commands below `server repair`.
#[derive(Debug, Subcommand)]
pub enum ServerRepairCommand {
    Index(IndexArgs),
    Log(LogArgs),
}

/// Arguments of `server repair index`.
#[derive(Debug, Args)]
#[command(
    about = "Make indexes anew from packs and logs",
    long_about = "Throw the indexes of a server's repositories away, and make them anew from the packs and the logs. Nothing is \
        stored in an index that is not in these, so nothing can be lost by it. Stop the server before, or start it again \
        afterwards: one that runs goes on with the indexes that it has open. Packs that cannot be read in are listed, and the exit code is 1 then; \
        whoever has the key of the repository deals with them, with `bkfs repair packs`.",
    after_help = "Examples:\n  bkfs server repair index --data /srv/bkfs\n  bkfs server repair index --data /srv/bkfs alice photos"
)]
pub struct IndexArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only this account
    account: Option<Name>,
    /// Only this one of the account's repositories
    repository: Option<Name>,
    /// Only say what would be found; the indexes stay as they are
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `server repair log`.
#[derive(Debug, Args)]
#[command(
    about = "Repair a repository's log that is damaged in both its files",
    long_about = "Make the log of a repository whole: a damaged copy from the other, and where both are damaged at one place, so that nobody can \
        open the repository any more, as whole as it can be. Commits that are lost are made again from the snapshots, and \
        nothing that is stored is taken away. The damaged files are kept beside it. Every client that has used the repository \
        will say that it was rolled back, until its owner runs `bkfs check --accept-rollback` there. What is lost for good is named, and the exit code is 1 then.",
    after_help = "Examples:\n  bkfs server repair log --data /srv/bkfs alice --dry-run\n  bkfs server repair log --data /srv/bkfs alice photos"
)]
pub struct LogArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The account
    account: Name,
    /// Which of the account's repositories
    #[arg(default_value_t = Name::default_repository())]
    repository: Name,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Line {
    account: String,
    repository: String,
    /// Why it could not be done.
    error: Option<String>,
    #[serde(flatten)]
    found: Option<IndexLine>,
}

/// Runs one.
pub fn run(context: &Context, command: ServerRepairCommand) -> Result<Exit> {
    match command {
        ServerRepairCommand::Index(args) => index(context, &args),
        ServerRepairCommand::Log(args) => log(context, &args),
    }
}

fn log(context: &Context, args: &LogArgs) -> Result<Exit> {
    let data = absolute(&args.data)?;
    let folder = server::folder(&data, &args.account, &args.repository);
    let place = format!("{}/{}", args.account, args.repository);
    if !repository::exists(&folder)? {
        return Err(Error::NoRepository { place }.into());
    }
    belongs_to_us(&data)?;
    let report = repository::log::repair_log(&folder, args.dry_run)?;
    match context.json {
        true => output::json_pretty(&LogLine::from(&report))?,
        false => print_log(context, &place, &report, args.dry_run)?,
    }
    Ok(if is_whole(&report) { Exit::Success } else { Exit::Error })
}

fn index(context: &Context, args: &IndexArgs) -> Result<Exit> {
    let data = absolute(&args.data)?;
    let mut repositories = server::repositories(&data)?;
    repositories.retain(|(account, name)| {
        args.account.as_ref().is_none_or(|only| only == account)
            && args.repository.as_ref().is_none_or(|only| only == name)
    });
    if repositories.is_empty() {
        let what = format!("there is no such repository in {}", data.display());
        return Err(Failure::new(what, "`bkfs server scrub --last` lists them").into());
    }
    belongs_to_us(&data)?;
    let (mut lines, mut is_well) = (Vec::new(), true);
    for (account, name) in repositories {
        let folder = server::folder(&data, &account, &name);
        let rebuilt = repository::repair::rebuild_index(&folder, &folder.join("index"), args.dry_run);
        is_well &= rebuilt.as_ref().is_ok_and(|report: &IndexReport| report.unread.is_empty());
        let place = format!("{account}/{name}");
        match (&rebuilt, context.json) {
            (_, true) => lines.push(Line {
                account: account.as_str().to_owned(),
                repository: name.as_str().to_owned(),
                error: rebuilt.as_ref().err().map(ToString::to_string),
                found: rebuilt.as_ref().ok().map(IndexLine::from),
            }),
            (Ok(report), false) => print_index(context, &place, report, args.dry_run)?,
            (Err(error), false) => eprintln!("bkfs: {place}: {error}"),
        }
    }
    if context.json {
        output::json_pretty(&lines)?;
    }
    Ok(if is_well { Exit::Success } else { Exit::Error })
}
