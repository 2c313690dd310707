//! `bkfs prune`: reclaims the space of data that no snapshot needs.

pub mod report;

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::Result;
use bkfs_store::{
    access::PruneLimits,
    owner::prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
};
use clap::Args;

use crate::{
    args::{RepoArgs, parse_size},
    ask, catalog,
    clients::Clients,
    commands::forget::{self, Executor},
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
    progress::ProgressView,
    session::Session,
    values::MaxUnused,
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
        A snapshot that cannot be read may need anything, so it stops the prune. It is shown, with its client, and you \
        are asked whether to forget it as broken, as with `bkfs forget --broken`.\n\n\
        Pushes and mounts continue during a prune. You can stop it at any time; the next prune continues where it was. \
        A server keeps pruned data in its grave for its --protect age before the space is free, and `bkfs server \
        revive` brings the data back. What a push has sent is kept for a week if the push was cut short, so that the \
        next one finds it. --end-pushes removes that at once, in a repository in a folder; on a server, `bkfs server \
        reclaim` does. What is printed tells the space that is free now from the space in the grave.",
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
    /// Also remove what pushes have sent that have not ended; a push that still runs sends it again
    #[arg(long)]
    end_pushes: bool,
    /// Do not ask, even if more than half of the repository would be removed
    #[arg(short = 'y', long)]
    yes: bool,
}

/// Runs `bkfs prune`.
pub fn run(context: &Context, args: PruneArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    if let (true, Place::Url(_)) = (args.end_pushes, &session.place) {
        let what = format!("{}: only the server's operator can end pushes; nothing was changed", session.place);
        return Err(Failure::new(what, "the operator runs `bkfs server reclaim`").into());
    }
    let reader = catalog::open_reader(context, &session, "pruning")?;
    if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    let work = Work::new(context, |progress: &PruneProgress| progress.stop.store(true, Ordering::Relaxed));
    let limits = PruneLimits { unused: args.max_unused.0, repack_bytes: args.max_repack_size };
    let mut options = PruneOptions {
        limits,
        dry_run: args.dry_run,
        is_confirmed: args.yes,
        empty_trash: !args.keep_trash,
        reframe_bytes: args.max_reframe_size,
        ends_pushes: args.end_pushes,
    };
    let (push_key, cache) = (session.push_key(), &*context.folders.cache);
    let pruner = Pruner { reader: &reader, access: &*session.access, push_key, cache };
    let pruned = |options: &PruneOptions| work.run(view, |progress| pruner.run(options, progress));
    let mut report = pruned(&options)?;
    while !report.blocking.is_empty() {
        // Forgetting them is asked about each time: more of them may have been pushed meanwhile.
        forget::list_broken(&report.blocking, &Clients::of(&session.opened.roster, reader.keys().full())?);
        let executor = Executor {
            access: &*session.access,
            full: reader.keys().full(),
            log_len: session.access.wait_log(0, Duration::ZERO)?,
            protect_secs: session.opened.protect_secs,
            time: session.opened.time,
            is_broken: true,
        };
        forget::forget_broken(context, &report.blocking, &executor)?;
        report = pruned(&options)?;
    }
    if report.is_unconfirmed {
        confirm(context, &report)?;
        options.is_confirmed = true;
        report = pruned(&options)?;
    }
    report::print(context, args.dry_run, &report)?;
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
    ask::confirm(context, &format!("{what}; {done}"), "Remove it?", "--yes")
}

/// Returns how far a prune is.
pub fn view(progress: &PruneProgress) -> ProgressView {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs_total > 0 && packs < packs_total {
        return ProgressView {
            done: Some((packs, packs_total)),
            moved: None,
            text: format!("packs removed: {packs} of {packs_total}"),
        };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    let text = format!("snapshots: {snapshots} of {total}, {} tree pages", load(&progress.pages));
    ProgressView { done: Some((snapshots, total)), moved: None, text }
}
