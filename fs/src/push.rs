//! Pushing: from the paths that the user names to a committed snapshot.
//!
//! ```text
//! walk threads -> scanner -> events ------------------> assembler -> sealers -> packer -> uploaders -> repository
//!                        \-> files -> reader threads -/      \-> trees, records
//! ```
//!
//! The *scanner* compares the source with the file cache and reports what it finds, depth-first. Files that must be
//! read go to a pool of *readers*, which cut them into chunks and hash the chunks within one budget of bytes. The
//! *assembler* takes events and files in order and asks which chunks are new. New chunks go on to be compressed,
//! sealed, packed and uploaded, and the assembler builds the trees. When every pack is stored, the snapshot is
//! committed. Only then does the file cache learn what the push claims.
//!
//! Only the assembler and the uploaders wait for the repository; the scanner does if the repository may have lost
//! everything. Every queue between the stages is bounded. `pipeline.rs` wires the stages together.

mod alarm;
mod assemble;
mod budget;
mod challenge;
mod change;
mod chunk_writer;
mod clock;
mod collected;
mod commit;
mod context;
mod dedup;
mod event;
mod file_assembler;
mod follow;
mod link_groups;
mod link_names;
mod options;
mod pending_file;
mod piece;
mod pipeline;
mod problems;
mod progress;
mod read;
mod record;
mod sample;
mod scan;
mod seal;
mod session;
mod sources;
mod stream;
mod timed_file;
mod trust;

use std::{path::Path, sync::Arc, time::Instant};

use bkfs_store::{
    Error, Result,
    access::{self, Opened, Seen},
    base::id::{ClientId, RepoId},
    format::{
        config::Config,
        keys::{PushKey, SealKeys},
    },
};

pub use alarm::{Alarm, AlarmLimits};
pub use change::Change;
pub use context::OnChange;
pub use follow::{Follow, Following};
pub use options::{PushOptions, PushReport, PushedSource};
pub use progress::PushProgress;
pub use stream::{Stream, StreamFile, StreamSource, check_streams};

use self::{clock::Clock, context::PushContext, problems::ProblemList, session::PushSession};
use crate::{cache::Cache, walk::Observer};

/// How many times the push goes through the source if the repository loses what it needs. Chunks that are stored are
/// not sent again.
const ROUNDS: usize = 5;

/// The point of the log at which a client of this machine last saw a repository: for [`OpenRequest::seen`] of the
/// opening that a push follows.
///
/// [`OpenRequest::seen`]: bkfs_store::access::OpenRequest::seen
pub fn last_seen(cache_dir: &Path, repo: RepoId, client: ClientId) -> Option<Seen> {
    if !cache_dir.join(repo.to_string()).exists() {
        return None;
    }
    Cache::open(cache_dir, repo, client).ok()?.seen()
}

/// Opens what a client of this machine remembers of its pushes to a repository, for [`Push::cache`].
pub fn open_cache(cache_dir: &Path, repo: RepoId, client: ClientId) -> Result<Arc<Cache>> {
    Cache::open(cache_dir, repo, client).map(Arc::new)
}

/// A repository that was opened for a push.
#[derive(Clone)]
pub struct OpenedRepository<'a> {
    /// The repository.
    pub access: Arc<dyn access::Push>,
    /// The reply to an opening that named the key's client and [`last_seen`].
    pub opened: &'a Opened,
    /// The repository's verified configuration.
    pub config: &'a Config,
    /// The key that the push writes with.
    pub key: &'a PushKey,
}

/// A push, ready to run.
pub struct Push<'a> {
    repository: OpenedRepository<'a>,
    cache_dir: &'a Path,
    options: &'a PushOptions,
    progress: Arc<PushProgress>,
    on_change: Option<&'a OnChange>,
    follow: Option<Follow<'a>>,
    observer: Option<Arc<dyn Observer>>,
    cache: Option<Arc<Cache>>,
    clock: Clock,
}

impl<'a> Push<'a> {
    /// A push into a repository. What this machine remembers of its pushes is below `cache_dir`.
    pub fn new(repository: OpenedRepository<'a>, cache_dir: &'a Path, options: &'a PushOptions) -> Self {
        Self {
            repository,
            cache_dir,
            options,
            progress: Arc::default(),
            on_change: None,
            follow: None,
            observer: None,
            cache: None,
            clock: clock::now,
        }
    }

