//! A push as this machine does it, apart from arguments and printing: check the sources, open the repository, make this
//! machine a client if it is none yet, push, and remember what was acknowledged.
//!
//! A [`PushJob`] says what to push; it is plain data. [`PushSession::open`] opens a repository for it, and
//! [`PushSession::push`] pushes. A caller that runs for long keeps one session and pushes in it again and again: each
//! push after the first one opens the repository again on the same connection, and compares it with what was seen, as
//! the first opening did.

mod enrolment;
mod feed;
mod job;
mod sources;
mod streams;
mod target;

use std::{path::PathBuf, sync::Arc};

pub use enrolment::{enrol_this_machine, enrol_with};
pub use feed::{Feed, JobStream};
pub use job::PushJob;

use anyhow::Result;
use bkfs_fs::{
    cache::Cache,
    push::{Alarm, Follow, OnChange, OpenedRepository, Push, PushProgress, PushReport, last_seen, open_cache},
    walk::Observer,
};
use bkfs_store::{
    access::{LastSnapshot, Seen},
    base::id::{ClientId, RepoId},
    format::{keys::PushKey, loss::Lost, snapshot::SUSPICIOUS},
};

use crate::{
    args::RepoArgs,
    config::SeriesSources,
    context::Context,
    failure::Exit,
    output,
    place::{CopyId, Place},
    session::Session,
};

/// What a push did.
pub struct Pushed {
    /// The series that the snapshot belongs to.
    pub target: String,
    /// Where it was pushed.
    pub place: Place,
    /// What the push reports.
    pub report: PushReport,
    /// The sources that held files at an earlier push and hold none now, with the number of files. None if the job
    /// allows that.
    pub emptied: Vec<(PathBuf, u64)>,
    /// How the repository contradicts what this machine has seen before, if it does.
    pub rollback: Option<String>,
}

impl Pushed {
    /// Returns the exit code of a command that pushed.
    pub fn exit(&self) -> Exit {
        match &self.rollback {
            Some(_) => Exit::RolledBack,
            None if self.report.stats.errors == 0 && self.emptied.is_empty() && self.report.alarm.is_none() => {
                Exit::Success
            }
            None => Exit::Incomplete,
        }
    }
}

/// A repository that is open for pushes.
pub struct PushSession {
    /// The open repository.
    pub session: Session,
    key: PushKey,
    cache: PathBuf,
    /// What this machine remembers of its pushes, open for the next one.
    opened_cache: Option<Arc<Cache>>,
    /// Whether nothing was pushed since the repository was opened.
    is_fresh: bool,
}

impl PushSession {
    /// Opens a repository for a job, after a look at its sources. Makes this machine a client if it has the passphrase
    /// but no push key.
    pub fn open(context: &Context, repo: &RepoArgs, job: &PushJob) -> Result<Self> {
        let missing = sources::check(job)?;
        let target = job.target()?;
        let last_seen = |copy: &CopyId, repo, client| last_seen(&cache(context, copy), repo, client);
        let mut session = Session::open_to_push(context, repo, last_seen)?;
        check_room(&session, job)?;
        if let (None, Some(missing)) = (known(&session, &target), missing) {
            return Err(missing.of_new_series(&target));
        }
        let key = match session.push_key() {
            Some(key) => key.clone(),
            None => enrolment::enrol_this_machine(context, &mut session)?,
        };
        let cache = cache(context, &session.copy);
        let mut opened = Self { session, key, cache, opened_cache: None, is_fresh: true };
        opened.distrust_rollback();
        Ok(opened)
    }

    /// Pushes. `on_change` is told of each entry that is new or changed.
    pub fn push(
        &mut self,
        context: &Context,
        job: &PushJob,
        progress: &Arc<PushProgress>,
        on_change: Option<&OnChange>,
    ) -> Result<Pushed> {
        self.push_by(context, job, |push| match on_change {
            Some(on_change) => push.progress(progress).on_change(on_change).run(),
            None => push.progress(progress).run(),
        })
    }

