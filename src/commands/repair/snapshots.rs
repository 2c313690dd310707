//! `bkfs repair snapshots`: repairs the log as far as possible, and forgets snapshots whose records cannot be read.

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{FORGET_MAX, ForgetRequest, SignedTombstone},
    base::id::SnapshotId,
    format::tombstone::Tombstone,
    repository::{self, LogReport},
};
use clap::Args;
use serde::Serialize;

use crate::{args::RepoArgs, context::Context, failure::Exit, output, place::Place, session::Session};

/// Arguments of `repair snapshots`.
#[derive(Debug, Args)]
#[command(
    about = "Repair the log, and forget snapshots whose records are lost",
    long_about = "Repair a repository's list of snapshots, in two steps.\n\n\
        The first step applies to a repository in a folder: verify the log from end to end. A damaged copy of the log \
        is repaired from the other copy. If both copies are damaged at the same place, no command can open the \
        repository. Then the log is rewritten from all that is left of it: commits that are lost are recreated from \
        the snapshots themselves, and no stored data is removed. The damaged files are kept beside the log. Every \
        other machine that has used the repository will report a rollback, until you run `bkfs check \
        --accept-rollback` there. For a repository on a server, its operator runs `bkfs server repair log`.\n\n\
        The second step moves snapshots to the trash if neither copy of their record can be read. This needs the full \
        key, and on a server the permission forget.\n\n\
        If anything was lost, it is named, and the exit code is 1.",
    after_help = "Examples:\n  bkfs repair snapshots --dry-run    # show what would be done\n  \
        bkfs repair snapshots -r /media/usb/repo"
)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show what would be done, but change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was done to a log, as JSON.
#[derive(Debug, Serialize)]
pub struct LogJson {
    records: u64,
    mended: bool,
    rewritten: bool,
    snapshots_recovered: Vec<String>,
    records_lost: Vec<u64>,
    bytes_cut: u64,
}

impl From<&LogReport> for LogJson {
    fn from(report: &LogReport) -> Self {
        Self {
            records: report.records,
            mended: report.is_mended,
            rewritten: report.is_rewritten,
            snapshots_recovered: report.recovered.iter().map(ToString::to_string).collect(),
            records_lost: report.lost.clone(),
            bytes_cut: report.cut,
        }
    }
}

#[derive(Serialize)]
struct SnapshotsJson {
    log: Option<LogJson>,
    snapshots_lost: Vec<String>,
}

/// Runs `bkfs repair snapshots`.
pub fn run(context: &Context, args: &SnapshotsArgs) -> Result<Exit> {
    let log = match Place::parse(context.repository(&args.repo))? {
        Place::Path(path) => {
            if !repository::exists(&path)? {
                return Err(Error::NoRepository { place: path.display().to_string() }.into());
            }
            Some((path.display().to_string(), repository::log::repair_log(&path, args.dry_run)?))
        }
        Place::Url(_) => None,
    };
    if let Some((place, report)) = &log
        && !context.json
    {
        print_log(context, place, report, args.dry_run)?;
    }
    let report = log.as_ref().map(|(_, report)| report);
    let is_rewritten = report.is_some_and(|report| report.is_rewritten);
    // A dry run leaves the log damaged, and then the repository cannot be opened.
    let lost = match is_rewritten && args.dry_run {
        true => Vec::new(),
        false => forget_lost(context, args, is_rewritten)?,
    };
    if context.json {
        let snapshots_lost = lost.iter().map(ToString::to_string).collect();
        output::json_pretty(&SnapshotsJson { log: report.map(LogJson::from), snapshots_lost })?;
    }
    let is_sound = lost.is_empty() && report.is_none_or(is_whole);
    Ok(if is_sound { Exit::Success } else { Exit::Error })
}

/// Returns whether nothing in a log is lost for good.
pub fn is_whole(report: &LogReport) -> bool {
    report.lost.is_empty() && (!report.is_rewritten || report.cut == 0)
}

/// Prints for a person what was done to a log.
pub fn print_log(context: &Context, place: &str, report: &LogReport, dry_run: bool) -> Result<()> {
    let would = if dry_run { "would be" } else { "was" };
    if !report.lost.is_empty() {
        let numbers: Vec<String> = report.lost.iter().take(20).map(ToString::to_string).collect();
        let more = if report.lost.len() > 20 { ", ..." } else { "" };
        output::note(format!("{place}: these records of the log are lost: {}{more}", numbers.join(", ")));
    }
    if report.is_rewritten && report.cut > 0 {
        output::note(format!("{place}: no record is left in the last {} of the log", output::size(report.cut)));
    }
    if context.quiet {
        return Ok(());
    }
    let records = output::count(report.records, "record");
    output::line(match (report.is_rewritten, report.is_mended) {
        (true, _) => {
            let recovered = output::count(report.recovered.len() as u64, "snapshot");
            format!("{place}: the log {would} rewritten, with {records}; {recovered} recovered that it had lost")
        }
        (false, true) => format!("{place}: a damaged copy of the log {would} repaired, {records}"),
        (false, false) => format!("{place}: the log is intact, {records}"),
    })
}

/// Moves the snapshots that cannot be read to the trash. Returns them.
fn forget_lost(context: &Context, args: &SnapshotsArgs, is_rewritten: bool) -> Result<Vec<SnapshotId>> {
    let session = Session::open(context, &args.repo)?;
    match session.rollback_failure() {
        // The repair of the log just caused this.
        Some(_) if is_rewritten => session.accept_rollback()?,
        Some(failure) => return Err(failure.into()),
        None => {}
    }
    let full = session.full_key(context, "repairing")?;
    let reader = crate::catalog::Catalog::with_key(context, &session, &full)?.reader;
    let (lost, log_len) = reader.with_fetched_snapshots(|list| {
        let lost = list.broken.iter().filter(|broken| !broken.is_trashed);
        let lost = lost.filter(|broken| matches!(broken.error, Error::SnapshotDamaged { .. }));
        (lost.map(|broken| broken.id).collect::<Vec<_>>(), list.log_len)
    })?;
    if !args.dry_run {
        for ids in lost.chunks(FORGET_MAX) {
            let tombstone = |id: &SnapshotId| Tombstone { repo: full.repo, snapshot: *id, log_len, is_broken: false };
            let tombstones = ids.iter().map(|id| SignedTombstone(tombstone(id).sign(&full))).collect();
            session.access.forget(&ForgetRequest { tombstones, ..ForgetRequest::default() })?;
        }
    }
    if !context.json && !context.quiet {
        let verb = if args.dry_run { "would move" } else { "moved" };
        match lost.len() as u64 {
            0 => output::line("all snapshots can be read")?,
            count => output::line(format!("{verb} {} to the trash", output::count(count, "unreadable snapshot")))?,
        }
    }
    Ok(lost)
}
