//! `bkfs check`: verifies a repository.

use std::sync::atomic::Ordering;

use anyhow::Result;
use bkfs_store::{
    format::keys::FullKey,
    owner::check::{CheckOptions, CheckProgress, CheckReport, ReadData, check},
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs, catalog, clients::Clients, context::Context, failure::Exit, output, progress::ProgressView,
    session::Session, values::Subset, work::Work,
};

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(
    about = "Verify that everything is stored, and with --read-data that it is intact",
    long_about = "Verify the repository with its full key: the log and its chain, each client's snapshots and their \
        chain, that every chunk that a snapshot needs is stored, and that no file of a pack is missing or has a wrong \
        length.\n\n\
        --read-data also reads every pack and verifies every chunk in it. Damage is mended from parity if possible, \
        and counted. A chunk that cannot be mended no longer counts as stored: the next push of the same files stores \
        it again.\n\n\
        --read-data-subset reads only a part of the data. With 5% or 2G, each check continues where the last one on \
        this machine ended, so twenty checks of 5% read everything. With 3/7, it reads the third of seven parts: the \
        same packs each time.\n\n\
        All problems are listed. The exit code is 1 if there are any, and 13 if the repository was rolled back, \
        is a copy that was not accepted, or shows its clients different histories (a fork).",
    after_help = "Examples:\n  bkfs check\n  bkfs check --read-data\n  \
        bkfs check --read-data-subset 5%              # each night: all data in twenty nights\n  \
        bkfs check --read-data-subset \"$(date +%u)/7\"  # each day: all data in a week\n  \
        bkfs check --accept-rollback                  # an older copy was put back on purpose\n  \
        bkfs check --accept-copy -r /media/second     # a copy on another disk, and both go on"
)]
pub struct CheckArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Also read and verify all data
    #[arg(long)]
    read_data: bool,
    /// Also read and verify a part of the data: the next 5% or 2G, or part n of m, as in 3/7
    #[arg(long, value_name = "PART", conflicts_with = "read_data")]
    read_data_subset: Option<Subset>,
    /// Accept the current state, although this machine has seen a newer one
    #[arg(long)]
    accept_rollback: bool,
    /// Accept this copy of a repository as one that goes on by itself, beside the one that this machine knows
    #[arg(long, conflicts_with = "accept_rollback")]
    accept_copy: bool,
}

/// What a check found, for programs.
#[derive(Serialize)]
pub struct CheckJson {
    log_records: u64,
    snapshots: u64,
    snapshots_broken_in_trash: u64,
    tree_pages: u64,
    chunks: u64,
    packs: u64,
    packs_total: u64,
    bytes: u64,
    chunks_at_risk: u64,
    packs_mended: u64,
    parity_remade: u64,
    packs_compared: u64,
    packs_not_compared: u64,
    packs_refused: u64,
    problems: Vec<String>,
    problems_total: u64,
    rolled_back: Option<String>,
}

impl CheckJson {
    /// Returns what a check found. `rolled_back` says how the repository contradicts what was seen before.
    pub fn of(report: &CheckReport, rolled_back: Option<String>) -> Self {
        Self {
            log_records: report.log_records,
            snapshots: report.snapshots,
            snapshots_broken_in_trash: report.broken_in_trash,
            tree_pages: report.pages,
            chunks: report.chunks,
            packs: report.packs,
            packs_total: report.packs_total,
            chunks_at_risk: report.chunks_at_risk,
            bytes: report.bytes,
            packs_mended: report.packs_mended,
            parity_remade: report.parity_remade,
            packs_compared: report.packs_compared,
            packs_not_compared: report.packs_not_compared,
            packs_refused: report.packs_refused,
            problems: report.problems.iter().map(|p| p.to_string()).collect(),
            problems_total: report.problems_total,
            rolled_back,
        }
    }
}

