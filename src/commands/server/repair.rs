//! `bkfs server repair`: what a server's operator can repair without a key.

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::{self, IndexReport},
};
use bkfs_transport::{Name, server};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::data::DataArgs;
use crate::{
    commands::repair::{IndexJson, LogJson, is_whole, print_index, print_log},
    context::Context,
    failure::{Exit, Failure},
    output,
};

/// The subcommands of `bkfs server repair`.
#[derive(Debug, Subcommand)]
pub enum ServerRepairCommand {
    Index(IndexArgs),
    Log(LogArgs),
}

/// Arguments of `server repair index`.
#[derive(Debug, Args)]
#[command(
    about = "Rebuild the indexes of repositories",
    long_about = "Delete the indexes of a server's repositories, and rebuild them from the packs and the logs.\n\n\
        Everything in an index is also in the packs and the log, so nothing can be lost. Stop the server first, or \
        restart it afterwards: a running server continues with the indexes that it has open.\n\n\
        Packs that cannot be indexed are listed, and the exit code is 1. The owner of the repository's key can deal \
        with them, with `bkfs repair packs`.",
    after_help = "Examples:\n  bkfs server repair index --data /srv/bkfs\n  \
        bkfs server repair index --data /srv/bkfs alice photos"
)]
pub struct IndexArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Only the repositories of this account
    account: Option<Name>,
    /// Only this repository of the account
    repository: Option<Name>,
    /// Show what would be found, but keep the indexes as they are
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `server repair log`.
#[derive(Debug, Args)]
#[command(
    about = "Repair a log that is damaged in both of its copies",
    long_about = "Repair the log of a repository.\n\n\
        A damaged copy of the log is repaired from the other copy. If both copies are damaged at the same place, \
        nobody can open the repository. Then the log is rewritten from all that is left of it: commits that are lost \
        are recreated from the snapshots, and no stored data is removed. The damaged files are kept beside the log. \
        Every client that has used the repository will report a rollback, until its owner runs `bkfs check \
        --accept-rollback` there.\n\n\
        If anything is lost for good, it is named, and the exit code is 1.",
    after_help = "Examples:\n  bkfs server repair log --data /srv/bkfs alice --dry-run\n  \
        bkfs server repair log --data /srv/bkfs alice photos"
)]
pub struct LogArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account that owns the repository
    account: Name,
    /// The repository of the account
    #[arg(default_value_t = Name::default_repository())]
    repository: Name,
    /// Show what would be done, but change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct RepositoryIndexJson {
    account: String,
    repository: String,
    /// Why the index could not be rebuilt.
    error: Option<String>,
    #[serde(flatten)]
    found: Option<IndexJson>,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: ServerRepairCommand) -> Result<Exit> {
    match command {
        ServerRepairCommand::Index(args) => index(context, &args),
        ServerRepairCommand::Log(args) => log(context, &args),
    }
}

fn log(context: &Context, args: &LogArgs) -> Result<Exit> {
    let data = args.data.folder()?;
    let folder = server::folder(&data, &args.account, &args.repository);
    let place = format!("{}/{}", args.account, args.repository);
    if !repository::exists(&folder)? {
        return Err(Error::NoRepository { place }.into());
    }
    args.data.folder_to_write()?;
    let report = repository::log::repair_log(&folder, args.dry_run)?;
    match context.json {
        true => output::json_pretty(&LogJson::from(&report))?,
        false => print_log(context, &place, &report, args.dry_run)?,
    }
    Ok(if is_whole(&report) { Exit::Success } else { Exit::Error })
}

fn index(context: &Context, args: &IndexArgs) -> Result<Exit> {
    let data = args.data.folder()?;
    let mut repositories = server::repositories(&data)?;
    repositories.retain(|(account, name)| {
        args.account.as_ref().is_none_or(|only| only == account)
            && args.repository.as_ref().is_none_or(|only| only == name)
    });
    if repositories.is_empty() {
        let what = format!("there is no such repository in {}", data.display());
        return Err(Failure::new(what, "`bkfs server scrub --last` lists the repositories").into());
    }
    args.data.folder_to_write()?;
    let (mut lines, mut is_sound) = (Vec::new(), true);
    for (account, name) in repositories {
        let folder = server::folder(&data, &account, &name);
        let rebuilt = repository::repair::rebuild_index(&folder, &folder.join("index"), args.dry_run);
        is_sound &= rebuilt.as_ref().is_ok_and(|report: &IndexReport| report.unread.is_empty());
        let place = format!("{account}/{name}");
        match (&rebuilt, context.json) {
            (_, true) => lines.push(RepositoryIndexJson {
                account: account.as_str().to_owned(),
                repository: name.as_str().to_owned(),
                error: rebuilt.as_ref().err().map(ToString::to_string),
                found: rebuilt.as_ref().ok().map(IndexJson::from),
            }),
            (Ok(report), false) => print_index(context, &place, report, args.dry_run)?,
            (Err(error), false) => output::note(format!("{place}: {error}")),
        }
    }
    if context.json {
        output::json_list(&lines)?;
    }
    Ok(if is_sound { Exit::Success } else { Exit::Error })
}
