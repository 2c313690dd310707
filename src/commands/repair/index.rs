//! `bkfs repair index`: throws the index away and makes it anew from packs and log.

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::{self, IndexReport},
};
use clap::Args;
use serde::Serialize;

use crate::{
    cli::RepoArgs,
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
};

/// Arguments of `repair index`.
#[derive(Debug, Args)]
#[command(
    about = "Make a folder's index anew from its packs and its log",
    long_about = "Throw the index of a repository in a folder away, and make it anew from the packs and the log. Nothing is stored \
        in the index that is not in these, so nothing can be lost by it. It needs no keys. Other programs that have the repository \
        open go on with the old one until they end. Says what it found; packs that cannot be read in are listed, and the exit code is 1 then: \
        `bkfs repair packs` deals with them. The index of a repository on a server is made anew there, with `bkfs server repair index`.",
    after_help = "Examples:\n  bkfs repair index -r /media/usb/repo\n  bkfs repair index -r /media/usb/repo --dry-run"
)]
pub struct IndexArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Only say what would be found; the index stays as it is
    #[arg(long)]
    dry_run: bool,
}

/// What was found, as JSON.
#[derive(Debug, Serialize)]
pub struct IndexLine {
    log_records: u64,
    snapshots: u64,
    packs: u64,
    bytes: u64,
    chunks: u64,
    packs_in_quarantine: u64,
    unread: Vec<String>,
}

impl From<&IndexReport> for IndexLine {
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

/// Runs it.
pub fn run(context: &Context, args: &IndexArgs) -> Result<Exit> {
    let place = Place::parse(args.repo.repository.as_deref())?;
    let Place::Path(path) = &place else {
        let what = format!("{place} is kept by a server, and so is its index");
        return Err(Failure::new(what, "whoever runs the server has `bkfs server repair index`").into());
    };
    if !repository::exists(path)? {
        return Err(Error::NoRepository { place: place.to_string() }.into());
    }
    let report = repository::repair::rebuild_index(path, &place.index_dir(context), args.dry_run)?;
    match context.json {
        true => output::json_pretty(&IndexLine::from(&report))?,
        false => print_index(context, &place.to_string(), &report, args.dry_run)?,
    }
    Ok(if report.unread.is_empty() { Exit::Success } else { Exit::Error })
}

/// Prints what was found for a person.
pub fn print_index(context: &Context, place: &str, report: &IndexReport, dry_run: bool) -> Result<()> {
    for error in &report.unread {
        eprintln!("bkfs: {place}: {error}");
    }
    if context.quiet {
        return Ok(());
    }
    let did = if dry_run { "the index would be made anew" } else { "the index was made anew" };
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
        line.push_str(&format!("; {} cannot be read in", output::count(report.unread.len() as u64, "pack")));
    }
    output::line(line)
}
