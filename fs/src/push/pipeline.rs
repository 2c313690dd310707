//! The wiring of a push: its threads, and the bounded queues between them (the picture is in [`crate::push`]).
//!
//! The scanner and the packer have a thread each, and the assembler runs on the caller's. Every other stage is a pool.
//! A stage that fails drops its end of a queue, which ends its neighbours with [`Error::Interrupted`]. So the first
//! error that is not an interruption is the cause.

use std::{
    fmt::Display,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, Builder, Scope},
};

use bkfs_store::{Error, Result};
use crossbeam_channel::bounded;

use super::{
    assemble::{Assembled, Assembler},
    budget::Budget,
    challenge::Challenges,
    chunk_writer::ChunkWriter,
    collected::Collected,
    context::PushContext,
    dedup::Dedup,
    file_assembler::FileAssembler,
    follow::Circumstances,
    options::PushOptions,
    pending_file::PendingFile,
    read::FileReader,
    record::root_key,
    scan::{ScanOutput, Scanned, Scanner},
    seal::{Sealer, WrappedKey},
    session::PushSession,
    sources::SourceCounts,
    stream::StreamTree,
};
use crate::{
    cache::record::RecordStamp,
    exclude::Excludes,
    pool::WorkerPool,
    walk::{self, Roots, Scouting, Walk},
};

/// Threads that read files: a cold disk wants many requests at a time, whatever the number of cores.
const READERS: usize = 16;
/// Bytes of contents held between reading and sealing.
pub(super) const BUDGET_BYTES: usize = 24 << 20;
/// Events between scanner and assembler.
const EVENTS: usize = 4096;
/// Files that wait for a reader. Each may hold its directory open.
const FILES: usize = 1024;

/// Goes through the source once: reads what changed and stores what is new.
pub fn collect(context: &PushContext<'_>, session: &PushSession) -> Result<Collected> {
    let options = context.options;
    let roots = find_roots(options)?;
    let streams = StreamTree::beside(&options.streams, &roots).map_err(invalid)?;
    let excludes = Excludes::new(&options.exclude).map_err(invalid)?;
    let root_key = root_key(&context.ids, &options.target, &roots);
    let circumstances = Circumstances { root_key, excludes: excludes.digest() };
    let changes = context
        .follow
        .as_ref()
        .and_then(|follow| follow.begin(&context.cache, session.record_trust(), &roots, &circumstances));
    let follows = changes.is_some();
    let scouting = Scouting {
        changes: changes.map(|changes| Arc::new(changes.root().clone())),
        observer: context.observer.clone(),
        reads_devices: options.reads_devices,
    };
    let (walk, root, stat) = Walk::start_with(&roots, excludes, context.problems.clone(), root_key, scouting)
        .map_err(|error| Error::io(&roots.base, error))?;

    let sources = SourceCounts::new(&roots, root_key);
    let data_key = WrappedKey::random(context.key)?;
    let known_set = options.keeps_known_set.then(|| (context.cache.clone(), session.losses()));
    let mut dedup =
        Dedup::new(context.access.clone(), context.key.client_id(), known_set, session.opened().chunks == 0);
    dedup.start(follows);
    let announcer = dedup.announcer();
    let (ids, progress) = (context.ids.clone(), context.progress.clone());
    let reader = FileReader::new(ids, &context.config.chunker, announcer, progress, context.clock)?;
    let budget = Budget::new(BUDGET_BYTES);
    let sealer = Sealer::new(context, &data_key, &dedup, session.lease());
    let queued = FILES.min(walk::raise_file_limit() / 4);

    let mut challenger = Challenges::new(context, session);
    let (scanned, assembled, sealed, missing) = thread::scope(|scope| -> io::Result<_> {
        let sealing = sealer.start(scope)?;
        let (events, to_assemble) = bounded(EVENTS);
        let (reader, budget, base) = (&reader, &budget, roots.base.as_path());
        let scan = move || {
            let output = ScanOutput { events, readers: start_readers(scope, queued, reader, budget) };
            Scanner::new(context, session.record_trust(), walk, base, reader.owners(), output).run(&root, stat, streams)
        };
        let scanning = Builder::new().name("scan".to_owned()).spawn_scoped(scope, scan)?;

        let writer = ChunkWriter::new(&context.ids, &dedup, &sealing, &context.progress);
        let files = FileAssembler::new(context, base, budget, reader, &dedup);
        let assembler = Assembler::new(context, base, record_stamp(session), writer, files, sources);
        // However the assembler ends, no reader may wait for it afterwards.
        let closing = budget.closing();
        let assembled = assembler.run(to_assemble);
        drop(closing);
        let mut scanned = scanning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The last packs are still on their way.
        let missing = match (&assembled, &mut scanned) {
            (Ok(assembled), Ok(scanned)) => challenger.relied_on(&dedup, assembled, scanned),
            _ => Ok(Vec::new()),
        };
        Ok((scanned, assembled, sealing.finish(), missing))
    })
    .map_err(|error| Error::io("cannot start a thread", error))?;

    dedup.flush();
    context.progress.bytes_held_max.fetch_max(budget.used_max() as u64, Relaxed);
    let (assembled, scanned) = first_cause(scanned, assembled, sealed)?;
    let missing = missing?;
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let needed = dedup.needed();
    Ok(Collected {
        assembled,
        scanned,
        roots,
        circumstances,
        follows,
        data_key,
        chunks_new: count(&context.progress.chunks_new),
        bytes_new: count(&context.progress.bytes_new),
        needed,
        missing,
        to_challenge: challenger.sent(&dedup),
    })
}

