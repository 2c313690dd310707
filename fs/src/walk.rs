//! Walking the source: a pool of threads lists directories, and the walk hands them out depth-first by name.
//!
//! The consumer takes one directory after another ([`Walk::take`]). The threads list ahead of it, nearest first,
//! because a cold disk wants many requests at a time. Both the bytes and the number of the listings that wait for the
//! consumer are bounded. The consumer itself lists a directory that no thread has reached, so it never waits for a
//! thread that waits for it.
//!
//! Every call is relative to an open directory: paths of any depth work, and a name that is swapped for a link leads
//! nowhere. A directory of very many entries holds only their names in memory; its entries come in batches. The walk
//! lists entries and reads their metadata. It reads no contents and decides nothing about them.

mod device;
mod dir_path;
mod list;
mod names;
mod queue;
mod roots;
mod task;
mod walker;

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bkfs_store::format::tree::NodeKind;
use rustix::fs::CWD;

use self::{list::Lister, queue::ListQueue, walker::Walker};
use crate::{
    changes::Changes,
    exclude::Excludes,
    metadata::{self, Stat},
    pool::Threads,
};

pub use device::{device_size, file_stat, open_device};
pub use dir_path::{DirPath, child_key};
pub use list::{Entry, Observer, Problems, SourceDir};
pub use roots::{Plan, Roots, mount_root};
pub use task::{ListTask, Listed};
pub use walker::DEPTH_MAX;

/// Threads that list ahead: as many requests as a cold disk can use, whatever the number of cores.
const THREADS: usize = 16;
/// Listed directories that may wait for the consumer. Each is an open file.
const AHEAD_DIRS_MAX: usize = 512;

/// What a walk looks at, and who follows it.
#[derive(Default, Clone)]
pub struct Scouting {
    /// What may have changed below the root; none if everything may have.
    pub changes: Option<Arc<Changes>>,
    /// Who is told of directories.
    pub observer: Option<Arc<dyn Observer>>,
    /// Whether block devices that are named, or that a named link leads to, are files: see [`Entry::is_device`].
    pub reads_devices: bool,
}

/// A walk under way.
pub struct Walk {
    walker: Arc<Walker>,
    threads: Threads,
}

impl Walk {
    /// Starts a walk. Returns it with the root's task, which is the first to take, and the root's state. `key` is the
    /// root's [`DirPath::key`].
    pub fn start(
        roots: &Roots,
        excludes: Excludes,
        problems: Arc<dyn Problems>,
        key: [u8; 16],
    ) -> io::Result<(Self, Arc<ListTask>, Stat)> {
        Self::start_with(roots, excludes, problems, key, Scouting::default())
    }

    /// Starts a walk that looks only at what may have changed, and that an observer follows.
    pub fn start_with(
        roots: &Roots,
        excludes: Excludes,
        problems: Arc<dyn Problems>,
        key: [u8; 16],
        scouting: Scouting,
    ) -> io::Result<(Self, Arc<ListTask>, Stat)> {
        let ahead_dirs_max = AHEAD_DIRS_MAX.min(raise_file_limit() / 4);
        let base = metadata::c_name(roots.base.as_os_str().as_bytes())?;
        let handle = list::open_dir(CWD, &base, true, !roots.plan.is_included)?;
        let stat = Stat::of_handle(&handle)?;
        let plan = Arc::new(roots.plan.clone());
        let dir = SourceDir {
            handle,
            path: DirPath::root(key),
            mount_root: mount_root(&roots.base)?.into(),
            device: stat.device,
            mount: stat.mount,
            root_device: plan.is_included.then_some(stat.device),
            plan: Some(plan.clone()),
            is_included: plan.is_included,
            changes: scouting.changes,
        };
        let path = dir.path.clone();
        let lister = Lister::new(excludes, problems, &roots.base, scouting.reads_devices);
        let walker = Arc::new(Walker::new(lister, ListQueue::new(ahead_dirs_max), scouting.observer));
        // The root is open already. Listing it here gives the threads something to begin with.
        let listed = walker.list(dir, Box::default());
        let root = Arc::new(ListTask::root(path, &stat, plan, listed));
        Ok((Self { walker, threads: Threads::default() }, root, stat))
    }

    /// Takes a directory: waits for the thread that lists it, or lists it here. A directory can be taken once.
    pub fn take(&mut self, task: &Arc<ListTask>) -> io::Result<Listed> {
        let listed = match task.take() {
            Some(listed) => {
                // No thread listed the root, so it was never counted.
                if !task.order.is_empty() {
                    self.walker.queue.note_taken(&listed);
                }
                listed
            }
            None => self.walker.open_and_list(task, task.changes.clone()),
        };
        self.start_threads();
        listed
    }

    /// Takes a directory that is listed as far as `changes` say, whatever was said of it before.
    pub fn take_with(&mut self, task: &Arc<ListTask>, changes: Option<Arc<Changes>>) -> io::Result<Listed> {
        if task.is_whole() {
            return self.take(task);
        }
        // No thread lists what is not whole.
        let listed = match task.take() {
            Some(listed) => listed,
            None => self.walker.open_and_list(task, changes),
        };
        self.start_threads();
        listed
    }

    /// The next entry of a directory, in the order of names. A directory comes with its task, unless it is on a file
    /// system that is excluded.
    pub fn next(&self, listed: &mut Listed) -> Option<(Entry, Option<Arc<ListTask>>)> {
        if listed.entries.len() == 0 && listed.names.len() > 0 {
            self.walker.next_batch(listed);
            // A batch that is excluded as a whole is not the end.
            return self.next(listed);
        }
        let entry = listed.entries.next()?;
        listed.next += 1;
        let is_next = |task: &Arc<ListTask>| task.name == entry.name;
        let is_dir = entry.stat.kind == NodeKind::Directory;
        let task =
            if is_dir && listed.tasks.as_slice().first().is_some_and(is_next) { listed.tasks.next() } else { None };
        Some((entry, task))
    }

    /// The exclusion patterns that have decided about no entry so far.
    pub fn unused_patterns(&self) -> Vec<String> {
        self.walker.unused_patterns()
    }

    /// Starts the threads when the first subdirectory waits: a small walk needs none. Fewer threads than wanted, even
    /// none, still walk everything.
    fn start_threads(&mut self) {
        if self.threads.is_empty() && !self.walker.queue.is_empty() {
            let (walker, cores) = (self.walker.clone(), self.walker.queue.cores());
            self.threads = Threads::start("walk", THREADS.max(cores), move |number| walker.run(number < cores));
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.walker.queue.close();
        self.threads.join();
    }
}

/// Raises the soft limit of open files to the hard one: a push holds many directories and files open at a time. Returns
/// how many files may be open.
pub fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // If the limit cannot be raised, the walk makes do with the present one.
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The path of an entry below a base folder, for messages.
pub fn join(base: &Path, path: &[u8]) -> PathBuf {
    base.join(metadata::display(path))
}

#[cfg(test)]
mod tests;
