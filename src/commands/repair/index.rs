//! `bkfs repair index`: deletes the index and rebuilds it from the packs and the log.

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::{self, IndexReport},
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
};

/// Arguments of `repair index`.
#[derive(Debug, Args)]
#[command(
    about = "Rebuild the index of a repository in a folder",
    long_about = "Delete the index of a repository in a folder, and rebuild it from the packs and the log.\n\n\
        Everything in the index is also in the packs and the log, so nothing can be lost. No key is needed. Other \
        programs that have the repository open continue with the old index until they end.\n\n\
        Packs that cannot be indexed are listed, and the exit code is 1: `bkfs repair packs` deals with them. For a \
        repository on a server, its operator runs `bkfs server repair index`.",
    after_help = "Examples:\n  bkfs repair index -r /media/usb/repo\n  bkfs repair index -r /media/usb/repo --dry-run"
)]
pub struct IndexArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show what would be found, but keep the index as it is
    #[arg(long)]
    dry_run: bool,
}

/// What was found, as JSON.
#[derive(Debug, Serialize)]
pub struct IndexJson {
    log_records: u64,
    snapshots: u64,
    packs: u64,
    bytes: u64,
    chunks: u64,
    packs_in_quarantine: u64,
    unread: Vec<String>,
}

impl From<&IndexReport> for IndexJson {
    fn from(report: &IndexReport) -> Self {
        Self {
            log_records: report.log_records,
            snapshots: report.snapshots,
            packs: report.packs,
            bytes: report.bytes,
            chunks: report.chunks,
            packs_in_quarantine: report.quarantined,
            unread: report.unread.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Runs `bkfs repair index`.
pub fn run(context: &Context, args: &IndexArgs) -> Result<Exit> {
    let place = Place::parse(context.repository(&args.repo))?;
    let Place::Path(path) = &place else {
        let what = format!("{place} is on a server, and its index is there");
        return Err(Failure::new(what, "the server's operator can run `bkfs server repair index`").into());
    };
    if !repository::exists(path)? {
        return Err(Error::NoRepository { place: place.to_string() }.into());
    }
    let report = repository::repair::rebuild_index(path, &place.index_dir(&context.folders.cache), args.dry_run)?;
    match context.json {
        true => output::json_pretty(&IndexJson::from(&report))?,
        false => print_index(context, &place.to_string(), &report, args.dry_run)?,
    }
    Ok(if report.unread.is_empty() { Exit::Success } else { Exit::Error })
}

/// Prints for a person what was found.
pub fn print_index(context: &Context, place: &str, report: &IndexReport, dry_run: bool) -> Result<()> {
    for error in &report.unread {
        output::note(format!("{place}: {error}"));
    }
    if context.quiet {
        return Ok(());
    }
    let did = if dry_run { "the index would be rebuilt" } else { "the index was rebuilt" };
    let mut line = format!(
        "{place}: {did}: {}, {}, {}, {} with {}",
        output::count(report.log_records, "log record"),
        output::count(report.snapshots, "snapshot"),
        output::count(report.packs, "pack"),
        output::size(report.bytes),
        output::count(report.chunks, "chunk"),
    );
    if report.quarantined > 0 {
        line.push_str(&format!("; frames of {} in quarantine", output::count(report.quarantined, "pack")));
    }
    if !report.unread.is_empty() {
        line.push_str(&format!("; {} cannot be indexed", output::count(report.unread.len() as u64, "pack")));
    }
    output::line(line)
}