/// Runs `bkfs check`.
pub fn run(context: &Context, args: CheckArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let reader = catalog::open_reader(context, &session, "checking")?;
    let work = Work::new(context, |progress: &CheckProgress| progress.stop.store(true, Ordering::Relaxed));
    let read_data = match (args.read_data, args.read_data_subset) {
        (true, _) => ReadData::All,
        (false, Some(subset)) => subset.read_data(session.folder.last_checked()?),
        (false, None) => ReadData::None,
    };
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    let report = work.run(view, |progress| check(&reader, &*session.access, &session.opened, &options, progress))?;
    if let (Some(Subset::Share(_)), Some(reached)) = (args.read_data_subset, report.reached) {
        session.folder.set_last_checked(reached)?;
    }
    print(context, &args, &session, reader.keys().full(), &report)?;
    if args.accept_rollback && session.rollback.is_some() {
        session.accept_rollback()?;
        if !context.quiet && !context.json {
            output::line("accepted the current state; bkfs will not warn about this rollback again")?;
        }
    } else if args.accept_copy && session.rollback.is_some() && !session.is_known_copy {
        session.accept_copy()?;
        if !context.quiet && !context.json {
            output::line("accepted this copy; from now on each copy is compared with what was seen of itself")?;
        }
    } else if let Some(failure) = session.rollback_failure() {
        return Err(failure.into());
    }
    if !report.contradictions.is_empty() {
        return Ok(Exit::RolledBack);
    }
    Ok(if report.problems_total == 0 { Exit::Success } else { Exit::Error })
}

/// Returns how far a check is.
pub fn view(progress: &CheckProgress) -> ProgressView {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (packs, packs_total) = (load(&progress.packs), load(&progress.packs_total));
    if packs < packs_total {
        let (bytes, bytes_total) = (load(&progress.bytes), load(&progress.bytes_total));
        let text = format!("packs: {} of {}", output::size(bytes), output::size(bytes_total));
        return ProgressView { done: Some((bytes, bytes_total)), moved: Some(bytes), text };
    }
    let (snapshots, total) = (load(&progress.snapshots), load(&progress.snapshots_total));
    let text = format!("snapshots: {snapshots} of {total}, {} tree pages", load(&progress.pages));
    ProgressView { done: Some((snapshots, total)), moved: None, text }
}

fn print(context: &Context, args: &CheckArgs, session: &Session, full: &FullKey, report: &CheckReport) -> Result<()> {
    if context.json {
        return output::json_pretty(&CheckJson::of(report, session.rollback.clone()));
    }
    for problem in &report.problems {
        output::note(problem);
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        output::note(format!("... and {} more", report.problems_total - listed));
    }
    if !report.clients.is_empty() {
        let clients = Clients::of(&session.opened.roster, full)?;
        for (client, count) in &report.clients {
            let count = output::count(*count, "snapshot");
            output::note(format!("problems in {count} of {}", clients.name(*client)));
        }
    }
    if report.problems_total > 0 {
        output::note(format!("{} found in {}", output::count(report.problems_total, "problem"), session.place));
        if report.problems.iter().any(|problem| !problem.path.is_empty()) {
            output::note("the next push of the same files, from any machine that still has them, heals their damage");
        }
    }
    if context.quiet {
        return Ok(());
    }
    let mut read = match (args.read_data, args.read_data_subset) {
        (true, _) => format!("; read {}, {}", output::count(report.packs, "pack"), output::size(report.bytes)),
        (false, Some(_)) => {
            let total = output::count(report.packs_total, "pack");
            format!("; read {} of {total}, {}", report.packs, output::size(report.bytes))
        }
        (false, None) => String::new(),
    };
    if report.broken_in_trash > 0 {
        let broken = output::count(report.broken_in_trash, "broken snapshot");
        read.push_str(&format!("; {broken} in the trash not checked"));
    }
    if report.chunks_at_risk > 0 {
        let chunks = output::count(report.chunks_at_risk, "chunk");
        read.push_str(&format!("; {chunks} in damaged packs can still be read and should be pushed again"));
    }
    if report.packs_mended > 0 {
        read.push_str(&format!("; mended {} from parity", output::count(report.packs_mended, "damaged pack")));
    }
    if report.parity_remade > 0 {
        read.push_str(&format!("; made the parity of {} again", output::count(report.parity_remade, "pack")));
    }
    if report.packs_compared > 0 {
        let packs = output::count(report.packs_compared, "pack");
        read.push_str(&format!("; compared {packs} with what clients of other groups stored"));
    }
    if report.packs_not_compared > 0 {
        let packs = output::count(report.packs_not_compared, "pack");
        read.push_str(&format!("; {packs} were not compared yet: `bkfs check --read-data` compares all"));
    }
    if report.packs_refused > 0 {
        let packs = output::count(report.packs_refused, "pack");
        read.push_str(&format!("; refused {packs}, which `bkfs prune` removes"));
    }
    let verdict = if report.problems_total == 0 { "no problems: " } else { "" };
    output::line(format!(
        "{verdict}{}, {}, {}{read}",
        output::count(report.snapshots, "snapshot"),
        output::count(report.pages, "tree page"),
        output::count(report.chunks, "reference") + " to data",
    ))
}
