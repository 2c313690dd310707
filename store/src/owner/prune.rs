//! Pruning, as the holder of the full key does it: what snapshots reach is found and told, the rest goes.
//!
//! ```text
//! sweep what an earlier prune left ─► begin ─► mark ─► condemn ─► sweep, until nothing is left
//!                                               ▲         │
//!                                               └─────────┘  snapshots were committed meanwhile
//! ```
//!
//! Between mark and condemn, frames of which little is live are written again ([`reframe`]), by whoever may push, too.
//!
//! All trees are walked, of snapshots in the trash too. What each page names is remembered from one prune to the next ([`graph`]),
//! so only new pages are fetched; ids are kept on disk when they are many, so memory hardly grows with the repository. No data crosses the network: the store is sent 3 bytes an id, and copies what it must by itself.
//! A tree that cannot be read ends the prune before anything is condemned. It may be ended at any moment; the next one goes
//! on. What the store does with it is in `docs/design/0012-condemn-at-once.md`.

mod blocks;
mod graph;
mod live_keys;
mod marker;
mod reframe;
mod sent_filters;
mod snapshots;

use std::{
    fmt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use self::{marker::Marks, reframe::Reframer, sent_filters::Told};
use crate::{
    access::{Access, Filter, ForgetRequest, PruneLimits, PruneReply, PruneRequest, PruneStats, Swept},
    base::{
        codec,
        error::{Error, ErrorKind, Result},
    },
    format::{
        keys::PushKey,
        log::{Event, LogRecord},
    },
    owner::reader::Reader,
};

/// How often snapshots that are committed meanwhile are marked before the prune gives up.
const ROUNDS: usize = 50;
/// Records of the log asked for at once.
const RECORDS: u32 = 1024;
/// Bytes of filters in one request, if there is more than one in it; the longest has some 4 MB.
const FILTERS_BYTES: usize = 1 << 20;

/// What to prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneOptions {
    /// How far to go.
    pub limits: PruneLimits,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Go on although more than half of the repository goes.
    pub is_confirmed: bool,
    /// Let go first what is due in the trash. If more than half of the repository would go then and that is not confirmed, it is not let
    /// go either.
    pub empty_trash: bool,
    /// How many bytes of frames of which little is live are fetched and written again at most, if there is a key to push with.
    pub reframe_bytes: u64,
}

/// How far a prune is: counters to be read from another thread, and a way to stop it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Snapshots to walk.
    pub snapshots_total: AtomicU64,
    /// Snapshots walked.
    pub snapshots: AtomicU64,
    /// Tree pages loaded.
    pub pages: AtomicU64,
    /// Packs to take away; known once they are condemned.
    pub packs_total: AtomicU64,
    /// Packs taken away.
    pub packs: AtomicU64,
    /// Set to stop soon.
    pub stop: AtomicBool,
}

impl Progress {
    fn go_on(&self) -> Result<()> {
        if self.stop.load(Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What a prune did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// What was condemned, or would be.
    pub stats: PruneStats,
    /// What was swept, with what an earlier prune had left.
    pub swept: Swept,
    /// Snapshots that were let go from the trash, or would be.
    pub expired: u64,
    /// Different tree pages that snapshots reach.
    pub pages: u64,
    /// How many of them were fetched: no earlier prune had walked them.
    pub pages_fetched: u64,
    /// Chunks that snapshots reach, pages included; one that is reached twice may count twice.
    pub chunks: u64,
    /// Bytes of filters sent.
    pub sent_bytes: u64,
    /// Frames that were written again, because little of them is live.
    pub reframed: u64,
    /// Their bytes; on a dry run those that would be.
    pub reframed_read_bytes: u64,
    /// Bytes of packs written in their place.
    pub reframed_written_bytes: u64,
    /// Frames that could not be read, and are left as they are.
    pub frames_lost: u64,
    /// More than half of the repository would go, and nobody has confirmed that: nothing was done.
    pub is_unconfirmed: bool,
}

/// Prunes a repository.
#[derive(Clone, Copy)]
pub struct Pruner<'a> {
    /// Reads the repository.
    pub reader: &'a Reader,
    /// The store that `reader` reads from.
    pub access: &'a dyn Access,
    /// The key of a client that may push, to write frames again with; without one, none are.
    pub push_key: Option<&'a PushKey>,
    /// A folder for what does not fit into memory and for what the next prune need not look at again; it may be emptied
    /// at any moment.
    pub cache: &'a Path,
}

impl fmt::Debug for Pruner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pruner({:?})", self.reader)
    }
}

