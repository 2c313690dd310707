//! `bkfs prune`: reclaims the space of what no snapshot needs any more.

use std::{
    io::IsTerminal,
    str::FromStr,
    sync::{Arc, atomic::Ordering},
};

use anyhow::Result;
use bkfs_store::{
    access::{PruneLimits, Unused},
    owner::prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
};
use clap::Args;
use serde::Serialize;

use crate::{
    browse,
    cli::RepoArgs,
    context::Context,
    failure::{Exit, Failure},
    output,
    progress::{Line, View},
    session::Session,
    signals,
};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(
    about = "Reclaim the space of what no snapshot needs any more",
    long_about = "Reclaim the space of what no snapshot needs any more. What has been in the trash for long enough is let go \
        first (a server decides: its --protect age; in a repository at a path that is at once). Then all snapshots are \
        looked through, and the repository is told what they need. It drops packs in which nothing is needed, and copies what \
        is needed out of packs that are mostly unused, by itself: no data crosses the network, but for what small files share \
        frames with, of which little is needed (--max-reframe-size).\n\n\
        Pushes and mounts go on meanwhile. It may be stopped at any moment; the next prune goes on where it was. A server \
        keeps what was pruned for its --protect age before the space is really free; `bkfs server revive` brings it back.",
    after_help = "Examples:\n  bkfs prune\n  bkfs prune --dry-run\n  bkfs prune --max-unused 0       as small as it can be\n  \
        bkfs prune --max-repack-size 10G --keep-trash"
)]
pub struct PruneArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show what would be freed; change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How much of what is kept may be unused: a share (5%), a size (2G), or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: MaxUnused,
    /// How much is written again at most, to free what lies between
    #[arg(long, value_name = "SIZE", value_parser = super::push::parse_size)]
    max_repack_size: Option<u64>,
    /// How much is fetched and sent again at most, to free what shares frames with what is needed; 0 for nothing
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = super::push::parse_size)]
    max_reframe_size: u64,
    /// Let nothing go from the trash
    #[arg(long)]
    keep_trash: bool,
    /// Go on without asking, even if more than half of the repository goes
    #[arg(short = 'y', long)]
    yes: bool,
}

/// A limit as it is written.
#[derive(Debug, Clone, Copy)]
struct MaxUnused(Unused);

impl FromStr for MaxUnused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self(Unused::Bytes(u64::MAX)));
        }
        let Some(share) = text.strip_suffix('%') else {
            return Ok(Self(Unused::Bytes(super::push::parse_size(text)?)));
        };
        let wrong = || format!("{text:?} is no share: a number of percent, like 5% or 0.5%");
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e6).contains(&share) {
            return Err(wrong());
        }
        Ok(Self(Unused::PerMille((share * 10.0).round() as u32)))
    }
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    snapshots_expired: u64,
    packs: u64,
    bytes: u64,
    packs_dropped: u64,
    packs_repacked: u64,
    bytes_copied: u64,
    bytes_freed: u64,
    bytes_unused: u64,
    bytes_mixed: u64,
    bytes_pinned: u64,
    frames_reframed: u64,
    bytes_reframed: u64,
    bytes_reframed_written: u64,
    packs_damaged: u64,
    tree_pages: u64,
    tree_pages_fetched: u64,
    bytes_sent: u64,
}

/// Runs it.
pub fn run(context: &Context, args: PruneArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let reader = browse::reader(context, &session, "pruning")?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let progress = Arc::new(PruneProgress::default());
    let stop = progress.clone();
    signals::on_stop(move || stop.stop.store(true, Ordering::Relaxed))?;
    let limits = PruneLimits { unused: args.max_unused.0, repack_bytes: args.max_repack_size };
    let mut options = PruneOptions {
        limits,
        dry_run: args.dry_run,
        is_confirmed: args.yes,
        empty_trash: !args.keep_trash,
        reframe_bytes: args.max_reframe_size,
    };
    let (push_key, cache) = (session.push_key(), &context.folders.cache);
    let pruner = Pruner { reader: &reader, access: &*session.access, push_key, cache };
    let pruned = |options: &PruneOptions| {
        let shown = progress.clone();
        let _line = Line::start(context, move || view(&shown));
        pruner.run(options, &progress)
    };
    let mut report = pruned(&options)?;
    if report.is_unconfirmed {
        confirm(context, &report)?;
        options.is_confirmed = true;
        report = pruned(&options)?;
    }
    print(context, &args, &report)?;
    Ok(if report.swept.damaged == 0 { Exit::Success } else { Exit::Error })
}

