//! `bkfs restore`: copies files from a snapshot to a folder.

use std::{path::PathBuf, sync::atomic::Ordering::Relaxed, time::Instant};

use anyhow::Result;
use bkfs_fs::restore::{Limit, LimitMet, RestoreOptions, RestoreOwners, RestoreProgress, RestoreReport, restore};
use bkfs_store::Error;
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    completion,
    context::Context,
    failure::{Exit, Failure},
    output,
    progress::ProgressView,
    selector::{Filters, Selector, value_parser},
    session::Session,
    work::Work,
};

/// Arguments of `restore`.
#[derive(Debug, Args)]
#[command(
    about = "Copy files from a snapshot to a folder",
    long_about = "Copy files from a snapshot to the folder DEST.\n\n\
        Without PATH, the stored paths appear below DEST. If PATH is a folder, its contents appear in DEST. If it is a \
         file, DEST is read as cp does: in an existing folder, or in DEST/, the file appears under its own name; \
         otherwise DEST is the file. Nothing is written outside DEST.\n\n\
         latest:PATH is the newest snapshot whose sources hold PATH. latest alone must be clear: there is only one \
         target, or on a terminal one of them holds the working folder. Which snapshot it is, is printed.\n\n\
        Of a snapshot that a push-only client made, set-id bits of files, device nodes and security attributes are \
        left out, and the exit code is 1: --privileged restores them.\n\n\
        An entry that exists in DEST with the same kind, size and time is kept. One that differs is reported and kept, \
        unless --overwrite is given. If a restore is interrupted, run the same command again to continue.",
    after_help = "Examples:\n  bkfs restore latest /tmp/all\n  \
        bkfs restore latest:/home/me/Documents ~/Documents.old\n  \
        bkfs restore latest:/home/me/letter.txt ./letter-old.txt\n  \
        bkfs restore --host alpha --target db --verify 2026-11-20 /var/lib/postgresql"
)]
pub struct RestoreArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Replace existing files that differ
    #[arg(long)]
    overwrite: bool,
    /// Read everything back from DEST and compare it
    #[arg(long)]
    verify: bool,
    /// Restore set-id bits, devices and security attributes also if the snapshot's client is not trusted
    #[arg(long)]
    privileged: bool,
    /// Set owners by the stored user and group names instead of the stored numbers
    #[arg(long)]
    owners_by_name: bool,
    /// The snapshot, and the path of a folder or file in it
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = value_parser(), add = completion::selector())]
    selector: Selector,
    /// The folder to restore to; for a single file, its new name works too
    #[arg(value_name = "DEST")]
    dest: PathBuf,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Serialize)]
struct RestoreJson {
    snapshot: String,
    files: u64,
    dirs: u64,
    others: u64,
    links: u64,
    kept: u64,
    bytes: u64,
    owners_skipped: u64,
    xattrs_skipped: u64,
    duration_ms: u64,
    limits: Vec<LimitJson>,
    problems: Vec<ProblemJson>,
    problems_total: u64,
}

/// Something that the destination cannot hold.
#[derive(Serialize)]
struct LimitJson {
    what: &'static str,
    entries: u64,
    example: String,
    loss: bool,
}

#[derive(Serialize)]
struct ProblemJson {
    path: String,
    error: String,
}

/// Runs `bkfs restore`.
pub fn run(context: &Context, args: RestoreArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let catalog = Catalog::open(context, &session, "restoring")?;
    let (info, _) = catalog.find(&args.selector, &args.filters)?;
    let started = Instant::now();
    let work = Work::new(context, RestoreProgress::stop);
    let options = RestoreOptions {
        overwrite: args.overwrite,
        verify: args.verify,
        privileged: args.privileged || catalog.reader.is_trusted(info.client)?,
        owners: if args.owners_by_name { RestoreOwners::Names } else { RestoreOwners::Numeric },
        ..RestoreOptions::default()
    };
    // An empty path names the root.
    let path = args.selector.path.as_deref().filter(|path| !path.is_empty());
    let restored =
        work.run(view, |progress| restore(&catalog.reader, &info.snapshot.root, path, &args.dest, &options, progress));
    let report = restored.map_err(|error| match error {
        Error::Interrupted => anyhow::Error::from(
            Failure::new("interrupted", "files restored so far are complete; run the same command again to continue")
                .exit(Exit::Interrupted),
        ),
        error => error.into(),
    })?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    print(context, &args, &info.id.to_string(), &report, duration_ms)?;
    Ok(if report.is_whole() { Exit::Success } else { Exit::Error })
}

