//! `bkfs push`: backs up files and folders.

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::atomic::Ordering::{Relaxed, Release},
};

use anyhow::{Context as _, Result};
use bkfs_fs::{
    exclude::ExcludeOptions,
    push::{Change, OpenedRepository, Push, PushOptions, PushProgress, PushReport, PushedSource, last_seen},
    walk::Roots,
};
use bkfs_store::{
    access::LastSnapshot,
    base::{
        id::{DomainId, Hash},
        label::Label,
    },
    format::{
        compress::LEVEL_DEFAULT,
        keys::{KeyFile, PushKey},
        loss::Lost,
    },
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{RepoArgs, parse_host, parse_size, parse_tag, parse_target},
    completion,
    config::SeriesSources,
    context::{Context, host_name, program, user_name},
    enrol,
    failure::{Exit, Failure},
    output,
    place::{CopyId, Place},
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
        --json is given. With -v, print a line for each file that is new or changed; with -n -v, for each that would \
        be pushed as such.",
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
    #[arg(long, value_name = "NAME", value_parser = parse_target, add = completion::field("target"))]
    target: Option<String>,
    /// Tag the snapshot
    #[arg(long, value_name = "TAG,...", value_delimiter = ',', value_parser = parse_tag)]
    tag: Vec<String>,
    /// Take and keep paths relative to DIR, as tar does
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Find out what would be sent, but send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Accept that a source that had files has none now
    #[arg(long)]
    allow_empty: bool,
    /// Read every file, even those that have not changed
    #[arg(long)]
    force: bool,
    /// Record this host name in the snapshot [default: the name of this machine]
    #[arg(long, value_name = "HOST", value_parser = parse_host)]
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
    patterns_unused: Vec<String>,
    /// Sources that held files at an earlier push and hold none now.
    emptied: Vec<String>,
    rolled_back: Option<String>,
}

#[derive(Serialize)]
struct ProblemJson {
    path: String,
    error: String,
}

/// Runs `bkfs push`.
pub fn run(context: &Context, args: PushArgs) -> Result<Exit> {
    let missing = check_sources(&args)?;
    let target = match &args.target {
        Some(target) => target.clone(),
        None => {
            let host = args.host.clone().unwrap_or_else(host_name);
            default_target(&host, args.directory.as_deref(), &args.paths)?
        }
    };
    // Each copy of a repository has a cache of its own: a chunk that one copy holds may not be in the other.
    let cache = |copy: &CopyId| context.folders.cache.join("push").join(copy.to_string());
    let last_seen = |copy: &CopyId, repo, client| last_seen(&cache(copy), repo, client);
    let mut session = Session::open_to_push(context, &args.repo, last_seen)?;
    let cache = cache(&session.copy);
    let options = options(&args, session.place.is_remote(), target);
    check_room(&session, &options)?;
    let known = match session.client() {
        // Without it there is nothing to compare with. That must not prevent a push.
        Some(client) => session.folder.sources(client, &options.target).unwrap_or_else(|error| {
            tracing::warn!("cannot read what earlier pushes held: {error:#}");
            None
        }),
        None => None,
    };
    if let (None, Some(missing)) = (&known, missing) {
        return Err(missing.of_new_series(&options.target));
    }
    let key = match session.push_key() {
        Some(key) => key.clone(),
        None => enrol_this_machine(context, &mut session)?,
    };
    if session.rollback.is_some() {
        // What this machine believes to be stored may be gone, so it must ask about everything again.
        session.opened.lost = Lost::Everything;
        session.warn_of_rollback();
    }
    let work = Work::new(context, |progress: &PushProgress| progress.stop.store(true, Release));
    let (access, opened, config) = (session.access.clone(), &session.opened, &session.config);
    let repository = OpenedRepository { access, opened, config, key: &key };
    let lists_changes = context.verbose > 0 && !context.json && !context.quiet;
    let report = work.run(view, |progress| {
        let push = Push::new(repository, &cache, &options).progress(progress);
        if lists_changes { push.on_change(&print_change).run() } else { push.run() }
    })?;
    let emptied = match args.allow_empty {
        true => Vec::new(),
        false => emptied(&known.unwrap_or_default(), &report),
    };
    remember(&session, &key, &options.target, &report, &emptied);
    print(context, &options.target, &session, &report, &emptied)?;
    Ok(match &session.rollback {
        Some(_) => Exit::RolledBack,
        None if report.stats.errors == 0 && emptied.is_empty() => Exit::Success,
        None => Exit::Incomplete,
    })
}

