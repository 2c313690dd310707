//! `bkfs server scrub`: verifies and mends what a server keeps, whether or not it is running.

use anyhow::Result;
use bkfs_store::repository::scrub::{ScrubReport, last_scrub_in};
use bkfs_transport::{Name, server};
use clap::Args;
use serde::Serialize;

use super::data::DataArgs;
use crate::{
    commands::scrub::{self, ScrubFlags, Scrubber},
    context::Context,
    failure::{Exit, Failure, exit_of},
    output,
};

/// Arguments of `server scrub`.
#[derive(Debug, Args)]
#[command(
    about = "Verify and mend everything that the server keeps",
    long_about = "Read and verify everything that a server keeps, and mend what parity can mend.\n\n\
        A running server does this regularly itself (`bkfs server run --scrub-every`); it may keep running during this \
        command. Damage that cannot be mended is listed with the bytes that are lost, and the exit code is 1.",
    after_help = "Examples:\n  bkfs server scrub --data /srv/bkfs\n  \
        bkfs server scrub --data /srv/bkfs alice --rate 50M\n  \
        bkfs server scrub --data /srv/bkfs --last    # show what the last scrubs found"
)]
pub struct ScrubArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Only the repositories of this account
    account: Option<Name>,
    #[command(flatten)]
    how: ScrubFlags,
}

#[derive(Serialize)]
struct ServerScrubJson<'a> {
    /// Whether the server's own log or identity had to be mended. Null if they were not verified.
    server_mended: Option<bool>,
    server_problem: Option<&'a str>,
    repositories: Vec<RepositoryScrubJson<'a>>,
}

#[derive(Serialize)]
struct RepositoryScrubJson<'a> {
    account: &'a str,
    repository: &'a str,
    /// Why the repository could not be scrubbed.
    error: Option<&'a str>,
    #[serde(flatten)]
    found: Option<scrub::ScrubJson<'a>>,
}

/// What was found in a repository.
struct Found {
    account: Name,
    name: Name,
    outcome: Result<Option<ScrubReport>, String>,
}

/// Runs `bkfs server scrub`.
pub fn run(context: &Context, args: ScrubArgs) -> Result<Exit> {
    let data = args.data.folder()?;
    let mut repositories = server::repositories(&data)?;
    if let Some(account) = &args.account {
        repositories.retain(|(of, _)| of == account);
        if repositories.is_empty() {
            let what = format!("account {account} has no repositories in {}", data.display());
            return Err(Failure::new(what, "").into());
        }
    }
    if args.how.last {
        let last = |(account, name): (Name, Name)| {
            let outcome = last_scrub_in(&server::folder(&data, &account, &name)).map_err(|e| e.to_string());
            Found { account, name, outcome }
        };
        return finish(context, None, &repositories.into_iter().map(last).collect::<Vec<_>>());
    }
    args.data.folder_to_write()?;
    let own = args.account.is_none().then(|| server::verify(&data).map_err(|e| e.to_string()));
    let scrubber = Scrubber::new(context, &args.how);
    let mut found = Vec::new();
    for (account, name) in repositories {
        if scrubber.is_stopped() {
            break;
        }
        let scrubbed = server::repository(&data, &account, &name).map_err(anyhow::Error::from);
        let outcome = match scrubbed.and_then(|repository| scrubber.scrub(&repository)) {
            // Stopped while it waited for something, before it had begun.
            Err(error) if exit_of(&error) == Exit::Interrupted => break,
            outcome => outcome.map(Some).map_err(|e| e.to_string()),
        };
        found.push(Found { account, name, outcome });
    }
    // What was found so far is shown, and damage has the last word: its exit code says more than that of the signal.
    match finish(context, own, &found)? {
        Exit::Success if scrubber.is_stopped() => Ok(Exit::Interrupted),
        exit => Ok(exit),
    }
}

fn finish(context: &Context, own: Option<Result<bool, String>>, found: &[Found]) -> Result<Exit> {
    match context.json {
        true => print_json(own.as_ref(), found)?,
        false => print(context, own.as_ref(), found)?,
    }
    let has_failed = matches!(own, Some(Err(_))) || found.iter().any(|found| found.outcome.is_err());
    let reports = found.iter().filter_map(|found| found.outcome.as_ref().ok()?.as_ref());
    Ok(if has_failed { Exit::Error } else { scrub::exit(reports) })
}

fn print_json(own: Option<&Result<bool, String>>, found: &[Found]) -> Result<()> {
    output::json_pretty(&ServerScrubJson {
        server_mended: own.and_then(|own| own.as_ref().ok().copied()),
        server_problem: own.and_then(|own| own.as_ref().err().map(String::as_str)),
        repositories: found.iter().map(RepositoryScrubJson::of).collect(),
    })
}

impl<'a> RepositoryScrubJson<'a> {
    fn of(Found { account, name, outcome }: &'a Found) -> Self {
        let report = outcome.as_ref().ok().and_then(Option::as_ref).map(scrub::ScrubJson::of);
        let error = outcome.as_ref().err().map(String::as_str);
        Self { account: account.as_str(), repository: name.as_str(), error, found: report }
    }
}

fn print(context: &Context, own: Option<&Result<bool, String>>, found: &[Found]) -> Result<()> {
    match own {
        Some(Ok(true)) => output::line("the server's own log or identity was mended from its second copy")?,
        Some(Err(error)) => output::note(error),
        Some(Ok(false)) | None => {}
    }
    for Found { account, name, outcome } in found {
        let place = format!("{account}/{name}");
        match outcome {
            Ok(report) => scrub::print(context, &place, report.as_ref())?,
            Err(error) => output::note(format!("{place}: {error}")),
        }
    }
    match found.is_empty() && !context.quiet {
        true => output::line("there are no repositories yet"),
        false => Ok(()),
    }
}