fn view(progress: &RestoreProgress) -> ProgressView {
    let (done, total) = (progress.bytes_done.load(Relaxed), progress.bytes_total.load(Relaxed));
    let (entries, entries_total) = (progress.entries_done.load(Relaxed), progress.entries_total.load(Relaxed));
    let text = format!("{} of {}, {entries} of {entries_total} entries", output::size(done), output::size(total));
    // A tree of empty files has no bytes, so entries are counted instead.
    let shown = if total > 0 { (done, total) } else { (entries, entries_total) };
    ProgressView { done: Some(shown), moved: Some(done), text }
}

fn print(context: &Context, args: &RestoreArgs, id: &str, report: &RestoreReport, duration_ms: u64) -> Result<()> {
    for problem in &report.problems {
        output::note(problem);
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        output::note(format!("... and {} more", report.problems_total - listed));
    }
    if report.problems_total > 0 {
        output::note(format!(
            "{} not restored as stored",
            output::count(report.problems_total, "entry").replace("entrys", "entries")
        ));
    }
    for met in report.limits.iter().filter(|met| met.is_loss || !context.quiet) {
        let note = if met.is_loss { "" } else { "note: " };
        let (entries, example) = (output::count(met.entries, "entry").replace("entrys", "entries"), &met.example);
        let example = match example.as_os_str().is_empty() {
            true => "the destination itself".into(),
            false => output::name(example.as_os_str().as_encoded_bytes()),
        };
        if met.limit == Limit::Privileges {
            output::note(format!(
                "{entries}, such as {example}, restored without set-id bits, devices and security attributes: the \
                 snapshot is of a client that can only push; if you trust it with this machine, give --privileged"
            ));
            continue;
        }
        let dest = args.dest.display();
        output::note(format!("{note}the file system of {dest} {}: {entries}, such as {example}", met.limit));
    }
    if !context.quiet && report.owners_skipped + report.xattrs_skipped > 0 {
        output::note(format!(
            "note: only root can set all owners and attributes: {} owners and {} attributes were not set",
            report.owners_skipped, report.xattrs_skipped
        ));
    }
    if context.json {
        let problem = |p: &bkfs_fs::restore::Problem| ProblemJson {
            path: p.path.to_string_lossy().into_owned(),
            error: p.reason.to_string(),
        };
        let limit = |met: &LimitMet| LimitJson {
            what: met.limit.id(),
            entries: met.entries,
            example: met.example.to_string_lossy().into_owned(),
            loss: met.is_loss,
        };
        return output::json(&RestoreJson {
            snapshot: id.to_owned(),
            files: report.files,
            dirs: report.dirs,
            others: report.others,
            links: report.links,
            kept: report.kept,
            bytes: report.bytes,
            owners_skipped: report.owners_skipped,
            xattrs_skipped: report.xattrs_skipped,
            duration_ms,
            limits: report.limits.iter().map(limit).collect(),
            problems: report.problems.iter().map(problem).collect(),
            problems_total: report.problems_total,
        });
    }
    if !context.shows_summary() {
        return Ok(());
    }
    let kept = if report.kept > 0 { format!(", {} already there", report.kept) } else { String::new() };
    output::line(format!(
        "restored {}, {} to {}{kept}, in {}",
        output::count(report.files + report.links, "file"),
        output::size(report.bytes),
        args.dest.display(),
        output::duration(duration_ms),
    ))
}
