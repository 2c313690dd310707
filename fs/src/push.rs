//! Backing up: from the paths that the user names to a committed snapshot.
//!
//! ```text
//! walk threads -> scanner -> events ------------------> assembler -> sealers -> packer -> repository
//!                        \-> files -> reader threads -/      \-> trees, records
//! ```
//!
//! The *scanner* compares the source with the file cache and says what it finds, in depth-first order. Files that
//! must be read go to a pool of *readers*, which cut and hash them within one budget of bytes. The *assembler* takes both
//! in order, asks which chunks are new, gives those to be compressed, sealed and packed, and builds the trees. The
//! snapshot is committed when every pack is stored; only then does the file cache learn what the push claims.
//!
//! Nothing here waits for the repository but the assembler and the packer, and every queue between the stages is bounded.

mod assemble;
mod budget;
mod dedup;
mod options;
mod outbox;
mod output;
mod progress;
mod read;
mod scan;
mod seal;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bkfs_store::{
    Error, Result,
    access::{Access, IDS_MAX, LastSnapshot, Lost, OpenRequest, Opened, Receipt, Seen},
    chunker::Chunker,
    compress::LEVEL_DEFAULT,
    config::Config,
    crypto::{DataKey, Wrap},
    id::RepoId,
    keys::{IdKeys, PushKey},
    snapshot::{self, PathBytes, PushStats, Snapshot},
    tree::Time,
};

pub use options::{PushOptions, PushReport};
pub use progress::Progress;

use self::{
    assemble::{Assembled, Assembler, Sample},
    budget::Budget,
    dedup::{Dedup, Needed},
    outbox::{Outbox, Writer},
    output::Output,
    read::{Clock, Piece, Reader},
    scan::{Counts, ProblemList, Scanner},
    seal::Sealer,
};
use crate::{
    cache::{Cache, Sight, record::RecordStamp},
    exclude::Excludes,
    userdb::OwnerNames,
    walk::{self, Roots, Walk},
};

/// Threads that read files: a cold disk wants depth, whatever the number of cores.
const READERS: usize = 16;
/// Bytes of contents held between reading and sealing.
const BUDGET_BYTES: usize = 24 << 20;
/// Events between scanner and assembler.
const EVENTS: usize = 4096;
/// Files that wait for a reader; each may hold its directory open.
const FILES: usize = 1024;
/// How often a commit is tried.
const COMMITS: u32 = 5;
/// How often the source is gone through, if the repository loses what the push needs. What was sent is not sent again.
const ROUNDS: usize = 5;

/// What this machine last saw of a repository: for [`OpenRequest::seen`] of the opening that a push follows.
pub fn last_seen(cache_dir: &Path, repo: RepoId) -> Option<Seen> {
    if !cache_dir.join(repo.to_string()).exists() {
        return None;
    }
    Cache::open(cache_dir, repo).ok()?.seen()
}

/// Pushes: reads the source and commits a snapshot of it. Entries that cannot be read are reported, not fatal.
///
/// `opened` is the answer to an opening that named the key's client and [`last_seen`]. A dry run changes nothing anywhere.
pub fn push(
    access: &Arc<dyn Access>,
    opened: &Opened,
    config: &Config,
    key: &PushKey,
    cache_dir: &Path,
    options: &PushOptions,
    progress: &Arc<Progress>,
) -> Result<PushReport> {
    push_by(access, opened, config, key, cache_dir, options, progress, read::now)
}

#[expect(clippy::too_many_arguments, reason = "the public function's, and the clock that tests turn")]
fn push_by(
    access: &Arc<dyn Access>,
    opened: &Opened,
    config: &Config,
    key: &PushKey,
    cache_dir: &Path,
    options: &PushOptions,
    progress: &Arc<Progress>,
    clock: Clock,
) -> Result<PushReport> {
    key.check_config(config)?;
    let begun = Instant::now();
    let time = clock();
    let ids = key.ids();
    let cache = Arc::new(Cache::open(cache_dir, key.repo)?);
    let _lock = cache.lock_target(ids.target_tag(&options.target))?;
    let sight = match cache.seen().is_none_or(|seen| !is_continued(opened, &seen)) {
        true => cache.note_lost(&Lost::Everything, opened.now)?,
        false => cache.note_lost(&opened.lost, opened.now)?,
    };
    let mut push = Push {
        access,
        opened: opened.clone(),
        config,
        key,
        options,
        progress,
        ids,
        cache,
        sight,
        problems: Arc::new(ProblemList::new(progress.clone())),
        time,
        begun,
        distrust: options.force,
        clock,
    };
    for _ in 0..ROUNDS {
        let done = match push.collect()? {
            Some(done) => done,
            // Something that the cache relied on is gone, and nobody said so: believe nothing, once.
            None if !push.distrust => {
                push.sight = push.cache.note_lost(&Lost::Everything, push.opened.now)?;
                push.distrust = true;
                continue;
            }
            None => return Err(Error::Invalid("chunks vanish from the repository while they are used".into())),
        };
        if let Some(report) = push.commit(done)? {
            return Ok(report);
        }
    }
    Err(Error::LeaseRefused { reason: "again and again a prune took chunks that the push needs".into() })
}