/// Fails if the account may store nothing more: everything would be read for nothing.
fn check_room(session: &Session, options: &PushOptions) -> Result<()> {
    match session.opened.room {
        Some(room) if room.left() == 0 && !options.dry_run => {
            let (used, limit) = (output::size(room.used), output::size(room.limit));
            let reason = format!(
                "{}: the quota of {limit} is used up ({used} are stored), and nothing was pushed",
                session.place
            );
            Err(bkfs_store::Error::OverQuota { reason }.into())
        }
        _ => Ok(()),
    }
}

/// Returns the sources that held files at an earlier push and hold none now, with the number of files.
fn emptied(known: &SeriesSources, report: &PushReport) -> Vec<(PathBuf, u64)> {
    let without_files = report.sources.iter().filter(|source| source.files == Some(0));
    let with_before = without_files.map(|source| (source.path.clone(), known.files(&source.path)));
    with_before.filter(|(_, files)| *files > 0).collect()
}

/// A path that does not exist, among others that do.
struct MissingPath {
    path: PathBuf,
    error: std::io::Error,
}

impl MissingPath {
    /// Returns the error for a push that would begin a new series: the path is more likely a typo than a folder that
    /// was deleted.
    fn of_new_series(&self, target: &str) -> anyhow::Error {
        let path = output::name(self.path.as_os_str().as_bytes());
        let hint = format!(
            "nothing was pushed: this machine has not pushed to the target {} before, so every path must exist",
            output::name(target.as_bytes())
        );
        Failure::new(format!("{path}: {}", self.error), hint).into()
    }
}

/// Fails if no source exists, before the repository is opened. If some exist, returns the first that does not.
fn check_sources(args: &PushArgs) -> Result<Option<MissingPath>> {
    let base = args.directory.as_deref();
    if let Some(base) = base {
        let meta = std::fs::metadata(base).with_context(|| base.display().to_string())?;
        if !meta.is_dir() {
            return Err(Failure::new(format!("{} is not a folder", base.display()), "give a folder with -C").into());
        }
    }
    let missing = |path: &PathBuf| {
        let found = base.map_or(path.clone(), |base| base.join(path)).symlink_metadata();
        found.err().map(|error| MissingPath { path: path.clone(), error })
    };
    let mut all: Vec<MissingPath> = args.paths.iter().filter_map(missing).collect();
    if all.len() < args.paths.len() {
        return Ok((!all.is_empty()).then(|| all.swap_remove(0)));
    }
    let MissingPath { path, error } = all.swap_remove(0);
    let what = if args.paths.len() == 1 { "" } else { " (and none of the other paths exists)" };
    let path = output::name(path.as_os_str().as_bytes());
    Err(Failure::new(format!("{path}: {error}{what}"), "nothing was pushed").into())
}

