//! `bkfs push`: backs up files and folders.

use std::{
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering::{Relaxed, Release},
};

use anyhow::Result;
use bkfs_fs::push::{Change, OnChange, PushProgress};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{RepoArgs, parse_host, parse_size, parse_tag, parse_target},
    completion,
    context::Context,
    failure::{Exit, Failure},
    limits, output,
    profile::Profile,
    progress::ProgressView,
    push_job::{Feed, JobStream, PushJob, PushSession, Pushed, alarm_text},
    values::{AlarmShare, check_stream_name},
    work::Work,
};

/// Arguments of `push`.
#[derive(Debug, Args)]
#[command(
    about = "Back up files and folders",
    long_about = "Back up files and folders: send what the repository does not have yet, and make a snapshot. Files \
        that have not changed are not read again.\n\n\
        This needs no passphrase, but a push key in the configuration folder, from `bkfs init`, `bkfs join --push-key` \
        or an earlier push. A machine that has the passphrase but no push key enrols itself.\n\n\
        With --stdin and --command, the snapshot has files that are read from standard input and from what commands \
        print, alone or beside PATHs. Commands run one after another. If one fails, the snapshot does not have its \
        file, and the exit code is 3. Of 'a | b', sh reports only the failure of b; `bash -c 'set -o pipefail; a | b'` \
        reports both.\n\n\
        With --devices, each PATH that is a block device is read from its first byte to its last by every push. Runs \
        of zeros become holes. Nothing keeps a device from changing while it is read: unmount it, or push a snapshot \
        of it.\n\n\
        On a terminal, print progress and a summary. Elsewhere print nothing unless something is wrong, or -v or \
        --json is given. With -v, print a line for each file that is new or changed; with -n -v, for each that would \
        be pushed as such.",
    after_help = "Examples:\n  bkfs push -r /media/usb/repo ~ /etc\n  \
        bkfs push --target db --tag nightly /var/lib/postgresql\n  \
        bkfs push -C /srv/www .    # keep paths relative to /srv/www\n  \
        pg_dump mydb | bkfs push --stdin db.sql\n  \
        bkfs push --command 'dumps/db.sql=pg_dump mydb' ~ /etc\n  \
        bkfs push -P home          # what the profile says; see `bkfs config sample`\n  \
        bkfs push --devices /dev/disk/by-id/usb-stick\n  \
        bkfs push --exclude '*.o' --exclude /home/*/.cache --exclude-caches --one-file-system /\n\n\
        A line for cron:\n  15 3 * * *  BKFS_REPOSITORY=bkfs://nas:7443/alice bkfs push $HOME"
)]
pub struct PushArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Find out what would be sent, but send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Accept that a source that had files has none now
    #[arg(long)]
    allow_empty: bool,
    /// Read every file, even those that have not changed
    #[arg(long)]
    force: bool,
    /// Store standard input as the file NAME of the snapshot, like db.sql or dumps/db.sql
    #[arg(long, value_name = "NAME")]
    stdin: Option<PathBuf>,
    /// Run a shell command and store what it prints as the file NAME of the snapshot. Can be given several times
    #[arg(long, value_name = "NAME=COMMAND", value_parser = parse_command)]
    command: Vec<JobStream>,
    /// Store a PATH that is a block device, or a link to one, as a file with the contents of the device
    #[arg(long)]
    devices: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// What to push, as the commands that push take it.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Add the snapshot to the series with this name [default: host and paths, like alpha:/home/x]
    #[arg(long, value_name = "NAME", value_parser = parse_target, add = completion::field("target"))]
    target: Option<String>,
    /// Tag the snapshot
    #[arg(long, value_name = "TAG,...", value_delimiter = ',', value_parser = parse_tag)]
    tag: Vec<String>,
    /// Take and keep paths relative to DIR, as tar does
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Record this host name in the snapshot [default: the name of this machine]
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
    host: Option<String>,
    /// Raise an alarm if this share of the files becomes unreadable, as if it were encrypted (or off) [default: 5%]
    #[arg(long, value_name = "SHARE")]
    alarm: Option<AlarmShare>,
    /// Compress at this level, from 1 (fast) to 19 (small) [default: 3]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: Option<i32>,
    /// The files and folders to back up [default: the sources of the profile]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    exclude: ExcludeArgs,
}