/// Whether the repository is in the same life as when it was seen, and its log holds what was seen.
fn is_continued(opened: &Opened, seen: &Seen) -> bool {
    opened.now.incarnation == seen.incarnation && opened.head_at_seen == Some(seen.log_head)
}

struct Push<'a> {
    access: &'a Arc<dyn Access>,
    /// The answer to the last opening.
    opened: Opened,
    config: &'a Config,
    key: &'a PushKey,
    options: &'a PushOptions,
    progress: &'a Arc<Progress>,
    ids: IdKeys,
    cache: Arc<Cache>,
    /// What the repository had told when it was opened.
    sight: Sight,
    problems: Arc<ProblemList>,
    time: Time,
    begun: Instant,
    /// Take nothing from the file cache.
    distrust: bool,
    clock: Clock,
}

/// What is ready to be committed.
struct Collected {
    assembled: Assembled,
    counts: Counts,
    roots: Roots,
    key: DataKey,
    wrap: Wrap,
    chunks_new: u64,
    bytes_new: u64,
    bytes_stored: u64,
    /// The chunks of it, but for what the file cache remembers.
    needed: Needed,
}

impl Push<'_> {
    /// Reads the source and stores what is new. None if something relied on turned out to be gone.
    fn collect(&self) -> Result<Option<Collected>> {
        let invalid = |e: &dyn std::fmt::Display| Error::Invalid(e.to_string());
        let roots = Roots::new(self.options.base.as_deref(), &self.options.paths).map_err(|e| invalid(&e))?;
        let is_there = |path: &Vec<u8>| walk::join(&roots.base, path).symlink_metadata().is_ok();
        if !roots.paths.iter().any(is_there) {
            let paths: Vec<_> = self.options.paths.iter().map(|path| path.display().to_string()).collect();
            return Err(Error::Invalid(format!("nothing to push: {} cannot be found", paths.join(", "))));
        }
        let excludes = Excludes::new(&self.options.exclude).map_err(|e| invalid(&e))?;
        let (walk, root, stat) =
            Walk::start(&roots, excludes, self.problems.clone(), record_root(&self.ids, &self.options.target, &roots))
                .map_err(|e| Error::io(&roots.base, e))?;
        let data_key = DataKey::random();
        let wrap = self.key.seal()?.wrap(self.key.repo, &data_key);

        let known_set = self.options.known_set.then(|| (self.cache.clone(), self.sight));
        let mut dedup = Dedup::new(self.access.clone(), known_set, self.opened.chunks == 0);
        dedup.start();
        let reader = Reader {
            ids: self.ids.clone(),
            chunker: Chunker::new(&self.config.chunker, self.ids.chunker())?,
            chunk_max: self.config.chunker.max as usize,
            owners: OwnerNames::default(),
            announcer: dedup.announcer(),
            progress: self.progress.clone(),
            clock: self.clock,
        };
        let budget = Budget::new(BUDGET_BYTES);
        let base = roots.base.clone();
        let (event_in, event_out) = crossbeam_channel::bounded(EVENTS);
        let (file_in, file_out) = crossbeam_channel::bounded::<Arc<Outbox>>(FILES.min(walk::raise_file_limit() / 4));
        // Without a sight of all that the cache knows to be lost, the next push must look at all of it.
        let epoch = self.sight.epoch().unwrap_or(0);
        let stamp = RecordStamp { generation: bkfs_store::crypto::random(), epoch };

        let sealer = Sealer {
            access: self.access,
            key: self.key,
            data_key: &data_key,
            wrap: &wrap,
            dedup: &dedup,
            progress: self.progress,
            lease: self.opened.lease,
            level: if self.options.level == 0 { LEVEL_DEFAULT } else { self.options.level },
            failed: Default::default(),
        };
        let (scanned, assembled, stored) = std::thread::scope(|scope| {
            let sealing = if self.options.dry_run { None } else { Some(sealer.start(scope)) };
            let scanning = scope.spawn({
                let (reader, budget, root) = (&reader, &budget, &root);
                move || {
                    let threads = std::cell::Cell::new(0);
                    let read = |outbox: Arc<Outbox>| {
                        // The first files bring the threads that read them: a push without changes has none.
                        if threads.get() < READERS {
                            threads.set(threads.get() + 1);
                            let files = file_out.clone();
                            scope.spawn(move || read_files(reader, budget, &files));
                        }
                        file_in.send(outbox).is_ok()
                    };
                    let scanner = Scanner {
                        walk,
                        access: self.access.as_ref(),
                        cache: &self.cache,
                        epoch: self.sight.epoch(),
                        distrust: self.distrust,
                        ids: &self.ids,
                        owners: &reader.owners,
                        problems: &self.problems,
                        progress: self.progress,
                        base: roots.base.clone(),
                        clock: self.clock,
                        events: event_in,
                        read: &read,
                        counts: Counts::default(),
                        jobs: 0,
                        linked: Default::default(),
                    };
                    (scanner.run(root, stat), roots)
                }
            });
            let assembler = Assembler {
                cache: &self.cache,
                spool: self.cache.spool(),
                stamp,
                budget: &budget,
                reader: &reader,
                dedup: &dedup,
                output: Output::new(&self.ids, &dedup, sealing.as_ref(), self.progress),
                problems: &self.problems,
                progress: self.progress,
                base: base.clone(),
                links: HashMap::new(),
                relied: Vec::new(),
                sample: Sample::default(),
            };
            // However the assembler ends, nobody may go on waiting for it.
            let closing = budget.closing();
            let assembled = assembler.run(event_out);
            drop(closing);
            let scanned = scanning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (scanned, assembled, sealing.map(|sealing| sealing.finish()))
        });
        dedup.flush();
        self.progress.bytes_held_max.fetch_max(budget.used_max() as u64, Relaxed);
        let (counts, roots) = scanned;
        // What stopped a stage stops the others too: the first cause is the one that is not an interruption.
        let stored = stored.transpose();
        let (assembled, counts, stored) = match (assembled, counts, stored) {
            (Ok(assembled), Ok(counts), Ok(stored)) => (assembled, counts, stored),
            (assembled, counts, stored) => {
                let errors = [stored.err(), assembled.err(), counts.err()];
                let mut errors: Vec<Error> = errors.into_iter().flatten().collect();
                let first = errors.iter().position(|e| !matches!(e, Error::Interrupted)).unwrap_or(0);
                return Err(errors.swap_remove(first));
            }
        };
        if !self.still_stored(&assembled)? {
            return Ok(None);
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
        Ok(Some(Collected {
            assembled,
            counts,
            roots,
            key: data_key,
            wrap,
            chunks_new: count(&self.progress.chunks_new),
            bytes_new: count(&self.progress.bytes_new),
            bytes_stored: stored.unwrap_or(0),
            needed: dedup.needed(),
        }))
    }

    /// Whether the repository has what the push takes for granted.
    fn still_stored(&self, assembled: &Assembled) -> Result<bool> {
        for ids in assembled.relied.chunks(IDS_MAX) {
            if self.access.has(ids)?.contains(&false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Commits what is stored. None if some of it was lost meanwhile: then it is to be collected again.
    fn commit(&mut self, done: Collected) -> Result<Option<PushReport>> {
        let totals = done.assembled.root.subtree.map(|s| s.totals).unwrap_or_default();
        let stats = PushStats {
            files_new: done.counts.new,
            files_changed: done.counts.changed,
            files_unchanged: done.counts.unchanged,
            bytes_read: self.progress.bytes_read.load(Relaxed),
            chunks_new: done.chunks_new,
            bytes_new: done.bytes_new,
            bytes_stored: done.bytes_stored,
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            errors: self.progress.errors.load(Relaxed),
        };
        let mut report = PushReport {
            snapshot: None,
            time: self.time,
            received: None,
            seen: None,
            stats,
            totals,
            problems: self.problems.take(),
        };
        if self.options.dry_run {
            return Ok(Some(report));
        }
        let mut snapshot = Snapshot {
            time: self.time,
            host: self.options.host.clone(),
            user: self.options.user.clone(),
            target: self.options.target.clone(),
            paths: done.roots.paths.iter().cloned().map(PathBytes).collect(),
            tags: self.options.tags.clone(),
            root: done.assembled.root.clone(),
            stats,
            program: self.options.program.clone(),
            sequence: 0,
            previous: None,
            log_len: 0,
            log_head: Default::default(),
        };
        let begun = self.opened.now;
        let Some(receipt) = self.commit_snapshot(&mut snapshot, &done)? else { return Ok(None) };
        // Whatever else happened to the log meanwhile may have been a loss: then the next opening must tell of it.
        let is_next =
            receipt.now.incarnation == begun.incarnation && receipt.now.log_len == begun.log_len.saturating_add(1);
        let seen = if is_next { receipt.now } else { begun };
        // A push that changed nothing leaves nothing to remember, and the older sight is as good.
        let is_remembered = done.assembled.spool.is_empty() && self.cache.seen().is_some();
        if !is_remembered && let Err(error) = self.cache.apply(done.assembled.spool, Some(seen)) {
            tracing::warn!("the file cache is not kept, the next push will read again: {error}");
        }
        report.snapshot = Some(receipt.snapshot);
        report.received = Some(receipt.received);
        report.seen = Some(receipt.now);
        Ok(Some(report))
    }

    /// Commits; opens again if the connection broke on the way, or a prune has begun a new generation. None if what is needed
    /// was lost: then all that is told to be lost is noted, and the opening that told it is the one to go on with.
    fn commit_snapshot(&mut self, snapshot: &mut Snapshot, done: &Collected) -> Result<Option<Receipt>> {
        let begun = self.opened.now;
        for attempt in 1.. {
            let (sequence, previous) = match self.opened.last {
                Some(LastSnapshot { id, sequence }) => (sequence.saturating_add(1), Some(id)),
                None => (1, None),
            };
            (snapshot.sequence, snapshot.previous) = (sequence, previous);
            (snapshot.log_len, snapshot.log_head) = (self.opened.now.log_len, self.opened.now.log_head);
            let bytes = snapshot::seal(snapshot, self.key, &self.ids, &done.key, &done.wrap);
            let error = match self.access.commit(self.opened.lease, &bytes) {
                Ok(receipt) => return Ok(Some(receipt)),
                Err(error @ (Error::Unreachable(_) | Error::LeaseRefused { .. })) if attempt < COMMITS => error,
                Err(error) => return Err(error),
            };
            tracing::debug!("commit: {error}; opening again");
            std::thread::sleep(Duration::from_millis(200) * (attempt - 1));
            // Reckoned from the beginning again, so that an answer that was lost does no harm.
            let request = OpenRequest { client: Some(self.key.client_id()), seen: Some(begun) };
            let session = self.opened.lease.session;
            self.opened = self.access.open(&request)?;
            // The packs are pinned by the session that stored them.
            self.opened.lease.session = session;
            if !is_continued(&self.opened, &begun) {
                let reason = "the repository was put back, or begun anew, while the push ran".to_owned();
                return Err(Error::LeaseRefused { reason });
            }
            // The answer may have been lost rather than the commit.
            if let Some(last) = self.opened.last.filter(|last| last.id == snapshot::snapshot_id(&bytes)) {
                return Ok(Some(Receipt { snapshot: last.id, received: (self.clock)(), now: self.opened.now }));
            }
            if !self.is_untouched(done) {
                self.sight = self.cache.note_lost(&self.opened.lost, self.opened.now)?;
                return Ok(None);
            }
        }
        Err(Error::Unreachable("the commit was not acknowledged".into()))
    }

    /// Whether what was lost since the push began is nothing that it needs. What the file cache remembers of whole folders
    /// cannot be compared id by id: a push that relied on that is gone through again.
    fn is_untouched(&self, done: &Collected) -> bool {
        match &self.opened.lost {
            Lost::Ids(ids) if ids.is_empty() => true,
            Lost::Ids(ids) => done.assembled.relied.is_empty() && done.needed.has_none_of(ids),
            Lost::Everything => false,
        }
    }
}

/// The key under which the file cache knows the root: by target and base.
fn record_root(ids: &IdKeys, target: &str, roots: &Roots) -> [u8; 16] {
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = blake3::Hasher::new_derive_key("bkfs v1 file cache root");
    hasher.update(ids.target_tag(target).as_bytes());
    hasher.update(roots.base.as_os_str().as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

/// A file whose reader stopped, by order or by a panic: whoever waits for it must hear of it.
struct Unfinished<'a>(&'a Outbox);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.put(Piece::Failed(std::io::ErrorKind::Interrupted.into()));
    }
}

/// One reader's work.
fn read_files(reader: &Reader, budget: &Budget, files: &crossbeam_channel::Receiver<Arc<Outbox>>) {
    while let Ok(outbox) = files.recv() {
        let mut writer = Writer { outbox: &outbox, budget };
        let unfinished = Unfinished(&outbox);
        if reader.read(&outbox.job, &mut writer).is_ok() {
            std::mem::forget(unfinished);
        }
    }
}

#[cfg(test)]
mod tests;
