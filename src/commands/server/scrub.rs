//! `bkfs server scrub`: what a server keeps is verified and mended, while it runs or while it does not.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::scrub::{ScrubReport, last_scrub_in},
};
use bkfs_transport::{Name, server};
use clap::Args;
use serde::Serialize;

use super::absolute;
use crate::{
    commands::scrub::{self, HowArgs, Scrubber},
    context::Context,
    failure::{Exit, Failure},
    output,
};

/// Arguments of `server scrub`.
#[derive(Debug, Args)]
#[command(
    about = "Verify all that the server keeps, and mend it",
    long_about = "Read and verify everything that a server keeps, and mend what its error correction can mend. A server that \
        runs does this by itself (`bkfs server run --scrub-every`), and may run meanwhile. What is beyond mending is listed \
        with the bytes that are lost; the exit code is 1 then.",
    after_help = "Examples:\n  bkfs server scrub --data /srv/bkfs\n  bkfs server scrub --data /srv/bkfs alice --rate 50M\n  \
        bkfs server scrub --data /srv/bkfs --last     what the last scrubs found"
)]
pub struct ScrubArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Only this account
    account: Option<Name>,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Serialize)]
struct Report<'a> {
    /// Whether the server's own log or identity had to be mended; null if they were not looked at.
    server_mended: Option<bool>,
    server_problem: Option<&'a str>,
    repositories: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    account: &'a str,
    repository: &'a str,
    /// Why it could not be scrubbed.
    error: Option<&'a str>,
    #[serde(flatten)]
    found: Option<scrub::Report<'a>>,
}

/// What became of a repository.
struct Found {
    account: Name,
    name: Name,
    outcome: Result<Option<ScrubReport>, String>,
}

/// Runs it.
pub fn run(context: &Context, args: ScrubArgs) -> Result<Exit> {
    let data = absolute(&args.data)?;
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
    belongs_to_us(&data)?;
    let own = args.account.is_none().then(|| server::verify(&data).map_err(|e| e.to_string()));
    let scrubber = Scrubber::new(context, &args.how)?;
    let mut found = Vec::new();
    for (account, name) in repositories {
        if scrubber.is_stopped() {
            return Err(Error::Interrupted.into());
        }
        let scrubbed = server::repository(&data, &account, &name).map_err(anyhow::Error::from);
        let outcome = scrubbed.and_then(|repository| scrubber.scrub(&repository)).map(Some).map_err(|e| e.to_string());
        found.push(Found { account, name, outcome });
    }
    finish(context, own, &found)
}

/// Files that another user makes could not be read by the server.
pub(super) fn belongs_to_us(data: &Path) -> Result<()> {
    let owner = std::fs::metadata(data).map_err(|e| Error::io(data, e))?.uid();
    match owner == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(Failure::new(
            format!("{} belongs to user {owner}, who could not read what another user mends there", data.display()),
            "run this as that user, as with `sudo -u`",
        )
        .into()),
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
    output::json_pretty(&Report {
        server_mended: own.and_then(|own| own.as_ref().ok().copied()),
        server_problem: own.and_then(|own| own.as_ref().err().map(String::as_str)),
        repositories: found.iter().map(Line::of).collect(),
    })
}

impl<'a> Line<'a> {
    fn of(Found { account, name, outcome }: &'a Found) -> Self {
        let report = outcome.as_ref().ok().and_then(Option::as_ref).map(scrub::Report::of);
        let error = outcome.as_ref().err().map(String::as_str);
        Self { account: account.as_str(), repository: name.as_str(), error, found: report }
    }
}

fn print(context: &Context, own: Option<&Result<bool, String>>, found: &[Found]) -> Result<()> {
    match own {
        Some(Ok(true)) => output::line("the server's own log or identity was mended from its second copy")?,
        Some(Err(error)) => eprintln!("bkfs: {error}"),
        Some(Ok(false)) | None => {}
    }
    for Found { account, name, outcome } in found {
        let place = format!("{account}/{name}");
        match outcome {
            Ok(report) => scrub::print(context, &place, report.as_ref())?,
            Err(error) => eprintln!("bkfs: {place}: {error}"),
        }
    }
    match found.is_empty() && !context.quiet {
        true => output::line("there are no repositories yet"),
        false => Ok(()),
    }
}