/// Makes this machine a client. It has the passphrase, but no push key.
fn enrol_this_machine(context: &Context, session: &mut Session) -> Result<PushKey> {
    let full = session.full_key(context, "enrolling this machine").map_err(|error| match error.downcast_ref() {
        Some(bkfs_store::Error::NoPermission { .. }) => no_push_key(&session.place),
        _ => error,
    })?;
    let url = Some(session.place.to_string());
    let key = enrol::add_client(session.access.as_ref(), &full, &host_name(), url, DomainId::OWNER)?;
    session.folder.set_push_key(&KeyFile::Push(key.clone()).encode())?;
    tracing::info!("this machine is now a client; its push key is {}", session.folder.push_key_path().display());
    session.set_machine_key(key.clone());
    session.reopen(Some(key.client_id()), session.folder.seen(&session.copy)?.0.seen())?;
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

fn options(args: &PushArgs, is_remote: bool, target: String) -> PushOptions {
    PushOptions {
        target,
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
        host: args.host.clone().unwrap_or_else(host_name),
        user: user_name(),
        force: args.force,
        keeps_known_set: is_remote,
        challenges: is_remote,
        program: program(),
        level: args.compression,
    }
}

/// Returns the default target, `host:/path` or `host:/a,/b`. Paths are absolute, tidy and sorted, so that the same
/// command always means the same series. A name that would be too long is cut and ends in a hash of all of it.
fn default_target(host: &str, base: Option<&Path>, paths: &[PathBuf]) -> Result<String> {
    let roots = Roots::new(base, paths).map_err(|error| Failure::new(error.to_string(), "nothing was pushed"))?;
    let whole = |path: &Vec<u8>| {
        let path = roots.base.join(OsStr::from_bytes(path));
        output::name(path.components().collect::<PathBuf>().as_os_str().as_bytes())
    };
    let mut names: Vec<String> = roots.paths.iter().map(whole).collect();
    names.sort();
    let target = format!("{host}:{}", names.join(","));
    if target.len() <= Label::Target.len_max() {
        return Ok(target);
    }
    let hash = Hash::of(&[target.as_bytes()]).to_string();
    let end = target.floor_char_boundary(Label::Target.len_max() - hash.len() - 1);
    Ok(format!("{}~{hash}", &target[..end]))
}

/// Records what was acknowledged, so that a later rollback is detected, unless one was detected now; and what the
/// sources held. Of sources that are `emptied`, the earlier number of files stays, so every push reports them.
fn remember(session: &Session, key: &PushKey, target: &str, report: &PushReport, emptied: &[(PathBuf, u64)]) {
    let held = |source: &PushedSource| {
        let is_emptied = emptied.iter().any(|(path, _)| *path == source.path);
        source.files.filter(|_| !is_emptied)
    };
    let keep_sources = || match report.snapshot {
        Some(_) => {
            let sources = report.sources.iter().filter_map(|source| Some((source.path.as_path(), held(source)?)));
            session.folder.set_sources(key.client_id(), target, sources)
        }
        None => Ok(()),
    };
    let keep = || -> Result<()> {
        if session.rollback.is_some() {
            return Ok(());
        }
        match (report.snapshot, report.seen) {
            (Some(id), seen) => {
                // If another push of this client came in between, this number is too low, and the other push's record
                // is kept.
                let sequence = session.opened.last.map_or(1, |last| last.sequence.saturating_add(1));
                session.folder.acknowledged(&session.copy, key.client_id(), LastSnapshot { id, sequence }, seen)
            }
            (None, Some(seen)) => session.folder.advance(&session.copy, seen),
            (None, None) => Ok(()),
        }
    };
    if let Err(error) = keep().and_then(|()| keep_sources()) {
        tracing::warn!("cannot record what was acknowledged: {error:#}");
    }
}

fn view(progress: &PushProgress) -> ProgressView {
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

fn print(
    context: &Context,
    target: &str,
    session: &Session,
    report: &PushReport,
    emptied: &[(PathBuf, u64)],
) -> Result<()> {
    let stats = &report.stats;
    for (path, files) in emptied {
        output::note(format!(
            "{} has no files now, and had {}: is a disk not mounted? Older snapshots have them; if it is meant to be \
             empty, give --allow-empty once",
            output::name(path.as_os_str().as_bytes()),
            output::count(*files, "file"),
        ));
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
        return output::json(&json(target, session, report, emptied));
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

fn json(target: &str, session: &Session, report: &PushReport, emptied: &[(PathBuf, u64)]) -> PushJson {
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
        patterns_unused: report.unused_patterns.clone(),
        emptied: emptied.iter().map(|(path, _)| path.to_string_lossy().into_owned()).collect(),
        rolled_back: session.rollback.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_target_does_not_depend_on_how_paths_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("a")).unwrap();
        let base = base.to_str().unwrap();
        let target = |folder: Option<&str>, paths: &[&str]| {
            default_target("h", folder.map(Path::new), &paths.iter().map(PathBuf::from).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(target(None, &["/a/b/"]), "h:/a/b");
        assert_eq!(target(None, &[&format!("{base}/a/../b/./c")]), format!("h:{base}/b/c"));
        assert_eq!(target(Some(base), &["."]), format!("h:{base}"));
        assert_eq!(target(Some(base), &["x", "a", "x/"]), format!("h:{base}/a,{base}/x"));
        let many: Vec<String> = (0..999).map(|n| format!("/folder/{n}")).collect();
        let many = target(None, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(Label::Target.check(&many).is_ok() && many.starts_with("h:/folder/0,"), "{many}");
    }
}