/// More than half of the repository goes: that is looked at by a person.
fn confirm(context: &Context, report: &PruneReport) -> Result<()> {
    let stats = &report.stats;
    let (freed, bytes) = (output::size(stats.freed_bytes), output::size(stats.bytes));
    let what = format!("{freed} of {bytes} would go, more than half of the repository");
    let done = match report.expired {
        0 => "nothing was done".to_owned(),
        // So it is only if the repository shrank while the trash was emptied.
        gone => format!("let go from the trash: {}; nothing else was done", output::count(gone, "snapshot")),
    };
    let failure = || Failure::new(format!("{what}; {done}"), "if that is right, run it again with --yes");
    if context.quiet || context.json || !std::io::stdin().is_terminal() {
        return Err(failure().into());
    }
    eprint!("{what}. Go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(failure().into()),
    }
}

fn view(progress: &PruneProgress) -> View {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs_total > 0 && packs < packs_total {
        return View { done: Some((packs, packs_total)), text: format!("packs taken away: {packs} of {packs_total}") };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    let text = format!("snapshots: {snapshots} of {total}, {} tree pages", load(&progress.pages));
    View { done: Some((snapshots, total)), text }
}

fn print(context: &Context, args: &PruneArgs, report: &PruneReport) -> Result<()> {
    let (stats, expired) = (&report.stats, report.expired);
    // What an earlier prune had left is freed, too.
    let freed = match args.dry_run {
        true => stats.freed_bytes,
        false => report.swept.bytes.saturating_sub(report.swept.written_bytes + report.reframed_written_bytes),
    };
    if context.json {
        return output::json_pretty(&Report {
            dry_run: args.dry_run,
            snapshots_expired: expired,
            packs: stats.packs,
            bytes: stats.bytes,
            packs_dropped: stats.dropped,
            packs_repacked: stats.repacked,
            bytes_copied: stats.copied_bytes,
            bytes_freed: freed,
            bytes_unused: stats.unused_bytes,
            bytes_mixed: stats.mixed_bytes,
            bytes_pinned: stats.pinned_bytes,
            frames_reframed: report.reframed,
            bytes_reframed: report.reframed_read_bytes,
            bytes_reframed_written: report.reframed_written_bytes,
            packs_damaged: report.swept.damaged,
            tree_pages: report.pages,
            tree_pages_fetched: report.pages_fetched,
            bytes_sent: report.sent_bytes,
        });
    }
    if report.swept.damaged > 0 {
        eprintln!("bkfs: {} left alone", output::count(report.swept.damaged, "damaged pack"));
    }
    if context.quiet {
        return Ok(());
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    let mut text = format!("{verb} {} of {}", output::size(freed), output::size(stats.bytes));
    if stats.dropped + stats.repacked > 0 {
        let (dropped, repacked) = (output::count(stats.dropped, "pack"), output::count(stats.repacked, "pack"));
        text += &format!(": {dropped} dropped, {repacked} written again ({})", output::size(stats.copied_bytes));
    }
    if report.reframed_read_bytes > 0 {
        let verb = if args.dry_run { "to be fetched and sent again" } else { "fetched and sent again" };
        let (read, written) = (output::size(report.reframed_read_bytes), output::size(report.reframed_written_bytes));
        text += &match args.dry_run {
            true => format!("; {read} {verb}"),
            false => format!("; {read} {verb} as {written}"),
        };
    }
    let unused = stats.unused_bytes + stats.mixed_bytes;
    if unused > 0 {
        text += &format!("; {} unused remain", output::size(unused));
    }
    if stats.pinned_bytes > 0 {
        text += &format!("; {} kept for pushes that have not ended", output::size(stats.pinned_bytes));
    }
    if expired > 0 {
        let verb = if args.dry_run { "would let go" } else { "let go" };
        text = format!("{verb} from the trash: {}\n{text}", output::count(expired, "snapshot"));
    }
    output::line(text)
}
