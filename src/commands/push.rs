//! `bkfs push`: backs up files and folders.

use std::{
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
    sync::atomic::Ordering::{Relaxed, Release},
};

use anyhow::{Context as _, Result};
use bkfs_fs::{
    exclude::ExcludeOptions,
    push::{OpenedRepository, Push, PushOptions, PushProgress, PushReport, last_seen},
};
use bkfs_store::{
    access::LastSnapshot,
    format::{
        compress::LEVEL_DEFAULT,
        keys::{KeyFile, PushKey},
        loss::Lost,
    },
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{RepoArgs, parse_size},
    context::{Context, host_name, program, user_name},
    enrol,
    failure::{Exit, Failure},
    output,
    place::Place,
    progress::ProgressView,
    session::Session,
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
        On a terminal, print progress and a summary. Elsewhere print nothing unless something is wrong, or -v or \
        --json is given.",
    after_help = "Examples:\n  bkfs push -r /media/usb/repo ~ /etc\n  \
        bkfs push --target db --tag nightly /var/lib/postgresql\n  \
        bkfs push -C /srv/www .    # keep paths relative to /srv/www\n  \
        bkfs push --exclude '*.o' --exclude /home/*/.cache --exclude-caches --one-file-system /\n\n\
        A line for cron:\n  15 3 * * *  BKFS_REPOSITORY=bkfs://nas:7443/alice bkfs push $HOME"
)]
pub struct PushArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Add the snapshot to the series with this name [default: host and paths, like alpha:/home/x]
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Tag the snapshot (repeat for several tags)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Take and keep paths relative to DIR, as tar does
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Find out what would be sent, but send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read every file, even those that have not changed
    #[arg(long)]
    force: bool,
    /// Record this host name in the snapshot [default: the name of this machine]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Compress at this level, from 1 (fast) to 19 (small)
    #[arg(long, value_name = "LEVEL", default_value_t = LEVEL_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=19))]
    compression: i32,
    /// The files and folders to back up
    #[arg(required = true, value_name = "PATH")]
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

#[derive(Serialize)]
struct PushJson {
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
    rolled_back: Option<String>,
}

#[derive(Serialize)]
struct ProblemJson {
    path: String,
    error: String,
}

/// Runs `bkfs push`.
pub fn run(context: &Context, args: PushArgs) -> Result<Exit> {
    check_sources(&args)?;
    let cache = context.folders.cache.join("push");
    let mut session = Session::open_to_push(context, &args.repo, |repo| last_seen(&cache, repo))?;
    let key = match session.push_key() {
        Some(key) => key.clone(),
        None => enrol_this_machine(context, &mut session)?,
    };
    if session.rollback.is_some() {
        // What this machine believes to be stored may be gone, so it must ask about everything again.
        session.opened.lost = Lost::Everything;
        session.warn_of_rollback();
    }
    let options = options(&args, session.place.is_remote());
    let work = Work::new(context, |progress: &PushProgress| progress.stop.store(true, Release))?;
    let (access, opened, config) = (session.access.clone(), &session.opened, &session.config);
    let repository = OpenedRepository { access, opened, config, key: &key };
    let report = work.run(view, |progress| Push::new(repository, &cache, &options).progress(progress).run())?;
    remember(&session, &key, &report);
    print(context, &options.target, &session, &report)?;
    Ok(match (&session.rollback, report.stats.errors) {
        (Some(_), _) => Exit::RolledBack,
        (None, 0) => Exit::Success,
        (None, _) => Exit::Incomplete,
    })
}

/// Fails if no source exists, before the repository is opened.
fn check_sources(args: &PushArgs) -> Result<()> {
    let base = args.directory.as_deref();
    if let Some(base) = base {
        let meta = std::fs::metadata(base).with_context(|| base.display().to_string())?;
        if !meta.is_dir() {
            return Err(Failure::new(format!("{} is not a folder", base.display()), "give a folder with -C").into());
        }
    }
    let found = |path: &PathBuf| base.map_or(path.clone(), |base| base.join(path)).symlink_metadata();
    match args.paths.iter().map(found).find(Result::is_ok) {
        Some(_) => Ok(()),
        None => {
            let first = &args.paths[0];
            let error = found(first).err().map_or_else(String::new, |e| e.to_string());
            let what = if args.paths.len() == 1 { "" } else { " (and none of the other paths exists)" };
            Err(Failure::new(format!("{}: {error}{what}", first.display()), "nothing was pushed").into())
        }
    }
}

/// Makes this machine a client. It has the passphrase, but no push key.
fn enrol_this_machine(context: &Context, session: &mut Session) -> Result<PushKey> {
    let full = session.full_key(context, "enrolling this machine").map_err(|error| match error.downcast_ref() {
        Some(bkfs_store::Error::NoPermission { .. }) => no_push_key(&session.place),
        _ => error,
    })?;
    let url = Some(session.place.to_string());
    let key = enrol::add_client(session.access.as_ref(), &full, &host_name(), url, true)?;
    session.folder.set_push_key(&KeyFile::Push(key.clone()).encode())?;
    tracing::info!("this machine is now a client; its push key is {}", session.folder.push_key_path().display());
    session.reopen(Some(key.client_id()), session.folder.seen()?.seen())?;
    session.set_machine_key(key.clone());
    Ok(key)
}

