//! `bkfs scrub`: verifies and mends a repository in a folder, without keys. `bkfs server scrub` does the same for the
//! repositories of a server, and prints the same report.

use std::sync::atomic::Ordering;

use anyhow::Result;
use bkfs_store::{
    Error,
    repository::{
        Repository,
        scrub::{ScrubOptions, ScrubProgress, ScrubReport},
    },
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{RepoArgs, parse_size},
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
    progress::ProgressView,
    work::Work,
};

/// Arguments of `scrub`.
#[derive(Debug, Args)]
#[command(
    about = "Verify and mend a repository in a folder, without keys",
    long_about = "Read and verify everything in a repository in a folder, and mend what parity can mend.\n\n\
        This needs no keys, and therefore cannot verify the data inside the packs; `bkfs check --read-data` can. \
        Damage that cannot be mended is listed with the bytes that are lost, and the exit code is 1. A server scrubs \
        its repositories itself.",
    after_help = "Examples:\n  bkfs scrub -r /media/usb/repo\n  bkfs scrub -r /media/usb/repo --rate 50M\n  \
        bkfs scrub -r /media/usb/repo --last    # show what the last scrub found"
)]
pub struct ScrubArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    how: ScrubFlags,
}

/// The options of `bkfs scrub` and `bkfs server scrub`.
#[derive(Debug, Args)]
pub struct ScrubFlags {
    /// Read at most this much per second, like 20M
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "last")]
    pub rate: Option<u64>,
    /// Show what the last scrub found, but read nothing
    #[arg(long)]
    pub last: bool,
}

/// Runs `bkfs scrub`.
pub fn run(context: &Context, args: ScrubArgs) -> Result<Exit> {
    let place = Place::parse(args.repo.repository.as_deref())?;
    let Place::Path(path) = &place else {
        let what = format!("{place} is on a server, which scrubs it");
        let hint = "the server's operator can run `bkfs server scrub`; from here, use `bkfs check`";
        return Err(Failure::new(what, hint).into());
    };
    if !bkfs_store::repository::exists(path)? {
        return Err(Error::NoRepository { place: place.to_string() }.into());
    }
    let found = match args.how.last {
        true => bkfs_store::repository::scrub::last_scrub_in(path)?,
        false => {
            let repository = Repository::local(path, &place.index_dir(&context.folders.cache))?;
            Some(Scrubber::new(context, &args.how).scrub(&repository)?)
        }
    };
    match context.json {
        true => match &found {
            Some(found) => output::json_pretty(&ScrubJson::of(found))?,
            None => output::line("null")?,
        },
        false => print(context, &place.to_string(), found.as_ref())?,
    }
    Ok(exit(found.iter()))
}

/// Scrubs repositories, shows the progress, and stops when a signal arrives.
pub struct Scrubber<'a> {
    options: ScrubOptions,
    work: Work<'a, ScrubProgress>,
}

impl<'a> Scrubber<'a> {
    /// Catches the signals that stop the program.
    pub fn new(context: &'a Context, how: &ScrubFlags) -> Self {
        let work = Work::new(context, |progress: &ScrubProgress| progress.stop.store(true, Ordering::Relaxed));
        Self { options: ScrubOptions { bytes_per_second: how.rate, resume: false }, work }
    }

    /// Scrubs one repository.
    pub fn scrub(&self, repository: &Repository) -> Result<ScrubReport> {
        Ok(self.work.run(view, |progress| repository.scrub(&self.options, progress))?)
    }

    /// Returns whether a signal has asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.work.progress().stop.load(Ordering::Relaxed)
    }
}

fn view(progress: &ScrubProgress) -> ProgressView {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (bytes, total) = (load(&progress.bytes), load(&progress.bytes_total));
    let text = format!("scrubbing: {} of {}", output::size(bytes), output::size(total));
    ProgressView { done: Some((bytes, total)), moved: Some(bytes), text }
}

/// Returns the exit code for what was found.
pub fn exit<'a>(found: impl Iterator<Item = &'a ScrubReport> + Clone) -> Exit {
    match found.clone().any(|report| report.problems_total > 0) {
        true => Exit::Error,
        false if found.clone().any(|report| report.ended.is_none()) => Exit::Interrupted,
        false => Exit::Success,
    }
}

/// Prints for a person what was found.
pub fn print(context: &Context, place: &str, found: Option<&ScrubReport>) -> Result<()> {
    let Some(report) = found else {
        return output::line(format!("{place}: never scrubbed"));
    };
    for problem in &report.problems {
        output::note(format!("{place}: {problem}"));
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        output::note(format!("{place}: ... and {} more", report.problems_total - listed));
    }
    if context.quiet {
        return Ok(());
    }
    let mut parts = vec![
        format!("{}, {}", output::count(report.packs, "pack"), output::size(report.bytes)),
        output::count(report.objects, "small object"),
        output::count(report.log_records, "log record"),
    ];
    if report.packs_mended > 0 {
        let (packs, shards) =
            (output::count(report.packs_mended, "pack"), output::count(report.shards_mended, "shard"));
        parts.push(format!("mended {packs} ({shards})"));
    }
    for (count, what) in [
        (report.objects_mended, "mended the copies of"),
        (report.parity_mended, "mended the parity of"),
        (report.parity_made, "created missing parity of"),
        (report.index_mended, "corrected the index for"),
    ] {
        let noun = if what.contains("copies") { "small object" } else { "pack" };
        if count > 0 {
            parts.push(format!("{what} {}", output::count(count, noun)));
        }
    }
    let verdict = match report.problems_total {
        0 => "no problems".into(),
        n => output::count(n, "problem"),
    };
    let when = match report.ended {
        Some(ended) => format!("scrubbed {}", output::time_local(ended)),
        None => format!("started {}, not finished", output::time_local(report.started)),
    };
    output::line(format!("{place}: {verdict}: {}; {when}", parts.join("; ")))
}

/// What was found, as JSON.
#[derive(Serialize)]
pub struct ScrubJson<'a> {
    started: String,
    ended: Option<String>,
    log_records: u64,
    objects: u64,
    objects_mended: u64,
    packs: u64,
    bytes: u64,
    packs_mended: u64,
    shards_mended: u64,
    parity_made: u64,
    parity_mended: u64,
    index_mended: u64,
    lost: Vec<LostJson>,
    problems: &'a [String],
    problems_total: u64,
}

#[derive(Serialize)]
struct LostJson {
    pack: String,
    /// Where in the pack. Null if it is unknown.
    bytes: Option<Vec<[u32; 2]>>,
    frames: u32,
    frames_total: u32,
}

impl<'a> ScrubJson<'a> {
    /// Converts a report.
    pub fn of(report: &'a ScrubReport) -> Self {
        let lost = report.lost.iter().map(|lost| LostJson {
            pack: lost.pack.to_string(),
            bytes: lost.spans.as_ref().map(|spans| spans.iter().map(|span| [span.start, span.end]).collect()),
            frames: lost.frames,
            frames_total: lost.frames_total,
        });
        Self {
            started: output::time_json(report.started),
            ended: report.ended.map(output::time_json),
            log_records: report.log_records,
            objects: report.objects,
            objects_mended: report.objects_mended,
            packs: report.packs,
            bytes: report.bytes,
            packs_mended: report.packs_mended,
            shards_mended: report.shards_mended,
            parity_made: report.parity_made,
            parity_mended: report.parity_mended,
            index_mended: report.index_mended,
            lost: lost.collect(),
            problems: &report.problems,
            problems_total: report.problems_total,
        }
    }
}
