//! `bkfs repair packs`: mends packs, drops what cannot be mended, and names the files and snapshots that are damaged.

use std::sync::atomic::Ordering;

use anyhow::Result;
use bkfs_store::owner::{
    check::{CheckOptions, CheckProgress},
    repair::{RepairOptions, RepairReport, repair_packs},
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs, catalog, context::Context, failure::Exit, output, progress::ProgressView, session::Session,
    work::Work,
};

/// Arguments of `repair packs`.
#[derive(Debug, Args)]
#[command(
    about = "Mend packs, drop those that cannot be mended, and name the damaged files",
    long_about = "Verify every pack, and mend those that parity can mend. Of the others, copy what is intact into new \
        packs, and drop the damaged ones. Then walk all snapshots, and name the files and snapshots that are damaged. \
        The exit code is 1 if there are any.\n\n\
        To heal them, push the same files again from any machine that still has them: the push stores what was lost, \
        and all snapshots that need it are complete again. If you have another copy of the repository, first copy the \
        packs that `bkfs scrub` names from there: once a pack is dropped, the repository does not accept it again.\n\n\
        The store verifies the packs itself; only packs without parity are fetched from a server. With --read-data, \
        all packs are fetched and every frame is opened, which also finds data that was wrong before it was stored.\n\n\
        This needs the full key, and on a server the permissions read and prune. A server keeps what is dropped for \
        its --protect age.",
    after_help = "Examples:\n  bkfs repair packs --dry-run    # show what would be done\n  bkfs repair packs\n  \
        bkfs repair packs --read-data"
)]
pub struct PacksArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show what would be mended and dropped and which files are damaged, but change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also read all data, and drop what cannot be opened
    #[arg(long)]
    read_data: bool,
}

#[derive(Serialize)]
struct PacksJson {
    packs: u64,
    bytes: u64,
    packs_mended: u64,
    damaged: Vec<DamagedPackJson>,
    failed: Vec<String>,
    problems: Vec<String>,
    problems_total: u64,
    snapshots_hurt: Vec<String>,
}

#[derive(Serialize)]
struct DamagedPackJson {
    pack: String,
    dropped: bool,
    frames_kept: u32,
    frames_lost: u32,
}

/// Runs `bkfs repair packs`.
pub fn run(context: &Context, args: &PacksArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let reader = catalog::open_reader(context, &session, "repairing")?;
    let work = Work::new(context, |progress: &CheckProgress| progress.stop.store(true, Ordering::Relaxed));
    let threads = CheckOptions::default().threads;
    let options = RepairOptions { read_data: args.read_data, dry_run: args.dry_run, threads };
    let report =
        work.run(view, |progress| repair_packs(&reader, &*session.access, &session.opened, &options, progress))?;
    match context.json {
        true => output::json_pretty(&PacksJson::of(&report))?,
        false => print(context, args, &report)?,
    }
    let is_sound = report.failed.is_empty() && report.problems_total == 0;
    Ok(if is_sound { Exit::Success } else { Exit::Error })
}

fn view(progress: &CheckProgress) -> ProgressView {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs < packs_total {
        let (bytes, bytes_total) = (load(&progress.bytes), load(&progress.bytes_total));
        let text = format!("packs: {} of {}", output::size(bytes), output::size(bytes_total));
        return ProgressView { done: Some((bytes, bytes_total)), moved: Some(bytes), text };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    ProgressView { done: Some((snapshots, total)), moved: None, text: format!("snapshots: {snapshots} of {total}") }
}

impl PacksJson {
    fn of(report: &RepairReport) -> Self {
        let damaged = report.damaged.iter().map(|(pack, dropped)| DamagedPackJson {
            pack: pack.to_string(),
            dropped: dropped.is_gone,
            frames_kept: dropped.kept,
            frames_lost: dropped.lost,
        });
        Self {
            packs: report.packs,
            bytes: report.bytes,
            packs_mended: report.mended,
            damaged: damaged.collect(),
            failed: report.failed.iter().map(ToString::to_string).collect(),
            problems: report.problems.iter().map(ToString::to_string).collect(),
            problems_total: report.problems_total,
            snapshots_hurt: report.snapshots.iter().map(ToString::to_string).collect(),
        }
    }
}

fn print(context: &Context, args: &PacksArgs, report: &RepairReport) -> Result<()> {
    for error in &report.failed {
        output::note(error);
    }
    for problem in &report.problems {
        output::note(problem);
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        output::note(format!("... and {} more", report.problems_total - listed));
    }
    if report.problems_total > 0 {
        let damaged: Vec<String> = report.snapshots.iter().map(bkfs_store::base::id::SnapshotId::short).collect();
        output::note(format!("damage in {}: {}", output::count(damaged.len() as u64, "snapshot"), damaged.join(" ")));
        output::note("the next push of the same files, from any machine that still has them, heals the damage");
    }
    if context.quiet {
        return Ok(());
    }
    let would = if args.dry_run { "would be " } else { "" };
    for (pack, dropped) in &report.damaged {
        let (kept, lost) = (u64::from(dropped.kept), u64::from(dropped.lost));
        let frames = format!("{kept} of {} frames kept", kept + lost);
        match dropped.is_gone {
            true => output::line(format!("pack {pack}: {would}dropped, {frames}"))?,
            false => output::line(format!("pack {pack}: nothing is left to drop"))?,
        }
    }
    let mut line = format!("verified {}, {}", output::count(report.packs, "pack"), output::size(report.bytes));
    if report.mended > 0 {
        line.push_str(&format!("; {} {would}mended", output::count(report.mended, "pack")));
    }
    let dropped = report.damaged.values().filter(|dropped| dropped.is_gone).count() as u64;
    if dropped > 0 {
        line.push_str(&format!("; {} {would}dropped", output::count(dropped, "damaged pack")));
    }
    if report.mended == 0 && report.damaged.is_empty() && report.failed.is_empty() {
        line.push_str("; nothing to repair");
    }
    output::line(line)
}
