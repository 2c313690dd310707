//! Committing what a round has stored, and remembering what the snapshot holds.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use bkfs_store::{
    Error, Result,
    access::{LastSnapshot, Opened, Receipt},
    crypto::random,
    format::{
        loss::Lost,
        snapshot::{self, PathBytes, PushStats, SUSPICIOUS, Snapshot},
    },
};

use super::{
    alarm::Alarm,
    collected::Collected,
    context::PushContext,
    follow::Committed,
    options::{PushOptions, PushReport},
    session::PushSession,
};

/// How many times a commit may fail because the store cannot be reached. Each time, the connection has tried for long.
const UNREACHED_MAX: u32 = 5;
/// How many times the store may refuse a commit. Each time, another push with the same key has committed: one of
/// another target on this machine, say.
const REFUSED_MAX: u32 = 50;
/// The pause before a repetition is random, on average half of this for each refusal before it, up to a second.
const PAUSE_MS: u64 = 100;
const PAUSE_MS_MAX: u64 = 2000;
/// How many times a commit is tried while a prune holds commits back, about once a second. The store ends that much
/// earlier.
const HELD_ATTEMPTS: u32 = 120;

/// Commits what is stored. Returns none if some of it has been lost since: then the source must be gone through again.
pub fn commit(
    context: &PushContext<'_>,
    session: &mut PushSession,
    mut collected: Collected,
) -> Result<Option<PushReport>> {
    let stats = stats(context, &collected);
    let mut report = PushReport {
        snapshot: None,
        time: context.time,
        received: None,
        seen: None,
        stats,
        totals: collected.assembled.root.subtree.map(|s| s.totals).unwrap_or_default(),
        sources: collected.assembled.sources.clone(),
        problems: context.problems.take(),
        // What it did not look at may have used them.
        unused_patterns: if collected.follows { Vec::new() } else { collected.scanned.unused_patterns.clone() },
        alarm: alarm(context, &collected),
        looked_at_everything: !collected.follows,
    };
    if context.options.dry_run {
        return Ok(Some(report));
    }
    if context.follow.as_ref().is_some_and(|follow| follow.is_needless(collected.assembled.root.subtree)) {
        return Ok(Some(report));
    }
    let begun = session.opened().now;
    let mut snapshot = new_snapshot(context, &collected, stats);
    if report.alarm.is_some() && !snapshot.tags.iter().any(|tag| tag == SUSPICIOUS) {
        snapshot.tags.push(SUSPICIOUS.to_owned());
    }
    let Some(receipt) = commit_snapshot(context, session, snapshot, &collected)? else { return Ok(None) };
    // If anything else has happened to the log since, it may have been a loss, and the next opening must report it.
    let is_next =
        receipt.now.incarnation == begun.incarnation && receipt.now.log_len == begun.log_len.saturating_add(1);
    let seen = if is_next { receipt.now } else { begun };
    // A push that changed nothing has nothing to remember, and the older point of the log will do.
    let is_remembered = collected.assembled.spool.is_empty() && context.cache.seen().is_some();
    let spool = std::mem::replace(&mut collected.assembled.spool, context.cache.spool());
    if !is_remembered && let Err(error) = context.cache.apply(spool, Some(seen)) {
        tracing::warn!("the file cache cannot be written; the next push reads the files again: {error}");
    }
    if let Some(follow) = &context.follow {
        follow.committed(Committed {
            root: collected.assembled.root.subtree,
            epoch: session.losses().epoch(),
            roots: collected.roots,
            circumstances: collected.circumstances,
            upheaval: collected.assembled.upheaval,
        });
    }
    report.snapshot = Some(receipt.snapshot);
    report.received = Some(receipt.received);
    report.seen = Some(receipt.now);
    Ok(Some(report))
}

/// Whether an alarming number of files became unreadable.
fn alarm(context: &PushContext<'_>, collected: &Collected) -> Option<Alarm> {
    let seen = collected.assembled.upheaval;
    let seen = context.follow.as_ref().map_or(seen, |follow| follow.with_recent(&seen));
    let files = collected.assembled.root.subtree.map_or(0, |subtree| subtree.totals.files);
    context.options.alarm?.judge(&seen, files)
}