/// Options that exclude files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Exclude options")]
struct ExcludeArgs {
    /// Exclude files that match this pattern, written as in .gitignore
    #[arg(short = 'e', long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Exclude files that match a pattern in this file, which has one pattern per line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Exclude the contents of folders that have an entry with this name
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<std::ffi::OsString>,
    /// Exclude the contents of folders with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Exclude files larger than this, like 500M or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

/// What a push did, for programs.
#[derive(Serialize)]
pub struct PushJson {
    snapshot: Option<String>,
    time: String,
    target: String,
    dry_run: bool,
    files: u64,
    dirs: u64,
    others: u64,
    bytes: u64,
    files_new: u64,
    files_changed: u64,
    files_unchanged: u64,
    bytes_read: u64,
    chunks_added: u64,
    bytes_added: u64,
    bytes_stored: u64,
    duration_ms: u64,
    errors: Vec<ProblemJson>,
    errors_total: u64,
    patterns_unused: Vec<String>,
    /// Sources that held files at an earlier push and hold none now.
    emptied: Vec<String>,
    /// How many files became unreadable, if that is alarming.
    alarm: Option<AlarmJson>,
    rolled_back: Option<String>,
}

#[derive(Serialize)]
struct AlarmJson {
    files: u64,
    of: u64,
}

/// A part of the source that could not be read.
#[derive(Serialize)]
pub struct ProblemJson {
    path: String,
    error: String,
}

/// Runs `bkfs push`.
pub fn run(context: &Context, args: PushArgs) -> Result<Exit> {
    let job = args.job(context.profile.as_deref())?;
    let mut session = PushSession::open(context, &args.repo, &job)?;
    let _limits = limits::follow(context, &session.session);
    let work = Work::new(context, |progress: &PushProgress| progress.stop.store(true, Release));
    let lists_changes = context.verbose > 0 && !context.json && !context.quiet;
    let on_change: Option<&OnChange> = if lists_changes { Some(&print_change) } else { None };
    let pushed = work.run(view, |progress| session.push(context, &job, progress, on_change))?;
    print(context, &pushed)?;
    Ok(pushed.exit())
}

impl PushArgs {
    fn job(&self, profile: Option<&Profile>) -> Result<PushJob> {
        let (dry_run, allow_empty, force) = (self.dry_run, self.allow_empty, self.force);
        let stdin = self.stdin.iter().map(|name| JobStream { name: name.clone(), feed: Feed::Stdin });
        let streams = stdin.chain(self.command.iter().cloned()).collect();
        let mut job = PushJob { dry_run, allow_empty, force, ..self.source.job(profile, streams)? };
        job.reads_devices |= self.devices;
        Ok(job)
    }
}

impl SourceArgs {
    /// Returns what to push: what the options say, and otherwise what the profile says. Exclusions add up.
    pub fn job(&self, profile: Option<&Profile>, streams: Vec<JobStream>) -> Result<PushJob> {
        let mut job = profile.map_or_else(PushJob::default, PushJob::of);
        if !self.paths.is_empty() || !streams.is_empty() {
            // Sources of the profile that are relative to its folder say nothing about these paths.
            (job.paths, job.streams, job.base) = (self.paths.clone(), streams, None);
        }
        if job.paths.is_empty() && job.streams.is_empty() {
            let what = match profile {
                Some(profile) => format!("no PATH was given, and the profile {} has no sources", profile.name),
                None => "no PATH was given".to_owned(),
            };
            let hint = "name the files and folders to back up, like `bkfs push ~ /etc`, or a profile that has sources";
            return Err(Failure::new(what, hint).into());
        }
        job.base = self.directory.clone().or(job.base);
        job.target = self.target.clone().or(job.target);
        job.host = self.host.clone().or(job.host);
        job.level = self.compression.unwrap_or(job.level);
        job.alarm = self.alarm.map_or(job.alarm, AlarmShare::limits);
        if !self.tag.is_empty() {
            job.tags = self.tag.clone();
        }
        let (given, exclude) = (&self.exclude, &mut job.exclude);
        exclude.patterns.extend(given.exclude.iter().cloned());
        exclude.files.extend(given.exclude_file.iter().cloned());
        exclude.if_present.extend(given.exclude_if_present.iter().map(|name| name.clone().into_vec()));
        exclude.caches |= given.exclude_caches;
        exclude.larger_than = given.exclude_larger_than.or(exclude.larger_than);
        exclude.one_file_system |= given.one_file_system;
        Ok(job)
    }
}

fn parse_command(text: &str) -> Result<JobStream, String> {
    match text.split_once('=') {
        Some((name, command)) => {
            check_stream_name(Path::new(name))?;
            Ok(JobStream { name: name.into(), feed: Feed::Command(command.to_owned()) })
        }
        None => Err("write it as NAME=COMMAND, like 'db.sql=pg_dump mydb'".into()),
    }
}

/// Returns how far a push is.
pub fn view(progress: &PushProgress) -> ProgressView {
    let files = progress.files.load(Relaxed);
    let (bytes, expected) = (progress.bytes.load(Relaxed), progress.bytes_expected.load(Relaxed));
    let bytes_read = progress.bytes_read.load(Relaxed);
    let text = format!(
        "{}  {}  read {}  new {}  sent {}  {}",
        output::count(files, "file"),
        output::size(bytes),
        output::size(bytes_read),
        output::size(progress.bytes_new.load(Relaxed)),
        output::size(progress.bytes_stored.load(Relaxed)),
        output::name(progress.current.lock().as_os_str().as_bytes()),
    );
    // How much there is shows only at the end. What the last push found is a good guess.
    ProgressView { done: Some((bytes, expected)), moved: Some(bytes_read), text }
}

/// Prints the name of an entry that is new or changed. The push goes on if nobody reads the names any more.
fn print_change(change: Change, path: &Path) {
    let what = match change {
        Change::New => "new    ",
        Change::Changed => "changed",
    };
    let _ = output::line(format!("{what}  {}", output::name(path.as_os_str().as_bytes())));
}

/// Prints what a push did: what is wrong in any case, the rest if somebody watches.
pub fn print(context: &Context, pushed: &Pushed) -> Result<()> {
    let Pushed { target, report, emptied, .. } = pushed;
    let stats = &report.stats;
    for (path, files) in emptied {
        output::note(format!(
            "{} has no files now, and had {}: is a disk not mounted? Older snapshots have them; if it is meant to be \
             empty, give --allow-empty once",
            output::name(path.as_os_str().as_bytes()),
            output::count(*files, "file"),
        ));
    }
    if let Some(alarm) = &report.alarm {
        output::note(alarm_text(alarm));
    }
    for (path, error) in &report.problems {
        output::note(format!("{}: {error}", output::name(path.as_os_str().as_bytes())));
    }
    let listed = report.problems.len() as u64;
    if stats.errors > listed {
        output::note(format!("... and {} more", stats.errors - listed));
    }
    if stats.errors > 0 {
        let what = if report.snapshot.is_some() { "the snapshot was made without them" } else { "this is a dry run" };
        output::note(format!(
            "{} of the source could not be read, or not completely; {what}",
            output::count(stats.errors, "part")
        ));
    }
    if context.verbose > 0 && !context.json {
        for pattern in &report.unused_patterns {
            output::note(format!("note: the pattern {pattern} excluded nothing"));
        }
    }
    if context.json {
        return output::json(&json(pushed));
    }
    if !context.shows_summary() {
        return Ok(());
    }
    let all = output::count(report.totals.files, "file");
    let what = match report.snapshot {
        Some(id) => format!("snapshot {} of {target}", id.short()),
        None => format!("dry run of {target}: nothing was sent"),
    };
    output::line(format!(
        "{what}\n  {all}, {}: {} new, {} changed, {} unchanged\n  read {}, new after deduplication {}, {} {}, in {}",
        output::size(report.totals.bytes),
        stats.files_new,
        stats.files_changed,
        stats.files_unchanged,
        output::size(stats.bytes_read),
        output::size(stats.bytes_new),
        if report.snapshot.is_some() { "sent" } else { "to send" },
        output::size(stats.bytes_stored),
        output::duration(stats.duration_ms),
    ))
}

/// Returns what a push did, for programs.
pub fn json(pushed: &Pushed) -> PushJson {
    let Pushed { target, report, emptied, .. } = pushed;
    let stats = &report.stats;
    let problem = |(path, error): &(PathBuf, std::io::Error)| ProblemJson {
        path: path.to_string_lossy().into_owned(),
        error: error.to_string(),
    };
    PushJson {
        snapshot: report.snapshot.map(|id| id.to_string()),
        time: output::time_json(report.time),
        target: target.clone(),
        dry_run: report.snapshot.is_none(),
        files: report.totals.files,
        dirs: report.totals.dirs,
        others: report.totals.others,
        bytes: report.totals.bytes,
        files_new: stats.files_new,
        files_changed: stats.files_changed,
        files_unchanged: stats.files_unchanged,
        bytes_read: stats.bytes_read,
        chunks_added: stats.chunks_new,
        bytes_added: stats.bytes_new,
        bytes_stored: stats.bytes_stored,
        duration_ms: stats.duration_ms,
        errors: report.problems.iter().map(problem).collect(),
        errors_total: stats.errors,
        patterns_unused: report.unused_patterns.clone(),
        alarm: report.alarm.map(|alarm| AlarmJson { files: alarm.files, of: alarm.of }),
        emptied: emptied.iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect(),
        rolled_back: pushed.rollback.clone(),
    }
}