/// Returns the error for a client that may only push and has no push key: the server gives it nothing that a passphrase
/// could open.
fn no_push_key(place: &Place) -> anyhow::Error {
    Failure::new(
        format!("this machine has no push key for {place}, and no permission to read there, so it cannot enrol itself"),
        "write a push key with `bkfs key export-push FILE` on a machine that can read; use it here with --key-file \
         FILE or `bkfs join TOKEN --push-key FILE`",
    )
    .exit(Exit::WrongKey)
    .into()
}

fn options(args: &PushArgs, is_remote: bool) -> PushOptions {
    let host = args.host.clone().unwrap_or_else(host_name);
    let target = args.target.clone();
    PushOptions {
        target: target.unwrap_or_else(|| default_target(&host, args.directory.as_deref(), &args.paths)),
        tags: args.tag.clone(),
        base: args.directory.clone(),
        paths: args.paths.clone(),
        exclude: ExcludeOptions {
            patterns: args.exclude.exclude.clone(),
            files: args.exclude.exclude_file.clone(),
            if_present: args.exclude.exclude_if_present.iter().map(|n| n.clone().into_vec()).collect(),
            caches: args.exclude.exclude_caches,
            larger_than: args.exclude.exclude_larger_than,
            one_file_system: args.exclude.one_file_system,
        },
        dry_run: args.dry_run,
        host,
        user: user_name(),
        force: args.force,
        keeps_known_set: is_remote,
        program: program(),
        level: args.compression,
    }
}

/// Returns the default target, `host:/path` or `host:/a,/b`. Paths are absolute, tidy and sorted, so that the same
/// command always means the same series.
fn default_target(host: &str, base: Option<&Path>, paths: &[PathBuf]) -> String {
    let tidy = |path: &PathBuf| {
        let path = base.map_or(path.clone(), |base| base.join(path));
        let mut tidy = PathBuf::new();
        for part in std::path::absolute(&path).unwrap_or(path).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(tidy.pop()),
                part => tidy.push(part),
            }
        }
        output::name(tidy.as_os_str().as_bytes())
    };
    let mut names: Vec<String> = paths.iter().map(tidy).collect();
    names.sort();
    names.dedup();
    format!("{host}:{}", names.join(","))
}

/// Records what was acknowledged, so that a later rollback is detected. Records nothing if a rollback was detected now.
fn remember(session: &Session, key: &PushKey, report: &PushReport) {
    let keep = || -> Result<()> {
        if session.rollback.is_some() {
            return Ok(());
        }
        match (report.snapshot, report.seen) {
            (Some(id), seen) => {
                // If another push of this client came in between, this number is too low, and the other push's record
                // is kept.
                let sequence = session.opened.last.map_or(1, |last| last.sequence.saturating_add(1));
                session.folder.acknowledged(key.client_id(), LastSnapshot { id, sequence }, seen)
            }
            (None, Some(seen)) => session.folder.advance(seen),
            (None, None) => Ok(()),
        }
    };
    if let Err(error) = keep() {
        tracing::warn!("cannot record what was acknowledged: {error:#}");
    }
}

fn view(progress: &PushProgress) -> ProgressView {
    let files = progress.files.load(Relaxed);
    let text = format!(
        "{}  {}  read {}  new {}  sent {}  {}",
        output::count(files, "file"),
        output::size(progress.bytes.load(Relaxed)),
        output::size(progress.bytes_read.load(Relaxed)),
        output::size(progress.bytes_new.load(Relaxed)),
        output::size(progress.bytes_stored.load(Relaxed)),
        output::name(progress.current.lock().as_os_str().as_bytes()),
    );
    ProgressView { done: None, text }
}

fn print(context: &Context, target: &str, session: &Session, report: &PushReport) -> Result<()> {
    let stats = &report.stats;
    for (path, error) in &report.problems {
        eprintln!("bkfs: {}: {error}", output::name(path.as_os_str().as_bytes()));
    }
    let listed = report.problems.len() as u64;
    if stats.errors > listed {
        eprintln!("bkfs: ... and {} more", stats.errors - listed);
    }
    if stats.errors > 0 {
        let what = if report.snapshot.is_some() { "the snapshot was made without them" } else { "this is a dry run" };
        eprintln!(
            "bkfs: {} of the source could not be read, or not completely; {what}",
            output::count(stats.errors, "part")
        );
    }
    if context.json {
        return output::json(&json(target, session, report));
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

fn json(target: &str, session: &Session, report: &PushReport) -> PushJson {
    let stats = &report.stats;
    let problem = |(path, error): &(PathBuf, std::io::Error)| ProblemJson {
        path: path.to_string_lossy().into_owned(),
        error: error.to_string(),
    };
    PushJson {
        snapshot: report.snapshot.map(|id| id.to_string()),
        time: output::time_json(report.time),
        target: target.to_owned(),
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
        rolled_back: session.rollback.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_target_does_not_depend_on_how_paths_are_written() {
        let target = |base: Option<&str>, paths: &[&str]| {
            default_target("h", base.map(Path::new), &paths.iter().map(PathBuf::from).collect::<Vec<_>>())
        };
        assert_eq!(target(None, &["/a/b/"]), "h:/a/b");
        assert_eq!(target(None, &["/a/../b/./c"]), "h:/b/c");
        assert_eq!(target(Some("/srv"), &["."]), "h:/srv");
        assert_eq!(target(Some("/srv"), &["x", "/a", "x/"]), "h:/a,/srv/x");
    }
}