fn stats(context: &PushContext<'_>, collected: &Collected) -> PushStats {
    let counts = collected.assembled.counts;
    let unchanged = match collected.follows {
        true => {
            let files = collected.assembled.root.subtree.map_or(0, |subtree| subtree.totals.files);
            files.saturating_sub(counts.new.saturating_add(counts.changed))
        }
        false => counts.unchanged.saturating_add(collected.scanned.unchanged),
    };
    PushStats {
        files_new: counts.new,
        files_changed: counts.changed,
        files_unchanged: unchanged,
        bytes_read: context.progress.bytes_read.load(Relaxed),
        chunks_new: collected.chunks_new,
        bytes_new: collected.bytes_new,
        bytes_stored: context.progress.bytes_stored.load(Relaxed),
        duration_ms: u64::try_from(context.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        errors: context.progress.errors.load(Relaxed),
    }
}

/// The snapshot, without its place in the log and among the client's snapshots.
fn new_snapshot(context: &PushContext<'_>, collected: &Collected, stats: PushStats) -> Snapshot {
    let options = context.options;
    Snapshot {
        time: context.time,
        host: options.host.clone(),
        user: options.user.clone(),
        target: options.target.clone(),
        paths: paths(options, collected),
        tags: options.tags.clone(),
        root: collected.assembled.root.clone(),
        stats,
        program: options.program.clone(),
        sequence: 0,
        previous: None,
        log_len: 0,
        log_head: Default::default(),
    }
}

/// The paths that the snapshot was made of, those of streams included.
fn paths(options: &PushOptions, collected: &Collected) -> Vec<PathBytes> {
    let root: &[u8] = if options.base.is_some() { b"" } else { b"/" };
    let streams = options.streams.iter().map(|stream| [root, &stream.path()].concat());
    collected.roots.paths.iter().cloned().chain(streams).map(PathBytes).collect()
}

/// Commits a snapshot. Opens the repository again if the connection broke on the way, or if a prune has begun a new
/// generation.
///
/// Returns none if a needed chunk was lost. Then the reported losses are noted, and the session goes on from the
/// opening that reported them.
fn commit_snapshot(
    context: &PushContext<'_>,
    session: &mut PushSession,
    mut snapshot: Snapshot,
    collected: &Collected,
) -> Result<Option<Receipt>> {
    let begun = session.opened().now;
    let (mut unreached, mut refused, mut held) = (0, 0, 0);
    // A commit whose reply did not come may take effect while a later one is tried.
    let mut sent = Vec::new();
    loop {
        if context.progress.is_stopped() {
            return Err(Error::Interrupted);
        }
        let opened = session.opened();
        (snapshot.sequence, snapshot.previous) = match opened.last {
            Some(LastSnapshot { id, sequence }) => (sequence.saturating_add(1), Some(id)),
            None => (1, None),
        };
        (snapshot.log_len, snapshot.log_head) = (opened.now.log_len, opened.now.log_head);
        let data_key = &collected.data_key;
        let bytes = snapshot::seal(&snapshot, context.key, &context.ids, &data_key.key, &data_key.wrap);
        sent.push(snapshot::snapshot_id(&bytes));
        let error = match context.access.commit(opened.lease, &bytes) {
            Ok(receipt) => return Ok(Some(receipt)),
            Err(Error::CommitsHeld { millis }) if held < HELD_ATTEMPTS => {
                held += 1;
                std::thread::sleep(Duration::from_millis(millis.min(1000)));
                continue;
            }
            Err(error @ (Error::Unreachable(_) | Error::LeaseRefused { .. })) => error,
            Err(error) => return Err(error),
        };
        tracing::debug!("the commit failed, the repository is opened again: {error}");
        match error {
            Error::Unreachable(_) => unreached += 1,
            _ => refused += 1,
        }
        pause(unreached + refused);
        session.reopen(context, &begun)?;
        let opened = session.opened();
        // The reply may have been lost, not the commit.
        if let Some(last) = opened.last.filter(|last| sent.contains(&last.id)) {
            return Ok(Some(Receipt { snapshot: last.id, received: (context.clock)(), now: opened.now }));
        }
        if unreached == UNREACHED_MAX || refused == REFUSED_MAX {
            return Err(error);
        }
        if !is_unaffected(opened, collected) {
            session.note_losses(context)?;
            return Ok(None);
        }
    }
}

/// Waits before a commit is repeated, for the `failures`-th time. Pushes that wait for the same time meet again.
fn pause(failures: u32) {
    let longest = (PAUSE_MS * u64::from(failures - 1)).min(PAUSE_MS_MAX);
    let millis = u64::from_le_bytes(random()) % (longest + 1);
    std::thread::sleep(Duration::from_millis(millis));
}

/// Whether the push needs nothing of what was lost since it began. What the file cache remembers of whole directories
/// cannot be compared id by id, so a push that relied on it goes through the source again.
fn is_unaffected(opened: &Opened, collected: &Collected) -> bool {
    match &opened.lost {
        Lost::Ids(ids) if ids.is_empty() => true,
        Lost::Ids(ids) => collected.assembled.relied_on.is_empty() && collected.needed.has_none_of(ids),
        Lost::Everything => false,
    }
}
