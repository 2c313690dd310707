//! `bkfs prune`: reclaims the space of data that no snapshot needs.

use std::{io::IsTerminal, str::FromStr, sync::atomic::Ordering};

use anyhow::Result;
use bkfs_store::{
    access::{PruneLimits, Unused},
    owner::prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{RepoArgs, parse_size},
    catalog,
    context::Context,
    failure::{Exit, Failure},
    output,
    progress::ProgressView,
    session::Session,
    work::Work,
};

/// Arguments of `prune`.
#[derive(Debug, Args)]
#[command(
    about = "Reclaim the space of data that no snapshot needs",
    long_about = "Reclaim the space of data that no snapshot needs.\n\n\
        First, delete the snapshots that have been in the trash for the --protect age of a server; a repository in a \
        folder has no such age. Then find out what the remaining snapshots need. The repository drops packs in which \
        nothing is needed, and copies what is needed out of packs that are mostly unused. It does that itself, so no \
        data crosses the network, except for small files that share a frame with data that is no longer needed \
        (--max-reframe-size).\n\n\
        Pushes and mounts continue during a prune. You can stop it at any time; the next prune continues where it was. \
        A server keeps pruned data for its --protect age before the space is free, and `bkfs server revive` brings the \
        data back.",
    after_help = "Examples:\n  bkfs prune\n  bkfs prune --dry-run\n  \
        bkfs prune --max-unused 0    # as small as possible\n  bkfs prune --max-repack-size 10G --keep-trash"
)]
pub struct PruneArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show what would be freed, but change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Let this much of what is kept be unused: a share (5%), a size (2G), or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: MaxUnused,
    /// Rewrite at most this much needed data to free the unused data beside it
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_repack_size: Option<u64>,
    /// Fetch and resend at most this much data to free unused data in shared frames; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    max_reframe_size: u64,
    /// Delete nothing from the trash
    #[arg(long)]
    keep_trash: bool,
    /// Do not ask, even if more than half of the repository would be removed
    #[arg(short = 'y', long)]
    yes: bool,
}

/// The value of `--max-unused`.
#[derive(Debug, Clone, Copy)]
struct MaxUnused(Unused);

impl FromStr for MaxUnused {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self(Unused::Bytes(u64::MAX)));
        }
        let Some(share) = text.strip_suffix('%') else {
            return Ok(Self(Unused::Bytes(parse_size(text)?)));
        };
        let wrong = || format!("{text:?} is not a percentage; give one like 5% or 0.5%");
        let share: f64 = share.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e6).contains(&share) {
            return Err(wrong());
        }
        Ok(Self(Unused::PerMille((share * 10.0).round() as u32)))
    }
}

#[derive(Serialize)]
struct PruneJson {
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

/// Runs `bkfs prune`.
pub fn run(context: &Context, args: PruneArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let reader = catalog::open_reader(context, &session, "pruning")?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let work = Work::new(context, |progress: &PruneProgress| progress.stop.store(true, Ordering::Relaxed))?;
    let limits = PruneLimits { unused: args.max_unused.0, repack_bytes: args.max_repack_size };
    let mut options = PruneOptions {
        limits,
        dry_run: args.dry_run,
        is_confirmed: args.yes,
        empty_trash: !args.keep_trash,
        reframe_bytes: args.max_reframe_size,
    };
    let (push_key, cache) = (session.push_key(), &*context.folders.cache);
    let pruner = Pruner { reader: &reader, access: &*session.access, push_key, cache };
    let pruned = |options: &PruneOptions| work.run(view, |progress| pruner.run(options, progress));
    let mut report = pruned(&options)?;
    if report.is_unconfirmed {
        confirm(context, &report)?;
        options.is_confirmed = true;
        report = pruned(&options)?;
    }
    print(context, &args, &report)?;
    Ok(if report.swept.damaged == 0 { Exit::Success } else { Exit::Error })
}

/// Asks a person whether to remove more than half of the repository. Fails if there is nobody to ask.
fn confirm(context: &Context, report: &PruneReport) -> Result<()> {
    let stats = &report.stats;
    let (freed, bytes) = (output::size(stats.freed_bytes), output::size(stats.bytes));
    let what = format!("{freed} of {bytes} would be removed, more than half of the repository");
    let done = match report.expired {
        0 => "nothing was done".to_owned(),
        // This happens only if the repository shrank while the trash was emptied.
        gone => format!("{} deleted from the trash, and nothing else was done", output::count(gone, "snapshot")),
    };
    let failure = || Failure::new(format!("{what}; {done}"), "if that is right, run the command again with --yes");
    if context.quiet || context.json || !std::io::stdin().is_terminal() {
        return Err(failure().into());
    }
    eprint!("{what}. Continue? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(failure().into()),
    }
}

fn view(progress: &PruneProgress) -> ProgressView {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs_total > 0 && packs < packs_total {
        return ProgressView {
            done: Some((packs, packs_total)),
            text: format!("packs removed: {packs} of {packs_total}"),
        };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    let text = format!("snapshots: {snapshots} of {total}, {} tree pages", load(&progress.pages));
    ProgressView { done: Some((snapshots, total)), text }
}

fn print(context: &Context, args: &PruneArgs, report: &PruneReport) -> Result<()> {
    let (stats, expired) = (&report.stats, report.expired);
    // This includes what an earlier prune had left to free.
    let freed = match args.dry_run {
        true => stats.freed_bytes,
        false => report.swept.bytes.saturating_sub(report.swept.written_bytes + report.reframed_written_bytes),
    };
    if context.json {
        return output::json_pretty(&PruneJson {
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
        eprintln!("bkfs: {} left unchanged", output::count(report.swept.damaged, "damaged pack"));
    }
    if context.quiet {
        return Ok(());
    }
    let verb = if args.dry_run { "would free" } else { "freed" };
    let mut text = format!("{verb} {} of {}", output::size(freed), output::size(stats.bytes));
    if stats.dropped + stats.repacked > 0 {
        let (dropped, repacked) = (output::count(stats.dropped, "pack"), output::count(stats.repacked, "pack"));
        text += &format!(": {dropped} dropped, {repacked} rewritten ({})", output::size(stats.copied_bytes));
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
        let verb = if args.dry_run { "would delete" } else { "deleted" };
        text = format!("{verb} {} from the trash\n{text}", output::count(expired, "snapshot"));
    }
    output::line(text)
}
