//! The run of a restore from its start to its report.

use std::path::Path;

use bkfs_store::{Error, Result, format::tree::Node};
use rustix::fs::FlockOperation;

use super::{
    ahead,
    destination::Destination,
    entry::Entries,
    file::Files,
    folder::Folders,
    options::RestoreOptions,
    progress::RestoreProgress,
    queue::Queue,
    report::RestoreReport,
    shared::Shared,
    source::RestoreSource,
    start::{Begin, Started, start},
    task::Task,
    worker::Workers,
};

/// The least memory for the contents that one thread holds.
const WINDOW_MIN: usize = 1 << 20;

/// Restores a node: a folder's contents into `dest`, or another entry under its name.
pub(super) fn run(
    source: &dyn RestoreSource,
    node: Node,
    dest: &Path,
    options: &RestoreOptions,
    progress: &RestoreProgress,
) -> Result<RestoreReport> {
    let threads = options.threads.max(1);
    let window = (options.memory_bytes / threads).max(WINDOW_MIN) as u64;
    let shared = Shared::new(source, options, progress);
    restore_all(&shared, node, dest, threads, window)?;
    shared.into_report()
}

fn restore_all(shared: &Shared<'_>, node: Node, dest: &Path, threads: usize, window: u64) -> Result<()> {
    let destination = Destination::new(shared);
    let folders = Folders::new(shared, &destination);
    let entries = Entries::new(shared, &destination);
    let files = Files::new(shared, &destination, window);
    let queue = Queue::new();
    let workers = Workers { shared, queue: &queue, folders: &folders, entries: &entries, files: &files };
    // The lock is held to the end: only one restore at a time uses the destination.
    let Started { lock, folder, begin } = start(shared, &folders, node, dest)?;
    std::thread::scope(|scope| {
        match begin {
            Begin::Ahead => ahead::start(&workers, folder, scope)
                .map_err(|error| Error::Invalid(format!("cannot start threads: {error}")))?,
            Begin::Walk => queue.push(Task::Walk { folder, from: 0 }),
            Begin::Entry(node) => queue.push(Task::Entry { folder, node }),
        }
        workers.run(threads);
        Ok(())
    })?;
    // Closing the handle alone does not unlock if a child process that was just forked holds a copy of it, which it
    // does until it runs its program.
    let _ = rustix::fs::flock(&lock, FlockOperation::Unlock);
    Ok(())
}