    /// Counts in `progress`. The push stops when [`PushProgress::stop`] is set.
    pub fn progress(mut self, progress: &Arc<PushProgress>) -> Self {
        self.progress = progress.clone();
        self
    }

    /// Tells `on_change` of each entry that is new or changed, folders apart.
    pub fn on_change(mut self, on_change: &'a OnChange) -> Self {
        self.on_change = Some(on_change);
        self
    }

    /// Follows the push before, if that can be trusted: looks only at what was reported as changed since.
    pub fn follow(mut self, follow: Follow<'a>) -> Self {
        self.follow = Some(follow);
        self
    }

    /// Tells `observer` of each folder that is listed as a whole, before it is listed.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Uses a cache that is open already: that of the repository and the key's client.
    pub fn cache(mut self, cache: Arc<Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Reads the time from another clock.
    #[cfg(test)]
    fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Reads the source and commits a snapshot of it. A dry run changes nothing anywhere.
    ///
    /// Entries that cannot be read are no error: the report lists them. Fails with [`Error::Locked`] if another process
    /// pushes the same target, and with [`Error::Interrupted`] if it is stopped.
    pub fn run(self) -> Result<PushReport> {
        let OpenedRepository { access, opened, config, .. } = self.repository;
        self.repository.key.check_config(config)?;
        let (key, rotated);
        key = SealKeys::verify(&opened.seal_keys, config)?.renew(self.repository.key)?;
        self.options.check_names()?;
        if self.follow.is_some() && (self.options.reads_devices || !self.options.streams.is_empty()) {
            return Err(Error::Invalid(
                "a push that follows another reads no streams and devices: nothing tells that they changed".into(),
            ));
        }
        let (begun, time) = (Instant::now(), (self.clock)());
        let ids = key.ids();
        let cache = match self.cache {
            Some(cache) => cache,
            None => open_cache(self.cache_dir, key.repo, key.client_id())?,
        };
        let _lock = cache.lock_target(ids.target_tag(&self.options.target))?;
        let mut context = PushContext {
            access,
            config,
            key: &key,
            ids,
            options: self.options,
            cache,
            problems: Arc::new(ProblemList::new(self.progress.clone())),
            progress: self.progress,
            on_change: self.on_change,
            follow: self.follow,
            observer: self.observer,
            clock: self.clock,
            time,
            begun,
        };
        let mut session = PushSession::new(&context, opened.clone())?;
        let mut pushed = run_rounds(&mut context, &mut session);
        if let Err(Error::LeaseRefused { .. }) = &pushed
            && let Some(key) = session.rotated(&context)?
        {
            // The seal key was rotated meanwhile. What is stored already stays of use.
            rotated = key;
            context.key = &rotated;
            begin_again(&mut context);
            pushed = run_rounds(&mut context, &mut session);
        }
        if let Err(Error::NotShown { .. }) = &pushed {
            session.forget_known(&context);
        }
        pushed
    }
}

/// Goes through the source until everything that it holds is stored, and commits.
fn run_rounds(context: &mut PushContext<'_>, session: &mut PushSession) -> Result<PushReport> {
    for _ in 0..ROUNDS {
        let collected = match pipeline::collect(context, session) {
            // What is to be kept unseen is not there.
            Err(Error::Damaged { .. }) if context.follows() => {
                context.look_at_everything();
                begin_again(context);
                continue;
            }
            collected => collected?,
        };
        if context.follow.as_mut().is_some_and(|follow| follow.missed(collected.scanned.is_cut_off)) {
            begin_again(context);
            continue;
        }
        challenge::challenge_sent(context, session, &collected.to_challenge)?;
        if !collected.missing.is_empty() {
            // A challenge found it missing, and the store knows that now.
            session.distrust_cache(context)?;
        } else if !collected.is_still_stored(context.access.as_ref(), context.key.client_id())? {
            // A chunk that the cache relied on is gone and was never reported as lost. Trust nothing, once.
            if !session.distrust_cache(context)? {
                let reason = "chunks disappear from the repository during the push; run `bkfs check`";
                return Err(Error::Invalid(reason.into()));
            }
        } else if let Some(report) = commit::commit(context, session, collected)? {
            return Ok(report);
        }
        begin_again(context);
    }
    Err(Error::LeaseRefused { reason: "prunes keep taking chunks that the push needs".into() })
}

/// Prepares to go through the source again. What was found is found again.
fn begin_again(context: &mut PushContext<'_>) {
    context.problems.clear();
    context.on_change = None;
}

#[cfg(test)]
mod tests;