/// Works out the roots. Fails if none of the paths exists.
fn find_roots(options: &PushOptions) -> Result<Roots> {
    if options.paths.is_empty() && !options.streams.is_empty() {
        return Roots::without_paths(options.base.as_deref()).map_err(invalid);
    }
    let roots = Roots::new(options.base.as_deref(), &options.paths).map_err(invalid)?;
    let exists = |path: &Vec<u8>| walk::join(&roots.base, path).symlink_metadata().is_ok();
    if !roots.paths.iter().any(exists) {
        let paths: Vec<_> = options.paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::Invalid(format!("there is nothing to push: cannot find {}", paths.join(", "))));
    }
    Ok(roots)
}

fn invalid(error: impl Display) -> Error {
    Error::Invalid(error.to_string())
}

/// The pool of readers. It starts its threads with the first files: a push without changes has none.
fn start_readers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    queued: usize,
    reader: &'scope FileReader,
    budget: &'scope Budget,
) -> WorkerPool<'scope, Arc<PendingFile>> {
    WorkerPool::growing(scope, "read", READERS, queued, move |file: Arc<PendingFile>| {
        file.fill(reader, budget);
        ControlFlow::Continue(())
    })
}

/// What the records of this push carry.
fn record_stamp(session: &PushSession) -> RecordStamp {
    // If the cache knows of losses that the session does not, the next push must check every record.
    let epoch = session.losses().epoch().unwrap_or(0);
    RecordStamp { generation: bkfs_store::crypto::random(), epoch }
}

/// The results of all stages, or the error that stopped the first of them. The others were only interrupted by it.
fn first_cause(
    scanned: Result<Scanned>,
    assembled: Result<Assembled>,
    sealed: Result<()>,
) -> Result<(Assembled, Scanned)> {
    match (assembled, scanned, sealed) {
        (Ok(assembled), Ok(scanned), Ok(())) => Ok((assembled, scanned)),
        (assembled, scanned, sealed) => {
            let errors = [sealed.err(), assembled.err(), scanned.err()];
            let mut errors: Vec<Error> = errors.into_iter().flatten().collect();
            let first = errors.iter().position(|e| !matches!(e, Error::Interrupted)).unwrap_or(0);
            Err(errors.swap_remove(first))
        }
    }
}