    /// Pushes as part of a series, with what was reported as changed since the last push. `observer` is told of each
    /// folder that is listed.
    pub fn push_watched(
        &mut self,
        context: &Context,
        job: &PushJob,
        progress: &Arc<PushProgress>,
        follow: Follow<'_>,
        observer: Arc<dyn Observer>,
    ) -> Result<Pushed> {
        self.push_by(context, job, |push| push.progress(progress).observer(observer).follow(follow).run())
    }

    fn push_by(
        &mut self,
        context: &Context,
        job: &PushJob,
        run: impl FnOnce(Push<'_>) -> bkfs_store::Result<PushReport>,
    ) -> Result<Pushed> {
        if !std::mem::take(&mut self.is_fresh) {
            self.reopen(context, job)?;
        }
        let session = &self.session;
        let options = job.options(session.place.is_remote(), job.target()?, streams::files(job)?);
        let known = known(session, &options.target);
        let (access, opened, config) = (session.access.clone(), &session.opened, &session.config);
        let repository = OpenedRepository { access, opened, config, key: &self.key };
        let mut push = Push::new(repository, &self.cache, &options);
        if let Some(cache) = self.opened_cache.take() {
            push = push.cache(cache);
        }
        let report = run(push)?;
        let emptied = match job.allow_empty {
            true => Vec::new(),
            false => sources::emptied(&known.unwrap_or_default(), &report),
        };
        self.remember(&options.target, &report, &emptied);
        let (place, rollback) = (session.place.clone(), session.rollback.clone());
        Ok(Pushed { target: options.target, place, report, emptied, rollback })
    }

    /// Opens the repository again for another push.
    fn reopen(&mut self, context: &Context, job: &PushJob) -> Result<()> {
        sources::check(job)?;
        // Opening it takes more calls than the rest of a small push, so the push takes what is opened here.
        let (own, cache) = ((self.session.config.repo, self.key.client_id()), &self.cache);
        let opened = open_cache(cache, own.0, own.1).ok();
        let seen = |_: &CopyId, repo: RepoId, client: ClientId| -> Option<Seen> {
            if (repo, client) == own { opened.as_ref()?.seen() } else { last_seen(cache, repo, client) }
        };
        self.session.open_to_push_again(context, seen)?;
        self.opened_cache = opened.filter(|_| self.session.client() == Some(own.1));
        self.key = self.session.push_key().cloned().unwrap_or_else(|| self.key.clone());
        check_room(&self.session, job)?;
        self.distrust_rollback();
        Ok(())
    }

    /// If the repository was rolled back, makes the next push ask about everything: what this machine believes to be
    /// stored may be gone.
    fn distrust_rollback(&mut self) {
        if self.session.rollback.is_some() {
            self.session.opened.lost = Lost::Everything;
            self.session.warn_of_rollback();
        }
    }

    /// Records what was acknowledged, so that a later rollback is detected, unless one was detected now; and what the
    /// sources held.
    fn remember(&self, target: &str, report: &PushReport, emptied: &[(PathBuf, u64)]) {
        let (session, client) = (&self.session, self.key.client_id());
        let keep = || -> Result<()> {
            if session.rollback.is_some() {
                return Ok(());
            }
            match (report.snapshot, report.seen) {
                (Some(id), seen) => {
                    // If another push of this client came in between, this number is too low, and the other push's
                    // record is kept.
                    let sequence = session.opened.last.map_or(1, |last| last.sequence.saturating_add(1));
                    session.folder.acknowledged(&session.copy, client, LastSnapshot { id, sequence }, seen)
                }
                (None, Some(seen)) => session.folder.advance(&session.copy, seen),
                (None, None) => Ok(()),
            }
        };
        // A push that did not look at everything does not know what all sources hold.
        let keep_sources = || match report.snapshot {
            Some(_) if report.looked_at_everything => {
                session.folder.set_sources(client, target, sources::held(report, emptied))
            }
            _ => Ok(()),
        };
        if let Err(error) = keep().and_then(|()| keep_sources()) {
            tracing::warn!("cannot record what was acknowledged: {error:#}");
        }
    }
}

/// What an alarm says to a person.
pub fn alarm_text(alarm: &Alarm) -> String {
    format!(
        "ALARM: {} of {} became unreadable, as if somebody had encrypted them. The snapshot has the tag {SUSPICIOUS}. \
         Older ones are not touched: `bkfs forget` and `bkfs run` forget nothing of this series until a person says \
         `bkfs forget --confirm`. If you did this yourself, all is well",
        alarm.files,
        output::count(alarm.of, "file"),
    )
}

/// The folder of the caches of a copy. Each copy of a repository has one of its own: a chunk that one copy holds may
/// not be in the other.
fn cache(context: &Context, copy: &CopyId) -> PathBuf {
    context.folders.cache.join("push").join(copy.to_string())
}

/// Returns what the sources of a series held, if this machine has pushed to it. Without it there is nothing to compare
/// with. That must not prevent a push.
fn known(session: &Session, target: &str) -> Option<SeriesSources> {
    session.folder.sources(session.client()?, target).unwrap_or_else(|error| {
        tracing::warn!("cannot read what earlier pushes held: {error:#}");
        None
    })
}

/// Fails if the account may store nothing more: everything would be read for nothing.
fn check_room(session: &Session, job: &PushJob) -> Result<()> {
    match session.opened.room {
        Some(room) if room.left() == 0 && !job.dry_run => {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bkfs_store::{
        access::{InitRequest, Manage},
        base::{id::DomainId, time::Time},
        crypto::random,
        format::{
            config::ChunkerParams,
            keys::{FullKey, KeyFile},
            roster::Roster,
        },
        repository::Repository,
    };

    use super::*;
    use crate::args::GlobalArgs;

    /// Creates a repository below `dir`, and the context of a machine that holds its key.
    fn machine(dir: &Path) -> (Context, RepoArgs) {
        let full = FullKey::random(RepoId(random()));
        let (push, client) = full.new_client("h", None, DomainId::OWNER, Time::default());
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![client] });
        let config = full.config(Time::default(), ChunkerParams::default());
        let repository = Repository::local(&dir.join("repo"), &dir.join("index")).unwrap();
        repository.init(&InitRequest { config, roster, slots: vec![] }).unwrap();
        let key_file = dir.join("key");
        std::fs::write(&key_file, KeyFile::Full { full, push }.encode()).unwrap();
        let global = GlobalArgs {
            config_dir: Some(dir.join("config")),
            cache_dir: Some(dir.join("cache")),
            key_file: Some(key_file),
            ..GlobalArgs::default()
        };
        let repo = RepoArgs { repository: Some(dir.join("repo").display().to_string()) };
        (Context::new(&global).unwrap(), repo)
    }

    fn job(source: &Path) -> PushJob {
        PushJob { target: Some("t".into()), paths: vec![source.to_owned()], ..PushJob::default() }
    }

    /// What a long-running caller does. Another process pushes in between, so what the session knows is old.
    #[test]
    fn a_session_pushes_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let (context, repo) = machine(dir.path());
        let source = dir.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("a"), "one").unwrap();
        let (job, progress) = (job(&source), Arc::default());
        let mut kept = PushSession::open(&context, &repo, &job).unwrap();
        let first = kept.push(&context, &job, &progress, None).unwrap();
        let mut other = PushSession::open(&context, &repo, &job).unwrap();
        std::fs::write(source.join("b"), "two").unwrap();
        other.push(&context, &job, &progress, None).unwrap();
        let again = kept.push(&context, &job, &progress, None).unwrap();
        assert_eq!((first.report.totals.files, again.report.totals.files), (1, 2));
        assert_eq!(
            (again.report.stats.files_unchanged, again.rollback.clone(), again.exit()),
            (2, None, Exit::Success)
        );
        kept.reopen(&context, &job).unwrap();
        assert_eq!(kept.session.opened.last.map(|last| last.sequence), Some(3));
        // The source is emptied, and then gone.
        std::fs::remove_file(source.join("a")).unwrap();
        std::fs::remove_file(source.join("b")).unwrap();
        let emptied = kept.push(&context, &job, &progress, None).unwrap();
        assert_eq!((emptied.emptied, emptied.report.totals.files), (vec![(source.clone(), 2)], 0));
        std::fs::remove_dir(&source).unwrap();
        assert!(kept.push(&context, &job, &progress, None).is_err());
    }
}
