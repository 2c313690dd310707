//! `bkfs scrub`: verifies and mends what a repository in a folder keeps, without keys. What a server keeps is scrubbed by
//! `bkfs server scrub` in the same way, with the same report.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

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

use super::push::parse_size;
use crate::{
    cli::RepoArgs,
    context::Context,
    failure::{Exit, Failure},
    output,
    place::Place,
    progress::{Line, View},
    signals,
};

/// Arguments of `scrub`.
#[derive(Debug, Args)]
#[command(
    about = "Verify a folder's repository without keys, and mend it",
    long_about = "Read and verify everything that a repository in a folder keeps, and mend what its error correction can mend. \
        It needs no keys, so it cannot open anything (`bkfs check --read-data` does). What is beyond mending is listed with the \
        bytes that are lost; the exit code is 1 then. Repositories on a server are scrubbed by the server.",
    after_help = "Examples:\n  bkfs scrub -r /media/usb/repo\n  bkfs scrub -r /media/usb/repo --rate 50M\n  \
        bkfs scrub -r /media/usb/repo --last     what the last scrub found"
)]
pub struct ScrubArgs {
    #[command(flatten)]
    repo: RepoArgs,
    #[command(flatten)]
    how: HowArgs,
}

/// How to scrub.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// Read no more than this in a second, as 20M
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "last")]
    pub rate: Option<u64>,
    /// Show what the last scrub found, and read nothing
    #[arg(long)]
    pub last: bool,
}

/// Runs it.
pub fn run(context: &Context, args: ScrubArgs) -> Result<Exit> {
    let place = Place::parse(args.repo.repository.as_deref())?;
    let Place::Path(path) = &place else {
        let what = format!("{place} is kept by a server, which scrubs it");
        return Err(
            Failure::new(what, "whoever runs the server has `bkfs server scrub`; `bkfs check` works here").into()
        );
    };
    if !bkfs_store::repository::exists(path)? {
        return Err(Error::NoRepository { place: place.to_string() }.into());
    }
    let found = match args.how.last {
        true => bkfs_store::repository::scrub::last_scrub_in(path)?,
        false => {
            let repository = Repository::local(path, &place.index_dir(context))?;
            Some(Scrubber::new(context, &args.how)?.scrub(&repository)?)
        }
    };
    match context.json {
        true => output::json_pretty(&found.as_ref().map(Report::of))?,
        false => print(context, &place.to_string(), found.as_ref())?,
    }
    Ok(exit(found.iter()))
}

/// Scrubs, shows how far it is, and stops when told to.
pub struct Scrubber<'a> {
    context: &'a Context,
    options: ScrubOptions,
    progress: Arc<ScrubProgress>,
}

impl<'a> Scrubber<'a> {
    /// Takes over the signals that stop the program.
    pub fn new(context: &'a Context, how: &HowArgs) -> Result<Self> {
        let progress = Arc::new(ScrubProgress::default());
        let told = progress.clone();
        signals::on_stop(move || told.stop.store(true, Ordering::Relaxed))?;
        Ok(Self { context, options: ScrubOptions { bytes_per_second: how.rate, resume: false }, progress })
    }

    /// Scrubs one repository.
    pub fn scrub(&self, repository: &Repository) -> Result<ScrubReport> {
        let (shown, since) = (self.progress.clone(), Instant::now());
        let line = Line::start(self.context, move || view(&shown, since));
        let report = repository.scrub(&self.options, &self.progress);
        drop(line);
        Ok(report?)
    }

    /// Whether it was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.progress.stop.load(Ordering::Relaxed)
    }
}

fn view(progress: &ScrubProgress, since: Instant) -> View {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (bytes, total) = (load(&progress.bytes), load(&progress.bytes_total));
    let rate = bytes as f64 / since.elapsed().as_secs_f64().max(0.001);
    let text =
        format!("scrubbing: {} of {}, {}/s", output::size(bytes), output::size(total), output::size(rate as u64));
    View { done: Some((bytes, total)), text }
}

/// The exit code that follows from what was found.
pub fn exit<'a>(found: impl Iterator<Item = &'a ScrubReport> + Clone) -> Exit {
    match found.clone().any(|report| report.problems_total > 0) {
        true => Exit::Error,
        false if found.clone().any(|report| report.ended.is_none()) => Exit::Interrupted,
        false => Exit::Success,
    }
}

/// Prints what was found for a person.
pub fn print(context: &Context, place: &str, found: Option<&ScrubReport>) -> Result<()> {
    let Some(report) = found else {
        return output::line(format!("{place}: never scrubbed"));
    };
    for problem in &report.problems {
        eprintln!("bkfs: {place}: {problem}");
    }
    let listed = report.problems.len() as u64;
    if report.problems_total > listed {
        eprintln!("bkfs: {place}: ... and {} more", report.problems_total - listed);
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
        (report.parity_made, "made missing parity of"),
        (report.index_mended, "put the index right for"),
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
        None => format!("begun {}, not yet through", output::time_local(report.started)),
    };
    output::line(format!("{place}: {verdict}: {}; {when}", parts.join("; ")))
}

/// What was found, as JSON.
#[derive(Serialize)]
pub struct Report<'a> {
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
    lost: Vec<Lost>,
    problems: &'a [String],
    problems_total: u64,
}

#[derive(Serialize)]
struct Lost {
    pack: String,
    /// Where in the pack; null if nobody can tell.
    bytes: Option<Vec<[u32; 2]>>,
    frames: u32,
    frames_total: u32,
}

impl<'a> Report<'a> {
    /// The same, in other words.
    pub fn of(report: &'a ScrubReport) -> Self {
        let lost = report.lost.iter().map(|lost| Lost {
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