impl Pruner<'_> {
    /// Prunes.
    pub fn run(&self, options: &PruneOptions, progress: &Progress) -> Result<PruneReport> {
        let mut lost = 0;
        match attempt(self, options, progress, &mut lost) {
            // Damage that was met goes into quarantine, and whoever marks must begin again. It is not met twice.
            Err(Error::LeaseRefused { .. }) if lost > 0 => attempt(self, options, progress, &mut lost),
            done => done,
        }
    }
}

fn attempt(pruner: &Pruner<'_>, options: &PruneOptions, progress: &Progress, lost: &mut u64) -> Result<PruneReport> {
    let Pruner { reader, access, push_key: push, cache } = *pruner;
    let mut report = PruneReport::default();
    if !options.dry_run {
        // A prune that was cut short is ended first: what it condemned is fixed, and needs no marks.
        sweep(access, progress, &mut report)?;
    }
    let PruneReply::Begun { prune, mut log_len } = access.prune(&PruneRequest::Begin)? else {
        return Err(unexpected());
    };
    let begun = log_len;
    let folder = cache.join(reader.config().repo.to_string()).join("marks");
    let (mut marks, mut told) = (Marks::new(reader, access, &folder), Told::new(&folder));
    let PruneOptions { limits, dry_run, mut is_confirmed, empty_trash, reframe_bytes } = *options;
    let mut reframes = push.filter(|_| reframe_bytes > 0);
    // What is due counts as gone from the first mark on. It goes when it is certain that something will be condemned.
    let (mut trash, mut from) = (!empty_trash, 0);
    for _ in 0..ROUNDS {
        let mut filters = Filters { access, prune, batch: Vec::new(), bytes: 0, sent: 0 };
        let due = match marks.walk(from..log_len, trash, progress) {
            // What expired meanwhile may have been taken by another prune.
            Err(error) if error.kind() == ErrorKind::Damaged && has_condemned(reader, begun)? => {
                return Err(Error::LeaseRefused { reason: "another prune has run since this one began".into() });
            }
            due => due?,
        };
        marks.send(&mut |first, filter| {
            progress.go_on()?;
            let filter = Filter { first, bytes: filter };
            if reframes.is_some() {
                told.add(&filter)?;
            }
            filters.add(filter)
        })?;
        filters.send()?;
        report.sent_bytes += filters.sent;
        (report.pages, report.chunks) = (marks.pages(), marks.chunks());
        report.pages_fetched = marks.fetched();
        let condemn = |dry_run, is_confirmed| PruneRequest::Condemn { prune, log_len, limits, dry_run, is_confirmed };
        if !trash && due > 0 && (dry_run || !is_confirmed) {
            match access.prune(&condemn(true, is_confirmed))? {
                PruneReply::Grown { log_len: now } if now > log_len => {
                    (from, log_len) = (0, now);
                    continue;
                }
                PruneReply::Condemned(stats) if dry_run => {
                    (report.stats, report.expired) = (stats, due);
                    return Ok(report);
                }
                PruneReply::Condemned(stats) if stats.is_most() => {
                    (report.stats, report.is_unconfirmed) = (stats, true);
                    return Ok(report);
                }
                PruneReply::Condemned(_) => {}
                _ => return Err(unexpected()),
            }
        }
        if !trash {
            trash = true;
            if due > 0 {
                let request = ForgetRequest { empty_trash: true, ..ForgetRequest::default() };
                report.expired = access.forget(&request)?.expired.len() as u64;
                // Whoever brought something back meanwhile was faster: what is not gone now is marked.
                from = 0;
                continue;
            }
        }
        if let Some(push) = reframes {
            let reframer = Reframer::new(pruner, push, prune, limits, reframe_bytes)?;
            let frames = reframer.next()?;
            if dry_run {
                report.reframed_read_bytes = frames.iter().map(|frame| u64::from(frame.len)).sum();
            } else if !frames.is_empty() {
                if !is_confirmed {
                    // Asked before anything is written: writing frames again makes no more go that is needed.
                    match access.prune(&condemn(true, false))? {
                        PruneReply::Grown { log_len: now } if now > log_len => {
                            (from, log_len) = (log_len, now);
                            continue;
                        }
                        PruneReply::Condemned(stats) if stats.is_most() => {
                            (report.stats, report.is_unconfirmed) = (stats, true);
                            return Ok(report);
                        }
                        PruneReply::Condemned(_) => is_confirmed = true,
                        _ => return Err(unexpected()),
                    }
                }
                let reframed = reframer.run(frames, &told, progress, &mut report);
                *lost += report.frames_lost;
                match reframed {
                    Err(error @ (Error::NoPermission { .. } | Error::NotOnRoster { .. } | Error::Invalid(_))) => {
                        tracing::warn!(%error, "frames of which little is needed cannot be written again");
                    }
                    done => done?,
                }
            }
            reframes = None;
        }
        match access.prune(&condemn(dry_run, is_confirmed))? {
            PruneReply::Grown { log_len: now } if now > log_len => (from, log_len) = (log_len, now),
            PruneReply::Unconfirmed(stats) => {
                (report.stats, report.is_unconfirmed) = (stats, true);
                return Ok(report);
            }
            PruneReply::Condemned(stats) => {
                report.stats = stats;
                if !dry_run {
                    sweep(access, progress, &mut report)?;
                }
                return Ok(report);
            }
            _ => return Err(unexpected()),
        }
    }
    Err(Error::LeaseRefused { reason: "snapshots are committed faster than they can be marked".into() })
}

