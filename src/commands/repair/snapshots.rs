//! `bkfs repair snapshots`: makes the log as whole as it can be, and forgets snapshots whose records cannot be read.

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{FORGET_MAX, ForgetRequest, SignedTombstone},
    base::id::SnapshotId,
    format::tombstone::Tombstone,
    repository::{LogReport, Repository},
};
use clap::Args;
use serde::Serialize;

use crate::{cli::RepoArgs, context::Context, failure::Exit, output, place::Place, session::Session};

/// Arguments of `repair snapshots`.
#[derive(Debug, Args)]
#[command(
    about = "Repair the log, and forget snapshots whose records are lost",
    long_about = "Make a repository's list of snapshots whole again. In a folder, first the log is looked at, from end to end: a damaged copy is made \
        whole from the other. Where both are damaged at one place, so that nothing opens the repository any more, it is written anew from all \
        that is left of it: commits that are lost are made again from the snapshots themselves, and nothing that is stored is taken \
        away. The damaged files are kept beside it. Every other machine that has used the repository will say that it was rolled back, until `bkfs check \
        --accept-rollback` there. The log of a repository on a server is repaired there, with `bkfs server repair log`.\n\n\
        Then snapshots whose records cannot be read, in neither copy, go to the trash. That needs the full key, and at a server \
        the permission forget. What was lost is named, and the exit code is 1 then.",
    after_help = "Examples:\n  bkfs repair snapshots --dry-run     what would be done\n  bkfs repair snapshots -r /media/usb/repo"
)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

/// What became of a log, as JSON.
#[derive(Debug, Serialize)]
pub struct LogLine {
    records: u64,
    mended: bool,
    rewritten: bool,
    snapshots_recovered: Vec<String>,
    records_lost: Vec<u64>,
    bytes_cut: u64,
}

impl From<&LogReport> for LogLine {
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
struct Report {
    log: Option<LogLine>,
    snapshots_lost: Vec<String>,
}

/// Runs it.
pub fn run(context: &Context, args: &SnapshotsArgs) -> Result<Exit> {
    let log = match Place::parse(args.repo.repository.as_deref())? {
        Place::Path(path) => {
            if !Repository::exists(&path)? {
                return Err(Error::NoRepository { place: path.display().to_string() }.into());
            }
            Some((path.display().to_string(), Repository::repair_log(&path, args.dry_run)?))
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
    // As long as the log is damaged nothing opens the repository.
    let lost = match is_rewritten && args.dry_run {
        true => Vec::new(),
        false => forget_lost(context, args, is_rewritten)?,
    };
    if context.json {
        let snapshots_lost = lost.iter().map(ToString::to_string).collect();
        output::json_pretty(&Report { log: report.map(LogLine::from), snapshots_lost })?;
    }
    let is_well = lost.is_empty() && report.is_none_or(is_whole);
    Ok(if is_well { Exit::Success } else { Exit::Error })
}

/// Whether nothing of a log is lost for good.
pub fn is_whole(report: &LogReport) -> bool {
    report.lost.is_empty() && (!report.is_rewritten || report.cut == 0)
}

/// Prints what became of a log for a person.
pub fn print_log(context: &Context, place: &str, report: &LogReport, dry_run: bool) -> Result<()> {
    let would = if dry_run { "would be" } else { "was" };
    if !report.lost.is_empty() {
        let places: Vec<String> = report.lost.iter().take(20).map(ToString::to_string).collect();
        let more = if report.lost.len() > 20 { ", ..." } else { "" };
        eprintln!("bkfs: {place}: records of the log are lost: {}{more}", places.join(", "));
    }
    if report.is_rewritten && report.cut > 0 {
        eprintln!("bkfs: {place}: in the last {} of the log no record is left", output::size(report.cut));
    }
    if context.quiet {
        return Ok(());
    }
    let records = output::count(report.records, "record");
    output::line(match (report.is_rewritten, report.is_mended) {
        (true, _) => {
            let recovered = output::count(report.recovered.len() as u64, "snapshot");
            format!("{place}: the log {would} written anew, with {records}; {recovered} recovered that it had lost")
        }
        (false, true) => format!("{place}: a damaged copy of the log {would} made whole, {records}"),
        (false, false) => format!("{place}: the log is whole, {records}"),
    })
}

/// Moves snapshots to the trash that nobody can read; returns them.
fn forget_lost(context: &Context, args: &SnapshotsArgs, is_rewritten: bool) -> Result<Vec<SnapshotId>> {
    let session = Session::open(context, &args.repo)?;
    match session.rollback_failure() {
        // It is what has just been done here.
        Some(_) if is_rewritten => session.accept_rollback()?,
        Some(failure) => return Err(failure.into()),
        None => {}
    }
    let full = session.full_key(context, "repairing")?;
    let reader = crate::browse::Library::with_key(&session, &full)?.reader;
    let (lost, log_len) = reader.with_snapshots(|list| {
        let lost = list.broken.iter().filter(|broken| !broken.is_trashed);
        let lost = lost.filter(|broken| matches!(broken.error, Error::SnapshotDamaged { .. }));
        (lost.map(|broken| broken.id).collect::<Vec<_>>(), list.log_len)
    })?;
    if !args.dry_run {
        for ids in lost.chunks(FORGET_MAX) {
            let tombstone = |id: &SnapshotId| Tombstone { repo: full.repo, snapshot: *id, log_len };
            let tombstones = ids.iter().map(|id| SignedTombstone(tombstone(id).sign(&full))).collect();
            session.access.forget(&ForgetRequest { tombstones, ..ForgetRequest::default() })?;
        }
    }
    if !context.json && !context.quiet {
        let would = if args.dry_run { "would go" } else { "went" };
        match lost.len() as u64 {
            0 => output::line("all snapshots can be read")?,
            count => {
                output::line(format!("{} {would} to the trash", output::count(count, "snapshot that nobody can read")))?
            }
        }
    }
    Ok(lost)
}
