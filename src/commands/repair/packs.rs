//! `bkfs repair packs`: mends packs, takes away what cannot be mended, and names what is hurt by that.

use std::sync::{Arc, atomic::Ordering};

use anyhow::Result;
use bkfs_store::owner::{
    check::{CheckOptions, CheckProgress},
    repair::{RepairOptions, RepairReport, repair_packs},
};
use clap::Args;
use serde::Serialize;

use crate::{
    browse,
    cli::RepoArgs,
    context::Context,
    failure::Exit,
    output,
    progress::{Line, View},
    session::Session,
    signals,
};

/// Arguments of `repair packs`.
#[derive(Debug, Args)]
#[command(
    about = "Mend packs, drop what is beyond that, and name what is hurt",
    long_about = "Have the store verify every pack, and mend those that error correction can mend. Of the others, what is whole \
        is copied into new packs, and the damaged ones are dropped. Then all snapshots are looked through, and the files \
        and snapshots are named that are hurt; the exit code is 1 then. Push the same files again, from wherever they still \
        are: what was lost is stored anew, and all snapshots that need it are whole again.\n\n\
        Nothing is fetched from a server but packs without error correction. With --read-data everything is, and every frame is opened: that \
        finds also what was wrong before it was stored. Needs the full key, and at a server the permissions read and prune; a server \
        keeps what is dropped for its --protect age. If there is another copy of the repository, first copy the packs that `bkfs scrub` \
        names from there to their places: once they are dropped they are not taken in again.",
    after_help = "Examples:\n  bkfs repair packs --dry-run     what would be done\n  bkfs repair packs\n  bkfs repair packs --read-data"
)]
pub struct PacksArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Only say what would be mended and dropped, and what is hurt
    #[arg(long)]
    dry_run: bool,
    /// Read all data, too, and drop what does not open
    #[arg(long)]
    read_data: bool,
}

#[derive(Serialize)]
struct Report {
    packs: u64,
    bytes: u64,
    packs_mended: u64,
    damaged: Vec<Damaged>,
    failed: Vec<String>,
    problems: Vec<String>,
    problems_total: u64,
    snapshots_hurt: Vec<String>,
}

#[derive(Serialize)]
struct Damaged {
    pack: String,
    dropped: bool,
    frames_kept: u32,
    frames_lost: u32,
}

/// Runs it.
pub fn run(context: &Context, args: &PacksArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let reader = browse::reader(context, &session, "repairing")?;
    let progress = Arc::new(CheckProgress::default());
    let stop = progress.clone();
    signals::on_stop(move || stop.stop.store(true, Ordering::Relaxed))?;
    let threads = CheckOptions::default().threads;
    let options = RepairOptions { read_data: args.read_data, dry_run: args.dry_run, threads };
    let shown = progress.clone();
    let line = Line::start(context, move || view(&shown));
    let repaired = repair_packs(&reader, &*session.access, &session.opened, &options, &progress);
    drop(line);
    let report = repaired?;
    match context.json {
        true => output::json_pretty(&Report::of(&report))?,
        false => print(context, args, &report)?,
    }
    let is_well = report.failed.is_empty() && report.problems_total == 0;
    Ok(if is_well { Exit::Success } else { Exit::Error })
}

fn view(progress: &CheckProgress) -> View {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs < packs_total {
        let (bytes, bytes_total) = (load(&progress.bytes), load(&progress.bytes_total));
        let text = format!("packs: {} of {}", output::size(bytes), output::size(bytes_total));
        return View { done: Some((bytes, bytes_total)), text };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    View { done: Some((snapshots, total)), text: format!("snapshots: {snapshots} of {total}") }
}

impl Report {
    fn of(report: &RepairReport) -> Self {
        let damaged = report.damaged.iter().map(|(pack, dropped)| Damaged {
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
        eprintln!("bkfs: {error}");
    }
    for problem in &report.problems {
        eprintln!("bkfs: {problem}");
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        eprintln!("bkfs: ... and {} more", report.problems_total - listed);
    }
    if report.problems_total > 0 {
        let hurt: Vec<String> = report.snapshots.iter().map(bkfs_store::base::id::SnapshotId::short).collect();
        eprintln!("bkfs: hurt are {}: {}", output::count(hurt.len() as u64, "snapshot"), hurt.join(" "));
        eprintln!("      the next push of the same files, from wherever they still are, makes them whole again");
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
            false => output::line(format!("pack {pack}: there is nothing to be dropped of it any more"))?,
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