/// Whether a prune has condemned something since the log had this length.
fn has_condemned(reader: &Reader, mut from: u64) -> Result<bool> {
    loop {
        let records = reader.access().log(from, RECORDS)?;
        if records.is_empty() {
            return Ok(false);
        }
        for bytes in &records {
            let record: LogRecord = codec::decode("an entry of the log", bytes)?;
            if matches!(record.event, Event::Condemn { .. }) {
                return Ok(true);
            }
        }
        from += records.len() as u64;
    }
}

/// Filters on their way: each waits for others, or a prune over a long line would wait for it hundreds of times.
struct Filters<'a> {
    access: &'a dyn Access,
    prune: u64,
    batch: Vec<Filter>,
    bytes: usize,
    sent: u64,
}

impl Filters<'_> {
    fn add(&mut self, filter: Filter) -> Result<()> {
        if self.bytes + filter.bytes.len() > FILTERS_BYTES {
            self.send()?;
        }
        self.bytes += filter.bytes.len();
        self.batch.push(filter);
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let filters = std::mem::take(&mut self.batch);
        self.sent += std::mem::take(&mut self.bytes) as u64;
        if filters.is_empty() {
            return Ok(());
        }
        match self.access.prune(&PruneRequest::Live { prune: self.prune, filters })? {
            PruneReply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }
}

fn sweep(access: &dyn Access, progress: &Progress, report: &mut PruneReport) -> Result<()> {
    let sum = &mut report.swept;
    loop {
        progress.go_on()?;
        let PruneReply::Swept(swept) = access.prune(&PruneRequest::Sweep)? else { return Err(unexpected()) };
        // What a server says may be any number.
        sum.packs = sum.packs.saturating_add(swept.packs);
        sum.bytes = sum.bytes.saturating_add(swept.bytes);
        sum.written_bytes = sum.written_bytes.saturating_add(swept.written_bytes);
        sum.damaged = sum.damaged.saturating_add(swept.damaged);
        progress.packs.store(sum.packs, Relaxed);
        progress.packs_total.store(sum.packs.saturating_add(swept.left), Relaxed);
        if swept.left == 0 {
            return Ok(());
        }
    }
}

fn unexpected() -> Error {
    Error::Invalid("the store answered a step of the prune with another one".into())
}
